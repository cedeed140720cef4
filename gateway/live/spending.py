"""What sessions ask of quotas: the database carries it out, and the connection is answered after the commit, if it is
still there.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from gateway.core.session import Condition
from gateway.core.spending import Order, Spent, balance_fields, lease_fields, owner_of
from gateway.core.wire import Commit, Extend, LeaseMessage, Reply, Reserve
from gateway.errors import GatewayError
from gateway.store.leases import Held, Leases
from gateway.store.quotas import Quotas

if TYPE_CHECKING:
    from gateway.live.connection import Connection


class Spending:
    """The requests of a node's sessions. What was handed to the database is carried out, whether or not the session
    lives to see it answered: asked again, with the same key or lease, it is answered alike.
    """

    def __init__(self, quotas: Quotas) -> None:
        self._spender = quotas.spender
        self._leases = quotas.leases
        self._last: dict[tuple[Connection, str], asyncio.Task[None]] = {}
        self.open = 0
        """Requests that were not answered yet."""

    def consume(self, connection: Connection, order: Order, request_id: str) -> None:
        """Carry out the order. No task waits for it: thousands may."""
        self.open += 1
        self._spender.submit(order, partial(self._consumed, connection, order, request_id))

    def _consumed(self, connection: Connection, order: Order, request_id: str, outcome: Spent | GatewayError) -> None:
        self.open -= 1
        try:
            answer = outcome if isinstance(outcome, GatewayError) else _reply(request_id, order, outcome)
        except Exception:
            connection.failed()
            return
        connection.answer(answer, request_id)

    def use_lease(self, connection: Connection, spender: str, request: LeaseMessage) -> None:
        """Do this with a lease, after whatever the session asked of the same one before: `reserve` and `commit` may be
        sent together. What still waits for its turn when the session ends is not done.
        """
        self.open += 1
        place = connection, request.lease
        task = asyncio.create_task(self._use_lease(self._last.get(place), connection, spender, request))
        self._last[place] = task
        task.add_done_callback(partial(self._done, place))

    def _done(self, place: tuple[Connection, str], task: asyncio.Task[None]) -> None:
        self.open -= 1
        if self._last.get(place) is task:
            del self._last[place]

    async def close(self) -> None:
        """Return when what is under way with leases is done. To be called when the sessions are over."""
        while self._last:
            await asyncio.wait(tuple(self._last.values()))

    async def _use_lease(
        self, before: asyncio.Task[None] | None, connection: Connection, spender: str, request: LeaseMessage
    ) -> None:
        if before is not None:
            await asyncio.wait((before,))
            if connection.session.condition is Condition.ENDED:
                return
        outcome: Reply | GatewayError
        try:
            held = await _carry_out(self._leases, spender, request)
            outcome = Reply(request.id, seq=held.seq, **lease_fields(held.lease, held.balance))
        except GatewayError as refusal:
            outcome = refusal
        except Exception:
            connection.failed()
            return
        connection.answer(outcome, request.id)


async def _carry_out(leases: Leases, spender: str, request: LeaseMessage) -> Held:
    if isinstance(request, Reserve):
        owner = owner_of(spender, request.org)
        return await leases.reserve(spender, owner, request.quota, request.amount, request.lease, request.ttl_s)
    if isinstance(request, Extend):
        return await leases.extend(spender, request.lease, request.ttl_s, amount=request.amount, key=request.key)
    if isinstance(request, Commit):
        return await leases.commit(spender, request.lease, request.amount)
    return await leases.release(spender, request.lease)


def _reply(request_id: str, order: Order, spent: Spent) -> Reply:
    return Reply(request_id, seq=spent.seq, **balance_fields(order.owner, order.quota, spent.balance))
