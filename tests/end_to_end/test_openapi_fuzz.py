"""What the gateway says of itself in ``/openapi.json`` is held against what it does, by schemathesis: requests made
from the description, right ones and wrong ones, to a gateway that runs, and every answer compared with the description.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest
import schemathesis
from argon2 import PasswordHasher
from schemathesis.core.result import Ok
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished
from schemathesis.schemas import BaseSchema

from gateway.core.tokens import hash_token, new_api_token
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess

Json = dict[str, Any]

SEED = 20_261_121
GENERATION = {"deterministic": True, "with-security-parameters": False, "max-examples": 8}
PASSWORD = "quiet-lantern-over-mossy-harbour"
LEFT_OUT = [
    # What may stand in a field JSON Schema can not always tell: time zones, passwords, names that are taken.
    "positive_data_acceptance",
    # They follow what was made and deleted from case to case, and the gateway is put back between operations.
    "use_after_free",
    "ensure_resource_availability",
    "object_level_authorization",
]

# --- what there is ---

PARTS: dict[str, list[str]] = {
    "users": ["u_grace", "u_alan"],
    "plans": ["free", "pro", "spare"],
    "roles": ["support"],
    "orgs": ["o_acme"],
    "sessions": ["s_admin", "s_grace", "s_alan"],
    "tokens": ["t_admin", "t_grace", "t_alan"],
    "permissions": ["can_use_voice", "can_fly"],
    "quotas": ["voice_minutes", "sms_messages"],
    "leases": ["call", "a call"],
    "members": ["u_grace", "u_ada"],
    "dashboard": ["app.js", "styles/tokens.css"],
    "sdk": ["gateway.js"],
    "instances": ["i_shop"],
    "keys": ["k_shop"],
}
"""By the part of a path that they stand behind: chance alone would never name them."""
FIELDS: dict[str, list[Any]] = {
    "username": ["newcomer"],
    "email": ["newcomer@example.org"],
    "password": [PASSWORD],
    "old_password": [PASSWORD],
    "new_password": [PASSWORD + "-too"],
    "name": ["", "A name"],
    "plan": ["free", "pro"],
    "id": ["newcomer"],
    "timezone": ["UTC", "Europe/Berlin"],
    "attributes": [{}, {"persona": "boss"}],
    "anchor_at": ["2026-01-31T10:00:00.000Z", None],
    "starts_at": ["2026-11-01T00:00:00.000Z", None],
    "expires_at": ["2199-01-01T00:00:00.000Z", None],
    "at": ["2001-01-01T00:00:00.000Z"],
    "user": ["u_grace", "u_admin"],
    "owner": ["u_grace"],
    "amount": [1],
    "org": [None],
    "reason": ["seats counted"],
}
"""By the name of a field: what is right there, which its schema alone does not tell."""
NETWORKS: list[list[str]] = [[], ["10.0.0.0/8", "::1"]]
SPENDING = {"Consumption", "Reservation", "Extension", "Commitment", "Release"}
"""Bodies in which only an instance names a user."""
SIGN_IN: dict[str, list[Any]] = {"username": ["ada"], "email": [None], "password": [PASSWORD], "client": [None]}
NOT_SENT = {"created_at", "updated_at", "instance", "refresh_token", "used"}
IN_HEADER = {"key", "lease"}
"""Fields that `Idempotency-Key` says as well; where both do they have to agree."""
MENDING = [
    "DELETE FROM users WHERE username = 'newcomer' OR email LIKE 'newcomer%'",
    "DELETE FROM plans WHERE id = 'newcomer'",
    "DELETE FROM roles WHERE id = 'newcomer'",
    "DELETE FROM organizations WHERE id = 'newcomer'",
    *(f"INSERT OR IGNORE INTO plans(id, name) VALUES ('{plan}', '{plan}')" for plan in PARTS["plans"]),
    "INSERT OR IGNORE INTO roles(id) VALUES ('support')",
    "INSERT OR IGNORE INTO users(id, username, plan) VALUES ('u_admin', 'admin', 'pro'), ('u_ada', 'ada', 'pro'),"
    " ('u_grace', 'grace', 'free'), ('u_alan', 'alan', 'pro')",
    "UPDATE users SET status = 'active', is_admin = (id = 'u_admin') WHERE id LIKE 'u\\____%' ESCAPE '\\'",
    "INSERT OR IGNORE INTO organizations(id, name, plan) VALUES ('o_acme', 'Acme', 'pro')",
    "INSERT OR IGNORE INTO memberships(org_id, user_id, role) VALUES ('o_acme', 'u_alan', 'owner'),"
    " ('o_acme', 'u_ada', 'admin'), ('o_acme', 'u_grace', 'member')",
    "DELETE FROM memberships WHERE user_id = 'u_admin'",
    "INSERT OR IGNORE INTO user_permissions(user_id, permission, effect) SELECT id, 'can_fly', 'deny' FROM users",
    "INSERT OR IGNORE INTO user_quotas(user_id, quota, limit_value) SELECT id, 'voice_minutes', 7 FROM users",
    "INSERT OR IGNORE INTO user_roles(user_id, role) SELECT id, 'support' FROM users",
    "UPDATE plan_quotas SET limit_value = 9000000000 WHERE plan = 'pro'",
    "UPDATE quota_usage SET used = 9, reserved = 0",
    "DELETE FROM leases",
    "DELETE FROM quota_ledger",
    *(
        "INSERT INTO leases(spender, id, owner, quota, period, period_start, period_end, amount, held, created_at,"
        f" expires_at) SELECT 'user:' || id, '{name}', 'user:' || id, '{quota}', 'month', unixepoch('now',"
        " 'start of month') * 1000, 9000000000000, 7, 7, 1, 9000000000000 FROM users"
        for name, quota in zip(PARTS["leases"], PARTS["quotas"], strict=True)
    ),
    "DELETE FROM instances",
    "INSERT INTO instances(id, name) VALUES ('i_shop', 'Shop')",
    "INSERT INTO instance_keys(id, instance_id, secret) VALUES ('k_shop', 'i_shop', x'00')",
    "DELETE FROM login_sessions",
    "DELETE FROM api_tokens",
    "DELETE FROM login_failures",
    "INSERT INTO login_sessions(id, user_id, expires_at) SELECT 's_' || substr(id, 3), id, 9000000000000 FROM users",
    "INSERT INTO api_tokens(id, user_id, token_hash) SELECT 't_' || substr(id, 3), id, id FROM users",
]


class World:
    """A gateway with the demo's people; what requests take away is put back."""

    def __init__(self, gateway: GatewayProcess, foreign: ForeignWriter) -> None:
        self.gateway = gateway
        self._foreign = foreign
        self._tokens = {user: new_api_token(os.urandom(32)) for user in ("u_admin", "u_ada")}
        self._password_hash = PasswordHasher(2, 19_456, 1).hash(PASSWORD)
        gateway.secrets += [*self._tokens.values(), PASSWORD]

    def bearer(self, user: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._tokens[user]}"}

    def mend(self) -> None:
        """Everything is there again, whatever was done to it."""
        for statement in MENDING:
            self._foreign.execute(statement)
        self._foreign.execute("UPDATE users SET password_hash = ?", self._password_hash)
        for user, token in self._tokens.items():
            values = (f"fuzz_{user}", user, hash_token(token))
            self._foreign.execute("INSERT INTO api_tokens(id, user_id, token_hash) VALUES (?, ?, ?)", *values)

    def description(self) -> Json:
        """``/openapi.json``, in which names that there are stand beside the form that every part of a path has."""
        document: Json = self.gateway.request("GET", "/openapi.json").json()
        for parameter, known in parts(document):
            parameter["schema"] = {"anyOf": [parameter["schema"], *({"const": name} for name in known)]}
        return document

    def narrowed(self) -> Json:
        """The same with nothing but good values where a field's name tells some: most requests made of it succeed."""
        document: Json = self.gateway.request("GET", "/openapi.json").json()
        for parameter, known in parts(document):
            parameter["schema"] = {"enum": known or ["unknown"]}
        for path, item in document["paths"].items():
            unwanted = {"cursor", "If-Match", *(["user"] if "/leases" in path else [])}
            for operation in (operation for method, operation in item.items() if method != "parameters"):
                parameters = operation.get("parameters", [])
                parameters[:] = [one for one in parameters if one["name"] not in unwanted]
                for key in (one for one in parameters if one["name"] == "Idempotency-Key"):
                    key["required"] = True
                for media in operation.get("requestBody", {}).get("content", {}).values():
                    name = media["schema"]["$ref"].rpartition("/")[2]
                    media["schema"] = copy.deepcopy(document["components"]["schemas"][name])
                    fields = SIGN_IN if name == "SignIn" else FIELDS | ({"user": [None]} if name in SPENDING else {})
                    narrow(media["schema"], fields, with_id=name.startswith("New"))
        return document


def parts(document: Json) -> Iterator[tuple[Json, list[str]]]:
    """Every part of a path that is a parameter, and what there is that it may name."""
    for path, item in document["paths"].items():
        for parameter in item.get("parameters", ()):
            before = path.partition("/{" + parameter["name"])[0].rpartition("/")[2]
            yield parameter, PARTS.get(before, [])


def narrow(schema: Json, fields: Mapping[str, list[Any]], *, with_id: bool) -> None:
    """Only what is right: a body says the id of what it makes, and never repeats that of what it changes."""
    properties = schema["properties"]
    for name in list(properties):
        if name in NOT_SENT | IN_HEADER or (name == "id" and not with_id):
            del properties[name]
        elif name == "networks":
            properties[name] = {"enum": NETWORKS}
        elif name in fields and properties[name].get("type") != "array":
            properties[name] = {"enum": fields[name]}
        elif name == "quotas" and "additionalProperties" in properties[name]:
            properties[name]["propertyNames"] = {"enum": PARTS["quotas"]}
        elif properties[name].get("items") == {"type": "string"}:
            properties[name]["items"] = {"enum": PARTS["permissions"]}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        gateway = GatewayProcess(tmp_path_factory.mktemp("gateway"), auth_max_failures=1_000_000)
        subprocess.run(
            [sys.executable, "-m", "gateway", "init", "--demo"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=gateway.directory,
            env=gateway.environment,
        )
        stack.enter_context(gateway)
        yield World(gateway, stack.enter_context(ForeignWriter(gateway.database)))
        gateway.check_log()


# --- what is found ---


class Findings(NamedTuple):
    """What schemathesis found, by its title, and how often each status was answered."""

    faults: dict[str, str]
    statuses: Counter[int]

    @property
    def succeeded(self) -> bool:
        return any(200 <= status < 300 for status in self.statuses)


def loaded(world: World, document: Json, user: str, **generation: Any) -> BaseSchema:
    settings = {
        "base-url": f"http://{world.gateway.address}",
        "headers": world.bearer(user),
        "seed": SEED,
        "continue-on-failure": True,
        "generation": {**GENERATION, **generation},
        "phases": {"stateful": {"enabled": False}},
        "checks": {name: {"enabled": False} for name in LEFT_OUT},
    }
    return schemathesis.openapi.from_dict(document, config=schemathesis.Config.from_dict(settings))


def ask(schema: BaseSchema) -> Findings:
    """Ask all that the schema describes."""
    faults: dict[str, str] = {}
    statuses: Counter[int] = Counter()
    for event in from_schema(schema).execute():
        if isinstance(event, NonFatalError | FatalError):
            faults[type(event).__name__] = repr(event)
        if isinstance(event, ScenarioFinished):
            answers = [interaction.response for interaction in event.recorder.interactions.values()]
            statuses.update(answer.status_code for answer in answers if answer is not None)
            for check in (check for checks in event.recorder.checks.values() for check in checks):
                if check.failure_info is not None:
                    failure, how = check.failure_info.failure, check.failure_info.code_sample
                    faults.setdefault(failure.title, f"{failure.message}\n{how}")
    return Findings(faults, statuses)


def ask_each(world: World, schema: BaseSchema, subtests: pytest.Subtests) -> dict[str, Findings]:
    """Ask one operation after the other, each of a world that is whole; a subtest for each."""
    every: dict[str, Findings] = {}
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        world.mend()
        found = every[operation.label] = ask(schema.include(method=operation.method, path=operation.path))
        with subtests.test(operation=operation.label):
            assert found.faults == {}, "\n\n".join(f"{title}: {fault}" for title, fault in found.faults.items())
    return every


@pytest.mark.timeout(240)
@pytest.mark.parametrize("user", ["u_admin", "u_ada"])
def test_whatever_is_asked_is_answered_as_described(world: World, user: str, subtests: pytest.Subtests) -> None:
    every = ask_each(world, loaded(world, world.description(), user), subtests)
    assert sum(found.statuses.total() for found in every.values()) > 20 * len(every)


NEVER_SUCCEEDS = {"POST /auth/refresh", "GET /auth/csrf", "GET /auth/validate"}
"""For them a login has to be there, by a cookie or with a refresh token, or a signature."""


@pytest.mark.timeout(240)
def test_what_succeeds_is_answered_as_described(world: World, subtests: pytest.Subtests) -> None:
    """And with good values nearly everything does, so that the answers above were not all refusals."""
    every = ask_each(world, loaded(world, world.narrowed(), "u_admin", mode="positive"), subtests)
    assert {label for label, found in every.items() if not found.succeeded} == NEVER_SUCCEEDS
