from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.errors import Conflict, NoRowChanged, NotFound, StoreConflict, StoreError
from gateway.store import accounts, grants, organizations, plans, roles
from gateway.store.accounts import User, add_user, find_user, password_statement, set_plan, user_before
from gateway.store.audit import ACTIONS, Audited, AuditRow, Entry, Lookup, list_audit, prune_audit, record
from gateway.store.changes import last_seq
from gateway.store.database import Database, Statement
from gateway.store.grants import QuotaRow
from gateway.store.organizations import MemberCap, Organization
from gateway.store.plans import Plan, PlanQuota, apply_plans
from gateway.store.roles import Role

NOW = 1_800_000_000_000
DAY = 86_400_000
YEAR = 365 * DAY
ADA = User(id="u_ada", username="ada", name="Ada Lovelace", email="ada@example.org", plan="pro", attributes={"a": [1]})
SECRET = "$argon2id$v=19$m=7168,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo"
PRO = Plan("pro", "Pro", frozenset({"can_fly", "can_swim"}), {"voice_minutes": PlanQuota(5, "day", hard=False)})


@pytest.fixture(autouse=True)
async def ada(database: Database) -> None:
    await apply_plans(database, [PRO, Plan("free")])
    await add_user(database, ADA, SECRET)


async def written(database: Database, *entries: Entry, now: int = NOW) -> None:
    await database.write(*(record(entry, now) for entry in entries))


async def ids(database: Database, **filters: Any) -> list[int]:
    return [row.id for row in await list_audit(database, **filters)]


async def newest(database: Database) -> AuditRow:
    [row] = await list_audit(database, limit=1)
    return row


# --- what an entry tells -----------------------------------------------------------------------------------------


async def test_an_entry_stands_as_it_was_written(database: Database) -> None:
    before = await last_seq(database)
    await written(database, Entry("stranger", "session.login_failed", "user:u_ada", "192.0.2.1", "wrong"))
    assert await list_audit(database) == [
        AuditRow(1, NOW, "stranger", "session.login_failed", "user:u_ada", "192.0.2.1", "wrong", None, None)
    ]
    assert await last_seq(database) == before


async def test_an_entry_may_hang_on_what_the_write_finds(database: Database) -> None:
    entry = Entry("gateway", "user.plan", "user:u_ada", before=user_before("u_ada"), after={"plan": "free"})
    for plan in ("free", "pro"):
        await database.write(record(entry, NOW, where=Lookup("SELECT 1 FROM users WHERE plan = ?", (plan,))))
    [row] = await list_audit(database)
    assert (row.before["plan"], row.after) == ("pro", {"plan": "free"})


async def test_a_change_and_its_entry_are_one_write(database: Database) -> None:
    entry = Entry("user:u_root", "user.plan", "user:u_ada", before=user_before("u_ada"), after={"plan": "free"})
    seq = await set_plan(Audited(database, entry), "u_ada", "free")
    assert seq == await last_seq(database)
    row = await newest(database)
    assert (row.before["plan"], row.after) == ("pro", {"plan": "free"})
    assert abs(row.at - database.clock()) < 60_000
    with pytest.raises(NotFound):
        await set_plan(Audited(database, entry), "u_ada", "gold")
    with pytest.raises(NotFound):
        await set_plan(Audited(database, entry), "u_eve", "free")
    assert await ids(database) == [row.id]


async def test_before_is_what_the_change_found_and_not_what_somebody_saw(database: Database) -> None:
    def change(plan: str) -> Audited:
        return Audited(database, Entry("gateway", "user.plan", plan, before=user_before("u_ada")))

    await asyncio.gather(set_plan(change("free"), "u_ada", "free"), set_plan(change("pro"), "u_ada", "pro"))
    last, first = await list_audit(database)
    assert (last.target, first.target) in (("pro", "free"), ("free", "pro"))
    assert last.before["plan"] == first.target
    assert first.before["plan"] == "pro"


async def test_the_caller_sees_only_its_own_statements(database: Database) -> None:
    entry = Entry("gateway", "user.update", "user:u_ada")
    audited = Audited(database, entry, entry)
    own = (Statement("SELECT 1"), Statement("SELECT 2"))
    assert (await audited.write(*own)).rows == [[(1,)], [(2,)]]
    with pytest.raises(NoRowChanged) as refused:
        await audited.write(*own, Statement("DELETE FROM users WHERE id = 'u_eve'", must_change=True))
    assert refused.value.index == 2
    assert len(await ids(database)) == 2
    assert (await audited.read(*own)) == (await audited.scan(*own)) == [[(1,)], [(2,)]]
    assert (await audited.near.read(*own)) == [[(1,)], [(2,)]]
    async with audited.snapshot() as snapshot:
        assert await snapshot.read(own[0]) == [[(1,)]]
    assert (audited.clock, audited.lags) == (database.clock, database.lags)


async def test_an_entry_within_an_entry(database: Database) -> None:
    outer, inner = Entry("gateway", "user.plan", "1"), Entry("gateway", "user.update", "2")
    missing = Statement("DELETE FROM users WHERE id = 'u_eve'", must_change=True)
    with pytest.raises(NoRowChanged) as refused:
        await Audited(Audited(database, outer), inner).write(missing)
    assert refused.value.index == 0
    await set_plan(Audited(Audited(database, outer), inner), "u_ada", "free")
    assert {row.target for row in await list_audit(database)} == {"1", "2"}


async def test_what_a_change_found_is_told_whole(database: Database) -> None:
    await roles.create_role(database, Role("support", "Support", frozenset({"users.read", "orgs.read"})))
    await organizations.add_organization(database, Organization(id="o_acme", name="Acme", plan="pro"), "u_ada")
    await organizations.set_cap(database, "o_acme", MemberCap("u_ada", "voice_minutes", 3))
    await organizations.set_role_permissions(database, "admin", ["b", "a"])
    await grants.set_role(database, "u_ada", "support", 7)
    await grants.set_permission(database, "u_ada", "can_fly", "deny", 9)
    await grants.set_quota(database, "u_ada", QuotaRow("voice_minutes", None, "month", False, None, 8))
    found = await find_user(database, "u_ada")

    async def before(lookup: Lookup) -> Any:
        await written(database, Entry("gateway", "user.update", "x", before=lookup))
        return (await newest(database)).before

    assert await before(user_before("u_ada")) == {
        **{"id": "u_ada", "username": "ada", "name": "Ada Lovelace", "email": "ada@example.org", "plan": "pro"},
        **{"is_admin": False, "status": "active", "attributes": {"a": [1]}, "timezone": "UTC", "anchor_at": None},
        **{"created_at": found.created_at, "updated_at": found.updated_at},
    }
    plan = await before(plans.plan_before("pro"))
    assert sorted(plan.pop("permissions")) == ["can_fly", "can_swim"]
    quotas = {"voice_minutes": {"limit": 5, "period": "day", "hard": False}}
    assert plan == {"id": "pro", "name": "Pro", "quotas": quotas}
    role = await before(roles.role_before("support"))
    assert (role["name"], sorted(role["permissions"])) == ("Support", ["orgs.read", "users.read"])
    organization = await before(organizations.organization_before("o_acme"))
    assert (organization["name"], organization["attributes"], organization["status"]) == ("Acme", {}, "active")
    member = organizations.member_before("o_acme", "u_ada")
    assert await before(member) == {"user_id": "u_ada", "role": "owner"}
    cap = organizations.cap_before("o_acme", "u_ada", "voice_minutes")
    assert await before(cap) == {"user_id": "u_ada", "quota": "voice_minutes", "limit": 3}
    assert await before(organizations.role_permissions_before("admin")) == {"permissions": ["a", "b"]}
    assert await before(grants.role_before("u_ada", "support")) == {"role": "support", "expires_at": 7}
    denied = {"deny": {"starts_at": None, "expires_at": 9}}
    assert await before(grants.permission_before("u_ada", "can_fly")) == denied
    assert await before(grants.quota_before("u_ada", "voice_minutes")) == {
        **{"quota": "voice_minutes", "limit": None, "period": "month", "hard": False},
        **{"starts_at": None, "expires_at": 8},
    }
    for nothing in (user_before("u_eve"), plans.plan_before("gold"), roles.role_before("chief")):
        assert await before(nothing) is None


async def test_a_name_that_is_no_text_does_not_hide_the_trail(database: Database) -> None:
    await database.write(Statement("UPDATE users SET name = CAST(x'ff61' AS TEXT) WHERE id = 'u_ada'"))
    await written(database, Entry("gateway", "user.delete", "user:u_ada", before=user_before("u_ada")))
    assert (await newest(database)).before["name"] == "\ufffda"


# --- secrets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["password", "password_hash", "token", "token_hash", "refresh_token", "Secret", "salt"]
)
def test_an_entry_with_a_secret_can_not_be_made(name: str) -> None:
    with pytest.raises(ValueError, match="secret"):
        record(Entry("gateway", "user.update", "x", after={"id": 1, name: "x"}), NOW)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT password_hash FROM users",
        "SELECT json_object('x', token_hash) FROM api_tokens",
        "SELECT private_key FROM signing_keys",
        "SELECT salt FROM refresh_tokens",
        "SELECT * FROM users",
    ],
)
def test_a_look_up_of_a_secret_can_not_be_made(sql: str) -> None:
    with pytest.raises(ValueError, match="secret"):
        record(Entry("gateway", "user.update", "x", before=Lookup(sql)), NOW)


async def test_whatever_is_done_the_trail_holds_no_hash(database: Database) -> None:
    def audited(action: Any, before: Lookup) -> Audited:
        return Audited(database, Entry("gateway", action, "user:u_ada", before=before))

    before = user_before("u_ada")
    await audited("password.reset", before).write(password_statement("u_ada", SECRET + "2"))
    await accounts.set_status(audited("user.update", before), "u_ada", "disabled")
    await set_plan(audited("user.plan", before), "u_ada", "free")
    seen = await find_user(database, "u_ada")
    await accounts.replace_user(audited("user.update", before), seen, ADA)
    await audited("user.delete", before).write(Statement("DELETE FROM users WHERE id = 'u_ada'"))
    await add_user(audited("user.create", before), ADA, SECRET)
    [rows] = await database.read(Statement("SELECT * FROM audit"))
    assert len(rows) == 6
    assert "argon2" not in str(rows)
    assert "password" not in str([row[-2:] for row in rows])


# --- append-only -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit SET actor = 'nobody'",
        "UPDATE audit SET outcome = outcome",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE at < 9000000000000",
        "INSERT OR REPLACE INTO audit(id, at, actor, action, target, address, outcome)"
        " SELECT id, at, 'nobody', action, target, address, outcome FROM audit",
        "REPLACE INTO audit(id, at, actor, action, target, address, outcome) VALUES (2, 1, 'x', 'x', 'x', '', 'ok')",
        "INSERT INTO audit(id, at, actor, action, target, address, outcome) VALUES (2, 1, 'x', 'x', 'x', '', 'ok')"
        " ON CONFLICT(id) DO UPDATE SET actor = excluded.actor",
        "INSERT INTO audit(id, at, actor, action, target, address, outcome) VALUES (2, 1, 'x', 'x', 'x', '', 'ok')"
        " ON CONFLICT DO NOTHING",
        "UPDATE OR REPLACE audit SET id = 2",
    ],
)
@pytest.mark.parametrize("pruned", [False, True])
async def test_the_trail_can_not_be_rewritten(database: Database, sql: str, pruned: bool) -> None:
    await written(database, Entry("gateway", "user.update", "old"), now=NOW - 2 * DAY)
    await written(database, Entry("gateway", "user.update", "x"))
    if pruned:
        assert await prune_audit(database, DAY, NOW) == 1
    left = await list_audit(database)
    with pytest.raises(StoreError, match="append-only"):
        await database.write(Statement(sql))
    assert await list_audit(database) == left


async def test_no_row_can_stand_in_the_way_of_the_next(database: Database) -> None:
    """In a trigger an INSERT without an id has the id -1."""
    with pytest.raises(StoreConflict):
        await database.write(
            Statement(
                "INSERT INTO audit(id, at, actor, action, target, address, outcome) VALUES (-1, 1, 'x', '', '', '', '')"
            )
        )
    await written(database, Entry("gateway", "user.update", "a"), Entry("gateway", "user.update", "b"))
    assert await ids(database) == [2, 1]


async def test_only_what_is_older_is_pruned(database: Database) -> None:
    for age, target in ((3, "a"), (1, "b"), (0, "c")):
        await written(database, Entry("gateway", "user.update", target), now=NOW - age * DAY)
    assert await prune_audit(database, 4 * DAY, NOW) == 0
    assert await prune_audit(database, 3 * DAY, NOW) == 0
    assert await prune_audit(database, 2 * DAY, NOW) == 1
    assert [row.target for row in await list_audit(database)] == ["c", "b"]
    assert await prune_audit(database, DAY, NOW) == 0
    assert await prune_audit(database, DAY, NOW - DAY) == 0
    assert await prune_audit(database, DAY - 1, NOW) == 1
    assert [row.target for row in await list_audit(database)] == ["c"]
    await written(database, Entry("gateway", "user.update", "d"))
    assert await ids(database) == [4, 3]


async def test_a_clock_that_was_ahead_does_not_stop_the_pruning(database: Database) -> None:
    await written(database, Entry("gateway", "user.update", "a"), now=NOW - 9 * DAY)
    await written(database, Entry("gateway", "user.update", "now"))
    assert await prune_audit(database, DAY, NOW) == 1
    await written(database, Entry("gateway", "user.update", "b"), now=NOW - 8 * DAY)
    assert await prune_audit(database, DAY, NOW - 5 * DAY) == 1


async def test_a_clock_that_is_ahead_does_not_cost_the_trail(database: Database) -> None:
    for age in (3, 2, 1, 0):
        await written(database, Entry("gateway", "user.update", str(age)), now=NOW - age * DAY)
    assert await prune_audit(database, 30 * DAY, NOW + YEAR) == 0
    with pytest.raises(StoreError, match="append-only"):
        await database.write(Statement("DELETE FROM audit WHERE at = ?", (NOW - 3 * DAY,)))
    # Its own entries are as wrong as it is, and then it takes its time.
    await written(database, Entry("gateway", "user.update", "wrong"), now=NOW + YEAR)
    for _ in range(27):
        assert await prune_audit(database, 30 * DAY, NOW + YEAR) == 0
    assert await prune_audit(database, 30 * DAY, NOW + YEAR) == 1
    assert len(await ids(database)) == 4


async def test_many_are_pruned_in_groups(database: Database) -> None:
    sql = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1201)"
        " INSERT INTO audit (at, actor, action, target, address, outcome)"
        " SELECT i, 'gateway', 'user.update', 'x', '', 'ok' FROM n"
    )
    await database.write(Statement(sql))
    before = database.counts.operations
    assert await prune_audit(database, 0, 1201) == 1200
    assert database.counts.operations - before == 3
    assert len(await ids(database, limit=10)) == 1


# --- reading -----------------------------------------------------------------------------------------------------


async def test_the_trail_is_filtered_and_paged_the_newest_first(database: Database) -> None:
    for number in range(1, 9):
        actor = "user:u_ada" if number % 2 else "user:u_bob"
        target = "user:u_ada" if number % 4 == 0 else "plan:pro"
        action: Any = ACTIONS[number % 3]
        await written(database, Entry(actor, action, target), now=NOW + number)
    assert await ids(database) == [8, 7, 6, 5, 4, 3, 2, 1]
    assert await ids(database, limit=3) == [8, 7, 6]
    assert await ids(database, limit=3, before_id=6) == [5, 4, 3]
    assert await ids(database, user="u_ada") == [8, 7, 5, 4, 3, 1]
    assert await ids(database, user="u_ada", limit=2, before_id=7) == [5, 4]
    assert await ids(database, user="u_bob", action=ACTIONS[0]) == [6]
    assert await ids(database, action=ACTIONS[1]) == [7, 4, 1]
    assert await ids(database, action=ACTIONS[1], before_id=7, limit=1) == [4]
    assert await ids(database, since=NOW + 7) == [8, 7]
    assert await ids(database, since=NOW + 4, user="u_ada", before_id=8) == [7, 5, 4]
    assert await ids(database, since=NOW + 9) == []
    assert await ids(database, user="u_eve") == []


async def test_an_entry_by_a_clock_that_was_behind_is_found_by_its_moment(database: Database) -> None:
    for at in (NOW + 5, NOW - 5, NOW + 6):
        await written(database, Entry("gateway", "user.update", "x"), now=at)
    assert await ids(database, since=NOW) == [3, 1]
    assert await ids(database, since=NOW - 5) == [3, 2, 1]


async def test_no_page_reads_the_whole_trail(database: Database) -> None:
    """The plans that SQLite makes: each goes along an index, or the table's end."""
    for filters in ({}, {"user": "u"}, {"action": "import"}, {"since": 1}, {"user": "u", "action": "import"}):
        explaining = _Explaining(database)
        await list_audit(explaining, before_id=5, limit=3, **filters)  # type: ignore[arg-type]
        steps = [step for step in explaining.steps if "audit" in step]
        assert steps
        assert [step for step in steps if step.startswith("SCAN audit")] == []


class _Explaining(Audited):
    """Asks how a scan would be made instead of making it."""

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self.steps: list[str] = []

    async def scan(self, *statements: Statement) -> Any:
        for sql, args, _ in statements:
            [rows] = await self._db.read(Statement(f"EXPLAIN QUERY PLAN {sql}", args))
            self.steps += [row[3] for row in rows]
        return [[]]


async def test_a_unique_conflict_stays_one(database: Database) -> None:
    entry = Entry("gateway", "user.create", "user:u_ada")
    with pytest.raises(Conflict):
        await add_user(Audited(database, entry), ADA)
    assert await ids(database) == []
