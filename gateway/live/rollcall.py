"""Keeps users within their maximum of sessions on all nodes together: registers, counts and ends the oldest.

    a node has more than its share ─▶ registers them ─▶ the log tells all ─▶ they register theirs ─▶ each one counts
    too many? ─▶ all concerned give a sign of life ─▶ who sees that they live ends its own of the oldest

A session ends when as many newer ones as the maximum are registered by nodes that have given a sign since the count. So
the rows of a node that died, and whose clients have come back elsewhere, never end anybody. Which session is the older
one is told by the clocks of their nodes: a second between two clocks changes which one goes, never how many.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from gateway.errors import Ending, StoreConflict, StoreCorrupt, StoreError, StoreUnavailable, StoreUncertain
from gateway.live.clock import Clock
from gateway.live.neighbours import Neighbours
from gateway.live.presence import Presence, put_back, take
from gateway.store.database import Database
from gateway.store.nodes import NodeSession, register_sessions, registered, sessions_of, unregister_sessions

log = logging.getLogger("gateway.node")

GROUP = 200
"""Users, or sessions that are closed, in one access: the answer stays far below what a server refuses."""

AWAY = (StoreUnavailable, StoreUncertain, StoreCorrupt)
"""It is the database, and not what was asked of it."""

TOLD_AFTER = 5
"""So many failures in a row are more than a restart of the database."""

REVIEW_S = 60.0
POLL_MIN_S = 0.1
POLL_MAX_S = 1.0
PATIENCE_S = 2.0
"""After so long a node that gives no sign is waited for no more: those who do are asked anew, without it."""


class Suspicion:
    """A user was seen with too many sessions: these ones, when the nodes had given so many signs of life. `since` in
    seconds of the monotonic clock.
    """

    __slots__ = ("beats", "ids", "since")

    def __init__(self, sessions: Iterable[NodeSession], beats: Mapping[str, int], since: float) -> None:
        self.ids = {session.id for session in sessions}
        self.beats = dict(beats)
        self.since = since

    def confirmed(self, node: str, beats: Mapping[str, int]) -> bool:
        """Whether the node has given a sign since."""
        return node in beats and beats[node] != self.beats.get(node)


class RollCall:
    """Does what is on the lists of `Presence`, for one node. When the database is away it is done later."""

    def __init__(self, database: Database, clock: Clock, presence: Presence, neighbours: Neighbours) -> None:
        self._database = database
        self._clock = clock
        self._presence = presence
        self._neighbours = neighbours
        self._suspicions: dict[str, Suspicion] = {}
        self._failures: Counter[str] = Counter()
        self._wake = asyncio.Event()
        presence.wake = self._wake.set

    async def run(self) -> None:
        """Work until cancelled: when there is something to do, and a look at everything each minute."""
        review_at, poll_s = self._clock.now().mono, POLL_MIN_S
        while True:
            now = self._clock.now().mono
            if now >= review_at:
                review_at = now + REVIEW_S * random.uniform(0.9, 1.1)
                await self._tried("review", self.review)
            if not await self._tried("turn", self.turn):
                await asyncio.sleep(self._neighbours.retry_s())
                continue
            poll_s = min(POLL_MAX_S, poll_s * 1.5) if self._suspicions else POLL_MIN_S
            await self._pause(poll_s if self._suspicions else review_at - self._clock.now().mono)

    async def _tried(self, name: str, work: Callable[[], Awaitable[None]]) -> bool:
        """Whether it was done. What fails again and again is told, once."""
        try:
            await work()
        except Exception as exc:
            self._failures[name] += 1
            if self._failures[name] == 1 and not isinstance(exc, StoreError):
                log.exception("counting sessions failed")
            elif self._failures[name] == TOLD_AFTER:
                log.warning("counting sessions was put off", extra={"part": name, "error": repr(exc)})
            return False
        del self._failures[name]
        return True

    async def review(self) -> None:
        """Compare what is registered with what there is: the log may have been cut off, or the database restored."""
        presence = self._presence
        presence.noted.clear()
        users, own = await registered(self._database, self._neighbours.name)
        presence.elsewhere = users | presence.noted
        for user in users:
            if presence.sessions(user):
                presence.count(user)
        for session in own:
            if session.id not in presence.sessions(session.user):
                presence.remove(session.id)
        missing = presence.rows.keys() - {session.id for session in own}
        if any(presence.rows[id] for id in missing):
            presence.lost()

    async def turn(self) -> None:
        """Do what is on the lists now. Raises `StoreError` when the database is away; what was not done is on them
        still.
        """
        presence = self._presence
        await self._all(presence.to_register, self._register)
        await self._all(presence.to_remove, lambda ids: unregister_sessions(self._database, ids))
        counted = dict.fromkeys([*take(presence.to_count, GROUP), *self._suspicions])
        try:
            await self._all(counted, self._count)
        except StoreError:
            put_back(presence.to_count, counted)
            raise
        if presence.to_count:
            presence.wake()

    async def _all(self, wanted: dict[str, None], work: Callable[[Sequence[str]], Awaitable[None]]) -> None:
        while names := take(wanted, GROUP):
            try:
                await self._one_by_one(names, work)
            except StoreError:
                put_back(wanted, names)
                raise

    async def _one_by_one(self, names: Sequence[str], work: Callable[[Sequence[str]], Awaitable[None]]) -> None:
        """Together if that can be done, else by halves: one that spoils the group is left out, the others are not."""
        try:
            await work(names)
        except AWAY:
            raise
        except Exception as exc:
            if len(names) > 1:
                middle = len(names) // 2
                await self._one_by_one(names[:middle], work)
                await self._one_by_one(names[middle:], work)
            else:
                self._suspicions.pop(names[0], None)
                log.warning("sessions can not be counted", extra={"of": names[0], "error": str(exc)})

    async def _register(self, users: Sequence[str]) -> None:
        presence, now = self._presence, self._clock.now()
        sessions = [
            NodeSession(id, user, self._neighbours.name, now.wall - round((now.mono - connection.opened_at) * 1000))
            for user in users
            for id, connection in presence.sessions(user).items()
            if not presence.rows.get(id)
        ]
        presence.rows |= {session.id: False for session in sessions}
        try:
            if sessions:
                await register_sessions(self._database, sessions)
        except StoreConflict as exc:
            if exc.kind != "foreign_key":
                raise
            self._neighbours.beat_soon()
            raise StoreUnavailable("this node is not on the list of nodes") from exc
        for session in sessions:
            if session.id in presence.rows:
                presence.rows[session.id] = True
        presence.elsewhere.update(users)
        put_back(presence.to_count, users)

    async def _count(self, users: Sequence[str]) -> None:
        beats, found = await sessions_of(self._database, users)
        for user in users:
            self._judge(user, found[user], beats)

    def _judge(self, user: str, rows: Sequence[NodeSession], beats: Mapping[str, int]) -> None:
        presence, name = self._presence, self._neighbours.name
        own = presence.sessions(user)
        suspicion = self._suspicions.pop(user, None)
        if not rows or not own:
            if own and user not in presence.to_count:
                presence.elsewhere.discard(user)
            return
        for row in rows:
            if row.node == name and row.id not in own:
                presence.remove(row.id)
        if any(not presence.rows.get(id) for id in own):
            presence.register(user)
            return
        rows = [row for row in rows if row.node != name or row.id in own]
        if len(rows) <= presence.maximum:
            return
        self._neighbours.beat_soon()
        now = self._clock.now().mono
        if suspicion is not None:
            proved = [row for row in rows if row.node == name or suspicion.confirmed(row.node, beats)]
            self._end_oldest(user, [row for row in proved if row.id in suspicion.ids])
            if len(proved) < len(rows) and now - suspicion.since < PATIENCE_S:
                self._suspicions[user] = suspicion
                return
        self._suspicions[user] = Suspicion(rows, beats, now)

    def _end_oldest(self, user: str, rows: Sequence[NodeSession]) -> None:
        own = self._presence.sessions(user)
        oldest = sorted(rows, key=lambda row: (row.opened_at, row.id))
        for row in oldest[: max(0, len(rows) - self._presence.maximum)]:
            if row.id in own:
                own[row.id].end(Ending.REPLACED)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()
