"""Reads of a local file on the event loop: a hop to a thread would cost ten times what an indexed read does."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import apsw

from gateway.errors import StoreUnavailable
from gateway.store.driver import Row, Statement
from gateway.store.sqlite import BUSY_TIMEOUT_MS, file_identity, open_reader, rows_of, store_error

log = logging.getLogger(__name__)

T = TypeVar("T")

IDLE_SNAPSHOTS = 4
"""Connections kept for snapshots; more are opened when more are held at once."""

BUSY_PAUSE_S = 0.002
"""Between the attempts of a read that met a lock: another process recovers the log, or closes the database."""


class Readers:
    """The read-only connections of the event loop: one for single reads, which never waits inside a transaction, and
    one per open snapshot."""

    def __init__(self, path: Path, *, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> None:
        self.path = path
        self._identity = file_identity(path)
        self._connection = open_reader(path, busy_timeout_ms=busy_timeout_ms)
        self.version()  # the first look takes the lock by which others see that the database is open
        self._connection.set_busy_timeout(0)
        self._idle: list[apsw.Connection] = []
        self._closed = False
        self._busy_timeout_s = busy_timeout_ms / 1000

    async def read(self, statements: tuple[Statement, ...]) -> list[list[Row]]:
        """All statements in one snapshot."""
        try:
            return rows_of(self._connection, statements)
        except apsw.Error as error:
            return await self.again(error, lambda: rows_of(self._connection, statements))

    def snapshot(self) -> FileSnapshot:
        """A read transaction for the length of an ``async with`` block."""
        return FileSnapshot(self)

    def version(self) -> int:
        """A number that differs after a commit by any other connection, this process's writer included."""
        rows: list[Row] = self._connection.execute("PRAGMA data_version").fetchall()
        return int(rows[0][0])

    def follow_file(self) -> bool:
        """When another file stands at the path by now, read that one: the old connections lead to a file without a
        name. True when that happened."""
        identity = file_identity(self.path)
        if identity == self._identity or identity is None:
            return False
        try:
            connection = open_reader(self.path)
        except apsw.Error as error:
            log.warning("%s was replaced and can not be opened yet: %s", self.path, error)
            return False
        log.warning("%s was replaced: reading the new file", self.path)
        self._close_all()
        self._identity = identity
        self._connection = connection
        return True

    def close(self) -> None:
        """Reads fail from now on; snapshots that are open may end."""
        self._closed = True
        self._close_all()

    def borrow(self) -> tuple[apsw.Connection, object]:
        """A connection for a snapshot, and the mark to give it back with."""
        if self._closed:
            raise StoreUnavailable("the database is closed")
        return self._idle.pop() if self._idle else open_reader(self.path), self._identity

    def give_back(self, connection: apsw.Connection, mark: object) -> None:
        """Keep the connection for the next snapshot, unless there are enough or the file was replaced meanwhile."""
        if self._closed or mark != self._identity or len(self._idle) >= IDLE_SNAPSHOTS:
            connection.close()
        else:
            self._idle.append(connection)

    async def again(self, error: apsw.Error, attempt: Callable[[], T]) -> T:
        """Repeat a read that met a lock until it succeeds or has waited for too long; any other error is raised in
        the store's words."""
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            if self._closed:
                raise StoreUnavailable("the database is closed") from error
            if not isinstance(error, apsw.BusyError | apsw.LockedError) or time.monotonic() >= deadline:
                raise store_error(error) from error
            await asyncio.sleep(BUSY_PAUSE_S)
            try:
                return attempt()
            except apsw.Error as repeated:
                error = repeated

    def _close_all(self) -> None:
        for connection in (self._connection, *self._idle):
            connection.close()
        self._idle.clear()


class FileSnapshot:
    """One read transaction on a connection of its own, so that its holder may wait for other things meanwhile."""

    __slots__ = ("_connection", "_mark", "_readers")

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def __aenter__(self) -> FileSnapshot:
        try:
            self._connection, self._mark = self._readers.borrow()
            self._connection.execute("BEGIN")
        except apsw.Error as error:
            raise store_error(error) from error
        return self

    async def __aexit__(self, *exception: object) -> None:
        connection = self._connection
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        self._readers.give_back(connection, self._mark)

    async def read(self, *statements: Statement) -> list[list[Row]]:
        """The rows of each statement; the first read fixes the moment."""
        try:
            return self._rows(statements)
        except apsw.Error as error:
            return await self._readers.again(error, lambda: self._rows(statements))

    def _rows(self, statements: tuple[Statement, ...]) -> list[list[Row]]:
        execute = self._connection.execute
        return [execute(statement.sql, statement.args).fetchall() for statement in statements]
