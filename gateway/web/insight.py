"""What administrators see of the gateway at work: its nodes, the live sessions of this one, and its figures."""

from __future__ import annotations

import asyncio
import operator
import re
from bisect import bisect_left
from collections.abc import Sequence

import msgspec
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.responses import Response

from gateway.core.session import Condition
from gateway.errors import BadRequest, Forbidden
from gateway.live.connection import Connection
from gateway.live.entry import InstanceEntry
from gateway.live.node import Node
from gateway.store.nodes import NodeRecord, list_nodes
from gateway.web.answer import answer
from gateway.web.fields import moment, searched
from gateway.web.operation import Call, Operation
from gateway.web.paging import DEFAULT_LIMIT, Cursor, Limit, page, read_cursor

LOOK_AT = 2_000
"""Sessions looked at before others get their turn."""
SESSIONS = "sessions"
MAX_NODE_NAME = 80
DIGITS = re.compile("[0-9]{1,15}")
_BY_NUMBER = operator.attrgetter("number")
METRICS_AGE_S = 1.0
"""How old figures may be: each page that shows them asks every two seconds."""


class NodeShown(msgspec.Struct, frozen=True):
    """A node. `position` is how far it has followed the change log, `seen_at` its last sign of life, by its own clock:
    what is said of a node is of that moment, of `this` one of now.
    """

    name: str
    version: str
    started_at: str
    seen_at: str
    sessions: int
    position: int
    this: bool


class Nodes(msgspec.Struct, frozen=True):
    """The nodes that live, in the order of their names, and the change log's newest `seq`."""

    nodes: list[NodeShown]
    newest: int


class CredentialShown(msgspec.Struct, frozen=True):
    """What a session was opened with: ``login_session``, ``api_token`` or ``instance_key``, and its id."""

    kind: str
    id: str


class ClientShown(msgspec.Struct, frozen=True):
    """What a client said of itself."""

    name: str | None
    version: str | None


class SessionShown(msgspec.Struct, frozen=True):
    """A live session of the channel. `principal` is ``user:ID`` or ``instance:ID``; `client` null: it said nothing;
    `watches`: how many documents.
    """

    id: str
    principal: str
    credential: CredentialShown
    opened_at: str
    address: str
    client: ClientShown | None
    watches: int


class Sessions(msgspec.Struct, frozen=True):
    """A part of the live sessions of one `node`, the newest first; `next` leads to the following one."""

    node: str
    items: list[SessionShown]
    next: str | None


class SessionSearch(msgspec.Struct, frozen=True):
    """Which sessions: those of a user or of a server instance (an id)."""

    user: str | None = None
    instance: str | None = None
    cursor: Cursor | None = None
    limit: Limit = DEFAULT_LIMIT


class Insight:
    """The routes below ``/admin`` that read and change nothing."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def operations(self) -> list[Operation]:
        """All of them."""
        return [
            Operation(
                *("GET", "/admin/nodes", self.nodes),
                "The nodes that live; for administrators",
                {200: Nodes},
                errors=(Forbidden,),
            ),
            Operation(
                *("GET", "/admin/sessions", self.sessions),
                "The live sessions of the node that answers, the newest first; for administrators",
                {200: Sessions},
                query=SessionSearch,
                errors=(Forbidden,),
            ),
            Operation(
                *("GET", "/admin/metrics", self.metrics),
                "Figures for Prometheus, for administrators",
                {200: str},
                errors=(Forbidden,),
            ),
        ]

    async def nodes(self, call: Call) -> Response:
        """As they have told of themselves; this one as it is now."""
        (await call.rights()).require_admin()
        told, newest = await list_nodes(self._node.database)
        own = self._node.record()
        known = {record.name: (record, seen_at) for record, seen_at in told}
        known[own.name] = (own, self._node.clock.now().wall)
        shown = [_node(record, seen_at, own.name) for _, (record, seen_at) in sorted(known.items())]
        return answer(Nodes(shown, newest))

    async def sessions(self, call: Call) -> Response:
        """One page. Cursors are of this node: another one has other sessions."""
        (await call.rights()).require_admin()
        asked: SessionSearch = call.query
        user, instance = searched(asked.user), searched(asked.instance)
        if user is not None and instance is not None:
            raise BadRequest("Name a user or an instance.")
        before = None if asked.cursor is None else self._number(read_cursor(SESSIONS, asked.cursor, str))
        there = list(self._node.sessions)
        if user is not None:
            there = sorted(self._node.hub.presence.sessions(user).values(), key=_BY_NUMBER)
        elif instance is not None:
            entry = self._node.hub.entries.get(f"instance:{instance}")
            there = sorted(entry.sessions, key=_BY_NUMBER) if isinstance(entry, InstanceEntry) else []
        found = await _newest(there, before, asked.limit + 1)
        part = page(SESSIONS, found, asked.limit, position=self._place, shown=_session)
        return answer(Sessions(self._node.name, part.items, part.next))

    async def metrics(self, call: Call) -> Response:
        """Prometheus' text format, wherever the administrator is; the same for all who ask within a second."""
        (await call.rights()).require_admin()
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        exposition = await self._node.metrics.scraped(age_s=METRICS_AGE_S)
        return Response(exposition, headers=headers, media_type=CONTENT_TYPE_LATEST)

    def _place(self, connection: Connection) -> str:
        return f"{self._node.name} {connection.number}"

    def _number(self, place: str) -> int:
        """The number of the connection that stands at a place, if that is one of this node's."""
        node, _, number = place.rpartition(" ")
        if not (0 < len(node) <= MAX_NODE_NAME and node.isprintable() and DIGITS.fullmatch(number)):
            raise BadRequest("There is no such cursor.")
        if node != self._node.name:
            raise BadRequest(f"This cursor is of the node {node}; {self._node.name} answers: begin anew.")
        return int(number)


def _session(connection: Connection) -> SessionShown:
    principal, client = connection.session.principal, connection.session.client
    assert principal is not None
    return SessionShown(
        id=connection.session.id,
        principal=principal.document,
        credential=CredentialShown(principal.credential_kind, principal.credential_id),
        opened_at=moment(connection.opened_wall),
        address=connection.address,
        client=None if client is None else ClientShown(client.name, client.version),
        watches=len(connection.watchers),
    )


def _node(record: NodeRecord, seen_at: int, this: str) -> NodeShown:
    name, version, started_at, _, position, sessions = record
    return NodeShown(name, version, moment(started_at), moment(seen_at), sessions, position, name == this)


async def _newest(connections: Sequence[Connection], before: int | None, count: int) -> list[Connection]:
    """The newest that live, of those whose number is below `before`; `connections` are in the order of their numbers.
    Looks at no more than it needs.
    """
    end = len(connections) if before is None else bisect_left(connections, before, key=_BY_NUMBER)
    found: list[Connection] = []
    for looked_at, place in enumerate(reversed(range(end)), 1):
        if connections[place].session.condition is Condition.LIVE:
            found.append(connections[place])
            if len(found) == count:
                break
        if looked_at % LOOK_AT == 0:
            await asyncio.sleep(0)
    return found
