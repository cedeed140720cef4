from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from gateway.core.clock import parse_rfc3339
from gateway.core.spending import Order, Spent
from gateway.errors import (
    Conflict,
    GatewayError,
    NotFound,
    QuotaExceeded,
    Unavailable,
)
from gateway.store.bases import Bases
from gateway.store.database import Statement
from gateway.store.spending import BATCH_LIMIT, Spender

if TYPE_CHECKING:
    from tests.gateway.store.conftest import Spenders

ADA, BEN, EVE, ACME = "user:u_ada", "user:u_ben", "user:u_eve", "org:o_acme"
MIDNIGHT = parse_rfc3339("2026-11-22T00:00:00.000Z")
_LEDGER = """
SELECT owner, quota, period_start, sum(used), sum(reserved) FROM quota_ledger GROUP BY 1, 2, 3
HAVING (sum(used), sum(reserved)) IS NOT (0, 0) ORDER BY 1, 2, 3"""
_BALANCES = """
SELECT owner, quota, period_start, used, reserved FROM quota_usage WHERE (used, reserved) IS NOT (0, 0)
ORDER BY 1, 2, 3"""


async def _outcomes(spender: Spender, *orders: Order) -> list[Spent | GatewayError]:
    """How each of them ends that are asked for at once."""
    found = await asyncio.gather(*map(spender.consume, orders), return_exceptions=True)
    assert all(isinstance(outcome, Spent | GatewayError) for outcome in found), found
    return cast("list[Spent | GatewayError]", found)


async def _adds_up(spenders: Spenders) -> None:
    """The ledger is the balances."""
    assert await spenders.sql(_LEDGER) == await spenders.sql(_BALANCES)


@pytest.fixture
def spender(spenders: Spenders) -> Spender:
    return spenders.quotas.spender


async def test_the_last_unit_goes_to_one_of_200_takers(spenders: Spenders, spender: Spender) -> None:
    await spender.consume(Order(ADA, ADA, "voice", 9, "first"))
    found = await _outcomes(spender, *(Order(ADA, ADA, "voice", 1, f"k{i}") for i in range(200)))
    taken = [outcome for outcome in found if isinstance(outcome, Spent)]
    assert [outcome.balance.leaves() for outcome in taken] == [0]
    refused = [outcome for outcome in found if isinstance(outcome, QuotaExceeded)]
    assert len(refused) == 199
    assert {(r.details["remaining"], r.details["resets_at"]) for r in refused} == {(0, "2026-11-22T00:00:00.000Z")}
    assert await spenders.usage(ADA, "voice") == [(spenders.NOON - 43_200_000, 10, 0)]
    await _adds_up(spenders)


async def test_a_batch_is_answered_in_the_order_in_which_it_was_asked(spenders: Spenders, spender: Spender) -> None:
    answered: list[str] = []
    used: list[int] = []
    done = asyncio.Event()

    def note(key: str, outcome: Spent | GatewayError) -> None:
        assert isinstance(outcome, Spent)
        answered.append(key)
        used.append(outcome.balance.used)
        if len(answered) == 3 * BATCH_LIMIT:
            done.set()

    await spender.consume(Order(ADA, ADA, "mail", 1, "before"))
    keys = [f"k{i}" for i in range(3 * BATCH_LIMIT)]
    for key in keys:
        spender.submit(Order(ADA, ADA, "mail", 1, key), lambda outcome, key=key: note(key, outcome))  # type: ignore[misc]
    await asyncio.wait_for(done.wait(), 30)
    assert answered == keys
    assert used == list(range(2, 2 + len(keys)))
    assert max(spender.sizes[:9]) > 0
    assert not any(spender.sizes[9:])


async def test_a_key_is_charged_once_and_answered_alike(spenders: Spenders, spender: Spender) -> None:
    order = Order(ADA, ADA, "voice", 3, "call")
    twins = await _outcomes(spender, order, order, Order(ADA, ADA, "voice", 1, "other"), order)
    first = twins[0]
    assert twins == [first, first, twins[2], first]
    await spender.consume(Order(ADA, ADA, "voice", 2, "more"))
    spenders.now = MIDNIGHT + 5
    assert await spender.consume(order) == first
    assert (await spenders.usage(ADA, "voice"))[0][1:] == (6, 0)
    other_order: tuple[Any, ...]
    for other_order in (
        (ADA, ADA, "voice", 4, "call"),
        (ADA, ADA, "sms", 3, "call"),
        (ADA, ACME, "voice", 3, "call"),
    ):
        with pytest.raises(Conflict):
            await spender.consume(Order(*other_order))
    spent = await spender.consume(Order(BEN, BEN, "voice", 4, "call"))
    assert spent.balance.used == 4
    await _adds_up(spenders)


async def test_a_key_of_a_lease_or_an_adjustment_is_no_consumption(spenders: Spenders, spender: Spender) -> None:
    await spenders.quotas.leases.reserve(ADA, ADA, "voice", 2, "held", 60)
    await spenders.quotas.leases.extend(ADA, "held", 60, amount=1, key="added")
    with pytest.raises(Conflict):
        await spender.consume(Order(ADA, ADA, "voice", 1, "added"))
    assert (await spender.consume(Order(ADA, ADA, "voice", 7, "rest"))).balance.entry()["remaining"] == 0
    with pytest.raises(QuotaExceeded):
        await spender.consume(Order(ADA, ADA, "voice", 1, "beyond"))
    await _adds_up(spenders)


async def test_a_soft_limit_is_passed_and_an_unlimited_quota_is_counted(spender: Spender) -> None:
    soft = (await spender.consume(Order(ADA, ADA, "sms", 12, "a"))).balance.entry()
    assert (soft["used"], soft["remaining"], soft["hard"], soft["level"]) == (12, 0, False, "exhausted")
    free = (await spender.consume(Order(ADA, ADA, "mail", 2**31, "b"))).balance.entry()
    assert free["used"] == 2**31
    assert "limit" not in free


async def test_a_period_that_never_ends(spender: Spender) -> None:
    entry = (await spender.consume(Order(ADA, ADA, "seats", 5, "a"))).balance.entry()
    assert (entry["remaining"], "resets_at" in entry) == (0, False)
    with pytest.raises(QuotaExceeded) as raised:
        await spender.consume(Order(ADA, ADA, "seats", 1, "b"))
    assert raised.value.details == {"quota": "seats", "remaining": 0}


async def test_a_pool_its_cap_and_who_may_take_of_it(spenders: Spenders, spender: Spender) -> None:
    found = await _outcomes(spender, *(Order(BEN, ACME, "voice", 1, f"b{i}") for i in range(6)))
    taken = [outcome for outcome in found if isinstance(outcome, Spent)]
    assert [(t.balance.cap, t.balance.member_taken) for t in taken] == [(4, 1), (4, 2), (4, 3), (4, 4)]
    assert sum(isinstance(outcome, QuotaExceeded) for outcome in found) == 2
    rest = (await spender.consume(Order(ADA, ACME, "voice", 16, "a"))).balance
    assert (rest.used, rest.leaves(), rest.cap) == (20, 0, None)
    with pytest.raises(NotFound):
        await spender.consume(Order(EVE, ACME, "voice", 1, "e"))
    with pytest.raises(NotFound):
        await spender.consume(Order(ADA, "org:o_none", "voice", 1, "n"))
    with pytest.raises(NotFound):
        await spender.consume(Order(ADA, ACME, "seats", 1, "s"))
    await spenders.sql("UPDATE organizations SET status = 'disabled'")
    with pytest.raises(NotFound):
        await spender.consume(Order(ADA, ACME, "mail", 1, "d"))
    members = await spenders.sql("SELECT user_id, used FROM member_usage ORDER BY 1")
    assert members == [("u_ada", 16), ("u_ben", 4)]
    await _adds_up(spenders)


async def test_a_soft_pool_is_no_way_around_a_cap(spenders: Spenders, spender: Spender) -> None:
    await spenders.sql("INSERT INTO member_caps(org_id, user_id, quota, limit_value) VALUES ('o_acme','u_ben','sms',2)")
    await spender.consume(Order(ADA, ACME, "sms", 15, "a"))
    with pytest.raises(QuotaExceeded) as raised:
        await spender.consume(Order(BEN, ACME, "sms", 3, "b"))
    assert raised.value.details["remaining"] == 2


async def test_quotas_that_nobody_has(spenders: Spenders, spender: Spender) -> None:
    orders = [Order(ADA, ADA, "none", 1, "a"), Order("user:u_gone", "user:u_gone", "voice", 1, "b")]
    assert all(isinstance(outcome, NotFound) for outcome in await _outcomes(spender, *orders))
    await spender.consume(Order(ADA, ADA, "voice", 1, "c"))
    await spenders.sql("UPDATE users SET status = 'disabled' WHERE id = 'u_ada'")
    with pytest.raises(NotFound):
        await spender.consume(Order(ADA, ADA, "voice", 1, "d"))


@pytest.mark.parametrize("column", ["timezone = 'Mars/Olympus'", "anchor_at = 9007199254740991"])
async def test_a_quota_without_a_calendar_is_as_good_as_none(
    spenders: Spenders, spender: Spender, column: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever asks again and again is told the same, and logged once."""
    await spenders.sql(f"UPDATE users SET {column} WHERE id = 'u_ada'")
    for attempt in range(3):
        with pytest.raises(NotFound):
            await spender.consume(Order(ADA, ADA, "voice", 1, f"k{attempt}"))
        with pytest.raises(NotFound):
            await spenders.quotas.leases.reserve(ADA, ADA, "voice", 1, f"l{attempt}", 60)
    assert [record.getMessage() for record in caplog.records] == ["a quota has no period that can be worked out"]
    await _adds_up(spenders)


async def test_a_basis_that_is_not_so_any_more(spenders: Spenders, spender: Spender) -> None:
    await spender.consume(Order(ADA, ADA, "voice", 4, "a"))
    await spenders.sql("UPDATE users SET timezone = 'Asia/Tokyo' WHERE id = 'u_ada'")
    await spenders.sql("UPDATE plan_quotas SET period = 'month' WHERE plan = 'pro' AND quota = 'voice'")
    found = await _outcomes(spender, *(Order(ADA, ADA, "voice", 2, f"b{i}") for i in range(4)))
    taken = [outcome for outcome in found if isinstance(outcome, Spent)]
    assert [(t.balance.used, t.balance.limit.period) for t in taken] == [(6, "month"), (8, "month"), (10, "month")]
    assert {t.balance.period_end for t in taken} == {parse_rfc3339("2026-11-30T15:00:00.000Z")}
    await _adds_up(spenders)


async def test_batches_of_many_zones_anchors_and_periods(spenders: Spenders, spender: Spender) -> None:
    zones = ("UTC", "Asia/Tokyo", "America/New_York")
    for i in range(60):
        await spenders.database.write(
            Statement(
                "INSERT INTO users(id, username, plan, timezone, anchor_at) VALUES (?, ?, 'pro', ?, ?)",
                (f"u_{i}", f"user{i}", zones[i % 3], None if i % 4 else NOON_OF_MAY + 60_000 * i),
            )
        )
    orders = [Order(f"user:u_{i}", f"user:u_{i}", "voice", i % 10 + 1, "k") for i in range(60)]
    first = await _outcomes(spender, *orders)
    again = await _outcomes(spender, *(order._replace(amount=1, key="again") for order in orders))
    for order, one, two in zip(orders, first, again, strict=True):
        assert isinstance(one, Spent)
        assert one.balance.used == order.amount
        if order.amount < 10:
            assert isinstance(two, Spent)
            assert two.balance.used == order.amount + 1
            assert two.balance.period_end == one.balance.period_end
        else:
            assert isinstance(two, QuotaExceeded)
    assert len({outcome.balance.period_end for outcome in first if isinstance(outcome, Spent)}) == 3 + 15
    await _adds_up(spenders)


NOON_OF_MAY = parse_rfc3339("2026-05-05T12:00:00.000Z")


async def test_the_units_after_midnight_are_the_next_days(spenders: Spenders, spender: Spender) -> None:
    await spender.consume(Order(ADA, ADA, "voice", 10, "a"))
    spenders.now = MIDNIGHT - 1
    with pytest.raises(QuotaExceeded):
        await spender.consume(Order(ADA, ADA, "voice", 1, "b"))
    spenders.now = MIDNIGHT
    assert (await spender.consume(Order(ADA, ADA, "voice", 1, "b"))).balance.used == 1
    assert [row[1:] for row in await spenders.usage(ADA, "voice")] == [(10, 0), (1, 0)]


async def test_an_override_counts_within_its_dates(spenders: Spenders, spender: Spender) -> None:
    await spenders.sql(
        "INSERT INTO user_quotas(user_id, quota, limit_value, period, hard, starts_at, expires_at)"
        " VALUES ('u_ada', 'voice', 12, 'day', 1, ?, ?)",
        spenders.NOON,
        spenders.NOON + 1_000,
    )
    assert (await spender.consume(Order(ADA, ADA, "voice", 11, "a"))).balance.limit.limit == 12
    spenders.now += 1_000
    with pytest.raises(QuotaExceeded) as raised:
        await spender.consume(Order(ADA, ADA, "voice", 1, "b"))
    assert raised.value.details["remaining"] == 0


async def test_what_others_write_is_booked(spenders: Spenders, spender: Spender) -> None:
    start = spenders.NOON - 43_200_000
    await spenders.sql(
        "INSERT INTO quota_usage(owner, quota, period_start, used) VALUES (?, 'voice', ?, 3)", ADA, start
    )
    assert (await spender.consume(Order(ADA, ADA, "voice", 4, "a"))).balance.used == 7
    await spenders.sql("UPDATE quota_usage SET used = used - 2, reserved = 1 WHERE owner = ?", ADA)
    assert (await spender.consume(Order(ADA, ADA, "voice", 4, "b"))).balance.used == 9
    await spenders.sql("UPDATE quota_usage SET used = 9 WHERE owner = ?", ADA)  # as the newest entry says
    await spenders.sql("DELETE FROM quota_usage WHERE owner = ?", ADA)
    await _adds_up(spenders)
    booked = await spenders.sql("SELECT used, reserved FROM quota_ledger WHERE kind = 'sql' ORDER BY id")
    assert booked == [(3, 0), (-2, 1), (-9, -1)]


async def test_seq_is_the_position_that_shows_the_balance(spenders: Spenders, spender: Spender) -> None:
    for order in (
        Order(ADA, ADA, "voice", 1, "a"),
        Order(ADA, ADA, "voice", 1, "b"),
        Order(BEN, ACME, "voice", 1, "c"),
    ):
        spent = await spender.consume(order)
        newest = await spenders.sql("SELECT max(seq) FROM change_log WHERE doc = ?", order.owner)
        last = await spenders.sql("SELECT max(seq) FROM change_log")
        assert newest[0][0] <= spent.seq == last[0][0]


async def test_an_order_that_can_not_be_written_does_not_harm_the_others(spenders: Spenders, spender: Spender) -> None:
    found = await _outcomes(
        spender,
        Order(ADA, ADA, "voice", 1, "a"),
        Order(ADA, ADA, "voice", 1, "\ud800"),
        Order(BEN, BEN, "voice", 1, "a"),
    )
    assert [type(outcome) for outcome in found] == [Spent, Unavailable, Spent]
    await _adds_up(spenders)


async def test_too_many_that_wait(spenders: Spenders) -> None:
    spender = Spender(spenders.database, Bases(), lambda: spenders.now, queue_limit=3)
    found = await _outcomes(spender, *(Order(ADA, ADA, "mail", 1, f"k{i}") for i in range(5)))
    assert [type(outcome) for outcome in found] == [Spent, Spent, Spent, Unavailable, Unavailable]


async def test_an_order_that_comes_when_the_last_one_is_answered(spenders: Spenders, spender: Spender) -> None:
    done = asyncio.Event()
    answered = 0

    def again(outcome: Spent | GatewayError) -> None:
        nonlocal answered
        assert isinstance(outcome, Spent)
        answered += 1
        if answered == 20:
            done.set()
        else:
            asyncio.get_running_loop().call_soon(spender.submit, Order(ADA, ADA, "mail", 1, f"k{answered}"), again)

    spender.submit(Order(ADA, ADA, "mail", 1, "k0"), again)
    await asyncio.wait_for(done.wait(), 30)


async def test_keys_are_of_the_id_that_used_them(spenders: Spenders, spender: Spender) -> None:
    first = await spender.consume(Order(BEN, BEN, "mail", 1, "k"))
    await spenders.sql("UPDATE users SET id = 'u_benjamin' WHERE id = 'u_ben'")
    moved = await spender.consume(Order("user:u_benjamin", "user:u_benjamin", "mail", 1, "k"))
    assert moved.balance.used == 2
    await spenders.sql("DELETE FROM users WHERE id = 'u_benjamin'")
    await spenders.sql("INSERT INTO users(id, username, plan) VALUES ('u_ben', 'benny', 'pro')")
    assert await spender.consume(Order(BEN, BEN, "mail", 1, "k")) == first
    assert await spenders.usage(BEN, "mail") == []
    with pytest.raises(Conflict):
        await spender.consume(Order(BEN, BEN, "mail", 2, "k"))
