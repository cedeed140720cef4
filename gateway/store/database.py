"""The one way to the data: reads, atomic writes and the wake-up of those who follow the change log.

`Database` is a thin face over a `Driver`. Errors are the `StoreError` family of `gateway.errors`, whatever the driver.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gateway.errors import ConfigError
from gateway.store.driver import Driver, Reader, Row, Snapshot, Statement, Value, WriteCounts, Written
from gateway.store.embedded import EmbeddedDriver

__all__ = [
    "Database",
    "Reader",
    "Row",
    "Snapshot",
    "Statement",
    "Value",
    "WriteCounts",
    "Written",
    "file_path",
    "wall_clock",
]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,15}")
_SERVERS = {"libsql", "http", "https", "ws", "wss"}


def wall_clock() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


def file_path(url: str) -> Path:
    """The file that a database address names: ``file:data/gateway.db``, ``file:///srv/gateway.db`` or a plain path.

    Raises `ConfigError` for any other address, for parameters after ``?`` and for a database in memory, which no second
    process could share.
    """
    # An address may hold a password or a token: no message repeats more of it than the scheme.
    if url.startswith("file:"):
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ConfigError("database.url: is not an address; write file:PATH") from None
        if parts.query or parts.fragment:
            raise ConfigError("database.url: parameters are not supported after file:PATH")
        if parts.netloc not in ("", "localhost"):
            raise ConfigError("database.url: it names a host; write file:relative/path or file:///absolute/path")
        name = unquote(parts.path)
    elif "://" in url or url.partition(":")[0].lower() in _SERVERS:
        raise ConfigError(f"database.url: {_scheme(url)} is not supported; use file:PATH")
    else:
        name = url
    if not name or name == ":memory:" or "\0" in name:
        raise ConfigError("database.url: it does not name a file")
    return Path(name)


def _scheme(url: str) -> str:
    name = url.partition(":")[0]
    return f"the scheme {name}" if _SCHEME.fullmatch(name) else "this address"


class Database:
    """An open database, bound to the event loop that opened it. Close it with `close` or leave an ``async with``
    block."""

    def __init__(self, driver: Driver, clock: Callable[[], int] = wall_clock) -> None:
        self._driver = driver
        self.clock = clock
        """Milliseconds since 1970 UTC, for the times that the store itself records."""

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        auth_token: str | None = None,
        clock: Callable[[], int] = wall_clock,
        poll_ms: int = 25,
        create: bool = True,
    ) -> Database:
        """Open the database at `url`, making the file and its directory when `create` allows; its tables are
        `migrate`'s work.

        `auth_token` is for servers; a local file needs none. `poll_ms` is how long, at the most, another process's
        commit stays unnoticed when no faster signal arrives. Raises `ConfigError`, `StoreUnavailable`, `StoreCorrupt`.
        """
        return cls(await EmbeddedDriver.open(file_path(url), poll_ms=poll_ms, create=create), clock)

    async def __aenter__(self) -> Database:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    @property
    def counts(self) -> WriteCounts:
        """What was written so far, for metrics; it goes on counting."""
        return self._driver.counts

    async def read(self, *statements: Statement) -> list[list[Row]]:
        """The rows of each statement, all of one moment. For indexed, short reads: a local file is read on the event
        loop."""
        return await self._driver.read(statements)

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """``async with db.snapshot() as s: rows = await s.read(...)``: several reads of the moment of the first one.

        Hold it for as long as reading takes and no longer: an open snapshot keeps the database from shrinking its log.
        """
        return self._driver.snapshot()

    async def scan(self, *statements: Statement) -> list[list[Row]]:
        """As `read`, for lists and searches of any length: the event loop is never blocked. Scans run one after the
        other."""
        return await self._driver.scan(statements)

    async def write(self, *statements: Statement) -> Written:
        """Commit all of the statements or none; durable when it returns. Writes that wait together commit together.

        Raises `StoreConflict`, `NoRowChanged`, `StoreUnavailable` (nothing was written), `StoreCorrupt`. A cancelled
        caller does not know whether its write was committed.
        """
        return await self._driver.write(statements)

    async def script(self, sql: str, *statements: Statement) -> None:
        """Run a script of the program's own (never built from input) and then `statements` in one transaction: a
        migration and its record."""
        await self._driver.script(sql, statements)

    async def wait_for_change(self) -> None:
        """Return at once if something may have been committed since the last return, else as soon as it may have been.

        A doorbell, not data: read the change log afterwards, and be ready to find nothing new. Made for one follower:
        all who wait at that moment wake up, but only one call that comes later returns at once. Does not raise when the
        database can not be reached.
        """
        await self._driver.wait_for_change()

    async def backup(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Copy the running database, consistent and whole, to `path`, which appears complete or not at all.

        Raises `FileExistsError` when `path` is there and `overwrite` is false, `TargetNotReplaceable` when it belongs
        to this database or is no file, `StoreUnavailable` when it can not be written.
        """
        await self._driver.backup(Path(path), overwrite=overwrite)

    async def close(self) -> None:
        """Finish the writes that were accepted, let go of the database; later calls raise `StoreUnavailable`. May be
        called twice."""
        await self._driver.close()
