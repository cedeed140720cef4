"""Waiting for a condition, with a deadline: what tests do in place of sleeping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def eventually(condition: Callable[[], object], timeout_s: float = 10.0, every_s: float = 0.005) -> None:
    """Return as soon as `condition()` is true; `TimeoutError` when it is not within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s} s")
        await asyncio.sleep(every_s)
