"""What others may know of a spender: whether it has much to do, and that it comes to an end in good order."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from gateway.core.spending import Order, Spent
from gateway.errors import GatewayError, Unavailable
from gateway.store.bases import Bases
from gateway.store.spending import BUSY, LATELY_S, Spender

if TYPE_CHECKING:
    from tests.gateway.store.conftest import Spenders

ADA = "user:u_ada"


async def test_it_is_busy_while_many_orders_have_no_answer(spenders: Spenders) -> None:
    spender = spenders.quotas.spender
    orders = [Order(ADA, ADA, "mail", 1, f"k{n}") for n in range(BUSY)]
    answers: list[Spent | GatewayError] = []

    def answered(outcome: Spent | GatewayError) -> None:
        answers.append(outcome)

    for order in orders[1:]:
        spender.submit(order, answered)
    seen = [spender.busy]
    spender.submit(orders[0], answered)
    seen.append(spender.busy)
    await asyncio.sleep(0)
    assert not answers
    seen.append(spender.busy)
    await spender.close()
    seen.append(spender.busy)
    assert seen == [False, True, True, False], "those count that are under way"


async def test_at_the_end_what_was_taken_is_answered_and_nothing_more_is(spenders: Spenders) -> None:
    spender = Spender(spenders.database, Bases(), lambda: spenders.now, batch_limit=10)
    answers: list[Spent | GatewayError] = []
    for n in range(100):
        spender.submit(Order(ADA, ADA, "mail", 1, f"k{n}"), answers.append)
    await asyncio.sleep(0)
    closing = asyncio.create_task(spender.close())
    await asyncio.sleep(0)
    spender.submit(Order(ADA, ADA, "mail", 1, "late"), answers.append)
    await closing
    assert Counter(map(type, answers)) == {Spent: 100, Unavailable: 1}
    await spender.close()


async def test_it_is_busy_while_many_orders_come_however_soon_each_is_answered(spenders: Spenders) -> None:
    passed_s = 0.0
    spender = Spender(spenders.database, Bases(), lambda: spenders.now, monotonic=lambda: passed_s)
    assert not spender.busy
    for key in range(BUSY):
        await spender.consume(Order(ADA, ADA, "mail", 1, f"k{key}"))
    assert not spender.busy, "that is known after a while"
    passed_s += LATELY_S
    assert spender.busy
    await spender.consume(Order(ADA, ADA, "mail", 1, "one more"))
    passed_s += LATELY_S
    assert not spender.busy
