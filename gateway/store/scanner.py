"""Long reads of a local file: one thread with a connection of its own, so that the event loop is never blocked."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw

from gateway.errors import StoreUnavailable
from gateway.store.driver import Row, Statement
from gateway.store.sqlite import BUSY_TIMEOUT_MS, file_identity, open_reader, rows_of, store_error


class Scanner:
    """Runs scans one after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "store-scan")
        self._connection: apsw.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._closed = False

    async def scan(self, statements: tuple[Statement, ...]) -> list[list[Row]]:
        """All statements in one snapshot."""
        if self._closed:
            raise StoreUnavailable("the database is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._scan, statements)
        except apsw.Error as error:
            raise store_error(error) from error

    async def close(self) -> None:
        """Let the scan that runs finish, then end the thread and the connection."""
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown()

    def _scan(self, statements: tuple[Statement, ...]) -> list[list[Row]]:
        identity = file_identity(self._path)
        if identity != self._identity:
            self._disconnect()
        if self._connection is None:
            self._connection = open_reader(self._path, busy_timeout_ms=BUSY_TIMEOUT_MS)
            self._identity = identity
        return rows_of(self._connection, statements)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
