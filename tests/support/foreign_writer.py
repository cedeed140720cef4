"""Another program that writes to the database: a process of its own with the standard library's SQLite.

Tests must not open a file with a second SQLite in their own process (it breaks the first one's locks), so whatever
"somebody else" does is asked of such a process over its standard input::

with ForeignWriter(path) as somebody: somebody.execute("UPDATE users SET plan = ? WHERE id = ?", "pro", "u1")

On a libSQL server, somebody else is a process of its own too, which shares nothing with the gateway's driver.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.support import plain_hrana

_PROGRAM = r"""
import json, sqlite3, sys, time
path, foreign_keys, timeout_s = sys.argv[1], sys.argv[2], float(sys.argv[3])
db = sqlite3.connect(path, isolation_level=None, timeout=timeout_s)
db.execute("PRAGMA foreign_keys=" + foreign_keys)
print(json.dumps({"rows": [[sqlite3.sqlite_version]]}), flush=True)
for line in sys.stdin:
    task = json.loads(line)
    try:
        if task["kind"] == "script":
            db.executescript(task["sql"])
            rows = []
        elif task["kind"] == "each":
            for args in task["rows"]:
                db.execute(task["sql"], args).fetchall()
                time.sleep(task["pause_s"])
            rows = []
        else:
            rows = db.execute(task["sql"], task["args"]).fetchall()
        answer = {"rows": rows}
    except Exception as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps(answer), flush=True)
"""


class ForeignError(Exception):
    """The other program's SQLite refused: `kind` is the class of its exception (``IntegrityError``,
    ``OperationalError``)."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class ForeignWriter:
    """Drives the process; each statement is a transaction of its own unless ``BEGIN`` was executed before.

    `foreign_keys` is the pragma of its connection (SQLite's default is off). `timeout_s` is how long it waits for a
    lock.
    """

    def __init__(self, path: str | Path, *, foreign_keys: bool = True, timeout_s: float = 10.0) -> None:
        self._start("-c", _PROGRAM, str(path), "ON" if foreign_keys else "OFF", str(timeout_s))

    def _start(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.sqlite_version: str = self.receive()[0][0]

    def __enter__(self) -> ForeignWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def execute(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows. Raises `ForeignError`."""
        self.send(sql, *args)
        return self.receive()

    def script(self, sql: str) -> None:
        """Run several statements. Raises `ForeignError`."""
        self._send({"kind": "script", "sql": sql})
        self.receive()

    def each(self, sql: str, rows: Iterable[Sequence[Any]], *, pause_s: float = 0.0) -> None:
        """Run one statement for each row of parameters, one commit a row, `pause_s` apart. Raises `ForeignError`."""
        self.send_each(sql, rows, pause_s=pause_s)
        self.receive()

    async def run(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        """As `execute`, leaving the event loop free."""
        return await asyncio.to_thread(self.execute, sql, *args)

    def send(self, sql: str, *args: Any) -> None:
        """Ask for one statement and go on at once; `receive` takes the answer."""
        self._send({"kind": "execute", "sql": sql, "args": args})

    def send_each(self, sql: str, rows: Iterable[Sequence[Any]], *, pause_s: float = 0.0) -> None:
        """As `each`, going on at once; `receive` takes the one answer."""
        self._send({"kind": "each", "sql": sql, "rows": [list(row) for row in rows], "pause_s": pause_s})

    def receive(self) -> list[tuple[Any, ...]]:
        """The answer to the oldest `send`. Raises `ForeignError`; `EOFError` when the process ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise EOFError(f"the foreign writer ended with {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise ForeignError(answer["error"], answer["message"])
        return [tuple(row) for row in answer["rows"]]

    def kill(self) -> None:
        """End it without warning, in the middle of what it does (SIGKILL)."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Let it finish and end; a transaction that is open is rolled back."""
        if self.process.poll() is None and self.process.stdin is not None:
            self.process.stdin.close()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def _send(self, task: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()


class ForeignServerWriter(ForeignWriter):
    """As `ForeignWriter`, on the libSQL server at `url`; foreign keys are always looked after there."""

    def __init__(self, url: str, token: str | None = None, *, timeout_s: float = 10.0) -> None:
        self._start(plain_hrana.__file__, url, token or "", str(timeout_s))
