"""Putting a backup in place of everything that a running libSQL server's database holds, in one transaction.

A server takes the write lock from a transaction that has held it for 5 seconds when somebody else waits for it. So this
succeeds under live gateways for as long as it is quick, and is refused, with nothing changed, when it is not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import apsw

from gateway.errors import StoreError, StoreUnavailable, StoreUncertain
from gateway.store.backup import DatabaseInUse, NotABackup, epoch_of
from gateway.store.driver import Row, Statement, Value
from gateway.store.migrate import new_epoch
from gateway.store.server_copies import in_thread
from gateway.store.sqlite import open_reader, store_error
from gateway.store.stream import IN_TRANSACTION, Outcome, Server, Step, Stream, Unanswered, both, succeeded
from gateway.store.tables import (
    OBJECTS,
    SEQUENCE_VALUES,
    SEQUENCES,
    SHADOWS,
    TABLES,
    Object,
    Table,
    columns_of,
    exact_row,
    quoted,
    table,
)

TIMEOUT_S = 30.0
ROWS_AT_ONCE = 200
BATCH_BYTES = 2_000_000
PARAMETERS = 30_000

Told = Callable[[int], None]
"""Hears how many rows more are in."""

_EPOCH = "SELECT value FROM meta WHERE key = 'epoch'"


class Backup:
    """A backup's file, looked through and open for reading. Use it in a ``with`` block; one thread at a time may."""

    def __init__(self, file: Path) -> None:
        """Raises `NotABackup`."""
        if not file.is_file():
            raise NotABackup(f"{file}: there is no such file")
        self.file = file
        with self._refusing():
            self._connection = open_reader(file)
        try:
            with self._refusing():
                self._check()
                self.objects, self.tables = self._schema()
                self.rows = sum(self._rows(each.counted())[0][0] for each in self.tables)
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Backup:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()

    def pages(self) -> Iterator[tuple[Table, list[list[Value]]]]:
        """Every row of every table."""
        for each in self.tables:
            page = each.first()
            while raw := self._rows(page):
                rows = [exact_row(row) for row in raw]
                yield each, rows
                page = each.after(rows[-1])

    def sequences(self) -> list[Row]:
        """The name of each table with an AUTOINCREMENT, and how far that is."""
        return self._rows(SEQUENCE_VALUES) if self._rows(SEQUENCES) else []

    def _rows(self, statement: Statement) -> list[Row]:
        return self._connection.execute(statement.sql, statement.args).fetchall()

    def _check(self) -> None:
        self._connection.execute("BEGIN").fetchall()
        if (fault := self._connection.execute("PRAGMA integrity_check(1)").get) != "ok":
            raise apsw.CorruptError(str(fault).splitlines()[-1])
        epoch_of(self._connection, self.file)
        dangling = self._rows(Statement("PRAGMA foreign_key_check"))
        if dangling:
            named, _, parent, _ = dangling[0]
            raise NotABackup(
                f"{self.file} has {len(dangling)} rows that name rows which are not there (one of {named} names one of"
                f" {parent}), and a server refuses those: restore it to a file, mend it, and back that up"
            )

    def _schema(self) -> tuple[list[Object], list[Table]]:
        tables = [
            table(name, bool(without_rowid), self._rows(columns_of(name))) for name, without_rowid in self._rows(TABLES)
        ]
        objects = [Object(*row) for row in self._rows(OBJECTS)]
        ordinary = {each.name for each in tables}
        for made in objects:
            if made.kind == "table" and quoted(made.name) not in ordinary:
                raise NotABackup(
                    f"{self.file}: table {made.name} is not an ordinary one, and no server can be given it"
                )
        return objects, tables

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except (apsw.NotADBError, apsw.CorruptError) as error:
            raise NotABackup(f"{self.file} is damaged or not a database: {error}") from error
        except apsw.Error as error:
            raise store_error(error) from error


async def restore_server(backup: Backup, server: Server, told: Told, *, epoch: str | None = None) -> str:
    """Replace everything in the server's database by the backup, or nothing, and return its new epoch.

    Raises `DatabaseInUse` when other writers did not let it finish, `StoreUnavailable`, `StoreUncertain`, and what the
    server refuses.
    """
    epoch = epoch or new_epoch()
    stream = server.stream()
    try:
        transaction = _Transaction(stream, told)
        await transaction.begin()
        await transaction.fill(backup)
        await transaction.finish(backup, epoch)
        try:
            await transaction.run([Step("COMMIT", (), IN_TRANSACTION)])
        except Unanswered as error:
            if not await _is_now(server, epoch, error):
                raise
    finally:
        await stream.close()
    return epoch


class _Transaction:
    """The one transaction that replaces everything."""

    def __init__(self, stream: Stream, told: Told) -> None:
        self._stream = stream
        self._told = told
        self._steps: list[Step] = []
        self._pending = _Weight(0, 0)

    async def begin(self) -> None:
        """Take the write lock, and drop what is there."""
        # Rows may come before those that they name: all are there in the end.
        opening = [Step("BEGIN IMMEDIATE"), Step("PRAGMA defer_foreign_keys = ON", (), succeeded(0))]
        looking = [Step(OBJECTS.sql, (), succeeded(1)), Step(SHADOWS.sql, (), succeeded(2))]
        *_, objects, shadows = await self.run([*opening, *looking])
        standing = [Object(*row) for row in objects.rows if (row[1],) not in shadows.rows]
        drops = []
        # Triggers first, so that nothing is noted; then the newest table, which nobody names, and so on.
        for kind in ("trigger", "view", "table"):
            drops += [Step(f"DROP {kind} {quoted(made.name)}") for made in reversed(standing) if made.kind == kind]
        await self._chained(drops)

    async def fill(self, backup: Backup) -> None:
        """Make the backup's tables and put their rows in."""
        await self._chained([Step(made.sql) for made in backup.objects if made.kind == "table"])
        pages = backup.pages()
        while page := await in_thread(lambda: next(pages, None)):
            each, rows = page
            for some, size in _pieces(rows, max(1, min(ROWS_AT_ONCE, PARAMETERS // each.width()))):
                sql, args, _ = each.insert(some)
                await self._add(Step(sql, args), _Weight(len(some), size))
        await self._flush()

    async def finish(self, backup: Backup, epoch: str) -> None:
        """What would have noted the rows comes after them; and the name of this life of the database."""
        sequences = backup.sequences()
        steps = [Step("DELETE FROM sqlite_sequence")] if sequences else []
        steps += [Step("INSERT INTO sqlite_sequence(name, seq) VALUES (?, ?)", row) for row in sequences]
        steps.append(Step("UPDATE meta SET value = ? WHERE key = 'epoch'", (epoch,)))
        await self._chained([*steps, *(Step(made.sql) for made in backup.objects if made.kind != "table")])

    async def run(self, steps: Sequence[Step]) -> list[Outcome]:
        """Run steps, all of which must succeed."""
        try:
            outcomes = await self._stream.batch(steps, timeout_s=TIMEOUT_S)
        except StoreUnavailable as error:
            if "TRANSACTION_TIMEOUT" in str(error) or "STREAM_EXPIRED" in str(error):
                raise _in_use(error) from error
            raise
        for outcome in outcomes:
            if isinstance(outcome.error, StoreUnavailable):
                raise _in_use(outcome.error) from outcome.error
            if outcome.error is not None:
                raise StoreError(f"the server refuses the backup, and nothing was changed: {outcome.error}")
        if not all(outcome.ran for outcome in outcomes):
            raise _in_use(None)
        return outcomes

    async def _add(self, step: Step, weight: _Weight) -> None:
        if self._steps and self._pending.size + weight.size > BATCH_BYTES:
            await self._flush()
        self._steps.append(step)
        self._pending = _Weight(self._pending.rows + weight.rows, self._pending.size + weight.size)

    async def _flush(self) -> None:
        steps, weight = self._steps, self._pending
        self._steps, self._pending = [], _Weight(0, 0)
        await self._chained(steps)
        self._told(weight.rows)

    async def _chained(self, steps: Sequence[Step]) -> None:
        """Each is run when the one before succeeded, and none outside of the transaction."""
        if steps:
            conditions = [IN_TRANSACTION, *(both(succeeded(i), IN_TRANSACTION) for i in range(len(steps) - 1))]
            await self.run([step._replace(condition=when) for step, when in zip(steps, conditions, strict=True)])


class _Weight(NamedTuple):
    rows: int
    size: int


def _pieces(rows: Sequence[Sequence[Value]], at_once: int) -> Iterator[tuple[Sequence[Sequence[Value]], int]]:
    """The rows in pieces of at the most so many, none much larger than a batch may be, and the size of each."""
    first = size = 0
    for i, row in enumerate(rows):
        own = sum(40 + (len(value) if isinstance(value, (str, bytes)) else 0) for value in row)
        if i > first and (i - first >= at_once or size + own > BATCH_BYTES):
            yield rows[first:i], size
            first, size = i, 0
        size += own
    yield rows[first:], size


def _in_use(error: StoreError | None) -> DatabaseInUse:
    said = f" ({error})" if error else ""
    return DatabaseInUse(
        "other programs write to the server and did not let the restore finish; nothing was changed: stop every gateway"
        f" and program that uses it, and try again{said}"
    )


async def _is_now(server: Server, epoch: str, doubt: Unanswered) -> bool:
    """Whether the database has this epoch, once the transaction that was to bring it is over."""
    stream = server.stream()
    try:
        steps = [Step("BEGIN IMMEDIATE"), Step(_EPOCH, (), succeeded(0)), Step("ROLLBACK", (), succeeded(0))]
        outcomes = await stream.batch(steps, timeout_s=TIMEOUT_S)
        if outcomes[1].ok:
            return outcomes[1].rows == [(epoch,)]
    except StoreError:
        pass
    finally:
        await stream.close()
    raise StoreUncertain(f"it is not known whether the backup is in place: {doubt}") from doubt
