"""``GET /admin/changes``: the change log as it grows, for administrators to look at.

A request may wait for the next change. It is answered as soon as this node's feed has passed the position that the
client knows; before that the client's credential is looked at again, and that it is an administrator's.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import Forbidden, Unavailable
from gateway.live.node import Node
from gateway.store.changes import Change, Position, read_newest, read_news
from gateway.web.answer import answer
from gateway.web.fields import moment
from gateway.web.operation import Call, Operation
from gateway.web.paging import DEFAULT_LIMIT, Limit
from gateway.web.patience import while_there

MAX_WAIT_S = 25
MAX_SEQ = 2**53 - 1


class ChangeShown(msgspec.Struct, frozen=True):
    """A row: what changed (`doc`), why, and when by the clock of whoever wrote it (RFC 3339)."""

    seq: int
    doc: str
    cause: str
    at: str


class ChangesShown(msgspec.Struct, frozen=True):
    """Rows, the oldest first. `next` is the `after` of the next request. `missed`: rows behind `after` are gone, for
    they were old, or the database is another one than it was (as `epoch` then is).
    """

    items: list[ChangeShown]
    next: int
    missed: bool
    epoch: str


class ChangeSearch(msgspec.Struct, frozen=True):
    """Which rows: those behind `after`, else the newest; how long to wait for one when there is none."""

    after: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)] | None = None
    limit: Limit = DEFAULT_LIMIT
    wait_s: Annotated[float, msgspec.Meta(ge=0, le=MAX_WAIT_S, description="Seconds; nothing without `after`")] = 0


class ChangeLog:
    """The route of the change log."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def operations(self) -> list[Operation]:
        """The one."""
        return [
            Operation(
                *("GET", "/admin/changes", self.list),
                "What changed, as soon as it has; for administrators",
                {200: ChangesShown},
                query=ChangeSearch,
                errors=(Forbidden, Unavailable),
            )
        ]

    async def list(self, call: Call) -> Response:
        """Rows that are there, or the next ones."""
        (await call.rights()).require_admin()
        asked: ChangeSearch = call.query
        if asked.after is None:
            end, found = await read_newest(self._node.database, asked.limit)
            return answer(_shown(end, found, missed=False))
        if asked.wait_s:
            await self._wait(call.request, asked.after, asked.wait_s)
        end, found = await read_news(self._node.database, asked.after, asked.limit)
        if asked.wait_s:
            await call.renew()
            (await call.rights()).require_admin()
        return answer(_shown(end, found, missed=end.last < asked.after or end.first > asked.after + 1))

    async def _wait(self, request: Request, after: int, seconds: float) -> None:
        """Until there may be more, the node stops, or the time is up. Raises `ClientDisconnect` when nobody is there
        to be answered, and `Unavailable` when none more may wait.
        """
        hub = self._node.hub
        with hub.followers.waiting(after, hub.position) as passed:
            await while_there(request, asyncio.wait((passed,), timeout=seconds))


def _shown(end: Position, found: list[Change], *, missed: bool) -> ChangesShown:
    items = [ChangeShown(seq, doc, cause, moment(at)) for seq, doc, cause, at in found]
    return ChangesShown(items, items[-1].seq if items else end.last, missed, end.epoch)
