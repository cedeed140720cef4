"""The time of a channel, which tests may replace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that is due some time."""

    def cancel(self) -> None:
        """It will not be made."""


class Clock(Protocol):
    """Monotonic time in seconds, and calls that are made when their time has come. An event loop is one."""

    def time(self) -> float:
        """Now."""

    def call_at(self, when: float, callback: Callable[[], object], /) -> Timer:
        """Call back at `when`."""


async def sleep_until(clock: Clock, when: float) -> None:
    """Return when `clock` shows `when`; at once if that is past."""
    if when <= clock.time():
        return
    come = asyncio.Event()
    timer = clock.call_at(when, come.set)
    try:
        await come.wait()
    finally:
        timer.cancel()
