"""The foreign writer: a process with Python's own SQLite that commits to the gateway's database as anybody may.

It is the only place of the gateway's sources that imports ``sqlite3``, and it runs in a process of its own (``python
-m gateway.bench.writer DATABASE DIRECTORY``): two SQLite libraries in one process corrupt a database. It obeys
commands on stdin, the public methods of `Writer`.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

from gateway.bench.board import Board
from gateway.bench.login_population import login_insertions
from gateway.bench.marker import marked_name
from gateway.bench.notes import Notes
from gateway.bench.obey import obey, progress
from gateway.bench.population import (
    DROP_INSTANCE,
    INSTANCE,
    INSTANCE_KEY,
    LIMIT,
    MARK,
    MARK_AND_PAD,
    PLAN,
    QUOTAS,
    REVOKE,
    change_of,
    populate,
    token_id,
    user_id,
)

BUSY_TIMEOUT_S = 5.0
CHECKPOINT_EVERY = 1_000
"""Commits between two checkpoints. They are made between measured commits: SQLite's automatic one runs inside the
commit that crosses its threshold, after the change is visible, and would make that commit seem to end later than
readers saw it.
"""
COMMANDS = ("populate", "add_logins", "add_instance", "change", "mark", "limit", "pace", "batches")
STALLED_S = 1.0
"""How long the closed loop waits for the clients before it goes on all the same, in seconds."""


class Writer:
    """One connection, and the notes of what it committed."""

    def __init__(self, database: Path, directory: Path) -> None:
        self._connection = sqlite3.connect(database, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "wal_autocheckpoint = 0"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._directory = directory
        self._notes = Notes(directory)
        self._commits = 0

    def populate(self, count: int) -> dict[str, Any]:
        """Insert `count` users; the answer's `tokens` is the file of their API tokens."""
        tokens = self._directory / "tokens"
        for done in populate(self._connection, count, tokens):
            progress(done)
        self._checkpoint()
        return {"tokens": str(tokens)}

    def add_logins(self, count: int, password_hash: str) -> dict[str, Any]:
        """Give `count` users a password, a login session and a refresh token; the answer's `refresh_tokens` is the file
        of those.
        """
        tokens = self._directory / "refresh-tokens"
        for done, statements in login_insertions(count, password_hash, time.time_ns() // 1_000_000, tokens):
            self._connection.execute("BEGIN IMMEDIATE")
            for sql, arguments in statements:
                self._connection.execute(sql, arguments)
            self._connection.execute("COMMIT")
            progress(done)
        self._checkpoint()
        return {"refresh_tokens": str(tokens)}

    def add_instance(self, instance: str, kid: str, secret: str) -> dict[str, Any]:
        """Insert a server instance with one key, its sealed `secret` in hexadecimal."""
        self._connection.execute(DROP_INSTANCE, (instance,))
        self._connection.execute(INSTANCE, (instance,))
        self._connection.execute(INSTANCE_KEY, (kid, instance, bytes.fromhex(secret)))
        return {}

    def change(self, how: str, users: list[int]) -> dict[str, Any]:
        """Change these users as `change_of` says, a commit each."""
        for user in users:
            self._notes.add(0, user, *self._commit(*change_of(how, user, time.time_ns() // 1_000_000)))
        return self._notes.collect()

    def mark(self, user: int) -> dict[str, Any]:
        """Commit one marked change of one user."""
        self._commit_mark(user, "")
        return self._notes.collect()

    def limit(self, value: int) -> dict[str, Any]:
        """Commit a new limit of the plan's first quota: one row that changes every user's document. Answers monotonic
        ns.
        """
        before, after = self._commit(LIMIT, (value, PLAN, QUOTAS[0][0]))
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
            self._commit_mark(user, f"{self._notes.number:016}" * (pad_bytes // 16) if user in padded else "")
            while due_revocations and due_revocations[0] <= position:
                self._revoke(revoked[len(revoked) - len(due_revocations)])
                due_revocations.pop(0)
            if position % 256 == 0:
                progress(position)
        return {**self._notes.collect(), "late_ms": latest / 1e6}

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
            while self._notes.number - seen.least() > window and time.monotonic() < stalled:
                time.sleep(0.0002)
        return self._notes.collect()

    def _commit(self, sql: str, arguments: tuple[object, ...]) -> tuple[int, int]:
        before = time.monotonic_ns()
        changed = self._connection.execute(sql, arguments).rowcount
        after = time.monotonic_ns()
        if changed != 1:
            raise RuntimeError(f"{changed} rows changed, not 1")
        self._count_commit()
        return before, after

    def _commit_mark(self, user: int, pad: str) -> None:
        number = self._notes.take()
        name = marked_name(number)
        if pad:
            times = self._commit(MARK_AND_PAD, (name, pad, user_id(user)))
        else:
            times = self._commit(MARK, (name, user_id(user)))
        self._notes.add(number, user, *times)

    def _commit_batch(self, users: list[int]) -> None:
        first = self._notes.take(len(users))
        rows = [(marked_name(first + k), user_id(user)) for k, user in enumerate(users)]
        before = time.monotonic_ns()
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(MARK, rows)
        self._connection.execute("COMMIT")
        after = time.monotonic_ns()
        self._count_commit(len(users))
        for k, user in enumerate(users):
            self._notes.add(first + k, user, before, after)

    def _revoke(self, user: int) -> None:
        self._notes.add(0, user, *self._commit(REVOKE, (time.time_ns() // 1_000_000, token_id(user))))

    def _count_commit(self, rows: int = 1) -> None:
        self._commits += rows
        if self._commits >= CHECKPOINT_EVERY:
            self._checkpoint()

    def _checkpoint(self) -> None:
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        self._commits = 0


def main() -> None:
    """Obey until stdin ends."""
    database, directory = sys.argv[1:]
    writer = Writer(Path(database), Path(directory))
    obey({name: getattr(writer, name) for name in COMMANDS})


if __name__ == "__main__":
    main()
