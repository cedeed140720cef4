"""What another program commits to the public tables arrives as a patch with its causes, if it changes the document."""

from __future__ import annotations

import time
from collections.abc import Callable
from string import Template
from typing import Any, NamedTuple

import pytest

from tests.end_to_end.conftest import Connect, caught_up
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.oracle import fresh_document, user_document
from tests.support.seed import Person, Seed, now_ms

pytestmark = pytest.mark.storages("file", "server", "replica")

PROMPT_S = 2.0
"""A change is there in milliseconds; a busy machine is given more."""


class World(NamedTuple):
    """A user with a plan, a role and an organization of its own, so that every kind of row can be changed."""

    person: Person
    plan: str
    role: str
    organization: str
    organization_plan: str


@pytest.fixture
async def world(gateway: GatewayProcess, seed: Seed) -> World:
    plan = seed.plan(["can_use_voice", "can_use_sms"], {"minutes": (500, "month"), "messages": (None, "day")})
    organization_plan = seed.plan([], {"minutes": (10_000, "month")})
    person = seed.person(plan, attributes='{"persona":"boss","old":[1,2]}', email=None)
    role = seed.role(["can_sing"])
    seed.insert("user_roles", user_id=person.id, role=role)
    organization = seed.organization(organization_plan, {person.id: "admin"})
    seed.insert("quota_usage", owner=person.doc, quota="minutes", period_start=now_ms(), used=12, reserved=5)
    await caught_up(gateway, seed)
    return World(person, plan, role, organization, organization_plan)


class Case(NamedTuple):
    """SQL with the names of `World` (and `now`) as parameters, the causes it has, and what must hold afterwards."""

    sql: str
    causes: set[str]
    holds: Callable[[dict[str, Any], World], object]


def _organization(data: dict[str, Any], world: World) -> Any:
    return data["organizations"].get(world.organization)


CASES = {
    "name": Case(
        "UPDATE users SET name = 'Ada' WHERE id = $user", {"profile"}, lambda d, w: d["identity"]["name"] == "Ada"
    ),
    "email appears": Case(
        "UPDATE users SET email = $user || '@example.org' WHERE id = $user",
        {"profile"},
        lambda d, w: d["identity"]["email"] == f"{w.person.id}@example.org",
    ),
    "letter case of the user name": Case(
        "UPDATE users SET username = upper(username) WHERE id = $user",
        {"profile"},
        lambda d, w: d["identity"]["username"] == w.person.id.upper(),
    ),
    "attributes": Case(
        """UPDATE users SET attributes = '{"old":[2],"new":{"deep":{"er":1.5,"none":null}},"ключ":"\U0001f600"}'
           WHERE id = $user""",
        {"profile"},
        lambda d, w: d["identity"]["attributes"] == {"old": [2], "new": {"deep": {"er": 1.5}}, "ключ": "😀"},
    ),
    "administrator": Case(
        "UPDATE users SET is_admin = 1 WHERE id = $user", {"profile"}, lambda d, w: d["identity"]["is_admin"] is True
    ),
    "plan": Case(
        "UPDATE users SET plan = $organization_plan WHERE id = $user",
        {"plan"},
        lambda d, w: d["identity"]["plan"] == w.organization_plan and "can_use_sms" not in d["permissions"],
    ),
    "plan and name at once": Case(
        "UPDATE users SET plan = $organization_plan, name = 'B' WHERE id = $user",
        {"plan", "profile"},
        lambda d, w: d["identity"]["name"] == "B" and d["quotas"]["minutes"]["limit"] == 10_000,
    ),
    "grant": Case(
        "INSERT INTO user_permissions(user_id, permission) VALUES ($user, 'can_fly')",
        {"permissions"},
        lambda d, w: d["permissions"]["can_fly"] is True,
    ),
    "denial": Case(
        "INSERT INTO user_permissions(user_id, permission, effect) VALUES ($user, 'can_use_sms', 'deny')",
        {"permissions"},
        lambda d, w: "can_use_sms" not in d["permissions"],
    ),
    "plan gains a permission": Case(
        "INSERT INTO plan_permissions(plan, permission) VALUES ($plan, 'can_dance')",
        {"permissions"},
        lambda d, w: d["permissions"]["can_dance"] is True,
    ),
    "plan loses a permission": Case(
        "DELETE FROM plan_permissions WHERE plan = $plan AND permission = 'can_use_voice'",
        {"permissions"},
        lambda d, w: "can_use_voice" not in d["permissions"],
    ),
    "plan gains a quota": Case(
        "INSERT INTO plan_quotas(plan, quota, limit_value, period, hard) VALUES ($plan, 'faxes', 3, 'never', 0)",
        {"quota_limit"},
        lambda d, w: d["quotas"]["faxes"]["remaining"] == 3,
    ),
    "plan's limit": Case(
        "UPDATE plan_quotas SET limit_value = 20 WHERE plan = $plan AND quota = 'minutes'",
        {"quota_limit"},
        lambda d, w: d["quotas"]["minutes"]["remaining"] == 3 and d["quotas"]["minutes"]["level"] == "low",
    ),
    "plan's limit goes": Case(
        "UPDATE plan_quotas SET limit_value = NULL WHERE plan = $plan AND quota = 'minutes'",
        {"quota_limit"},
        lambda d, w: "limit" not in d["quotas"]["minutes"] and d["quotas"]["minutes"]["used"] == 12,
    ),
    "plan's period": Case(
        "UPDATE plan_quotas SET period = 'year' WHERE plan = $plan AND quota = 'minutes'",
        {"quota_limit"},
        lambda d, w: d["quotas"]["minutes"]["period"] == "year" and d["quotas"]["minutes"]["used"] == 12,
    ),
    "plan loses a quota": Case(
        "DELETE FROM plan_quotas WHERE plan = $plan AND quota = 'messages'",
        {"quota_limit"},
        lambda d, w: "messages" not in d["quotas"],
    ),
    "usage": Case(
        "UPDATE quota_usage SET used = 490 WHERE owner = 'user:' || $user",
        {"quota_usage"},
        lambda d, w: d["quotas"]["minutes"]["level"] == "critical" and d["quotas"]["minutes"]["remaining"] == 5,
    ),
    "first usage of a quota": Case(
        "INSERT INTO quota_usage(owner, quota, period_start, used) VALUES ('user:' || $user, 'messages', $now, 7)",
        {"quota_usage"},
        lambda d, w: d["quotas"]["messages"]["used"] == 7,
    ),
    "usage is deleted": Case(
        "DELETE FROM quota_usage WHERE owner = 'user:' || $user",
        {"quota_usage"},
        lambda d, w: d["quotas"]["minutes"]["remaining"] == 500,
    ),
    "override": Case(
        "INSERT INTO user_quotas(user_id, quota, limit_value, period) VALUES ($user, 'minutes', 0, 'month')",
        {"quota_limit"},
        lambda d, w: d["quotas"]["minutes"]["level"] == "exhausted",
    ),
    "quota of its own": Case(
        "INSERT INTO user_quotas(user_id, quota, limit_value, period) VALUES ($user, 'stamps', 9, 'week')",
        {"quota_limit"},
        lambda d, w: d["quotas"]["stamps"]["limit"] == 9,
    ),
    "role is taken away": Case(
        "DELETE FROM user_roles WHERE user_id = $user", {"roles"}, lambda d, w: "can_sing" not in d["permissions"]
    ),
    "role gains a permission": Case(
        "INSERT INTO role_permissions(role, permission) VALUES ($role, 'can_whistle')",
        {"permissions"},
        lambda d, w: d["permissions"]["can_whistle"] is True,
    ),
    "role is deleted": Case(
        "DELETE FROM roles WHERE id = $role",
        {"roles", "permissions"},
        lambda d, w: "can_sing" not in d["permissions"],
    ),
    "organization's name": Case(
        "UPDATE organizations SET name = 'Acme' WHERE id = $organization",
        {"organization"},
        lambda d, w: _organization(d, w)["name"] == "Acme",
    ),
    "organization's plan": Case(
        "UPDATE organizations SET plan = $plan WHERE id = $organization",
        {"organization", "plan"},
        lambda d, w: _organization(d, w)["quotas"]["minutes"]["limit"] == 500,
    ),
    "organization is disabled": Case(
        "UPDATE organizations SET status = 'disabled' WHERE id = $organization",
        {"organization"},
        lambda d, w: _organization(d, w) is None,
    ),
    "organization is deleted": Case(
        "DELETE FROM organizations WHERE id = $organization",
        {"organization"},
        lambda d, w: _organization(d, w) is None,
    ),
    "pool is used": Case(
        "INSERT INTO quota_usage(owner, quota, period_start, used) "
        "VALUES ('org:' || $organization, 'minutes', $now, 10)",
        {"quota_usage"},
        lambda d, w: _organization(d, w)["quotas"]["minutes"]["remaining"] == 9_990,
    ),
    "pool's limit": Case(
        "UPDATE plan_quotas SET limit_value = 7 WHERE plan = $organization_plan",
        {"quota_limit"},
        lambda d, w: _organization(d, w)["quotas"]["minutes"]["limit"] == 7,
    ),
    "membership's role": Case(
        "UPDATE memberships SET role = 'owner' WHERE user_id = $user",
        {"organization"},
        lambda d, w: _organization(d, w)["role"] == "owner",
    ),
    "membership ends": Case(
        "DELETE FROM memberships WHERE user_id = $user",
        {"organization"},
        lambda d, w: _organization(d, w) is None,
    ),
    "organization roles": Case(
        "INSERT INTO org_role_permissions(role, permission) VALUES ('admin', 'manage_' || $organization)",
        {"permissions"},
        lambda d, w: _organization(d, w)["permissions"][f"manage_{w.organization}"] is True,
    ),
    "member's cap": Case(
        "INSERT INTO member_caps(org_id, user_id, quota, limit_value) VALUES ($organization, $user, 'minutes', 50)",
        {"quota_limit"},
        lambda d, w: _organization(d, w)["quotas"]["minutes"]["cap"] == 50,
    ),
    "birthday": Case(
        "UPDATE users SET created_at = 86400000 WHERE id = $user",
        {"profile"},
        lambda d, w: d["identity"]["created_at"] == "1970-01-02T00:00:00.000Z",
    ),
}


def _sql(text: str, world: World) -> str:
    """The statement with the world's names in it; they are words of the tests' own."""
    names = {name: value for name, value in world._asdict().items() if isinstance(value, str)}
    quoted = {name: f"'{value}'" for name, value in {**names, "user": world.person.id}.items()}
    return Template(text).substitute(quoted, now=now_ms())


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
async def test_a_foreign_commit_arrives_as_a_patch_with_its_causes(
    case: Case, world: World, foreign: ForeignWriter, connect: Connect
) -> None:
    client = await connect(world.person.token)
    await client.until(lambda: client.data)
    assert client.held == user_document(foreign, world.person.id)
    mark = client.mark()
    foreign.execute(_sql(case.sql, world))
    update = await client.message("update", since=mark, timeout_s=PROMPT_S)
    assert set(update["causes"]) == case.causes
    assert case.holds(client.data, world)
    assert client.held == user_document(foreign, world.person.id)
    assert len(client.messages("update", since=mark)) == 1


async def test_time_zone_and_anchor_move_the_end_of_a_period(
    world: World, foreign: ForeignWriter, connect: Connect
) -> None:
    client = await connect(world.person.token)
    await client.until(lambda: client.data)
    calendar = client.data["quotas"]["minutes"]["resets_at"]
    foreign.execute("UPDATE users SET timezone = 'Asia/Kathmandu' WHERE id = ?", world.person.id)
    await client.until(lambda: client.data["quotas"]["minutes"]["resets_at"] != calendar)
    assert client.data["quotas"]["minutes"]["resets_at"].endswith("T18:15:00.000Z")
    foreign.execute("UPDATE users SET timezone = 'UTC', anchor_at = 1234567 WHERE id = ?", world.person.id)
    await client.until(lambda: client.data["quotas"]["minutes"]["resets_at"].endswith("-01T00:20:34.567Z"))


async def test_several_statements_of_one_commit_arrive_as_one_patch(
    world: World, foreign: ForeignWriter, connect: Connect
) -> None:
    client = await connect(world.person.token)
    await client.until(lambda: client.data)
    mark = client.mark()
    foreign.execute("BEGIN")
    foreign.execute("UPDATE users SET name = 'Ada' WHERE id = ?", world.person.id)
    foreign.execute("INSERT INTO user_permissions(user_id, permission) VALUES (?, 'can_fly')", world.person.id)
    foreign.execute("UPDATE quota_usage SET used = 13 WHERE owner = ?", world.person.doc)
    foreign.execute("COMMIT")
    update = await client.message("update", since=mark)
    assert update["causes"] == ["permissions", "profile", "quota_usage"]
    assert client.held == user_document(foreign, world.person.id)


async def test_what_is_rolled_back_is_never_seen(world: World, foreign: ForeignWriter, connect: Connect) -> None:
    client = await connect(world.person.token)
    await client.until(lambda: client.data)
    mark = client.mark()
    foreign.execute("BEGIN")
    foreign.execute("UPDATE users SET name = 'Nobody' WHERE id = ?", world.person.id)
    await client.barrier()
    foreign.execute("ROLLBACK")
    foreign.execute("UPDATE users SET name = 'Somebody' WHERE id = ?", world.person.id)
    await client.until(lambda: client.data["identity"]["name"] == "Somebody")
    assert len(client.messages("update", since=mark)) == 1


UNSEEN = {
    "the same value again": "UPDATE users SET name = name, plan = plan, attributes = attributes WHERE id = $user",
    "a grant of what the plan gives": (
        "INSERT INTO user_permissions(user_id, permission) VALUES ($user, 'can_use_sms')"
    ),
    "a denial of what nobody gave": (
        "INSERT INTO user_permissions(user_id, permission, effect) VALUES ($user, 'can_fly', 'deny')"
    ),
    "a grant that has ended": (
        "INSERT INTO user_permissions(user_id, permission, expires_at) VALUES ($user, 'can_fly', $now - 1)"
    ),
    "the plan's name": "UPDATE plans SET name = 'Another' WHERE id = $plan",
    "usage of a quota that the user does not have": (
        "INSERT INTO quota_usage(owner, quota, period_start, used) VALUES ('user:' || $user, 'unheard', $now, 1)"
    ),
    "usage of an earlier period": (
        "INSERT INTO quota_usage(owner, quota, period_start, used) VALUES ('user:' || $user, 'minutes', 0, 1)"
    ),
    "the token's name and use": "UPDATE api_tokens SET name = 'Phone', last_used_at = $now WHERE user_id = $user",
    "a row that comes and goes in one commit": (
        "INSERT INTO user_permissions(user_id, permission) VALUES ($user, 'can_fly');"
        "DELETE FROM user_permissions WHERE user_id = $user"
    ),
    "a cap without a limit": (
        "INSERT INTO member_caps(org_id, user_id, quota) VALUES ($organization, $user, 'minutes')"
    ),
    "another user's change": "INSERT INTO roles(id) VALUES ('role of ' || $user)",
}


@pytest.mark.parametrize("sql", UNSEEN.values(), ids=list(UNSEEN))
async def test_a_commit_that_leaves_the_document_as_it_was_sends_nothing(
    sql: str, world: World, gateway: GatewayProcess, foreign: ForeignWriter, seed: Seed, connect: Connect
) -> None:
    client = await connect(world.person.token)
    await client.until(lambda: client.data)
    mark = client.mark()
    foreign.execute("BEGIN")
    for statement in _sql(sql, world).split(";"):
        foreign.execute(statement)
    foreign.execute("COMMIT")
    await caught_up(gateway, seed)
    await client.barrier()
    assert not client.messages("update", since=mark)
    assert not client.messages("snapshot", since=mark)


async def test_many_commits_end_in_the_document_that_a_new_gateway_builds(
    world: World, gateway: GatewayProcess, foreign: ForeignWriter, connect: Connect
) -> None:
    client = await connect(world.person.token)
    await client.until(lambda: client.data)
    for case in CASES.values():
        if "DELETE" not in case.sql:
            foreign.execute(_sql(case.sql.replace("INSERT INTO", "INSERT OR IGNORE INTO"), world))
    expected = user_document(foreign, world.person.id)
    await client.until(lambda: client.held == expected)
    assert fresh_document(gateway, world.person)[:2] == expected[:2]


async def test_a_foreign_commit_is_seen_promptly(world: World, foreign: ForeignWriter, connect: Connect) -> None:
    client = await connect(world.person.token)
    await client.until(lambda: client.data)
    delays = []
    for number in range(20):
        name = f"Ada {number}"
        await foreign.run("UPDATE users SET name = ? WHERE id = ?", name, world.person.id)
        committed = time.monotonic()
        await client.until(lambda name=name: client.data["identity"]["name"] == name)
        delays.append(client.replica.received[-1].at - committed)
    assert sorted(delays)[len(delays) // 2] < 0.2
