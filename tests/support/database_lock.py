"""A program that locks a database against every reader: it hangs in the middle of recovering the write-ahead log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_PROGRAM = r"""
import fcntl, sys, time
# The index of the log (https://sqlite.org/walformat.html, sections 2.1, 2.3) begins with its header, twice. While they
# differ, who wants to read has to recover the log first: with the write lock (byte 120) and the recovery lock (122).
SECOND_HEADER, CHANGE_COUNTER = 48, 8
with open(sys.argv[1] + "-shm", "r+b", buffering=0) as index:
    for place in (120, 122):
        while True:
            try:
                fcntl.lockf(index, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
                break
            except OSError:
                time.sleep(0.001)
    index.seek(SECOND_HEADER + CHANGE_COUNTER)
    [before] = index.read(1)
    def put(value):
        index.seek(SECOND_HEADER + CHANGE_COUNTER)
        index.write(bytes([value]))
    put(before ^ 0xFF)
    print("locked", flush=True)
    sys.stdin.read()
    put(before)
"""


class DatabaseLock:
    """Nobody can read the database until the block is left. The database must be open somewhere."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> DatabaseLock:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(self._path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"locked\n"
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.communicate(b"")
