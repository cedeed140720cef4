"""Linux tells at once when a file in a directory is written: a file descriptor that becomes readable (inotify(7))."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_IN_MODIFY = 0x2
_IN_MOVED_TO = 0x80
_IN_CREATE = 0x100
_BUFFER = 65536


class Inotify:
    """Watches one directory, for writes to the files whose name starts with `name` and for such files appearing.

    Wait until `fileno` is readable, then ask `heard`. Raises `OSError` where the system has no inotify or grants no
    more watches.
    """

    def __init__(self, directory: Path, name: str) -> None:
        if sys.platform != "linux":
            raise OSError("inotify is a feature of Linux")
        self._name = os.fsencode(name)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        try:
            mask = _IN_MODIFY | _IN_MOVED_TO | _IN_CREATE
            self._checked(self._libc.inotify_add_watch(self._fd, os.fsencode(directory), mask))
        except OSError:
            self.close()
            raise

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._fd

    def heard(self) -> bool:
        """Take all events; whether one was about the watched files. An overflow of the queue counts as one."""
        try:
            events = os.read(self._fd, _BUFFER)
        except BlockingIOError:
            return False
        # Names stand in the events as they are. An event without a name (overflow, the directory itself) is 16 bytes.
        return self._name in events or len(events) == 16

    def close(self) -> None:
        """Let go of the descriptor; stop waiting for it before."""
        os.close(self._fd)

    def _checked(self, result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result
