"""A number that one process writes and another reads, without a message between them: how far the clients have come.

The load generators write the greatest commit number they have seen, each in its own slot; the writer reads the least
of them to stay a bounded distance ahead of what was delivered. An aligned 8-byte store is seen whole by the reader on
every platform that runs this.
"""

from __future__ import annotations

import mmap
from pathlib import Path

_BYTES = 8


def create_board(path: Path, slots: int) -> None:
    """Make a board of `slots` numbers, all 0."""
    path.write_bytes(bytes(slots * _BYTES))


class Board:
    """A board that `create_board` made, mapped into this process; `slots` is a view of its numbers."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.slots = memoryview(self._map).cast("q")

    def least(self) -> int:
        """The smallest number on the board."""
        return min(self.slots)
