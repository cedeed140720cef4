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
    `asked_again`: by somebody who had been sent it.
    """

    __slots__ = ("asked_again", "connection", "entry", "own", "partial", "pending")

    def __init__(self, connection: Connection, entry: Entry, *, own: bool) -> None:
        super().__init__()
        self.connection = connection
        self.entry = entry
        self.own = own
        self.partial = False
        self.pending: list[Pending] = []
        self.asked_again = False

    def ask(self, held: str | None, pending: Pending) -> None:
        """A request for the document, of which the client says that it holds this revision."""
        self.asked_again = self.asked_again or self.sent is not None
        self.reset(held)
        self.pending.append(pending)
