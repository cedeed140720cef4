from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from gateway.core.clock import DAY_MS, HOUR_MS
from gateway.core.spending import Order
from gateway.errors import (
    BadRequest,
    Conflict,
    LeaseExpired,
    LeaseNotFound,
    NotFound,
    QuotaExceeded,
    StoreUnavailable,
    StoreUncertain,
    Unavailable,
    Uncertain,
)
from gateway.store.bases import Bases
from gateway.store.changes import last_seq, read_changes
from gateway.store.database import Database, Statement, Written
from gateway.store.leases import Held, Leases
from gateway.store.ledger import list_ledger, unbalanced
from gateway.store.quotas import Quotas

if TYPE_CHECKING:
    from tests.gateway.store.conftest import Spenders

ADA, BEN, ACME = "user:u_ada", "user:u_ben", "org:o_acme"


@pytest.fixture
def leases(spenders: Spenders) -> Leases:
    return spenders.quotas.leases


def other_node(spenders: Spenders, ahead_ms: int = 0) -> Leases:
    """A second node, which remembers nothing; its clock may be ahead."""
    return Quotas(spenders.database, lambda: spenders.now + ahead_ms).leases


def shown(held: Held) -> tuple[str, int, int, int, int]:
    """State, units held and committed; what is used and reserved."""
    return (held.lease.state, held.lease.held, held.lease.committed, held.balance.used, held.balance.reserved)


async def test_a_lease_is_reserved_extended_and_committed(spenders: Spenders, leases: Leases) -> None:
    held = await leases.reserve(ADA, ADA, "voice", 5, "call", 60)
    assert (held.lease.held, held.lease.expires_at, held.new) == (5, spenders.NOON + 60_000, True)
    assert held.balance.entry() == {
        **{"limit": 10, "used": 0, "reserved": 5, "remaining": 5, "period": "day", "hard": True, "level": "ok"},
        "resets_at": "2026-11-22T00:00:00.000Z",
    }
    again = await leases.reserve(ADA, ADA, "voice", 5, "call", 30)
    assert (again.lease, again.balance, again.new) == (held.lease, held.balance, False)
    spenders.now += 30_000
    held = await leases.extend(ADA, "call", 60)
    assert held.lease.expires_at == spenders.NOON + 90_000
    held = await leases.extend(ADA, "call", 10, amount=2, key="more")
    assert (held.lease.held, held.lease.expires_at, held.balance.reserved) == (7, spenders.NOON + 90_000, 7)
    assert (await leases.extend(ADA, "call", 10, amount=2, key="more")).lease == held.lease
    # What was asked for at first is what it is known by.
    assert (await leases.reserve(ADA, ADA, "voice", 5, "call", 60)).lease == held.lease
    with pytest.raises(BadRequest, match="The lease holds 7"):
        await leases.commit(ADA, "call", 8)
    assert (await leases.find(ADA, "call")).lease == held.lease
    done = await leases.commit(ADA, "call", 3)
    assert shown(done) == ("committed", 7, 3, 3, 0)
    assert done.lease.ended_at == spenders.now
    spenders.now += HOUR_MS
    assert (await leases.commit(ADA, "call", 3)).lease == done.lease
    assert (await leases.find(ADA, "call")).lease == done.lease
    for attempt in (
        leases.commit(ADA, "call", 2),
        leases.commit(ADA, "call", 8),
        leases.release(ADA, "call"),
        leases.extend(ADA, "call", 5),
        leases.extend(ADA, "call", 5, amount=2, key="more"),
        leases.extend(ADA, "call", 5, amount=2, key="still more"),
        leases.reserve(ADA, ADA, "voice", 5, "call", 60),
    ):
        with pytest.raises(Conflict):
            await attempt
    assert await unbalanced(spenders.database) == []


async def test_what_is_not_used_is_given_back(spenders: Spenders, leases: Leases) -> None:
    await leases.reserve(ADA, ADA, "voice", 10, "call", 60)
    with pytest.raises(QuotaExceeded) as refused:
        await leases.reserve(ADA, ADA, "voice", 1, "other", 60)
    assert refused.value.details == {"quota": "voice", "remaining": 0, "resets_at": "2026-11-22T00:00:00.000Z"}
    released = await leases.release(ADA, "call")
    assert shown(released) == ("released", 10, 0, 0, 0)
    assert (await leases.release(ADA, "call")).lease == released.lease
    for attempt in (
        leases.commit(ADA, "call", 0),
        leases.extend(ADA, "call", 5),
        leases.reserve(ADA, ADA, "voice", 10, "call", 60),
    ):
        with pytest.raises(Conflict, match="released"):
            await attempt
    await leases.reserve(ADA, ADA, "voice", 10, "other", 60)
    assert shown(await leases.commit(ADA, "other", 0)) == ("committed", 10, 0, 0, 0)


async def test_a_lease_ends_by_the_clock(spenders: Spenders, leases: Leases) -> None:
    for name in ("commit", "release", "extend", "add", "reserve", "find"):
        await leases.reserve(ADA, ADA, "mail", 5, name, 60)
    spenders.now += 60_000 - 1
    assert shown(await leases.find(ADA, "find"))[0] == "open"
    spenders.now += 1
    for attempt in (
        leases.commit(ADA, "commit", 1),
        leases.commit(ADA, "commit", 9),
        leases.extend(ADA, "extend", 60),
        leases.extend(ADA, "add", 60, amount=1, key="k"),
        leases.reserve(ADA, ADA, "mail", 5, "reserve", 60),
    ):
        with pytest.raises(LeaseExpired):
            await attempt
    assert shown(await leases.release(ADA, "release")) == ("expired", 5, 0, 0, 5)
    assert shown(await leases.find(ADA, "find")) == ("expired", 5, 0, 0, 0)
    # What one node ended is over, even for one whose clock is behind.
    late = other_node(spenders, -30_000)
    with pytest.raises(LeaseExpired):
        await late.commit(ADA, "commit", 1)
    assert await leases.next_end() is None
    assert {entry.kind for entry in await list_ledger(spenders.database, ADA)} == {"reserve", "expire"}
    assert await unbalanced(spenders.database) == []


async def test_due_leases_are_ended_by_whoever_looks(spenders: Spenders, leases: Leases) -> None:
    assert (await leases.next_end(), await leases.end_due()) == (None, 0)
    for number in range(7):
        await leases.reserve(ADA, ADA, "mail", 1, f"l{number}", 10 + number)
    assert await leases.next_end() == spenders.NOON + 10_000
    before = await last_seq(spenders.database)
    assert await leases.end_due() == 0
    assert await last_seq(spenders.database) == before
    spenders.now += 14_000
    assert await leases.end_due(2) == 2
    assert await leases.next_end() == spenders.NOON + 12_000
    assert sum(await asyncio.gather(leases.end_due(), other_node(spenders).end_due())) == 3
    assert await leases.next_end() == spenders.NOON + 15_000
    assert [row[1:] for row in await spenders.usage(ADA, "mail")] == [(0, 2)]
    changes = await read_changes(spenders.database, before)
    assert [(change.doc, change.cause) for change in changes] == [(ADA, "quota_usage")] * 5


async def test_names_belong_to_the_spender(spenders: Spenders, leases: Leases) -> None:
    await leases.reserve(ADA, ADA, "voice", 5, "call", 60)
    await leases.reserve(BEN, BEN, "voice", 6, "call", 60)
    for attempt in (
        leases.reserve(ADA, ADA, "voice", 4, "call", 60),
        leases.reserve(ADA, ADA, "mail", 5, "call", 60),
        leases.reserve(ADA, ACME, "voice", 5, "call", 60),
    ):
        with pytest.raises(Conflict, match="name was used"):
            await attempt
    for missing in (
        leases.commit(BEN, "nothing", 1),
        leases.release(BEN, "nothing"),
        leases.extend(BEN, "nothing", 60),
        leases.extend(BEN, "nothing", 60, amount=1, key="k"),
        leases.find(BEN, "nothing"),
        leases.commit("user:u_eve", "call", 1),
    ):
        with pytest.raises(LeaseNotFound):
            await missing
    assert shown(await leases.commit(BEN, "call", 6))[2:] == (6, 6, 0)
    assert shown(await leases.commit(ADA, "call", 5))[2:] == (5, 5, 0)


async def test_units_are_added_under_a_key_and_within_the_limit(spenders: Spenders, leases: Leases) -> None:
    await leases.reserve(ADA, ADA, "voice", 5, "call", 60)
    with pytest.raises(BadRequest):
        await leases.extend(ADA, "call", 60, amount=1)
    with pytest.raises(QuotaExceeded) as refused:
        await leases.extend(ADA, "call", 600, amount=6, key="k1")
    assert refused.value.details["remaining"] == 5
    # All or nothing: the end did not move either.
    assert (await leases.find(ADA, "call")).lease.expires_at == spenders.now + 60_000
    # A node that knows nothing of this lease yet.
    held = await other_node(spenders).extend(ADA, "call", 600, amount=5, key="k1")
    assert (held.lease.held, held.lease.expires_at) == (10, spenders.now + 600_000)
    spenders.now += 1_000
    again = await leases.extend(ADA, "call", 600, amount=5, key="k1")
    assert (again.lease.held, again.lease.expires_at) == (10, spenders.now + 600_000)
    await spenders.quotas.spender.consume(Order(ADA, ADA, "mail", 5, "k2"))
    await leases.reserve(ADA, ADA, "mail", 5, "other", 60)
    for attempt in (
        leases.extend(ADA, "call", 60, amount=4, key="k1"),
        leases.extend(ADA, "other", 60, amount=5, key="k1"),
        leases.extend(ADA, "call", 60, amount=5, key="k2"),
        spenders.quotas.spender.consume(Order(ADA, ADA, "voice", 5, "k1")),
    ):
        with pytest.raises(Conflict, match="key was used"):
            await attempt
    assert (await leases.commit(ADA, "call", 9)).balance.used == 9
    assert await unbalanced(spenders.database) == []


async def test_a_lease_counts_in_the_period_it_was_reserved_in(spenders: Spenders, leases: Leases) -> None:
    spenders.now = spenders.NOON + DAY_MS // 2 - 30_000
    await leases.reserve(ADA, ADA, "voice", 4, "call", 60)
    today = spenders.now + 30_000 - DAY_MS
    spenders.now += 45_000
    held = await leases.extend(ADA, "call", 60)
    assert held.balance.period_end == today + DAY_MS
    with pytest.raises(Conflict, match="not of the present period"):
        await leases.extend(ADA, "call", 60, amount=1, key="k")
    with pytest.raises(Conflict, match="not of the present period"):
        await other_node(spenders).extend(ADA, "call", 60, amount=1, key="k")
    # A new day, of which nothing is held.
    spent = await spenders.quotas.spender.consume(Order(ADA, ADA, "voice", 10, "k2"))
    assert (spent.balance.used, spent.balance.reserved) == (10, 0)
    done = await leases.commit(ADA, "call", 3)
    assert shown(done) == ("committed", 4, 3, 3, 0)
    assert done.balance.entry()["resets_at"] == "2026-11-22T00:00:00.000Z"
    assert await spenders.usage(ADA, "voice") == [(today, 3, 0), (today + DAY_MS, 10, 0)]
    # Units that were added before the boundary are the same request after it.
    spenders.now = spenders.NOON + DAY_MS * 3 // 2 - 30_000
    await leases.reserve(ADA, ADA, "mail", 4, "month", 600)
    await leases.extend(ADA, "month", 600, amount=1, key="k3")
    assert await unbalanced(spenders.database) == []


async def test_units_added_before_a_boundary_are_not_refused_after_it(spenders: Spenders, leases: Leases) -> None:
    spenders.now = spenders.NOON + DAY_MS // 2 - 1_000
    await leases.reserve(ADA, ADA, "voice", 4, "call", 60)
    await leases.extend(ADA, "call", 60, amount=1, key="k")
    spenders.now += 2_000
    assert (await leases.extend(ADA, "call", 60, amount=1, key="k")).lease.held == 5


async def test_a_pool_is_held_within_the_member_cap(spenders: Spenders, leases: Leases) -> None:
    held = await leases.reserve(BEN, ACME, "voice", 3, "call", 60)
    assert (held.balance.reserved, held.balance.cap, held.balance.member_taken) == (3, 4, 3)
    with pytest.raises(QuotaExceeded) as refused:
        await leases.extend(BEN, "call", 60, amount=2, key="k1")
    assert refused.value.details["remaining"] == 1
    with pytest.raises(QuotaExceeded):
        await leases.reserve(BEN, ACME, "voice", 2, "other", 60)
    # A cap is hard, however soft or unlimited the pool is.
    with pytest.raises(QuotaExceeded):
        await leases.reserve(BEN, ACME, "mail", 4, "other", 60)
    await leases.reserve(ADA, ACME, "voice", 17, "call", 60)
    with pytest.raises(QuotaExceeded) as refused:
        await leases.extend(BEN, "call", 60, amount=1, key="k1")
    assert refused.value.details["remaining"] == 0
    done = await leases.commit(BEN, "call", 1)
    assert (done.balance.used, done.balance.reserved, done.balance.member_taken) == (1, 17, 1)
    spenders.now += 60_000
    assert await leases.end_due() == 1
    assert [row[1:] for row in await spenders.usage(ACME, "voice")] == [(1, 0)]
    [rows] = await spenders.database.read(
        Statement("SELECT user_id, used, reserved FROM member_usage WHERE quota = 'voice' ORDER BY 1")
    )
    assert rows == [("u_ada", 0, 0), ("u_ben", 1, 0)]
    assert await unbalanced(spenders.database) == []


async def test_who_may_not_take_may_not_hold(spenders: Spenders, leases: Leases) -> None:
    for spender, owner, quota in (
        (ADA, ADA, "fax"),
        ("user:u_eve", ACME, "voice"),
        (ADA, "org:o_nobody", "voice"),
        ("user:u_nobody", "user:u_nobody", "voice"),
        ("user:u_nobody", ACME, "voice"),
        (ACME, ACME, "voice"),
        (ADA, "nobody", "voice"),
    ):
        with pytest.raises(NotFound, match="No such quota"):
            await leases.reserve(spender, owner, quota, 1, "l", 60)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM memberships WHERE user_id = 'u_ben'",
        "UPDATE organizations SET status = 'disabled'",
        "UPDATE users SET status = 'disabled' WHERE id = 'u_ben'",
        "DELETE FROM plan_quotas WHERE plan = 'team' AND quota = 'voice'",
    ],
)
async def test_what_is_held_is_settled_and_not_kept_by_who_may_not_take_any_more(
    spenders: Spenders, leases: Leases, sql: str
) -> None:
    await leases.reserve(BEN, ACME, "voice", 3, "call", 60)
    await leases.reserve(BEN, ACME, "voice", 1, "other", 60)
    await spenders.sql(sql)
    with pytest.raises(NotFound, match="No such quota"):
        await leases.extend(BEN, "call", 120)
    with pytest.raises(NotFound, match="No such quota"):
        await leases.extend(BEN, "call", 120, amount=1, key="k")
    assert shown(await leases.find(BEN, "call"))[:2] == ("open", 3)
    done = await leases.commit(BEN, "call", 2)
    # Of a pool that they may not take from any more, they are told their own units alone.
    member = "plan_quotas" in sql
    assert shown(done) == ("committed", 3, 2, 2, 1 if member else 0)
    assert "limit" not in done.balance.entry()
    assert (await leases.commit(BEN, "call", 2)).balance == done.balance
    spenders.now += 60_000
    assert await leases.end_due() == 1
    assert [row[1:] for row in await spenders.usage(ACME, "voice")] == [(2, 0)]
    assert await unbalanced(spenders.database) == []


async def test_another_kind_of_period_is_learnt_from_the_database(spenders: Spenders, leases: Leases) -> None:
    await leases.reserve(ADA, ADA, "voice", 4, "day", 60)
    await spenders.sql("UPDATE plan_quotas SET period = 'month', limit_value = 12 WHERE plan = 'pro'")
    held = await leases.reserve(ADA, ADA, "voice", 5, "month", 60)
    assert (held.lease.period, held.balance.reserved, held.balance.limit.limit) == ("month", 9, 12)
    # What counts in a month began in another period than what is added now would.
    with pytest.raises(Conflict, match="not of the present period"):
        await leases.extend(ADA, "day", 60, amount=1, key="k")
    with pytest.raises(QuotaExceeded) as refused:
        await leases.reserve(ADA, ADA, "voice", 4, "more", 60)
    assert refused.value.details["remaining"] == 3
    await spenders.sql("UPDATE users SET timezone = 'Asia/Tokyo' WHERE id = 'u_ada'")
    assert (await leases.extend(ADA, "month", 90)).lease.period == "month"
    await leases.commit(ADA, "day", 4)
    held = await leases.reserve(ADA, ADA, "voice", 3, "more", 60)
    assert (held.balance.used, held.balance.reserved) == (4, 8)
    assert await unbalanced(spenders.database) == []


async def test_a_quota_that_is_gone_is_told_without_a_limit(spenders: Spenders, leases: Leases) -> None:
    await leases.reserve(ADA, ADA, "voice", 4, "call", 60)
    await spenders.sql("UPDATE users SET plan = 'team' WHERE id = 'u_ada'")
    await spenders.sql("DELETE FROM plan_quotas WHERE plan = 'team'")
    done = await leases.commit(ADA, "call", 4)
    assert done.balance.entry() == {
        **{"used": 4, "period": "day", "level": "ok", "resets_at": "2026-11-22T00:00:00.000Z"}
    }


async def test_an_override_counts_from_its_first_moment_to_its_last(spenders: Spenders, leases: Leases) -> None:
    await spenders.sql(
        "INSERT INTO user_quotas(user_id, quota, limit_value, period, starts_at, expires_at)"
        " VALUES ('u_ada', 'voice', 100, 'hour', ?, ?)",
        *(spenders.NOON + 1_000, spenders.NOON + 2_000),
    )
    with pytest.raises(QuotaExceeded):
        await leases.reserve(ADA, ADA, "voice", 50, "early", 60)
    spenders.now += 1_000
    held = await leases.reserve(ADA, ADA, "voice", 50, "within", 60)
    assert (held.lease.period, held.balance.limit.limit) == ("hour", 100)
    spenders.now += 1_000
    with pytest.raises(QuotaExceeded):
        await leases.reserve(ADA, ADA, "voice", 1, "late", 60)
    assert (await leases.commit(ADA, "within", 50)).balance.used == 50


class Shaky:
    """A database whose next writes fail: before they are made, or after."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.before: Exception | None = None
        self.after: Exception | None = None
        self.writes = 0

    async def write(self, *statements: Statement) -> Written:
        self.writes += 1
        if self.before is not None:
            raise self.before
        written = await self._database.write(*statements)
        if self.after is not None:
            raise self.after
        return written

    async def read(self, *statements: Statement) -> list[list[Any]]:
        if self.before is not None:
            raise self.before
        return await self._database.read(*statements)


async def test_a_database_that_fails_is_told_and_asked_again(spenders: Spenders) -> None:
    shaky = Shaky(spenders.database)
    leases = Leases(cast("Database", shaky), Bases(), lambda: spenders.now)
    shaky.before = StoreUnavailable("busy")
    for attempt in (
        leases.reserve(ADA, ADA, "voice", 4, "call", 60),
        leases.commit(ADA, "call", 4),
        leases.find(ADA, "call"),
    ):
        with pytest.raises(Unavailable) as refused:
            await attempt
        assert refused.value.retry_after_s
    shaky.before, shaky.after = None, StoreUncertain("lost")
    with pytest.raises(Uncertain):
        await leases.reserve(ADA, ADA, "voice", 4, "call", 60)
    shaky.after = None
    assert (await leases.reserve(ADA, ADA, "voice", 4, "call", 60)).new
    for operation in (
        lambda: leases.extend(ADA, "call", 90, amount=2, key="k"),
        lambda: leases.commit(ADA, "call", 5),
    ):
        shaky.after = StoreUncertain("lost")
        with pytest.raises(Uncertain):
            await operation()
        shaky.after = None
        held = await operation()
    assert shown(held) == ("committed", 6, 5, 5, 0)
    assert await unbalanced(spenders.database) == []


async def test_one_write_an_operation(spenders: Spenders) -> None:
    """Once the basis is known, which the first request learns."""
    shaky = Shaky(spenders.database)
    leases = Leases(cast("Database", shaky), Bases(), lambda: spenders.now)
    await leases.reserve(ADA, ADA, "voice", 1, "first", 60)
    shaky.writes = 0
    await leases.reserve(ADA, ADA, "voice", 4, "call", 60)
    await leases.extend(ADA, "call", 60)
    await leases.extend(ADA, "call", 60, amount=1, key="k")
    await leases.commit(ADA, "call", 5)
    await leases.release(ADA, "first")
    assert shaky.writes == 5


async def test_the_last_unit_is_held_by_one(spenders: Spenders, leases: Leases) -> None:
    await leases.reserve(ADA, ADA, "voice", 9, "most", 60)
    nodes = [leases, other_node(spenders)]
    attempts = [nodes[number % 2].reserve(ADA, ADA, "voice", 1, f"l{number}", 60) for number in range(60)]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(result, Held) for result in results) == 1
    assert sum(isinstance(result, QuotaExceeded) for result in results) == 59


async def test_one_request_made_many_times_at_once_is_one(spenders: Spenders, leases: Leases) -> None:
    nodes = [leases, other_node(spenders)]
    held = await asyncio.gather(*(nodes[n % 2].reserve(ADA, ADA, "voice", 4, "call", 60) for n in range(20)))
    assert (len({each.lease for each in held}), sum(each.new for each in held)) == (1, 1)
    added = await asyncio.gather(*(nodes[n % 2].extend(ADA, "call", 60, amount=2, key="k") for n in range(20)))
    assert {each.lease.held for each in added} == {6}
    ends = [nodes[n % 2].commit(ADA, "call", 3) if n % 3 else nodes[n % 2].release(ADA, "call") for n in range(20)]
    results = await asyncio.gather(*ends, return_exceptions=True)
    states = {each.lease.state for each in results if isinstance(each, Held)}
    assert len(states) == 1
    used = 3 if states == {"committed"} else 0
    assert [row[1:] for row in await spenders.usage(ADA, "voice")] == [(used, 0)]
    assert await unbalanced(spenders.database) == []
