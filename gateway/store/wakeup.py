"""Learns that somebody committed to a local database: this process at once, another one by inotify, with a poll as net.

The writing of another process is heard before it can be read (an fsync lies between), so the version is asked for again
and again, ever more rarely, until it moves or the writing proves to be of no interest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import apsw

from gateway.store.bell import Bell
from gateway.store.inotify import Inotify

BACKOFF_S = (0.0002, 0.0005, 0.0015, 0.004, 0.012, 0.03, 0.064)
"""Pauses between the looks after an event: a sync takes 0.1 ms on a fast disk and tens on a slow one."""

POLL_WITHOUT_INOTIFY_S = 0.003

ACTIVE_S = 2.0
"""So long after an event the net is cast at the full rate: whatever made the looks miss a commit, it is found soon."""

QUIET_FACTOR = 10
"""How much rarer it is cast when nothing was heard for that long, and inotify was seen to work: a timer costs more
than the look."""


class Wakeup(Bell):
    """`wait` returns when the database may hold something new.

    `version` gives a number that differs after another connection's commit, by a fresh look at the file (``PRAGMA
    data_version``); when it raises `apsw.BusyError` it is asked again later, any other failure of it rings, so that the
    follower meets the failure itself. `follow_file` tells whether the file was replaced; it is asked
    first at each event, poll and commit.
    """

    def __init__(
        self,
        path: Path,
        version: Callable[[], int],
        follow_file: Callable[[], bool],
        *,
        poll_s: float,
        active_s: float = ACTIVE_S,
        inotify: Callable[[Path, str], Inotify] = Inotify,
    ) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._version = version
        self._follow_file = follow_file
        self._seen = -1
        self._look: asyncio.TimerHandle | None = None
        self._inotify: Inotify | None = None
        self._proven = False  # an event came: this file system delivers them
        self._active_s = active_s
        self._active_until = 0.0
        try:
            self._inotify = inotify(path.parent, path.name)
            self._loop.add_reader(self._inotify.fileno(), self._on_event)
        except OSError:
            poll_s = min(poll_s, POLL_WITHOUT_INOTIFY_S)
        self._poll_s = poll_s
        self._poll_timer = self._loop.call_later(poll_s, self._poll)

    def committed(self) -> None:
        """This process committed: ring, and take note of the version so that the same commit does not ring again."""
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
        if self._moved():
            self.ring()
        quiet = self._proven and self._loop.time() > self._active_until
        pause = self._poll_s * QUIET_FACTOR if quiet else self._poll_s
        self._poll_timer = self._loop.call_later(pause, self._poll)

    def _on_event(self) -> None:
        if self._inotify is None or not self._inotify.heard():
            return
        now = self._loop.time()
        if now > self._active_until:
            self._poll_timer.cancel()
            self._poll_timer = self._loop.call_later(self._poll_s, self._poll)
        self._proven = True
        self._active_until = now + self._active_s
        self._look_again(0)

    def _look_again(self, step: int) -> None:
        self._stop_looking()
        moved = self._moved(follow=step == 0)
        if moved:
            self.ring()
        # The first look may find an earlier commit than the one that was heard. A later look can not: that earlier one
        # was over before the writing began that was heard.
        if step < len(BACKOFF_S) and (step == 0 or not moved):
            self._look = self._loop.call_later(BACKOFF_S[step], self._look_again, step + 1)

    def _stop_looking(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _moved(self, *, follow: bool = True) -> bool:
        """Whether there was a commit since the last look (a failure counts as one)."""
        replaced = follow and self._follow_file()
        try:
            version = self._version()
        except apsw.BusyError:
            return replaced
        except apsw.Error:
            return True
        moved = replaced or version != self._seen
        self._seen = version
        return moved
