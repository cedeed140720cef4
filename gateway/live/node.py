"""This process as a node: its sessions, the one clock wheel that serves them all, admission and drain."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from gateway import __version__
from gateway.auth.authenticator import Authenticator
from gateway.config import ChangesConfig, ChannelConfig
from gateway.core.instant import Instant
from gateway.core.principal import Principal, PrincipalKind
from gateway.core.session import NEVER, Session, SessionLimits
from gateway.core.text import make_id
from gateway.core.wire import Codec
from gateway.errors import Ending, GatewayError, NotFound, Unavailable
from gateway.live.clock import Clock
from gateway.live.connection import Connection
from gateway.live.entry import UserEntry
from gateway.live.feed import Feed
from gateway.live.housekeeping import Housekeeping
from gateway.live.hub import Hub
from gateway.live.neighbours import Neighbours
from gateway.live.pacing import EVERY_S
from gateway.live.pending import PendingWork
from gateway.live.reaper import Reaper
from gateway.live.rollcall import RollCall
from gateway.live.spending import Spending
from gateway.live.sweep import Sweep
from gateway.metrics import Metrics
from gateway.store.database import Database
from gateway.store.nodes import NodeRecord
from gateway.store.quotas import Quotas

if TYPE_CHECKING:
    from gateway.live.transport import Transport

log = logging.getLogger("gateway.node")

TICK_S = 0.1
READ_TIMEOUT_S = 5.0
CLOCK_JUMP_MS = 2_000
RETURNS_PER_S = 1_000
"""How fast the sessions of one node may come back after all of them were ended."""
STRANGERS_SHARE = 10
STRANGERS_AT_LEAST = 100


class Node:
    """Composes hub, feed and authenticator for one process and keeps its sessions.

    `keep_records` deletes what is kept long enough of logins and what hangs on them, and of what was spent. `broken`
    when one of the node's long-lived tasks ended by a fault of ours. `show_every_s`: see `Pacing`.
    """

    draining = False
    broken = False
    stale_since: int | None = None

    def __init__(
        self,
        name: str,
        database: Database,
        authenticator: Authenticator,
        clock: Clock,
        channel: ChannelConfig,
        changes: ChangesConfig,
        metrics: Metrics,
        keep_records: Callable[[Instant], Awaitable[None]],
        quotas: Quotas,
        *,
        show_every_s: float = EVERY_S,
    ) -> None:
        self.name = name
        self.clock = clock
        self.metrics = metrics
        self.database = database
        self.authenticator = authenticator
        self.quotas = quotas
        self.spending = Spending(quotas)
        self.send_timeout_s = channel.send_timeout_s
        self._channel = channel
        self._started_at = clock.now().wall
        self._limits = _limits(channel)
        self._begin_without_sessions()
        work = PendingWork(lambda: quotas.spender.busy, show_every_s=show_every_s)
        self._follow(work, changes, keep_records)

    def _begin_without_sessions(self) -> None:
        self.sessions: dict[Connection, None] = {}
        self.strangers: set[Connection] = set()
        self.handshakes: Counter[str] = Counter()
        self.ended_by: Counter[str] = Counter()
        self._deadlines: list[tuple[float, int, Connection]] = []
        self._numbers, self._opened = itertools.count(), itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()

    def _follow(
        self, work: PendingWork, changes: ChangesConfig, keep_records: Callable[[Instant], Awaitable[None]]
    ) -> None:
        """Make what follows the database and what tends it."""
        channel, database, clock = self._channel, self.database, self.clock
        self.hub = Hub(work, max_documents=channel.max_documents, max_sessions_per_user=channel.max_sessions_per_user)
        self.feed = Feed(
            database,
            self.hub,
            self.authenticator,
            clock,
            metrics=self.metrics,
            on_stale=self._store_stale,
            on_fresh=self._store_fresh,
            on_replaced=self._store_replaced,
        )
        self.sweep = Sweep(self.feed, changes.sweep_s)
        self.neighbours = Neighbours(self.name, database, clock, self.hub.presence, self.record)
        self.roll_call = RollCall(database, clock, self.hub.presence, self.neighbours)
        self.reaper = Reaper(self.quotas.leases, clock, self.feed.notes, self.neighbours)
        self.housekeeping = Housekeeping(
            database, self.authenticator, clock, self.feed, self.neighbours, work.recent, changes, keep_records
        )

    # --- sessions ---

    def full(self, *, stranger: bool) -> bool:
        """Whether admission control refuses another session.

        Those that have not shown a credential yet may fill only a part of the node: whoever has one still gets in.
        """
        most = self._channel.max_sessions
        if stranger and len(self.strangers) >= max(STRANGERS_AT_LEAST, most // STRANGERS_SHARE):
            return True
        return len(self.sessions) >= most

    def connection(self, codec: Codec, transport: Transport, address: str) -> Connection:
        """A connection for a WebSocket that was accepted; `greet` begins it."""
        session_id = make_id("s_", secrets.token_bytes(10))
        session = Session(session_id, codec, self._limits, self.clock.now(), jitter=random.random())
        return Connection(self, session, transport, address)

    def opened(self, connection: Connection) -> None:
        """A connection begins; `sessions` are in the order of their numbers."""
        connection.number = next(self._opened)
        self.sessions[connection] = None
        self.schedule(connection)

    def ended(self, connection: Connection, ending: Ending) -> None:
        """A connection sends its last frame; it watches nothing any more."""
        self.ended_by[ending.code] += 1
        self._forget(connection)

    def closed(self, connection: Connection) -> None:
        """A connection is gone."""
        if connection.ending is None:
            self.ended_by["client"] += 1
        self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        self.strangers.discard(connection)
        if self.sessions.pop(connection, connection) is None:
            self.hub.leave(connection)

    def authenticate(self, connection: Connection, token: str) -> None:
        """Check a token that came in a message and tell the connection."""
        task = asyncio.create_task(self._authenticate(connection, token))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _authenticate(self, connection: Connection, token: str) -> None:
        principal: Principal
        try:
            principal = await self.authenticator.authenticate_channel(token)
        except GatewayError as error:
            connection.rejected(error)
        except Exception:
            connection.failed()
        else:
            connection.authenticated(principal)
            self.schedule(connection)

    # --- time ---

    def schedule(self, connection: Connection) -> None:
        """Look at the connection again when its next deadline is due."""
        deadline = connection.deadline()
        if deadline < connection.scheduled_at:
            connection.scheduled_at = deadline
            heapq.heappush(self._deadlines, (deadline, next(self._numbers), connection))

    async def tick(self) -> None:
        """The one timer of the process: deadlines of sessions, changes by the clock, the sweep. Runs until
        cancelled.
        """
        before = self.clock.now()
        while True:
            await asyncio.sleep(TICK_S)
            at = self.clock.now()
            try:
                self._ticked(before, at)
            except Exception:
                log.exception("a tick failed")
            before = at

    def _ticked(self, before: Instant, at: Instant) -> None:
        drift_ms = (at.wall - before.wall) - (at.mono - before.mono) * 1000
        if abs(drift_ms) > CLOCK_JUMP_MS:
            log.warning("the wall clock was set", extra={"by_ms": round(drift_ms)})
            self.feed.clock_jumped()
            for connection in tuple(self.sessions):
                self.schedule(connection)
        self._tick_sessions(at.mono)
        self.feed.clock_moved(at.wall)
        self.sweep.go_on(at.mono - before.mono)

    def _tick_sessions(self, mono: float) -> None:
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] <= mono:
            deadline, _, connection = heapq.heappop(deadlines)
            if connection not in self.sessions or deadline != connection.scheduled_at:
                continue
            connection.scheduled_at = NEVER
            if connection.deadline() <= mono:
                connection.tick()
            self.schedule(connection)

    def record(self) -> NodeRecord:
        """What this node says of itself."""
        hub = self.hub
        return NodeRecord(self.name, __version__, self._started_at, hub.epoch, hub.position, len(self.sessions))

    def task_ended(self, task: asyncio.Task[None]) -> None:
        """One of the tasks that make a node is over: by an exception, this node is of no use any more."""
        if not task.cancelled() and (exc := task.exception()) is not None:
            self.broken = True
            log.critical("a task of the node failed", exc_info=exc)

    # --- the store ---

    def _store_stale(self, calm_s: float) -> None:
        """The database can not be read; so long ago it was last known that nothing had changed."""
        self.stale_since = since = self.clock.now().wall - round(calm_s * 1000)
        self.authenticator.stale = True
        for connection in tuple(self.sessions):
            connection.tell_status("stale", since)

    def _store_fresh(self) -> None:
        since, self.stale_since = self.stale_since or 0, None
        self.authenticator.stale = False
        for connection in tuple(self.sessions):
            connection.tell_status("fresh", since)

    def _store_replaced(self) -> None:
        """A backup was restored: whoever is connected would go back in time. All are ended at once, for none may be
        sent anything of it before; they come back one after the other."""
        window_s = len(self.sessions) / RETURNS_PER_S
        log.warning("the database was replaced; every session is ended", extra={"sessions": len(self.sessions)})
        for connection in tuple(self.sessions):
            after_s = round(random.uniform(0, window_s), 3)
            connection.end(Ending.GOING_AWAY, retry_after_s=after_s, message="The database was restored.")

    # --- reading without a session ---

    def not_ready(self) -> list[str]:
        """Why this node should get no new clients; empty when it should."""
        reasons = []
        if self.draining:
            reasons.append("draining")
        if self.feed.stale:
            reasons.append("database_unreachable")
        if self.neighbours.stalled:
            reasons.append("database_writes_stalled")
        if self.broken:
            reasons.append("broken")
        if self.full(stranger=False):
            reasons.append("full")
        return reasons

    async def user(self, user: str) -> UserEntry:
        """A user's document as it is now, loaded if nobody on this node watches it.

        Raises `NotFound`, and `Unavailable` when it can not be read in time.
        """
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                entry = await self.hub.fetch(f"user:{user}")
        except TimeoutError:
            raise Unavailable("The document can not be read now.", retry_after_s=1.0) from None
        if entry is None:
            raise NotFound("No such user.")
        return entry

    # --- the end ---

    def stop(self) -> None:
        """End what is still connected, at once."""
        self.draining = True
        self.hub.followers.stop()
        for connection in tuple(self.sessions):
            connection.stop()

    async def drain(self, window_s: float) -> None:
        """Take no more sessions, tell all that this node goes away, and end them one after the other, evenly over the
        window: the first at once, instances last, which are few and guard everybody's sessions elsewhere. It is over
        as soon as none is left.
        """
        self.draining = True
        self.hub.followers.stop()
        connections = list(self.sessions)
        random.shuffle(connections)
        connections.sort(key=_is_instance, reverse=True)
        log.info("draining", extra={"sessions": len(connections), "seconds": window_s})
        loop, many = asyncio.get_running_loop(), len(connections)
        began = loop.time()
        while connections and self.sessions:
            passed = (loop.time() - began) / window_s if window_s else 1.0
            while connections and many - len(connections) <= passed * many:
                connection = connections.pop()
                retry_after_s = 0.0 if _is_instance(connection) else round(random.uniform(0, window_s), 3)
                connection.end(Ending.GOING_AWAY, retry_after_s=retry_after_s)
            if connections:
                await asyncio.sleep(TICK_S)
        self.stop()


def _is_instance(connection: Connection) -> bool:
    principal = connection.session.principal
    return principal is not None and principal.kind is PrincipalKind.INSTANCE


def _limits(channel: ChannelConfig) -> SessionLimits:
    return SessionLimits(
        heartbeat_s=channel.heartbeat_s,
        pong_timeout_s=channel.pong_timeout_s,
        auth_timeout_s=channel.auth_timeout_s,
        expiring_s=channel.expiring_s,
        max_frame_bytes=channel.max_frame_bytes,
        messages_per_minute=channel.messages_per_minute,
    )
