"""One connection's side of one document, and the requests that wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.core.publication import View

if TYPE_CHECKING:
    from gateway.live.connection import Connection
    from gateway.live.entry import Entry


class Pending:
    """A `watch` request whose documents are not all decided yet."""

    __slots__ = ("accepted", "request_id", "undecided")

    def __init__(self, request_id: str | None, undecided: int) -> None:
        self.request_id = request_id
        self.undecided = undecided
        self.accepted: list[str] = []


class Watcher(View):
    """A connection's view of one of the hub's entries. `own`: it is the principal's. `partial`: without what only
    managers see. `pending`: the requests that wait for the document, which is sent before they are answered.
    """

    __slots__ = ("connection", "entry", "own", "partial", "pending")

    def __init__(self, connection: Connection, entry: Entry, held: str | None, *, own: bool) -> None:
        super().__init__(held)
        self.connection = connection
        self.entry = entry
        self.own = own
        self.partial = False
        self.pending: tuple[Pending, ...] = ()
