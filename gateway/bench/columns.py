"""Columns of 64-bit integers in a file: how processes of the benchmark hand over what they recorded."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path


def write_columns(path: Path, columns: Sequence[array[int]]) -> None:
    """Write arrays of type ``q`` and equal length, one after the other."""
    with path.open("wb") as file:
        for column in columns:
            column.tofile(file)


def read_columns(path: Path, count: int) -> list[array[int]]:
    """Read back the `count` columns that `write_columns` wrote, and remove the file."""
    data = path.read_bytes()
    path.unlink()
    size = len(data) // count
    columns = []
    for start in range(0, size * count, size or 1):
        column = array("q")
        column.frombytes(data[start : start + size])
        columns.append(column)
    return columns or [array("q") for _ in range(count)]
