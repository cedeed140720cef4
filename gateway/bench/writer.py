"""The foreign writer: a process with Python's own SQLite that commits to the gateway's database as anybody may.

It is the only place of the gateway's sources that imports ``sqlite3``, and it runs in a process of its own (``python
-m gateway.bench.writer DATABASE DIRECTORY``): two SQLite libraries in one process corrupt a database. It obeys
commands on stdin, the public methods of `Writer`.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from array import array
from pathlib import Path
from typing import Any

from gateway.bench.board import Board
from gateway.bench.columns import write_columns
from gateway.bench.marker import marked_name
from gateway.bench.obey import obey, progress
from gateway.bench.population import PLAN, QUOTAS, populate, token_id, user_id

BUSY_TIMEOUT_S = 5.0
CHECKPOINT_EVERY = 1_000
"""Commits between two checkpoints. They are made between measured commits: SQLite's automatic one runs inside the
commit that crosses its threshold, after the change is visible, and would make that commit seem to end later than
readers saw it.
"""
STALLED_S = 1.0
"""How long the closed loop waits for the clients before it goes on all the same, in seconds."""

_MARK = "UPDATE users SET name = ? WHERE id = ?"
_MARK_AND_PAD = "UPDATE users SET name = ?, attributes = json_object('pad', ?) WHERE id = ?"
_REVOKE = "UPDATE api_tokens SET revoked_at = ? WHERE id = ?"
_LIMIT = "UPDATE plan_quotas SET limit_value = ? WHERE plan = ? AND quota = ?"


class Writer:
    """One connection, and the columns of what it committed: number (0 for a revocation), user index, monotonic ns
    before and after.
    """

    def __init__(self, database: Path, directory: Path) -> None:
        self._connection = sqlite3.connect(database, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "wal_autocheckpoint = 0"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._directory = directory
        self._number = 0
        self._commits = 0
        self._columns = [array("q") for _ in range(4)]

    def populate(self, count: int) -> dict[str, Any]:
        """Insert `count` users; the answer's `tokens` is the file of their API tokens."""
        tokens = self._directory / "tokens"
        for done in populate(self._connection, count, tokens):
            progress(done)
        self._checkpoint()
        return {"tokens": str(tokens)}

    def mark(self, user: int) -> dict[str, Any]:
        """Commit one marked change of one user."""
        self._commit_mark(user, "")
        return self._collect()

    def limit(self, value: int) -> dict[str, Any]:
        """Commit a new limit of the plan's first quota: one row that changes every user's document. Answers monotonic
        ns.
        """
        before, after = self._commit(_LIMIT, (value, PLAN, QUOTAS[0][0]))
        return {"before": before, "after": after}

    def pace(self, rate: float, users: list[int], revoked: list[int], pad: list[int], pad_bytes: int) -> dict[str, Any]:
        """Commit one row at a time, evenly spaced, `rate` a second: a marked change of each of `users` in order.

        The tokens of the users in `revoked` are revoked in order, evenly spread among the changes. Changes of users
        in `pad` carry `pad_bytes` of text that is new each time. Answers the file of commits and how late the latest
        one began.
        """
        padded = frozenset(pad)
        spacing = len(users) / (len(revoked) + 1)
        due_revocations = [round(spacing * (k + 1)) for k in range(len(revoked))]
        started = time.monotonic_ns()
        latest = 0
        for position, user in enumerate(users):
            due = started + round(position * 1e9 / rate)
            late = time.monotonic_ns() - due
            latest = max(latest, late)
            if late < 0:
                time.sleep(-late / 1e9)
            self._commit_mark(user, f"{self._number:016}" * (pad_bytes // 16) if user in padded else "")
            while due_revocations and due_revocations[0] <= position:
                self._revoke(revoked[len(revoked) - len(due_revocations)])
                due_revocations.pop(0)
            if position % 256 == 0:
                progress(position)
        return {**self._collect(), "late_ms": latest / 1e6}

    def batches(self, seconds: float, batch: int, window: int, sessions: int, board: str) -> dict[str, Any]:
        """Change all users again and again, `batch` of them a transaction, for `seconds`; at most `window` changes
        ahead of the clients.

        What the clients have seen is read from the `board`. Answers the file of changes, one row a change.
        """
        seen = Board(Path(board))
        deadline = time.monotonic() + seconds
        user = done = 0
        while time.monotonic() < deadline:
            users = [(user + k) % sessions for k in range(batch)]
            user = (user + batch) % sessions
            self._commit_batch(users)
            done += batch
            progress(done)
            stalled = min(deadline, time.monotonic() + STALLED_S)
            while self._number - seen.least() > window and time.monotonic() < stalled:
                time.sleep(0.0002)
        return self._collect()

    def _commit(self, sql: str, arguments: tuple[object, ...]) -> tuple[int, int]:
        before = time.monotonic_ns()
        changed = self._connection.execute(sql, arguments).rowcount
        after = time.monotonic_ns()
        if changed != 1:
            raise RuntimeError(f"{changed} rows changed, not 1")
        self._count_commit()
        return before, after

    def _commit_mark(self, user: int, pad: str) -> None:
        self._number += 1
        name = marked_name(self._number)
        if pad:
            times = self._commit(_MARK_AND_PAD, (name, pad, user_id(user)))
        else:
            times = self._commit(_MARK, (name, user_id(user)))
        self._note(self._number, user, *times)

    def _commit_batch(self, users: list[int]) -> None:
        first = self._number + 1
        self._number += len(users)
        rows = [(marked_name(first + k), user_id(user)) for k, user in enumerate(users)]
        before = time.monotonic_ns()
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(_MARK, rows)
        self._connection.execute("COMMIT")
        after = time.monotonic_ns()
        self._count_commit(len(users))
        for k, user in enumerate(users):
            self._note(first + k, user, before, after)

    def _revoke(self, user: int) -> None:
        self._note(0, user, *self._commit(_REVOKE, (time.time_ns() // 1_000_000, token_id(user))))

    def _note(self, *row: int) -> None:
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)

    def _count_commit(self, rows: int = 1) -> None:
        self._commits += rows
        if self._commits >= CHECKPOINT_EVERY:
            self._checkpoint()

    def _checkpoint(self) -> None:
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        self._commits = 0

    def _collect(self) -> dict[str, Any]:
        path = self._directory / f"commits-{self._number}-{time.monotonic_ns()}"
        write_columns(path, self._columns)
        self._columns = [array("q") for _ in range(4)]
        return {"commits": str(path), "number": self._number}


def main() -> None:
    """Obey until stdin ends."""
    database, directory = sys.argv[1:]
    writer = Writer(Path(database), Path(directory))
    obey({name: getattr(writer, name) for name in ("populate", "mark", "limit", "pace", "batches")})


if __name__ == "__main__":
    main()
