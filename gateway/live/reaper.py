"""Ends the leases whose time is over, on every node: whichever comes first does it for all.

The database says when the next one ends. It is asked again when a balance moved, once a second at the most, and once a
minute in any case: whoever dropped the triggers made leases that the log does not tell of. The first of the nodes ends
what is due; the others come a moment later, each at its own time, so that they find something only if it did not.
"""

from __future__ import annotations

import asyncio
import logging
import random

from gateway.errors import StoreError
from gateway.live.clock import Clock
from gateway.live.neighbours import Neighbours
from gateway.live.notes import Notes
from gateway.store.leases import END_GROUP, Leases

log = logging.getLogger("gateway.leases")

STEP_S = 0.2
LOOK_S = 1.0
LOOK_ANYHOW_S = 60.0
LATER_MS = (300, 800)
"""How much later the others come than the first node."""
PAUSE_S = 30.0
"""The longest pause after a fault of ours."""


class Reaper:
    """Use `run` as a task of the node: it looks what is due every `step_s` seconds. `ended` counts the leases that it
    ended.
    """

    def __init__(
        self, leases: Leases, clock: Clock, notes: Notes, neighbours: Neighbours, *, step_s: float = STEP_S
    ) -> None:
        self._leases = leases
        self._clock = clock
        self._notes = notes
        self._neighbours = neighbours
        self._step_s = step_s
        self._later_ms = random.randint(*LATER_MS)
        self._next_end: int | None = None
        self._looked_at = float("-inf")
        self._failing = False
        self.ended = 0

    async def run(self) -> None:
        """Run until cancelled. Nothing else ends it."""
        pause_s = self._step_s
        while True:
            try:
                await self.step()
            except StoreError as error:
                self._failed(error)
                pause_s = self._step_s
            except Exception:
                log.exception("ending leases failed")
                pause_s = min(2 * pause_s, PAUSE_S)
            else:
                self._failing = False
                pause_s = self._step_s
            await asyncio.sleep(pause_s)

    async def step(self) -> None:
        """End what is due, as far as it is known. Raises `StoreError`."""
        at = self._clock.now()
        if self._is_time_to_look(at.mono):
            await self._look(at.mono)
        due = at.wall if self._neighbours.first else at.wall - self._later_ms
        while self._next_end is not None and self._next_end <= due:
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
