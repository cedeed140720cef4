from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from gateway.core.spending import Order, Spent
from gateway.errors import BadRequest, Conflict, NotFound, QuotaExceeded
from gateway.store.adjustments import Adjustment, adjust
from gateway.store.audit import Entry, list_audit
from gateway.store.ledger import list_ledger, unbalanced

if TYPE_CHECKING:
    from tests.gateway.store.conftest import Spenders

DAY = 86_400_000


async def correct(
    spenders: Spenders, amount: int, *, quota: str = "voice", owner: str = "user:u_ada", **more: Any
) -> Spent:
    values = {"actor": "user:u_eve", "absolute": False, "reason": "a credit", "key": None, **more}
    adjustment = Adjustment(owner=owner, quota=quota, amount=amount, **values)
    entry = Entry(adjustment.actor, "quota.adjust", owner, "192.0.2.1")
    return await adjust(spenders.database, adjustment, now=spenders.now, bases=spenders.quotas.bases, entry=entry)


async def consume(spenders: Spenders, amount: int, key: str, quota: str = "voice") -> Spent:
    return await spenders.quotas.spender.consume(Order(spenders.ADA, spenders.ADA, quota, amount, key))


async def test_units_are_added_taken_away_and_set(spenders: Spenders) -> None:
    await consume(spenders, 4, "k1")
    assert (await correct(spenders, 3)).balance.used == 7
    assert (await correct(spenders, -5)).balance.used == 2
    spent = await correct(spenders, 9, absolute=True)
    assert spent.balance.entry() == {
        **{"limit": 10, "used": 9, "reserved": 0, "remaining": 1, "period": "day", "hard": True, "level": "low"},
        "resets_at": "2026-11-22T00:00:00.000Z",
    }
    entries = await list_ledger(spenders.database, spenders.ADA)
    assert [(entry.kind, entry.used, entry.used_after) for entry in entries] == [
        ("adjust", 7, 9),
        ("adjust", -5, 2),
        ("adjust", 3, 7),
        ("consume", 4, 4),
    ]
    assert (entries[0].spender, entries[0].reason) == ("user:u_eve", "a credit")
    assert await unbalanced(spenders.database) == []


async def test_a_hard_limit_holds_and_nothing_falls_below_zero(spenders: Spenders) -> None:
    await consume(spenders, 4, "k1")
    await spenders.quotas.leases.reserve(spenders.ADA, spenders.ADA, "voice", 2, "call", 60)
    with pytest.raises(QuotaExceeded) as refused:
        await correct(spenders, 5)
    assert refused.value.details == {"quota": "voice", "remaining": 4, "resets_at": "2026-11-22T00:00:00.000Z"}
    with pytest.raises(QuotaExceeded):
        await correct(spenders, 9, absolute=True)
    with pytest.raises(Conflict):
        await correct(spenders, -5)
    assert (await correct(spenders, 4)).balance.entry()["level"] == "exhausted"
    assert (await correct(spenders, 30, quota="sms")).balance.used == 30
    with pytest.raises(BadRequest):
        await correct(spenders, 2**53 - 1, quota="mail", absolute=True, key="k") and await correct(
            spenders, 1, quota="mail"
        )
    # What is passed already may be put right, down to where it still is too much.
    await spenders.sql("UPDATE plan_quotas SET limit_value = 3 WHERE plan = 'pro' AND quota = 'voice'")
    assert (await correct(spenders, -1)).balance.used == 7


async def test_a_disabled_user_and_a_pool_are_corrected_and_nothing_that_is_not_there(spenders: Spenders) -> None:
    await spenders.sql("UPDATE users SET status = 'disabled' WHERE id = 'u_ada'")
    assert (await correct(spenders, 3)).balance.used == 3
    # A member's cap is no matter of who corrects.
    assert (await correct(spenders, 6, owner="org:o_acme", actor="user:u_ben")).balance.used == 6
    for owner, quota in (("user:u_ada", "fax"), ("user:u_nobody", "voice"), ("org:u_ada", "voice"), ("u_ada", "voice")):
        with pytest.raises(NotFound):
            await correct(spenders, 1, owner=owner, quota=quota)


async def test_one_key_is_one_correction(spenders: Spenders) -> None:
    first = await correct(spenders, 3, key="k")
    await consume(spenders, 1, "other")
    assert await correct(spenders, 3, key="k") == first
    fixed = await correct(spenders, 2, absolute=True, key="fix")
    await consume(spenders, 1, "third")
    assert await correct(spenders, 2, absolute=True, key="fix") == fixed
    for amount, more in ((4, {}), (3, {"absolute": True}), (3, {"reason": "another"}), (3, {"quota": "sms"})):
        with pytest.raises(Conflict):
            await correct(spenders, amount, key="k", **more)
    assert (await correct(spenders, 1, key="k", actor="user:u_ben")).balance.used == 4
    with pytest.raises(Conflict):
        await spenders.quotas.spender.consume(Order(spenders.EVE, spenders.EVE, "voice", 3, "k"))
    assert await unbalanced(spenders.database) == []


async def test_it_is_in_the_audit_trail_once_and_only_when_it_was_made(spenders: Spenders) -> None:
    await consume(spenders, 4, "k1")
    await correct(spenders, 3, key="k")
    await correct(spenders, 3, key="k")
    with pytest.raises(QuotaExceeded):
        await correct(spenders, 30)
    await correct(spenders, 1, absolute=True)
    newest, first = await list_audit(spenders.database, action="quota.adjust")
    assert (first.actor, first.target, first.address) == ("user:u_eve", "user:u_ada", "192.0.2.1")
    assert first.before == {"used": 4}
    assert first.after == {"quota": "voice", "amount": 3, "reason": "a credit"}
    assert (newest.before, newest.after) == ({"used": 7}, {"quota": "voice", "used": 1, "reason": "a credit"})


async def test_what_was_carried_over_is_taken_away_too(spenders: Spenders) -> None:
    """Rows that began in the present period, but not with it, hold a part of the balance."""
    month = spenders.NOON - 20 * DAY - DAY // 2
    for day, used in ((3, 5), (6, 4)):
        await spenders.sql(
            "INSERT INTO quota_usage(owner, quota, period_start, used) VALUES ('user:u_ada', 'mail', ?, ?)",
            *(month + day * DAY, used),
        )
    await consume(spenders, 2, "k1", "mail")
    taken = await correct(spenders, -5, quota="mail", key="credit")
    assert taken.balance.used == 6
    assert await correct(spenders, -5, quota="mail", key="credit") == taken
    assert await spenders.usage("user:u_ada", "mail") == [
        (month, 0, 0),
        (month + 3 * DAY, 5, 0),
        (month + 6 * DAY, 1, 0),
    ]
    assert (await correct(spenders, 1, quota="mail", absolute=True)).balance.used == 1
    assert await spenders.usage("user:u_ada", "mail") == [
        (month, 0, 0),
        (month + 3 * DAY, 1, 0),
        (month + 6 * DAY, 0, 0),
    ]
    assert (await correct(spenders, 0, quota="mail", absolute=True)).balance.used == 0
    kinds = [(entry.kind, entry.used) for entry in await list_ledger(spenders.database, "user:u_ada", limit=8)]
    assert kinds.count(("adjust", -4)) == 1
    assert {kind for kind, _ in kinds} == {"adjust", "consume"}
    assert await unbalanced(spenders.database) == []


async def test_corrections_at_once_take_no_more_than_there_is(spenders: Spenders) -> None:
    await consume(spenders, 10, "k1")
    results = await asyncio.gather(*(correct(spenders, -1) for _ in range(25)), return_exceptions=True)
    assert sum(isinstance(result, Spent) for result in results) == 10
    assert sum(isinstance(result, Conflict) for result in results) == 15
    results = await asyncio.gather(*(correct(spenders, 3) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(result, Spent) for result in results) == 3
    assert sum(isinstance(result, QuotaExceeded) for result in results) == 5
    same = await asyncio.gather(*(correct(spenders, 1, key="k") for _ in range(8)))
    assert len(set(same)) == 1
    assert same[0].balance.used == 10
    await asyncio.gather(*(correct(spenders, 0, absolute=True) for _ in range(4)))
    assert [row[1:] for row in await spenders.usage("user:u_ada", "voice")] == [(0, 0)]
    assert await unbalanced(spenders.database) == []


async def test_what_was_carried_over_is_taken_once(spenders: Spenders) -> None:
    month = spenders.NOON - 20 * DAY - DAY // 2
    for day in (3, 6):
        await spenders.sql(
            "INSERT INTO quota_usage(owner, quota, period_start, used) VALUES ('user:u_ada', 'mail', ?, 5)",
            month + day * DAY,
        )
    same = await asyncio.gather(*(correct(spenders, -7, quota="mail", key="credit") for _ in range(6)))
    assert {spent.balance.used for spent in same} == {3}
    others = await asyncio.gather(*(correct(spenders, -2, quota="mail") for _ in range(3)), return_exceptions=True)
    assert sum(isinstance(other, Spent) for other in others) == 1
    assert sum(row[1] for row in await spenders.usage("user:u_ada", "mail")) == 1
    assert await unbalanced(spenders.database) == []
