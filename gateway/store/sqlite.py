"""SQLite files: connections with the pragmas that the gateway relies on, a lock between processes, and SQLite's errors
in our words.

apsw is the only SQLite in this process. A second library on the same file (the standard library's, say) would drop the
first one's POSIX locks when it closes, and the database with them.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw

from gateway.errors import StoreConflict, StoreCorrupt, StoreError, StoreUnavailable
from gateway.store.driver import Row, Statement, violated

OLDEST_SQLITE = (3, 51, 3)
"""Older ones can corrupt a WAL database that two connections write and checkpoint at once."""

BUSY_TIMEOUT_MS = 5000
"""How long a write waits for another process's write lock before it fails with `StoreUnavailable`."""

_WRITER_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA trusted_schema=OFF",
    f"PRAGMA journal_size_limit={64 * 1024 * 1024}",
)
_CACHED_STATEMENTS = 256
_CONFLICTS = {
    apsw.SQLITE_CONSTRAINT_UNIQUE: "unique",
    apsw.SQLITE_CONSTRAINT_PRIMARYKEY: "unique",
    apsw.SQLITE_CONSTRAINT_ROWID: "unique",
    apsw.SQLITE_CONSTRAINT_FOREIGNKEY: "foreign_key",
    apsw.SQLITE_CONSTRAINT_NOTNULL: "not_null",
}
_DAMAGED = (apsw.CorruptError, apsw.NotADBError)
_PASSING = (
    apsw.BusyError,
    apsw.LockedError,
    apsw.FullError,
    apsw.IOError,
    apsw.NoMemError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.PermissionsError,
    apsw.ProtocolError,
    apsw.InterruptError,
)


def store_error(error: Exception) -> Exception:
    """What the caller of the store gets for `error`. Faults of the caller (a value of a type SQLite does not know)
    stay what they are."""
    if isinstance(error, apsw.ConstraintError):
        extended: int = getattr(error, "extendedresult", 0)
        return StoreConflict(_CONFLICTS.get(extended, "check"), violated(str(error)))
    if isinstance(error, _DAMAGED):
        return StoreCorrupt(str(error))
    if isinstance(error, _PASSING):
        return StoreUnavailable(str(error))
    if isinstance(error, apsw.Error):
        return StoreError(f"{type(error).__name__}: {error}")
    return error


def require_sqlite(version: str) -> None:
    """Raise `StoreError` when this version of SQLite can corrupt the database."""
    if tuple(int(part) for part in version.split(".")) < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise StoreError(f"SQLite {version} is too old: {needed} or later is needed (upgrade apsw)")


def open_writer(path: Path, *, create: bool = False, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> apsw.Connection:
    """A connection that may write, in WAL mode; every commit is synced. Raises apsw's errors.

    Processes that open a new file at the same moment take turns: the switch to WAL fails when two try it at once.
    """
    with file_lock(path):
        flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
        connection = apsw.Connection(str(path), flags=flags, statementcachesize=_CACHED_STATEMENTS)
        try:
            connection.set_busy_timeout(busy_timeout_ms)
            for pragma in _WRITER_PRAGMAS:
                connection.execute(pragma).fetchall()
            if (mode := connection.pragma("journal_mode")) != "wal":
                raise apsw.CantOpenError(f"the file system of {path} does not allow WAL mode (journal mode {mode})")
        except BaseException:
            connection.close()
            raise
    return connection


def open_reader(path: Path, *, busy_timeout_ms: int = 0) -> apsw.Connection:
    """A connection that can not write. Without a timeout a locked file raises `apsw.BusyError` at once. Raises
    apsw's errors."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, statementcachesize=_CACHED_STATEMENTS)
    connection.set_busy_timeout(busy_timeout_ms)
    connection.execute("PRAGMA trusted_schema=OFF").fetchall()
    return connection


def rows_of(connection: apsw.Connection, statements: Sequence[Statement]) -> list[list[Row]]:
    """Run reads, all in one snapshot. Raises apsw's errors; the connection is left without a transaction."""
    if len(statements) == 1:
        statement = statements[0]
        return [connection.execute(statement.sql, statement.args).fetchall()]
    connection.execute("BEGIN")
    try:
        return [connection.execute(statement.sql, statement.args).fetchall() for statement in statements]
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def split_script(script: str) -> list[str]:
    """The statements of a script, triggers whole. Raises `StoreError` where it ends in the middle of one."""
    statements: list[str] = []
    text = ""
    for piece in re.findall(r"[^;]*;|[^;]+$", script):
        text += piece
        if apsw.complete(text):
            statements.append(text.strip())
            text = ""
    if any(line and not line.startswith("--") for line in map(str.strip, text.splitlines())):
        if not apsw.complete(f"{text}\n;"):
            raise StoreError("the script ends in the middle of a statement")
        statements.append(text.strip())
    return statements


def file_identity(path: Path) -> tuple[int, int] | None:
    """Device and inode: two answers that differ mean that the file was replaced. None: it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def file_lock(path: Path, *, timeout_s: float = 30.0) -> Iterator[None]:
    """Hold the lock file beside `path` against every other process and thread; it ends with the process. Raises
    `apsw.BusyError`.

    It is made of SQLite's own file locks: one mechanism wherever SQLite runs. The file stays: removing it would break
    the next holder's lock.
    """
    flags = [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE, 0]
    lock = apsw.VFSFile("", f"{path}-lock", flags)
    try:
        _lock_within(lock, apsw.SQLITE_LOCK_RESERVED, timeout_s)
        yield
    finally:
        lock.xClose()


def _lock_within(lock: apsw.VFSFile, level: int, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    lock.xLock(apsw.SQLITE_LOCK_SHARED)
    while True:
        try:
            lock.xLock(level)
            return
        except apsw.BusyError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.005)
