from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from gateway.core.spending import Basis, Order
from gateway.errors import StoreUnavailable
from gateway.store import bases as bases_module
from gateway.store.bases import UNKNOWN, Bases
from gateway.store.database import Database, Row, Statement
from gateway.store.spending import Spender

if TYPE_CHECKING:
    from tests.gateway.store.conftest import Spenders

ADA, BEN, ACME = "user:u_ada", "user:u_ben", "org:o_acme"
DAY = Basis("UTC", None, "day")


class _Late:
    """Near reads as they are, of a moment ago, or none."""

    def __init__(self, rows: list[Row] | None) -> None:
        self._rows = rows

    async def read(self, *_: Statement) -> list[list[Row]]:
        if self._rows is None:
            raise StoreUnavailable("away")
        return [self._rows]


class _Beside:
    """A database with other near reads."""

    def __init__(self, database: Database, near: _Late) -> None:
        self.near = near
        self.read = database.read
        self.write = database.write


def test_what_nobody_asked_for_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases_module, "REMEMBERED", 3)
    bases = Bases()
    for quota in ("a", "b", "c"):
        bases.remember(ADA, quota, DAY, 0)
    assert bases.of(ADA, "a") == DAY
    bases.remember(ADA, "b", DAY, 0)
    bases.remember(ADA, "d", DAY, 0)
    assert [bases.of(ADA, quota) for quota in "abcd"] == [DAY, DAY, UNKNOWN, DAY]


async def test_bases_are_asked_for_at_once(spenders: Spenders) -> None:
    await spenders.sql("UPDATE users SET timezone = 'Asia/Tokyo', anchor_at = 5 WHERE id = 'u_ben'")
    await spenders.sql(
        "INSERT INTO user_quotas(user_id, quota, limit_value, period, hard, starts_at, expires_at)"
        " VALUES ('u_ben', 'sms', 1, 'week', 1, ?1, ?2), ('u_ada', 'sms', 1, 'week', 1, ?2, NULL)",
        spenders.NOON,
        spenders.NOON + 1,
    )
    bases = Bases()
    bases.remember(ADA, "voice", Basis("Asia/Tokyo", None, "day"), spenders.now)
    names = [(ADA, "voice"), (ADA, "sms"), (BEN, "sms"), (ACME, "sms"), (ADA, "none"), ("user:nobody", "sms")]
    assert await bases.learn(spenders.database.near, names, spenders.now)
    found = [bases.of(*name) for name in names]
    tokyo = Basis("Asia/Tokyo", None, "day")  # what the database said meanwhile is not older than a near read
    assert found == [tokyo, DAY, Basis("Asia/Tokyo", 5, "week"), DAY, UNKNOWN, UNKNOWN]
    assert not await bases.learn(spenders.database.near, names[4:], spenders.now)


async def test_the_first_orders_of_anybody_are_carried_out_at_the_first_attempt(spenders: Spenders) -> None:
    spender = spenders.quotas.spender
    orders = [Order(ADA, ADA, "mail", 1, "a"), Order(BEN, BEN, "voice", 1, "a"), Order(BEN, ACME, "voice", 1, "b")]
    await asyncio.gather(*map(spender.consume, orders))
    assert spender.attempts == 3


@pytest.mark.parametrize("rows", [None, [], [(ADA, "mail", "Asia/Tokyo", None, "year")]])
async def test_a_near_read_that_is_late_or_fails_does_no_harm(spenders: Spenders, rows: list[Row] | None) -> None:
    database = cast("Database", _Beside(spenders.database, _Late(rows)))
    spender = Spender(database, Bases(), lambda: spenders.now)
    spent = await spender.consume(Order(ADA, ADA, "mail", 1, "a"))
    assert (spent.balance.used, spent.balance.limit.period) == (1, "month")
    assert spender.attempts == 2
