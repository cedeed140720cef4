from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from gateway.core.spending import Order, Spent
from gateway.errors import (
    Conflict,
    GatewayError,
    NotFound,
    QuotaExceeded,
    StoreCorrupt,
    StoreUnavailable,
    StoreUncertain,
    Unavailable,
    Uncertain,
)
from gateway.store import spending
from gateway.store.bases import Bases
from gateway.store.database import Database, Row, Statement, Written
from gateway.store.spending import BATCH_LIMIT, Spender
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.gateway.store.conftest import Spenders

ADA, BEN = "user:u_ada", "user:u_ben"


class _Faulty:
    """A database whose writes and reads fail as long as there is an error for them, and are counted."""

    def __init__(self, database: Database) -> None:
        self.near = database.near
        self.write_errors: list[Exception] = []
        self.read_errors: list[Exception] = []
        self.writes = 0
        self._database = database

    async def read(self, *statements: Statement) -> list[list[Row]]:
        if self.read_errors:
            raise self.read_errors.pop(0)
        return await self._database.read(*statements)

    async def write(self, *statements: Statement) -> Written:
        self.writes += 1
        if self.write_errors:
            raise self.write_errors.pop(0)
        return await self._database.write(*statements)


@pytest.fixture
def faulty(spenders: Spenders) -> _Faulty:
    return _Faulty(spenders.database)


@pytest.fixture
def spender(spenders: Spenders, faulty: _Faulty) -> Spender:
    return Spender(cast("Database", faulty), Bases(), lambda: spenders.now)


async def _outcomes(spender: Spender, *orders: Order) -> list[Spent | GatewayError]:
    """How each of them ends that are asked for at once."""
    found = await asyncio.gather(*map(spender.consume, orders), return_exceptions=True)
    assert all(isinstance(outcome, Spent | GatewayError) for outcome in found), found
    return cast("list[Spent | GatewayError]", found)


def _mail(key: str, spender: str = ADA) -> Order:
    return Order(spender, spender, "mail", 1, key)


async def test_what_is_not_known_and_what_was_not_done(spenders: Spenders, spender: Spender, faulty: _Faulty) -> None:
    orders = [_mail("a"), _mail("b")]
    faulty.write_errors = [StoreUncertain("cut off")]
    unknown = await _outcomes(spender, *orders)
    faulty.write_errors = [StoreUnavailable("away")]
    undone = await _outcomes(spender, *orders)
    assert [type(outcome) for outcome in (*unknown, *undone)] == [Uncertain, Uncertain, Unavailable, Unavailable]
    assert len(set(map(id, (*unknown, *undone)))) == 4  # each is raised elsewhere, and has a traceback of its own
    assert all(isinstance(outcome, Spent) for outcome in await _outcomes(spender, *orders))
    assert (await spenders.usage(ADA, "mail"))[0][1:] == (2, 0)


@pytest.mark.parametrize("error", [StoreUnavailable("away"), StoreUncertain("cut off"), StoreCorrupt("damaged")])
async def test_an_order_that_was_carried_out_before_is_never_said_to_have_taken_nothing(
    spenders: Spenders, spender: Spender, faulty: _Faulty, error: Exception
) -> None:
    first = await spender.consume(_mail("a"))
    await spender.consume(_mail("b"))
    faulty.read_errors = [error]
    with pytest.raises(Uncertain):
        await spender.consume(_mail("a"))
    assert await spender.consume(_mail("a")) == first
    assert (await spenders.usage(ADA, "mail"))[0][1:] == (2, 0)


async def test_one_that_can_not_be_explained_does_not_harm_the_others(
    spenders: Spenders, spender: Spender, faulty: _Faulty
) -> None:
    orders = [_mail(f"k{i}") for i in range(8)]
    first = await _outcomes(spender, *orders)
    await spender.consume(_mail("between"))
    faulty.read_errors = [ValueError("odd")] * 4  # 8, 4, 2 and 1 of them
    again = await _outcomes(spender, *orders)
    assert isinstance(again[0], Uncertain)
    assert again[1:] == first[1:]


@pytest.mark.parametrize("key", ["fresh", "again"])
async def test_somebody_who_can_not_take_the_answer_does_not_keep_the_others_from_theirs(
    spender: Spender, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    await spender.consume(_mail("again"))
    await spender.consume(_mail("between"))
    answers: list[Spent | GatewayError] = []

    def fail(_: Spent | GatewayError) -> None:
        raise RuntimeError("a fault of the caller")

    for i in range(3):
        spender.submit(_mail(f"{key}{i}" if i != 1 else key), fail if i == 1 else answers.append)
    spender.submit(Order(ADA, ADA, "none", 1, "x"), fail)
    spender.submit(Order(ADA, ADA, "none", 1, "y"), answers.append)
    await eventually(lambda: len(answers) == 3)
    assert sorted(type(answer).__name__ for answer in answers) == ["NotFound", "Spent", "Spent"]
    assert [record.getMessage() for record in caplog.records] == ["the answer to an order could not be given"] * 2
    assert isinstance(await spender.consume(_mail("later")), Spent)


@pytest.mark.parametrize("place", ["_spent", "refusal", "_matched"])
async def test_a_fault_of_the_program_leaves_nobody_without_an_answer(
    spender: Spender, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    orders = [_mail("a"), Order(ADA, ADA, "none", 1, "b"), _mail("c", BEN)]
    await _outcomes(spender, _mail("before"), _mail("before", BEN))

    def fail(*_: Any) -> None:
        raise KeyError("a fault of the program")

    with monkeypatch.context() as patch:
        patch.setattr(spending, place, fail)
        found = await asyncio.wait_for(_outcomes(spender, *orders), 10)
    assert isinstance(found[1], Uncertain)
    assert all(isinstance(outcome, Spent if place == "refusal" else Uncertain) for outcome in (found[0], found[2]))
    assert {record.getMessage() for record in caplog.records} == {"what became of a batch of orders is not known"}
    assert [type(outcome) for outcome in await _outcomes(spender, *orders)] == [Spent, NotFound, Spent]


async def test_an_order_that_can_not_be_written_is_found_by_halves(
    spenders: Spenders, spender: Spender, faulty: _Faulty
) -> None:
    await spenders.database.script(
        "CREATE TRIGGER odd BEFORE INSERT ON quota_ledger WHEN NEW.key = 'k77'"
        " BEGIN SELECT RAISE(ABORT, 'CHECK constraint failed: odd'); END"
    )
    await spender.consume(_mail("before"))
    faulty.writes = 0
    found = await _outcomes(spender, *(_mail(f"k{i}") for i in range(BATCH_LIMIT)))
    assert [place for place, outcome in enumerate(found) if not isinstance(outcome, Spent)] == [77]
    assert isinstance(found[77], Unavailable)
    assert faulty.writes <= 1 + 2 * BATCH_LIMIT.bit_length()


async def test_orders_are_counted_once_and_refusals_of_all_kinds(spenders: Spenders, faulty: _Faulty) -> None:
    spender = Spender(cast("Database", faulty), Bases(), lambda: spenders.now, queue_limit=4)
    await _outcomes(spender, *(_mail(f"k{i}") for i in range(4)))
    assert (spender.orders, spender.refused) == (4, 0)
    await spenders.sql("UPDATE users SET timezone = 'Asia/Tokyo' WHERE id = 'u_ada'")
    await _outcomes(spender, *(_mail(f"l{i}") for i in range(4)))
    assert (spender.orders, spender.refused) == (8, 0)
    assert spender.attempts >= 12
    assert sum(spender.sizes) == spender.batches
    over = await _outcomes(spender, *(_mail(f"m{i}") for i in range(5)))
    assert isinstance(over[4], Unavailable)
    assert (spender.orders, spender.refused) == (13, 1)
    orders = [Order(ADA, ADA, "mail", 2, "k0"), Order(ADA, ADA, "voice", 11, "v"), Order(ADA, ADA, "none", 1, "n")]
    assert [type(outcome) for outcome in await _outcomes(spender, *orders)] == [Conflict, QuotaExceeded, NotFound]
    faulty.write_errors = [StoreUnavailable("away")]
    assert isinstance((await _outcomes(spender, _mail("w")))[0], Unavailable)
    assert (spender.orders, spender.refused) == (17, 5)


async def test_who_is_refused_costs_no_second_write(spender: Spender, faulty: _Faulty) -> None:
    await spender.consume(Order(ADA, ADA, "voice", 10, "all"))
    faulty.writes = 0
    found = await _outcomes(spender, *(Order(ADA, ADA, "voice", 1, f"k{i}") for i in range(5)))
    assert {type(outcome) for outcome in found} == {QuotaExceeded}
    assert faulty.writes == 1
