"""Learns that somebody committed to a local database: this process at once, another one by inotify, and by polling as
the net.

The writing of another process is heard before it can be read (an fsync lies between), so that the version is asked for
again and again, ever more rarely, until it moves or it is clear that the write was none of interest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import apsw

from gateway.store.inotify import Inotify

BACKOFF_S = (0.0002, 0.0005, 0.001, 0.002, 0.004, 0.008)
"""Pauses between the looks after an event."""

POLL_WITHOUT_INOTIFY_S = 0.003


class Wakeup:
    """A doorbell: `wait` returns when the database may hold something new.

    `version` gives a number that differs after another connection's commit, by a fresh look at the file (``PRAGMA
    data_version``); when it raises `apsw.BusyError` it is asked again later, any other failure of it rings, so that the
    follower meets the failure itself. `check_file` is called before each look: the place to notice that the file was
    replaced.
    """

    def __init__(
        self,
        path: Path,
        version: Callable[[], int],
        check_file: Callable[[], None],
        *,
        poll_s: float,
        inotify: Callable[[Path, str], Inotify] = Inotify,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._version = version
        self._check_file = check_file
        self._seen = -1
        self._rung = True  # whoever waits first has seen nothing yet
        self._waiters: list[asyncio.Future[None]] = []
        self._look: asyncio.TimerHandle | None = None
        self._inotify: Inotify | None = None
        try:
            self._inotify = inotify(path.absolute().parent, path.name)
            self._loop.add_reader(self._inotify.fileno(), self._on_event)
        except OSError:
            poll_s = min(poll_s, POLL_WITHOUT_INOTIFY_S)
        self._poll_s = poll_s
        self._poll_timer = self._loop.call_later(poll_s, self._poll)

    async def wait(self) -> None:
        """Return at once if the bell rang since the last return, else when it rings."""
        if self._rung:
            self._rung = False
            return
        waiter = self._loop.create_future()
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

    def committed(self) -> None:
        """This process committed: ring, and take note of the version so that the same commit does not ring again."""
        self._stop_looking()
        self._moved()
        self.ring()

    def close(self) -> None:
        """Stop watching; everybody who waits returns."""
        self._poll_timer.cancel()
        self._stop_looking()
        if self._inotify is not None:
            self._loop.remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = None
        self.ring()

    def _poll(self) -> None:
        self._poll_timer = self._loop.call_later(self._poll_s, self._poll)
        if self._moved():
            self.ring()

    def _on_event(self) -> None:
        if self._inotify is not None and self._inotify.heard():
            self._look_again(0)

    def _look_again(self, step: int) -> None:
        self._stop_looking()
        if self._moved():
            self.ring()
        elif step < len(BACKOFF_S):
            self._look = self._loop.call_later(BACKOFF_S[step], self._look_again, step + 1)

    def _stop_looking(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _moved(self) -> bool:
        """Whether there was a commit since the last look (a failure counts as one)."""
        self._check_file()
        try:
            version = self._version()
        except apsw.BusyError:
            return False
        except apsw.Error:
            return True
        moved = version != self._seen
        self._seen = version
        return moved
