"""The time, as it is handed to everything that lives."""

from __future__ import annotations

import time
from typing import Protocol

from gateway.core.instant import Instant


class Clock(Protocol):
    """All clocks at once; tests hand in one that they move by hand."""

    def now(self) -> Instant:
        """The present moment."""

    def cpu_s(self) -> float:
        """The seconds for which this thread has had a processor, from some moment on."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> Instant:
        return Instant(time.monotonic(), time.time_ns() // 1_000_000)

    def cpu_s(self) -> float:
        """Of the thread that asks: the loop's."""
        return time.thread_time()
