"""The one writer of a local database: a thread that commits whatever waits, together, with one sync.

There is no collecting window: while one group commits, the next one collects itself. An operation that fails undoes
itself alone; when the commit fails the whole group fails. Nothing is acknowledged before it is durable.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import apsw

from gateway.errors import NoRowChanged, StoreUnavailable
from gateway.store.driver import Row, Statement, StoreCounts, Written
from gateway.store.sqlite import file_identity, open_writer, store_error

log = logging.getLogger(__name__)

GROUP_LIMIT = 1_000
"""Operations in one transaction, at the most: what comes first must not wait for all that came after."""

QUEUE_LIMIT = 20_000
"""Operations that may wait; beyond, a write is refused at once."""

Rows: TypeAlias = list[list[Row]]
Outcomes: TypeAlias = "list[tuple[asyncio.Future[Written], Written | Exception]]"


class Operation(NamedTuple):
    """What is committed whole or not at all: an optional script, then statements."""

    future: asyncio.Future[Written]
    statements: Sequence[Statement]
    script: str | None


class Writer:
    """Takes operations on the event loop and commits them on a thread of its own.

    `connect` makes the connection, on the thread; again after a connection failed, and when the file at `path` was
    replaced. `committed` is called on the event loop after each commit, when its futures are resolved.
    """

    def __init__(
        self,
        path: Path,
        committed: Callable[[], None],
        *,
        connect: Callable[[Path], apsw.Connection] = open_writer,
        queue_limit: int = QUEUE_LIMIT,
    ) -> None:
        self.counts = StoreCounts()
        self._path = path
        self._connect = connect
        self._committed = committed
        self._queue_limit = queue_limit
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Operation] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._connection: apsw.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, statements: Sequence[Statement], script: str | None = None) -> asyncio.Future[Written]:
        """Queue an operation; the future has its result after the commit. Raises `StoreUnavailable` when closed or
        when too many wait."""
        if self._closing:
            raise StoreUnavailable("the database is closed")
        if len(self._queue) >= self._queue_limit:
            raise StoreUnavailable(f"{self._queue_limit} writes are waiting already")
        future: asyncio.Future[Written] = self._loop.create_future()
        self._queue.append(Operation(future, statements, script))
        if not self._wake.is_set():
            self._wake.set()
        return future

    async def close(self) -> None:
        """Commit what was accepted, then end the thread and its connection."""
        self._closing = True
        self._wake.set()
        await self._loop.run_in_executor(None, self._thread.join)

    def _run(self) -> None:
        # Early, so that the first write finds it; a failure is told to that write.
        with contextlib.suppress(apsw.Error):
            self._connected()
        while True:
            self._wake.wait()
            # Cleared before the queue is looked at: an operation that comes in between sets it again.
            self._wake.clear()
            closing = self._closing
            while self._queue:
                if group := self._take():
                    started = time.perf_counter()
                    outcomes = self._commit(group)
                    self._deliver(outcomes, time.perf_counter() - started)
            if closing:
                break
        self._disconnect()

    def _take(self) -> list[Operation]:
        queue = self._queue
        group = [queue.popleft() for _ in range(min(len(queue), GROUP_LIMIT))]
        return [operation for operation in group if not operation.future.cancelled()]

    def _commit(self, group: list[Operation]) -> Outcomes:
        try:
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE")
            results = [_apply(connection, operation) for operation in group]
            seq = _last_seq(connection)
            connection.execute("COMMIT")
        except Exception as error:  # the thread must outlive every failure, or no write would ever be answered again
            log.warning("a group of %d writes was undone: %s", len(group), error)
            self._recover(error)
            return [(operation.future, store_error(error)) for operation in group]
        return [
            (operation.future, result if isinstance(result, Exception) else Written(seq, result))
            for operation, result in zip(group, results, strict=True)
        ]

    def _connected(self) -> apsw.Connection:
        identity = file_identity(self._path)
        if identity != self._identity:
            self._disconnect()
        if self._connection is None:
            self._connection = self._connect(self._path)
            self._identity = identity
        return self._connection

    def _recover(self, error: Exception) -> None:
        """Undo the transaction; a connection that failed otherwise than by waiting for a lock is made anew by the
        next group."""
        connection = self._connection
        if connection is None:
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except apsw.Error as second:
            error = second
        if not isinstance(error, apsw.BusyError):
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.close()
        except apsw.Error as error:
            log.warning("the writing connection did not close cleanly: %s", error)

    def _deliver(self, outcomes: Outcomes, seconds: float) -> None:
        # RuntimeError: the loop is closed, so nobody waits any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._resolve, outcomes, seconds)

    def _resolve(self, outcomes: Outcomes, seconds: float) -> None:
        failed = sum(isinstance(outcome, Exception) for _, outcome in outcomes)
        self.counts.add(len(outcomes), failed, seconds)
        for future, outcome in outcomes:
            if future.done():  # cancelled by its caller
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        self._committed()


def _apply(connection: apsw.Connection, operation: Operation) -> Rows | Exception:
    """Run one operation; an exception that is returned undid it alone, one that is raised ended the group's
    transaction."""
    statements, script = operation.statements, operation.script
    if script is None and len(statements) == 1:
        try:
            return [_execute(connection, statements[0], 0)]
        except Exception as error:
            if not connection.in_transaction:
                raise
            return store_error(error)
    connection.execute("SAVEPOINT operation")
    try:
        if script is not None:
            connection.execute(script).fetchall()
        rows = [_execute(connection, statement, index) for index, statement in enumerate(statements)]
    except Exception as error:
        if not connection.in_transaction:
            raise
        connection.execute("ROLLBACK TO operation")
        connection.execute("RELEASE operation")
        return store_error(error)
    connection.execute("RELEASE operation")
    return rows


def _execute(connection: apsw.Connection, statement: Statement, index: int) -> list[Row]:
    if not statement.must_change:
        return connection.execute(statement.sql, statement.args).fetchall()
    before = connection.total_changes()
    rows = connection.execute(statement.sql, statement.args).fetchall()
    if not rows and connection.total_changes() == before:
        raise NoRowChanged(index)
    return rows


def _last_seq(connection: apsw.Connection) -> int:
    """The newest number of the change log; 0 before there is one."""
    try:
        rows: list[Row] = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'change_log'").fetchall()
    except apsw.SQLError:  # no such table
        return 0
    return int(rows[0][0]) if rows else 0
