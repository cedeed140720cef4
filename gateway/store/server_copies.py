"""A whole copy of a running libSQL server's database as a local file: read table by table in one transaction.

A server's ``GET /dump`` would be one request, but breaks off at a text that is not UTF-8, an infinite number or a name
that needs quotes, and turns real numbers without a fraction into integers. Reading takes every row as it is, with any
token that may read, wherever statements can be sent.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

import apsw

from gateway.errors import StoreCorrupt, StoreError, StoreUnavailable
from gateway.store.copies import BESIDE, OWNER_ONLY, create_private, put_in_place, refuse_target
from gateway.store.driver import Row, Statement, Value
from gateway.store.sqlite import store_error
from gateway.store.stream import IN_TRANSACTION, Server, Step, Stream
from gateway.store.tables import (
    OBJECTS,
    SEQUENCE_VALUES,
    SEQUENCES,
    TABLES,
    Object,
    Table,
    columns_of,
    exact_row,
    table,
)

TIMEOUT_S = 60.0
ROWS_AT_ONCE = 100

P = ParamSpec("P")
T = TypeVar("T")


class NotCopied(StoreError):
    """The server does not let its whole database be read."""


async def copy_server(server: Server, target: Path, *, overwrite: bool) -> None:
    """Copy the server's running database to a file at `target`: of one moment, not seen before it is complete, and
    readable for its owner alone.

    Raises `FileExistsError`, `TargetNotReplaceable`, `NotCopied`, `StoreUnavailable`, `StoreCorrupt`.
    """
    refuse_target(target, overwrite)
    path = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        create_private(path, OWNER_ONLY)
        await _fill(server, path)
        refuse_target(target, overwrite)
        put_in_place(path, target)
    except FileExistsError:
        raise
    except OSError as error:
        raise StoreUnavailable(f"{target}: {error.strerror or error}") from error
    except apsw.Error as error:
        kind = StoreCorrupt if isinstance(store_error(error), StoreCorrupt) else StoreUnavailable
        raise kind(f"{target}: {error}") from error
    finally:
        for suffix in ("", *BESIDE):
            Path(f"{path}{suffix}").unlink(missing_ok=True)


async def _fill(server: Server, path: Path) -> None:
    copy = apsw.Connection(str(path))
    stream = server.stream()
    try:
        # Nobody sees the file before it is synced as a whole.
        copy.execute("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA foreign_keys=OFF; BEGIN").fetchall()
        reading = _Reading(stream)
        objects, tables = await reading.schema()
        for made in objects:
            if made.kind == "table":
                _make(copy, made)
        for each in tables:
            async for rows in reading.rows(each):
                await in_thread(_insert, copy, each, rows)
        await _sequences(reading, copy)
        # Those that were written last may need the others.
        for made in objects:
            if made.kind != "table":
                await in_thread(_make, copy, made)
        copy.execute("COMMIT").fetchall()
        if (fault := await in_thread(copy.pragma, "integrity_check", 1)) != "ok":
            raise apsw.CorruptError(str(fault).splitlines()[-1])
    finally:
        copy.close()
        await stream.close()


class _Reading:
    """One read transaction of the server."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._begun = False

    async def read(self, *statements: Statement) -> list[list[Row]]:
        """The rows of each statement."""
        steps = [Step(sql, args, IN_TRANSACTION) for sql, args, _ in statements]
        if not self._begun:
            steps.insert(0, Step("BEGIN"))
        outcomes = await self._stream.batch(steps, timeout_s=TIMEOUT_S)
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error
            if not outcome.ran:
                raise StoreUnavailable("the server ended the reading before it was complete; gateway export reads anew")
        found = [outcome.rows for outcome in outcomes]
        if not self._begun:
            self._begun = True
            found = found[1:]
        return found

    async def schema(self) -> tuple[list[Object], list[Table]]:
        """What is there, in the order in which it was made."""
        try:
            objects, kinds = await self.read(OBJECTS, TABLES)
            without_rowid = {name: bool(flag) for name, flag in kinds}
            names = [name for kind, name, _ in objects if kind == "table"]
            columns = await self.read(*map(columns_of, names)) if names else []
        except StoreUnavailable:
            raise
        except StoreError as error:
            raise NotCopied(
                f"the server does not let its database be read as a whole: use gateway export ({error})"
            ) from error
        virtual = [name for name in names if name not in without_rowid]
        if virtual:
            raise NotCopied(f"table {virtual[0]} is not an ordinary one, and can not be copied: use gateway export")
        tables = [table(name, without_rowid[name], shown) for name, shown in zip(names, columns, strict=True)]
        return [Object(*row) for row in objects], tables

    async def rows(self, each: Table) -> AsyncIterator[list[list[Value]]]:
        """All rows of a table, some at a time."""
        page = each.first()
        while True:
            [raw] = await self.read(page)
            if not raw:
                return
            rows = [exact_row(row) for row in raw]
            yield rows
            page = each.after(rows[-1])


async def _sequences(reading: _Reading, copy: apsw.Connection) -> None:
    """How far each AUTOINCREMENT is: the numbers of rows that were deleted are not given again."""
    [there] = await reading.read(SEQUENCES)
    if there:
        [rows] = await reading.read(SEQUENCE_VALUES)
        copy.execute("DELETE FROM sqlite_sequence").fetchall()
        copy.executemany("INSERT INTO sqlite_sequence(name, seq) VALUES (?, ?)", rows).fetchall()


def _make(copy: apsw.Connection, made: Object) -> None:
    copy.execute(made.sql).fetchall()


def _insert(copy: apsw.Connection, each: Table, rows: Sequence[Sequence[Value]]) -> None:
    for start in range(0, len(rows), ROWS_AT_ONCE):
        statement = each.insert(rows[start : start + ROWS_AT_ONCE])
        copy.execute(statement.sql, statement.args).fetchall()


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run it on a thread. Who is cancelled meanwhile waits for its end: what it works on may be closed then."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
