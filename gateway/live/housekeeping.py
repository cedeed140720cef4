"""What a node does now and then that nobody waits for."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from gateway.auth.authenticator import Authenticator
from gateway.config import ChangesConfig
from gateway.core.instant import Instant
from gateway.errors import StoreError
from gateway.live.clock import Clock
from gateway.live.feed import Feed
from gateway.live.neighbours import Neighbours
from gateway.live.pending import RecentChanges
from gateway.store.changes import prune
from gateway.store.database import Database
from gateway.store.nodes import forget_writers

log = logging.getLogger("gateway.node")

EVERY_S = 60.0
WRITERS_KEPT_MS = 7 * 86_400_000


class Housekeeping:
    """`keep_records` deletes what is kept long enough of logins and what hangs on them, and of what was spent. Use
    `run` as a task of the node.
    """

    def __init__(
        self,
        database: Database,
        authenticator: Authenticator,
        clock: Clock,
        feed: Feed,
        neighbours: Neighbours,
        recent: RecentChanges,
        changes: ChangesConfig,
        keep_records: Callable[[Instant], Awaitable[None]],
        *,
        every_s: float = EVERY_S,
    ) -> None:
        self._database = database
        self._authenticator = authenticator
        self._clock = clock
        self._feed = feed
        self._neighbours = neighbours
        self._recent = recent
        self._changes = changes
        self._keep_records = keep_records
        self._every_s = every_s
        self._revocations_at = clock.now().mono + changes.sweep_s

    async def run(self) -> None:
        """Keep house now and then, until cancelled."""
        # Nodes that were started together do not write together.
        await asyncio.sleep(random.uniform(0, self._every_s))
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.keep_house()
            except StoreError as exc:
                log.warning("housekeeping was put off", extra={"error": str(exc)})
            except Exception:
                log.exception("housekeeping failed")
            self._recent.turn()

    async def keep_house(self) -> None:
        """Write down the use of tokens, and if no other node does it, delete what is kept long enough: last what may
        be much. Raises `StoreError`.
        """
        await self._authenticator.record_use()
        await self._look_for_lost_revocations()
        if self._neighbours.first:
            at = self._clock.now()
            await forget_writers(self._database, at.wall - WRITERS_KEPT_MS)
            await prune(self._database, self._changes.keep_s * 1000, at.wall)
            await self._keep_records(at)

    async def _look_for_lost_revocations(self) -> None:
        """Read all that is revoked once in a sweep: whoever dropped the triggers did not log it."""
        mono = self._clock.now().mono
        if mono >= self._revocations_at:
            await self._feed.credentials.look_for_lost(self._database.near)
            self._revocations_at = mono + self._changes.sweep_s
