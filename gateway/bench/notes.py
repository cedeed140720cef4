"""What a foreign writer notes of its commits, for the parent to read."""

from __future__ import annotations

import time
from array import array
from pathlib import Path
from typing import Any

from gateway.bench.columns import write_columns


class Notes:
    """Columns of what was committed: number (0 for a revocation), user index, monotonic ns before and after."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._columns = _empty()
        self.number = 0
        """The last number that was given."""

    def take(self, count: int = 1) -> int:
        """Give `count` numbers away; the first of them."""
        self.number += count
        return self.number - count + 1

    def add(self, *row: int) -> None:
        """Note one commit."""
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)

    def collect(self) -> dict[str, Any]:
        """Write down what was noted, and forget it; the answer names the file."""
        path = self._directory / f"commits-{self.number}-{time.monotonic_ns()}"
        write_columns(path, self._columns)
        self._columns = _empty()
        return {"commits": str(path), "number": self.number}


def _empty() -> list[array[int]]:
    return [array("q") for _ in range(4)]
