"""What sessions ask of quotas: the database carries it out, and the connection is answered after the commit, if it is
still there.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from gateway.core.spending import Order, Spent
from gateway.core.wire import Reply
from gateway.errors import GatewayError
from gateway.store.quotas import Quotas

if TYPE_CHECKING:
    from gateway.live.connection import Connection


class Spending:
    """The requests of a node's sessions. One that the session does not live to see answered is carried out all the
    same: asked again, with the same key, it is answered alike.
    """

    def __init__(self, quotas: Quotas) -> None:
        self._spender = quotas.spender
        self.open = 0
        """Requests that were not answered yet."""

    def consume(self, connection: Connection, order: Order, request_id: str) -> None:
        """Carry out the order. No task waits for it: thousands may."""
        self.open += 1
        self._spender.submit(order, partial(self._answer, connection, order, request_id))

    def _answer(self, connection: Connection, order: Order, request_id: str, outcome: Spent | GatewayError) -> None:
        self.open -= 1
        reply = outcome if isinstance(outcome, GatewayError) else _reply(request_id, order, outcome)
        connection.answer(reply, request_id)


def _reply(request_id: str, order: Order, spent: Spent) -> Reply:
    fields = spent.balance.entry()
    if order.owner != order.spender:
        fields["org"] = order.owner[4:]
    return Reply(request_id, quota=order.quota, seq=spent.seq, **fields)
