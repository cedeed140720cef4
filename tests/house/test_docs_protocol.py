from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest
import rfc8785

from gateway.config import ChannelConfig
from gateway.core import wire
from gateway.core.clock import parse_rfc3339, rfc3339
from gateway.core.document import apply, canonical, revision
from gateway.core.facts import OrganizationFacts
from gateway.core.instance_documents import InstanceFacts, KeyFacts, RevocationList, Revoked, instance_document
from gateway.core.session import INSTANCE_MESSAGES
from gateway.errors import Ending, GatewayError
from gateway.live.connection import REPORTED
from gateway.live.entry import OrganizationEntry, UserEntry
from gateway.live.hub import INSTANCE_SESSIONS
from gateway.live.watching import INSTANCE_DOCUMENTS
from gateway.store.catalog import load_catalog
from gateway.store.database import Database
from gateway.store.documents import CAUSE_PARTS, LoadedUser, Part, load_organizations, load_users
from gateway.store.instance_documents import MAX_REVOCATIONS, TOKEN_TOLD_MS
from gateway.store.migrate import schema_text
from gateway.web.websocket import MAX_FRAGMENTS
from tests.support.markdown import Markdown

PROTOCOL = Markdown("protocol.md")
NOVEMBER_MS = 1_795_302_000_000
"""2026-11-21T23:00:00Z, the day of the examples."""


def operation(kind: type[msgspec.Struct]) -> str:
    return str(kind.__struct_config__.tag)


CLIENT = {operation(kind): kind for kind in get_args(wire.ClientMessage)}
SERVER: dict[str, type[msgspec.Struct]] = {operation(kind): kind for kind in wire.ServerMessage.__subclasses__()}
MESSAGES: dict[str, type[msgspec.Struct]] = CLIENT | SERVER
FRAMES = [value for value in PROTOCOL.json_values() if "op" in value]
DOCUMENTS = [value for value in PROTOCOL.json_values() if "op" not in value]


@pytest.mark.parametrize("op", MESSAGES)
def test_every_message_is_described_field_by_field(op: str) -> None:
    described = [re.findall(r"`([^`]+)`(\?)?", row[0])[0] for row in PROTOCOL.rows(f"`{op}`")]
    fields = msgspec.structs.fields(MESSAGES[op])
    assert described == [(field.encode_name, "" if field.required else "?") for field in fields]


def test_what_a_client_may_say_of_itself_is_described() -> None:
    [row] = [row for row in PROTOCOL.rows("`auth`") if row[0] == "`client`?"]
    assert re.findall(r"`(\w+)`", row[1]) == [field.name for field in msgspec.structs.fields(wire.ClientInfo)]


def test_every_message_has_an_example_and_no_other_is_described() -> None:
    assert {frame["op"] for frame in FRAMES} == set(MESSAGES)
    assert {op[1] for heading in PROTOCOL.headings if (op := re.fullmatch(r"`(\w+)`", heading))} == set(MESSAGES)


@pytest.mark.parametrize("frame", FRAMES, ids=[f"{frame['op']}-{number}" for number, frame in enumerate(FRAMES)])
def test_the_examples_are_messages(frame: dict[str, Any]) -> None:
    op = frame["op"]
    if op in CLIENT:
        assert isinstance(wire.JSON.decode(json.dumps(frame).encode()), CLIENT[op])
        assert frame.keys() <= {"op", *(field.encode_name for field in msgspec.structs.fields(CLIENT[op]))}
    else:
        message = msgspec.convert(frame, SERVER[op])
        assert json.loads(msgspec.json.encode(message)) == frame


def test_the_example_of_hello_is_what_is_sent_by_default() -> None:
    [hello] = [frame for frame in FRAMES if frame["op"] == "hello"]
    channel = ChannelConfig()
    assert (hello["protocol"], hello["features"]) == (wire.PROTOCOL_VERSION, list(wire.FEATURES))
    assert (hello["heartbeat_s"], hello["auth_timeout_s"]) == (channel.heartbeat_s, channel.auth_timeout_s)
    assert hello["max_frame_bytes"] == channel.max_frame_bytes
    assert all(f"`{feature}`" in PROTOCOL.section("`hello`") for feature in wire.FEATURES)


# --- documents -------------------------------------------------------------------------------------------------------


def other_revision(document: Any) -> str:
    """The revision, by an implementation that is not ours."""
    return hashlib.sha256(rfc8785.dumps(document)).hexdigest()[:16]


def test_the_examples_lead_from_revision_to_revision() -> None:
    [snapshot] = [frame for frame in FRAMES if frame["op"] == "snapshot"]
    held, rev = snapshot["data"], snapshot["rev"]
    assert other_revision(held) == rev
    updates = [frame for frame in FRAMES if frame["op"] == "update"]
    for update in updates:
        assert (update["doc"], update["from"]) == (snapshot["doc"], rev)
        held, rev = apply(held, update["patch"]), update["rev"]
        assert other_revision(held) == rev
        assert update["causes"] == sorted(update["causes"])
    assert len(updates) == 2
    assert any(frame["op"] == "current" and frame["rev"] == rev for frame in FRAMES)
    assert any(frame["op"] == "pong" and frame["revs"] == {snapshot["doc"]: rev} for frame in FRAMES)


def test_the_worked_revisions_are_right() -> None:
    [snapshot] = [frame for frame in FRAMES if frame["op"] == "snapshot"]
    worked = [snapshot["data"], DOCUMENTS[-1]]
    forms = [block.text.strip("\n") for block in PROTOCOL.blocks_of("text canonical")]
    hashes = [block.text.strip() for block in PROTOCOL.blocks_of("text sha256")]
    assert len(forms) == len(hashes) == len(worked)
    for document, form, digest in zip(worked, forms, hashes, strict=True):
        assert canonical(document) == rfc8785.dumps(document) == form.encode()
        assert hashlib.sha256(form.encode()).hexdigest().startswith(digest)
        assert digest.startswith(revision(form.encode()))
    assert hashes[0].startswith(snapshot["rev"])


ROWS = """
INSERT INTO plans(id, name) VALUES ('pro', 'Pro'), ('team', 'Team');
INSERT INTO plan_permissions(plan, permission) VALUES
  ('pro', 'can_use_email'), ('pro', 'can_use_sms'), ('pro', 'can_use_voice');
INSERT INTO plan_quotas(plan, quota, limit_value) VALUES
  ('pro', 'voice_minutes', 500), ('pro', 'sms_messages', NULL), ('team', 'voice_minutes', 10000);
INSERT INTO users(id, username, name, email, plan, attributes, created_at, updated_at) VALUES
  ('u_ada', 'ada', 'Ada Lovelace', 'ada@example.org', 'pro', '{"persona": "boss", "user_phone": "+15550100001",
    "wake_word": "hey boss", "xswarm_email": "ada@xswarm.example.org", "xswarm_phone": "+15550200001"}', $, $),
  ('u_grace', 'grace', 'Grace', NULL, 'pro', '{}', $, $), ('u_tim', 'tim', 'Tim', NULL, 'pro', '{}', $, $);
INSERT INTO organizations(id, name, plan, created_at, updated_at) VALUES ('o_acme', 'Acme', 'team', $, $);
INSERT INTO org_role_permissions(role, permission) VALUES ('admin', 'manage_members');
INSERT INTO member_caps(org_id, user_id, quota, limit_value) VALUES ('o_acme', 'u_ada', 'voice_minutes', 2000);
INSERT INTO quota_usage(owner, quota, period_start, used, reserved) VALUES
  ('user:u_ada', 'voice_minutes', 1793491200000, 12, 5), ('user:u_ada', 'sms_messages', 1793491200000, 3, 0);
""".replace("$", "1795288200000")


async def built(database: Database, user: str) -> tuple[UserEntry, OrganizationEntry]:
    """The documents of a user and of Acme as the gateway builds them."""
    async with database.snapshot() as snapshot:
        catalog = await load_catalog(snapshot)
        users = await load_users(snapshot, {user: (Part.ALL, None)}, catalog, NOVEMBER_MS)
        organizations = await load_organizations(snapshot, {"o_acme": True}, catalog, NOVEMBER_MS)
    loaded, acme = users[user], organizations["o_acme"]
    assert isinstance(loaded, LoadedUser)
    assert isinstance(acme, OrganizationFacts)
    catalog.organizations["o_acme"] = acme
    entry, organization = UserEntry(f"user:{user}", user), OrganizationEntry("org:o_acme", "o_acme")
    entry.build(loaded, catalog, 1, frozenset(), NOVEMBER_MS)
    organization.build(acme, catalog, 1, frozenset(), NOVEMBER_MS)
    return entry, organization


async def test_the_example_of_a_user_is_what_the_gateway_builds(database: Database) -> None:
    await database.script(
        ROWS
        + "INSERT INTO memberships(org_id, user_id, role) VALUES ('o_acme', 'u_ada', 'admin');"
        + "INSERT INTO quota_usage(owner, quota, period_start, used)"
        + " VALUES ('org:o_acme', 'voice_minutes', 1793491200000, 4100);"
    )
    entry, _ = await built(database, "u_ada")
    assert entry.publication is not None
    assert entry.publication.document.data() == DOCUMENTS[0]


async def test_the_example_of_an_organization_is_what_the_gateway_builds(database: Database) -> None:
    await database.script(
        ROWS
        + "INSERT INTO memberships(org_id, user_id, role, created_at)"
        + " VALUES ('o_acme', 'u_grace', 'member', 1795288200000), ('o_acme', 'u_tim', 'admin', 1795288200000);"
    )
    _, organization = await built(database, "u_tim")
    assert organization.publication is not None
    assert organization.partial is not None
    assert organization.publication.document.data() == DOCUMENTS[1]
    without = organization.partial.document.data()
    assert without == {name: value for name, value in DOCUMENTS[1].items() if name != "members"}


def names(value: Any, *, ids: bool = False) -> Iterator[str]:
    """The names of an example's fields; the keys of what is listed by id or by name are none."""
    listed = {"permissions", "quotas", "organizations", "members", "attributes"}
    for name, inner in value.items():
        if not ids:
            yield name
        if isinstance(inner, dict):
            yield from names(inner, ids=name in listed and not ids) if name != "attributes" else ()


@pytest.mark.parametrize(("title", "number"), [("A user", 0), ("An organization", 1)])
def test_every_field_of_a_document_is_explained(title: str, number: int) -> None:
    explained = set(re.findall(r"`(\w+)`", PROTOCOL.prose(title) + PROTOCOL.prose("A user")))
    assert set(names(DOCUMENTS[number])) - explained == set()


# --- tables ----------------------------------------------------------------------------------------------------------


def test_the_table_of_ends_is_that_of_the_code() -> None:
    described = [(row[0], row[1], row[2]) for row in PROTOCOL.rows("Ends")]
    assert described == [(str(ending.close), f"`{ending.code}`", f"`{ending.reconnect}`") for ending in Ending]


def subclasses(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


def test_the_table_of_errors_is_that_of_the_code() -> None:
    described = {(row[0], row[1]) for row in PROTOCOL.rows("Errors")}
    assert described == {(f"`{kind.code}`", str(kind.status)) for kind in subclasses(GatewayError)}


BETWEEN_NODES = {"sessions", "use"}
"""Causes of rows that touch no document: no client ever sees them."""


def test_every_cause_is_explained() -> None:
    explained = {cause for row in PROTOCOL.rows("Causes") for cause in re.findall(r"`(\w+)`", row[0])}
    logged = set(re.findall(r"INSERT INTO change_log\(doc, cause\)[^;]*?, '(\w+)'", schema_text()))
    assert (logged - BETWEEN_NODES) | set(CAUSE_PARTS) | {"clock", "keys"} == explained


def test_the_limits_are_the_defaults() -> None:
    channel, described = ChannelConfig(), {row[2]: row[1] for row in PROTOCOL.rows("Limits")}
    settings = {setting.strip("`").partition(".")[2]: figure for setting, figure in described.items() if setting}
    for name, figure in settings.items():
        assert int(figure.split()[0].replace(",", "")) == getattr(channel, name), name
    assert {"max_frame_bytes", "messages_per_minute", "max_documents", "max_sessions_per_user"} <= settings.keys()
    [fragments] = [row for row in PROTOCOL.rows("Limits") if row[0].startswith("fragments")]
    assert int(fragments[1]) == MAX_FRAGMENTS + 1


def test_the_examples_of_what_instances_watch_are_what_is_built() -> None:
    own, revoked = (json.loads(block.text) for block in PROTOCOL.blocks_of("json example"))
    made, ends = (parse_rfc3339(own["keys"]["k_7f3k9q2m"][name]) for name in ("created_at", "expires_at"))
    keys = (KeyFacts("k_7f3k9q2m", made, ends),)
    facts = InstanceFacts("i_shop", "Shop", "active", own["limits"]["networks"], 6000, made, made, keys)
    assert instance_document(facts).document.data() == own
    rows = [Revoked(credential, made, parse_rfc3339(until) - 1) for credential, until in revoked.items()]
    assert RevocationList(rows, 2).document.data() == revoked
    assert RevocationList(rows, 1).document.data() == {rows[0].id: revoked[rows[0].id], "*": rfc3339(made + 1)}


def test_the_bounds_of_instances_are_named() -> None:
    text = PROTOCOL.section("What instances watch") + PROTOCOL.section("What is revoked") + PROTOCOL.section("Limits")
    for bound in (INSTANCE_DOCUMENTS, MAX_REVOCATIONS, REPORTED):
        assert f"{bound:,}" in text
    for bound in (INSTANCE_SESSIONS, INSTANCE_MESSAGES):
        assert f" {bound} " in text
    assert TOKEN_TOLD_MS == 24 * 3_600_000
