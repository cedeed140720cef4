"""Writes that come only while what allowed them stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import msgspec

from gateway.errors import NotFound, PreconditionFailed
from gateway.store.audit import Audited, Store
from gateway.store.driver import Reader, Row, Statement, Written
from gateway.store.foreign_text import read_exactly
from gateway.store.guards import Guard, guard, guarded_write


class Identified(Protocol):
    """What is kept of a row that has an id."""

    @property
    def id(self) -> str:
        """The id."""


Kept = TypeVar("Kept", bound=Identified)


class Guarded(Audited):
    """A database whose writes hang on these guards as well, in the same atomic write: the refusal of the first that
    does not hold is raised. For conditions of the caller's, beside those of the function that writes.
    """

    def __init__(self, db: Store, guards: Sequence[Guard]) -> None:
        super().__init__(db)
        self._guards = guards

    async def write(self, *statements: Statement) -> Written:
        """As `Database.write`; raises what `guarded_write` does."""
        return await guarded_write(self._db, self._guards, *statements)


async def unchanged(db: Reader, table: str, columns: str, before: Kept, read: Callable[[Row], Kept]) -> list[Guard]:
    """What a write hangs on that builds on `before`, which `read` made of the `columns` of a row: that it stands as it
    stood. Table and columns, `id` the first, are the program's own.

    The guards refuse, and this does, with NotFound when the row is gone, with PreconditionFailed when it is another;
    this raises Conflict when a text of it is not UTF-8.
    """
    what, key = type(before).__name__.lower(), before.id
    missing = NotFound(f"There is no {what} {key}.")
    changed = PreconditionFailed(f"The {what} was changed in the meantime.")
    [rows] = await read_exactly(db, what, Statement(f"SELECT {columns} FROM {table} WHERE id = ?", (key,)))  # noqa: S608
    if not rows:
        raise missing
    # What was read is compared as it is stored: the same attributes can be written in more than one way.
    if msgspec.json.encode(read(rows[0])) != msgspec.json.encode(before):
        raise changed
    # Text byte by byte, also where the column takes capitals and small letters for the same.
    compared = ", ".join(f"{column} COLLATE BINARY" for column in columns.split(", "))
    same = f"({compared}) IS ({', '.join('?' * len(rows[0]))})"
    return [guard(table, "id = ?", (key,), missing), guard(table, same, rows[0], changed)]
