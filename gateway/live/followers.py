"""Who waits for the feed to pass a position: requests that are answered when something happens.

A waiter is a future in a list. While nothing happens it costs no task of the node's, no thread and no query.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

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

    @contextmanager
    def waiting(self, after: int, position: int) -> Iterator[asyncio.Future[None]]:
        """On the list at once, for as long as the context is open: between the look at the feed's `position` and this
        nothing may be awaited, or what happens then is missed. The future is done when the feed has passed `after`
        (perhaps it has), or the node stops.

        Raises `Unavailable` when too many wait already, or the node has stopped: who asks again and again would be
        answered at once each time.
        """
        passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if position > after:
            passed.set_result(None)
        elif self._stopped:
            raise Unavailable("This node is shutting down.", retry_after_s=RETRY_AFTER_S)
        elif len(self._waiting) >= MAX_WAITING:
            raise Unavailable("Too many wait for changes already.", retry_after_s=RETRY_AFTER_S)
        else:
            self._waiting[passed] = after
        try:
            yield passed
        finally:
            self._waiting.pop(passed, None)

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
