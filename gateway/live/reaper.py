"""Ends the leases whose time is over, on every node: whichever comes first does it for all.

The database says when the next one ends. It is asked again when a balance moved, once a second at the most, and once a
minute in any case: whoever dropped the triggers made leases that the log does not tell of.
"""

from __future__ import annotations

import asyncio
import logging

from gateway.errors import StoreError
from gateway.live.clock import Clock
from gateway.live.notes import Notes
from gateway.store.leases import END_GROUP, Leases

log = logging.getLogger("gateway.leases")

STEP_S = 0.2
LOOK_S = 1.0
LOOK_ANYHOW_S = 60.0


class Reaper:
    """Use `run` as a task of the node. `ended` counts the leases that it ended."""

    def __init__(self, leases: Leases, clock: Clock, notes: Notes) -> None:
        self._leases = leases
        self._clock = clock
        self._notes = notes
        self._next_end: int | None = None
        self._looked_at = float("-inf")
        self._failing = False
        self.ended = 0

    async def run(self) -> None:
        """Run until cancelled. Nothing else ends it."""
        while True:
            try:
                await self.step()
            except StoreError as error:
                self._failed(error)
            except Exception:
                log.exception("ending leases failed")
            else:
                self._failing = False
            await asyncio.sleep(STEP_S)

    async def step(self) -> None:
        """End what is due, as far as it is known. Raises `StoreError`."""
        at = self._clock.now()
        if self._is_time_to_look(at.mono):
            await self._look(at.mono)
        while self._next_end is not None and self._next_end <= at.wall:
            ended = await self._leases.end_due()
            self.ended += ended
            if ended < END_GROUP:
                await self._look(at.mono)
                return

    def _is_time_to_look(self, mono: float) -> bool:
        passed_s = mono - self._looked_at
        return passed_s >= LOOK_ANYHOW_S or (passed_s >= LOOK_S and self._notes.usage_seen)

    async def _look(self, mono: float) -> None:
        self._looked_at = mono
        self._notes.usage_seen = False
        try:
            self._next_end = await self._leases.next_end()
        except BaseException:
            self._notes.usage_seen = True
            raise

    def _failed(self, error: StoreError) -> None:
        if not self._failing:
            log.warning("leases can not be ended now", extra={"error": str(error)})
        self._failing = True
