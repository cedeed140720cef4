"""The nodes on one database: each gives a sign of life every few seconds, and sees by the others' who is there.

Clocks are not compared. A node is dead when its sign did not move while this one watched it for `ALIVE_S` by its own
monotonic clock; whoever notices takes it off the list. Time in which this node could not look, because it was stopped
or the database was away, does not count: the others had no chance to be seen.

The sign is also the one true test of a server that writes can be made: one that has stalled answers everything else.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from gateway.errors import StoreError
from gateway.live.clock import Clock
from gateway.live.presence import Presence
from gateway.store.database import Database
from gateway.store.nodes import NodeRecord, give_sign, remove_node

log = logging.getLogger("gateway.node")

BEAT_S = 5.0
"""Between two signs: one small commit for each node."""

ALIVE_S = 30.0
"""Six signs: a restart of the database or a slow disk kills nobody."""

STALL_S = 6.0
"""A server takes the lock from a writer that held it for 5 s, and a file is waited for as long: beyond, it is stuck."""

SOON_S = 1.0
"""Between two signs that are given early: a user with too many sessions must not cost more commits than that."""
RETRY_S = 1.0
RETRY_OF_EACH_S = 0.05
"""Many nodes try again over a longer time: a server that was away must not meet all their writes at once."""
LEAVE_S = 2.0
REMEDY = (
    "a file: look for a full disk, or a program that holds the lock; a libSQL server that answers reads but no writes:"
    " restart it, with SIGKILL if need be, no acknowledged write is lost"
)


class Neighbours:
    """This node's sign of life, and those of the others.

    `describe` says what to write of this node. `stalled`: for `STALL_S` nothing could be written.
    """

    def __init__(
        self,
        name: str,
        database: Database,
        clock: Clock,
        presence: Presence,
        describe: Callable[[], NodeRecord],
        *,
        beat_s: float = BEAT_S,
        alive_s: float = ALIVE_S,
        stall_s: float = STALL_S,
    ) -> None:
        self.name = name
        self.beats: dict[str, int] = {}
        self.newest = 0
        self.write_s = 0.0
        self.stalled = False
        self._database = database
        self._clock = clock
        self._presence = presence
        self._describe = describe
        self._beat_s, self._alive_s, self._stall_s = beat_s, alive_s, stall_s
        self._moved: dict[str, float] = {}
        self._looked = 0.0
        self._signs = 0
        self._failing_since: float | None = None
        self._refused = ""
        self._soon = asyncio.Event()
        self._early_at = -SOON_S

    @property
    def living(self) -> int:
        """How many nodes there are, this one among them."""
        return len(self.beats.keys() | {self.name})

    @property
    def first(self) -> bool:
        """Whether this is the node that does what only one has to do."""
        return min(self.beats, default=self.name) >= self.name

    def retry_s(self) -> float:
        """How long to wait before the next attempt to write, when one has failed."""
        return max(RETRY_S, self.living * RETRY_OF_EACH_S) * random.uniform(0.5, 1)

    def beat_soon(self) -> None:
        """Somebody waits to see that this node lives: let it be seen at once, but once a second at the most."""
        self._soon.set()

    async def run(self) -> None:
        """Give signs, at moments that have nothing to do with the others', until cancelled."""
        pause_s = random.uniform(0, self._beat_s)
        while True:
            await self._watched_beat()
            await self._pause(pause_s if self._failing_since is None else min(self._beat_s, self.retry_s()))
            pause_s = self._beat_s * random.uniform(0.9, 1.1)

    async def beat(self) -> None:
        """Give one sign, see who else is there, and remove who is dead. Raises `StoreError`."""
        began = self._clock.now()
        census = await give_sign(self._database, self._describe(), began.wall)
        now = self._clock.now().mono
        self.write_s, self.newest = now - began.mono, census.newest
        self._look(census.beats, now)
        if not census.known or self._failing_since is not None:
            self._presence.lost()
        if not census.known and self._signs:
            log.warning("this node was off the list of nodes and is on it again")
        self._signs += 1
        for name, moved in tuple(self._moved.items()):
            if name != self.name and now - moved > self._alive_s:
                await self._remove(name)
        self._presence.living(self.living)

    async def leave(self) -> None:
        """Take this node off the list, if that can be done in a moment: the others need not wait until it is dead."""
        try:
            async with asyncio.timeout(LEAVE_S):
                await remove_node(self._database, self.name)
        except (StoreError, TimeoutError) as exc:
            log.warning("this node is still on the list of nodes", extra={"error": str(exc)})

    def _look(self, beats: dict[str, int], now: float) -> None:
        if now - self._looked > 3 * self._beat_s:
            self._moved.clear()
        same = (name for name, beat in beats.items() if self.beats.get(name) == beat)
        self._moved = dict.fromkeys(beats, now) | {name: self._moved.get(name, now) for name in same}
        self.beats, self._looked = beats, now

    async def _remove(self, name: str) -> None:
        if await remove_node(self._database, name, self.beats[name]):
            log.warning("a node gave no sign of life and was taken off the list", extra={"node": name})
            del self.beats[name], self._moved[name]

    async def _watched_beat(self) -> None:
        began = self._clock.now().mono
        since = began if self._failing_since is None else self._failing_since
        beating = asyncio.ensure_future(self.beat())
        try:
            await asyncio.wait({beating}, timeout=None if self.stalled else max(0.0, self._stall_s - (began - since)))
            if not beating.done():
                self._stall(self._refused or "no answer")
            await beating
        except Exception as exc:
            if not isinstance(exc, StoreError):
                log.exception("a sign of life failed")
            self._failing_since, self._refused = since, str(exc)
            if self._clock.now().mono - since >= self._stall_s:
                self._stall(str(exc))
        else:
            self._failing_since, self._refused = None, ""
            if self.stalled:
                self.stalled = False
                log.info("the database takes writes again")
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    def _stall(self, error: str) -> None:
        if not self.stalled:
            self.stalled = True
            log.error("the database takes no writes", extra={"error": error, "remedy": REMEDY})

    async def _pause(self, seconds: float) -> None:
        """Until the next sign is due, or somebody waits for one and the last early one is long enough ago."""
        time = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(seconds):
                await asyncio.sleep(self._early_at + SOON_S - time())
                await self._soon.wait()
                self._early_at = time()
        except TimeoutError:
            pass
        self._soon.clear()
