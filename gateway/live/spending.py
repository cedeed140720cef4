"""What sessions ask of quotas: the database carries it out, and the connection is answered after the commit, if it is
still there.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway.core.clock import rfc3339
from gateway.core.spending import Balance, Order, Spent
from gateway.core.wire import Commit, Extend, LeaseMessage, Reply, Reserve
from gateway.errors import GatewayError
from gateway.store.leases import Held, Leases
from gateway.store.quotas import Quotas

if TYPE_CHECKING:
    from gateway.live.connection import Connection


class Spending:
    """The requests of a node's sessions. One that the session does not live to see answered is carried out all the
    same: asked again, with the same key or lease, it is answered alike.
    """

    def __init__(self, quotas: Quotas) -> None:
        self._spender = quotas.spender
        self._leases = quotas.leases
        self._last: dict[Connection, asyncio.Task[None]] = {}
        self.open = 0
        """Requests that were not answered yet."""

    def consume(self, connection: Connection, order: Order, request_id: str) -> None:
        """Carry out the order. No task waits for it: thousands may."""
        self.open += 1
        self._spender.submit(order, partial(self._consumed, connection, order, request_id))

    def _consumed(self, connection: Connection, order: Order, request_id: str, outcome: Spent | GatewayError) -> None:
        self.open -= 1
        try:
            answer = outcome if isinstance(outcome, GatewayError) else _consumed(request_id, order, outcome)
        except Exception:
            connection.failed()
            return
        connection.answer(answer, request_id)

    def use_lease(self, connection: Connection, spender: str, request: LeaseMessage) -> None:
        """Do this with a lease, after whatever the session asked of leases before: `reserve` and `commit` may be sent
        together.
        """
        self.open += 1
        task = asyncio.create_task(self._use_lease(self._last.get(connection), connection, spender, request))
        self._last[connection] = task
        task.add_done_callback(partial(self._done, connection))

    def _done(self, connection: Connection, task: asyncio.Task[None]) -> None:
        self.open -= 1
        if self._last.get(connection) is task:
            del self._last[connection]

    async def _use_lease(
        self, before: asyncio.Task[None] | None, connection: Connection, spender: str, request: LeaseMessage
    ) -> None:
        if before is not None:
            await asyncio.wait((before,))
        outcome: Reply | GatewayError
        try:
            outcome = _lease(request.id, await _carry_out(self._leases, spender, request))
        except GatewayError as refusal:
            outcome = refusal
        except Exception:
            connection.failed()
            return
        connection.answer(outcome, request.id)


async def _carry_out(leases: Leases, spender: str, request: LeaseMessage) -> Held:
    if isinstance(request, Reserve):
        owner = spender if request.org is None else f"org:{request.org}"
        return await leases.reserve(spender, owner, request.quota, request.amount, request.lease, request.ttl_s)
    if isinstance(request, Extend):
        return await leases.extend(spender, request.lease, request.ttl_s, amount=request.amount, key=request.key)
    if isinstance(request, Commit):
        return await leases.commit(spender, request.lease, request.amount)
    return await leases.release(spender, request.lease)


def _consumed(request_id: str, order: Order, spent: Spent) -> Reply:
    return Reply(request_id, seq=spent.seq, **_balance(spent.balance, order.owner, order.quota))


def _lease(request_id: str, held: Held) -> Reply:
    lease = held.lease
    fields = _balance(held.balance, lease.owner, lease.quota)
    if lease.state == "committed":
        fields["committed"] = lease.committed
    expires_at = rfc3339(lease.expires_at)
    return Reply(
        request_id, lease=lease.id, state=lease.state, held=lease.held, expires_at=expires_at, seq=held.seq, **fields
    )


def _balance(balance: Balance, owner: str, quota: str) -> dict[str, Any]:
    fields = balance.entry()
    fields["quota"] = quota
    if owner.startswith("org:"):
        fields["org"] = owner[4:]
    return fields
