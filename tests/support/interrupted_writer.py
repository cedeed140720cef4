"""A program that writes through the gateway's database driver and says what it is told; a test kills it, or the server.

Run as ``python interrupted_writer.py URL NAME``: it makes rows in ``marks(id TEXT, part INTEGER)``, two for each write
and several writes at once, and prints a line when the outcome of a write is known: ``made ID``, ``not_made ID`` or
``unknown ID``. It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import IO

from gateway.errors import StoreUnavailable, StoreUncertain
from gateway.store.database import Database, Statement

WRITERS = 8
PAUSE_S = 0.002
PARTS = (0, 1)
INSERT = "INSERT INTO marks(id, part) VALUES (?, ?)"


async def _write(database: Database, name: str, numbers: itertools.count[int]) -> None:
    while True:
        id = f"{name}-{next(numbers)}"
        try:
            await database.write(*(Statement(INSERT, (id, part)) for part in PARTS))
        except StoreUncertain:
            told = "unknown"
        except StoreUnavailable:
            told = "not_made"
        else:
            told = "made"
        os.write(1, f"{told} {id}\n".encode())  # one system call: a line is there whole or not at all
        await asyncio.sleep(PAUSE_S)


async def _run(url: str, name: str) -> None:
    numbers = itertools.count()
    async with await Database.open(url) as database:
        writing = [asyncio.create_task(_write(database, name, numbers)) for _ in range(WRITERS)]
        await asyncio.to_thread(sys.stdin.read)
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)


class InterruptedWriter:
    """Drives the program. What it said is in `told`, by outcome; who was asked and never answered is in none."""

    def __init__(self, url: str, name: str, python_path: str) -> None:
        self.told: dict[str, list[str]] = {"made": [], "not_made": [], "unknown": []}
        environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": python_path}
        self.process = subprocess.Popen(
            [sys.executable, __file__, url, name], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, lines: IO[bytes]) -> None:
        for line in lines:
            outcome, id = line.decode().split()
            self.told[outcome].append(id)

    @property
    def made(self) -> int:
        return len(self.told["made"])

    def kill(self) -> None:
        """SIGKILL; all that it said before is known when this returns."""
        self.process.kill()
        self._finish()

    def close(self) -> None:
        """Let it end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self._finish()

    def _finish(self) -> None:
        self.process.wait(30)
        self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def check_rows(rows: Sequence[tuple[str, int]], told: dict[str, list[str]]) -> int:
    """Hold the rows of ``marks`` to what was said of them; how many writes there are of which nothing was said, or
    nothing certain."""
    parts: dict[str, list[int]] = {}
    for id, part in rows:
        parts.setdefault(id, []).append(part)
    for id, found in parts.items():
        assert sorted(found) == list(PARTS), f"{id} is there half or twice: {found}"
    lost = set(told["made"]) - parts.keys()
    assert not lost, f"acknowledged and lost: {sorted(lost)[:5]}"
    kept = set(told["not_made"]) & parts.keys()
    assert not kept, f"said not to be made, and made: {sorted(kept)[:5]}"
    return len(parts.keys() - set(told["made"]))


if __name__ == "__main__":
    asyncio.run(_run(*sys.argv[1:]))
