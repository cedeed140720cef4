"""A row that no document can be built from makes that document stale for its watchers, and disturbs nobody else."""

from __future__ import annotations

import pytest

from tests.end_to_end.conftest import Connect
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.oracle import user_document
from tests.support.seed import Person, Seed
from tests.support.waiting import eventually

BREAK = {
    "a number that is not finite": """attributes = '{"a":1e999}'""",
    "an integer that is too large": """attributes = '{"a":9007199254740993}'""",
    "half of a surrogate pair": """attributes = '{"a":"\\ud800"}'""",
    "text that is not UTF-8": "name = CAST(x'ff' AS TEXT)",
    "an unknown time zone": "timezone = 'Mars/Olympus'",
    "a time zone that is a path": "timezone = '../../../etc/passwd'",
    "a date beyond the calendar": "created_at = 999999999999999999",
    "an anchor beyond the calendar": "anchor_at = 999999999999999999",
}
pytestmark = pytest.mark.storages("file", "server", "replica")

REPAIR = "name = 'Repaired', attributes = '{}', timezone = 'UTC', created_at = 0, anchor_at = NULL"


def _set(foreign: ForeignWriter, person: Person, columns: str) -> None:
    foreign.execute(f"UPDATE users SET {columns} WHERE id = ?", person.id)


@pytest.mark.parametrize("columns", BREAK.values(), ids=list(BREAK))
async def test_only_its_watchers_are_told_and_its_repair_is_sent(
    columns: str, foreign: ForeignWriter, seed: Seed, connect: Connect
) -> None:
    plan = seed.plan(["can_use_voice"], {"minutes": (500, "month")})
    person, other = seed.people(2, plan)
    admin = seed.person(is_admin=1)
    client, bystander = await connect(person.token), await connect(other.token)
    watcher = await connect(admin.token, watch=["self", person.doc])
    await client.until(lambda: client.data)
    await bystander.until(lambda: bystander.data)
    await watcher.until(lambda: person.doc in watcher.replica.confirmed)
    held = client.held
    _set(foreign, person, columns)
    for told in (client, watcher):
        status = await told.message("status")
        assert (status["store"], status["doc"]) == ("stale", person.doc)
    await client.barrier()
    assert client.held == held
    _set(foreign, other, "name = 'Goes on'")
    await bystander.until(lambda: bystander.data["identity"]["name"] == "Goes on")
    mark = client.mark()
    _set(foreign, person, REPAIR)
    await client.message("status", since=mark, store="fresh", doc=person.doc)
    await client.until(lambda: client.held != held)
    assert client.held[:2] == user_document(foreign, person.id)[:2]
    await bystander.barrier()
    assert not bystander.messages("status")


async def test_it_stays_stale_until_the_row_is_repaired(foreign: ForeignWriter, seed: Seed, connect: Connect) -> None:
    person = seed.person()
    client = await connect(person.token)
    await client.until(lambda: client.data)
    _set(foreign, person, BREAK["a number that is not finite"])
    await client.message("status", store="stale")
    held = client.held
    seed.insert("user_permissions", user_id=person.id, permission="can_fly")
    foreign.execute("INSERT INTO plan_permissions(plan, permission) VALUES (?, 'can_dance')", person.plan)
    other = await connect(seed.person(person.plan).token)
    await other.until(lambda: other.data)
    await client.barrier()
    assert not client.messages("status", store="fresh")
    assert client.held == held
    _set(foreign, person, REPAIR)
    await client.message("status", store="fresh")
    await client.until(lambda: client.data["permissions"] == {"can_fly": True, "can_dance": True})


async def test_what_came_in_the_same_commit_is_there_after_the_repair(
    foreign: ForeignWriter, seed: Seed, connect: Connect
) -> None:
    person = seed.person()
    client = await connect(person.token)
    await client.until(lambda: client.data)
    foreign.execute("BEGIN")
    _set(foreign, person, BREAK["an unknown time zone"])
    foreign.execute("INSERT INTO user_permissions(user_id, permission) VALUES (?, 'can_fly')", person.id)
    foreign.execute("COMMIT")
    await client.message("status", store="stale")
    _set(foreign, person, REPAIR)
    await client.message("status", store="fresh")
    await client.until(lambda: client.data["permissions"] == {"can_fly": True})


async def test_who_comes_while_it_is_bad_waits_for_its_repair(
    gateway: GatewayProcess, foreign: ForeignWriter, seed: Seed, connect: Connect
) -> None:
    person = seed.person()
    _set(foreign, person, BREAK["a number that is not finite"])
    client = await connect(person.token)
    status = await client.message("status")
    assert (status["store"], status["doc"]) == ("stale", person.doc)
    second = await connect(person.token)
    await second.message("status", store="stale", doc=person.doc)
    answer = await gateway.fetch("GET", "/api/document", person.token)
    assert answer.status == 503
    assert answer.json()["code"] == "unavailable"
    _set(foreign, person, REPAIR)
    repaired = user_document(foreign, person.id)[:2]
    for waiting in (client, second):
        await waiting.message("status", store="fresh", doc=person.doc)
        # One who came in the very moment may have been shown the state before it was bad.
        await waiting.until(lambda waiting=waiting: waiting.data and waiting.held[:2] == repaired)
    assert gateway.metric("gateway_documents_failed_total") > 0
    assert any(person.doc in line and "seq=" in line for line in gateway.log().splitlines())


@pytest.mark.parametrize("change", ["disabled", "deleted", "token"])
async def test_a_bad_row_protects_nobody_from_revocation(
    change: str, foreign: ForeignWriter, seed: Seed, connect: Connect
) -> None:
    person = seed.person()
    client = await connect(person.token)
    _set(foreign, person, BREAK["an unknown time zone"])
    await client.message("status", store="stale")
    match change:
        case "disabled":
            _set(foreign, person, "status = 'disabled'")
        case "deleted":
            foreign.execute("DELETE FROM users WHERE id = ?", person.id)
        case _:
            foreign.execute("DELETE FROM api_tokens WHERE id = ?", person.token_id)
    assert (await client.end())["code"] == "revoked"


BAD_ORGANIZATION = pytest.mark.parametrize(
    "columns",
    ["""attributes = '{"a":1e999}'""", "timezone = 'Mars/Olympus'", "anchor_at = 999999999999999999"],
    ids=["attributes", "time zone", "anchor"],
)


@BAD_ORGANIZATION
async def test_an_organization_that_can_not_be_built_is_stale_and_its_members_go_on(
    columns: str, foreign: ForeignWriter, seed: Seed, connect: Connect
) -> None:
    plan = seed.plan([], {"minutes": (100, "month")})
    member = seed.person(plan)
    organization = seed.organization(plan, {member.id: "member"})
    doc = f"org:{organization}"
    client = await connect(member.token, watch=["self", doc])
    await client.until(lambda: doc in client.replica.confirmed and client.data)
    foreign.execute(f"UPDATE organizations SET {columns} WHERE id = ?", organization)
    status = await client.message("status", doc=doc)
    assert status["store"] == "stale"
    _set(foreign, member, "name = 'Goes on'")
    await client.until(lambda: client.data["identity"]["name"] == "Goes on")
    assert organization in client.data["organizations"]
    foreign.execute(
        "UPDATE organizations SET attributes = '{}', timezone = 'UTC', anchor_at = NULL WHERE id = ?", organization
    )
    await client.message("status", doc=doc, store="fresh")
    assert client.held[:2] == user_document(foreign, member.id)[:2]


@BAD_ORGANIZATION
async def test_a_member_of_a_bad_organization_is_never_shown_as_no_member(
    columns: str, foreign: ForeignWriter, seed: Seed, connect: Connect
) -> None:
    plan = seed.plan([], {"minutes": (100, "month")})
    member = seed.person(plan)
    organization = seed.organization(plan, {member.id: "member"})
    expected = user_document(foreign, member.id)
    foreign.execute(f"UPDATE organizations SET {columns} WHERE id = ?", organization)
    client = await connect(member.token)
    await client.until(lambda: client.data or client.messages("status"))
    if client.data:
        assert client.data == expected.data
    else:
        assert client.messages("status", store="stale", doc=member.doc)
    foreign.execute(
        "UPDATE organizations SET attributes = '{}', timezone = 'UTC', anchor_at = NULL WHERE id = ?", organization
    )
    await client.until(lambda: client.data == expected.data)


async def test_scopes_that_make_no_sense_allow_nothing_more(seed: Seed, connect: Connect) -> None:
    admin = seed.person(is_admin=1)
    other = seed.person()
    client = await connect(seed.token(admin.id, scopes='{"permissions":5}').text, watch=["self", other.doc])
    await client.until(lambda: client.data)
    assert (await client.message("error"))["code"] == "not_found"


async def test_a_writer_killed_in_a_transaction_leaves_nothing_behind(
    gateway: GatewayProcess, foreign: ForeignWriter, seed: Seed, connect: Connect
) -> None:
    person = seed.person()
    client = await connect(person.token)
    await client.until(lambda: client.data)
    victim = gateway.foreign_writer()
    victim.execute("BEGIN IMMEDIATE")
    victim.execute("UPDATE users SET name = 'Never' WHERE id = ?", person.id)
    victim.kill()
    victim.close()
    _set(foreign, person, "name = 'Goes on'")
    await client.until(lambda: client.data["identity"]["name"] == "Goes on")
    assert len(client.messages("update")) == 1
    await eventually(lambda: gateway.request("GET", "/ready").status == 200)
