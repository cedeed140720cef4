"""All that spends quotas on one database, built once for a process."""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.clock import HOUR_MS
from gateway.store.bases import Bases
from gateway.store.database import Database
from gateway.store.leases import Leases, prune_leases
from gateway.store.ledger import prune_ledger
from gateway.store.spending import Spender

PRUNED_EVERY_MS = HOUR_MS
PRUNE_PAGES = 100
"""Pages of the ledger that one call of `keep_house` looks at, at the most: half a million entries."""
PRUNE_GROUPS = 1_000
"""Commits of leases in one call: as many."""


class Quotas:
    """`wall`: milliseconds since 1970 UTC."""

    def __init__(self, database: Database, wall: Callable[[], int]) -> None:
        self.bases = Bases()
        self.spender = Spender(database, self.bases, wall)
        self.leases = Leases(database, self.bases, wall)
        self._database = database
        self._position = 0
        self._before: int | None = None
        self._pruned_at: int | None = None

    async def close(self) -> None:
        """Take no more orders, and return when those that were taken are answered."""
        await self.spender.close()

    async def keep_house(self, keep_ms: int, now: int) -> None:
        """Once in an hour, delete what is older than `keep_ms` milliseconds at `now` (milliseconds since 1970 UTC) of
        the ledger and of the leases that ended; the next call goes on where there is too much for one. One node does
        it. Raises `StoreError`."""
        if self._pruned_at is not None and abs(now - self._pruned_at) < PRUNED_EVERY_MS:
            return
        pruned = await prune_ledger(
            self._database, keep_ms, now, position=self._position, before=self._before, pages=PRUNE_PAGES
        )
        self._position, self._before = pruned.position, pruned.before
        if not pruned.done:
            return
        if pruned.before is not None and not await prune_leases(self._database, pruned.before, groups=PRUNE_GROUPS):
            return
        self._before = None
        self._pruned_at = now
