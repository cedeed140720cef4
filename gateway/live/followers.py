"""Who waits for the feed to pass a position: requests that are answered when something happens.

A waiter is a future in a list. While nothing happens it costs no task of the node's, no thread and no query.
"""

from __future__ import annotations

import asyncio

from gateway.errors import Unavailable

MAX_WAITING = 100
RETRY_AFTER_S = 1.0


class Followers:
    """The list of one node."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], int] = {}
        self._stopped = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, after: int, position: int, seconds: float) -> None:
        """Until the feed, which is at `position`, has passed `after`; no longer than so many seconds, and not at all
        when the node stops. Raises `Unavailable` when too many wait already.
        """
        if position > after or self._stopped:
            return
        if len(self._waiting) >= MAX_WAITING:
            raise Unavailable("Too many wait for changes already.", retry_after_s=RETRY_AFTER_S)
        passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[passed] = after
        try:
            await asyncio.wait((passed,), timeout=seconds)
        finally:
            del self._waiting[passed]

    def reached(self, position: int) -> None:
        """The feed is at this position now."""
        for passed, after in self._waiting.items():
            if after < position and not passed.done():
                passed.set_result(None)

    def stop(self) -> None:
        """Nobody waits any more: the node goes away."""
        self._stopped = True
        for passed in self._waiting:
            if not passed.done():
                passed.set_result(None)
