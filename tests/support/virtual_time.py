"""An event loop whose time passes only when nothing else is left to do, and then at once.

Every sleep, time-out and poll of the code under test is free, and one run is like the next.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Waits for real only when no timer is set: for threads, which call in when they are done."""

    def __init__(self) -> None:
        self._passed_s = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self._passed_s

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._passed_s += seconds

    def inside(self, work: Callable[[], T]) -> T:
        """Call a function as the loop does, so that it may make tasks, and let nothing else go on meanwhile."""
        asyncio._set_running_loop(self)
        try:
            return work()
        finally:
            asyncio._set_running_loop(None)

    def turn(self, times: int) -> None:
        """Let whatever is ready go on, so many times; no time passes."""
        self.run_until_complete(_turn(times))

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and everything happen that is due by then."""
        self.run_until_complete(asyncio.sleep(seconds))


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or timeout is None:
            return ready or super().select(None)
        self._loop.jump(timeout)
        return ready


async def _turn(times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0)
