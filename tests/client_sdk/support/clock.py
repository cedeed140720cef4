"""A clock that moves when a test says so."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count


class ManualTimer:
    """One call that is due."""

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """Time stands still until `advance`."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._order = count()
        self._timers: list[tuple[float, int, ManualTimer]] = []

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], object], /) -> ManualTimer:
        timer = ManualTimer(when, callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    @property
    def next(self) -> float:
        """Seconds until the next call is due; infinite when none is."""
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] - self._now if self._timers else float("inf")

    async def advance(self, seconds: float) -> None:
        """Let time pass; calls that fall due are made at their time."""
        until = self._now + seconds
        while self.next <= until - self._now:
            when, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, when)
            if timer.callback is not None:
                timer.callback()
            await asyncio.sleep(0)
        self._now = until


class JumpingClock:
    """The time of the event loop, ahead by what a test made it jump. Calls that were due before are made late."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def time(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead_s

    def call_at(self, when: float, callback: Callable[[], object], /) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_at(when - self.ahead_s, callback)
