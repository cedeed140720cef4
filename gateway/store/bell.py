"""A doorbell between whoever notices a commit and the one follower of the change log."""

from __future__ import annotations

import asyncio


class Bell:
    """`wait` returns when it was rung since the last return. A new bell has rung: whoever waits first has seen nothing
    yet."""

    __slots__ = ("_rung", "_waiters")

    def __init__(self) -> None:
        self._rung = True
        self._waiters: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        """Return at once if the bell rang since the last return, else when it rings."""
        if self._rung:
            self._rung = False
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._rung = True  # the ring was for this caller, who can not take it any more
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def ring(self) -> None:
        """Wake all who wait; with nobody there, the next who comes."""
        if not self._waiters:
            self._rung = True
            return
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
