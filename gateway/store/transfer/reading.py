"""Reads whole records, many at a time, from whatever database: for exports, and to see what an import would change."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from gateway.core.document import parse_object
from gateway.errors import StoreError
from gateway.store.database import Database, Reader, Row, Statement, Value
from gateway.store.transfer.records import BALANCES, ColumnType, Kind, Part, Record

PAGE = 200
"""Records read at once: a server's answers are bounded (10 MB)."""

USAGE_PAGE = 10_000
"""Balances read at once: old ones are kept for good, so a user may have any number."""


class Unreadable(NamedTuple):
    """What stands in the database and can not be told as a record."""

    reason: str


class Scans:
    """Long reads as a `Reader`; each call is of a moment of its own."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def read(self, *statements: Statement) -> list[list[Row]]:
        """The rows of each statement."""
        return await self._db.scan(*statements)


async def read_ids(reader: Reader, kind: Kind, after: bytes, limit: int = PAGE) -> list[bytes]:
    """The next ids of a kind in their order, at most `limit`, as UTF-8, or what stands there instead."""
    key = kind.columns[0]
    sql = (
        f"SELECT DISTINCT CAST({key} AS BLOB) FROM {kind.table}"  # noqa: S608
        f" WHERE {key} > CAST(? AS TEXT) ORDER BY {key} LIMIT ?"
    )
    [rows] = await reader.read(Statement(sql, (after, limit)))
    return [row[0] for row in rows]


async def read_records(reader: Reader, kind: Kind, ids: Sequence[str]) -> dict[str, Record | Unreadable]:
    """The records with these ids, those that exist."""
    try:
        return await _read(reader, kind, ids)
    except StoreError as error:
        # A server refuses to give an answer that is too large, and ends a snapshot with it. Every other failure of this
        # kind comes again at once.
        if type(error) is not StoreError or len(ids) < 2 or not isinstance(reader, Scans):
            raise
    half = len(ids) // 2
    return await read_records(reader, kind, ids[:half]) | await read_records(reader, kind, ids[half:])


async def read_revocations(reader: Reader, users: Iterable[str]) -> list[str]:
    """The ids of the revoked credentials of these users."""
    statement = "SELECT CAST(id AS BLOB) FROM revocations WHERE user_id IN (SELECT value FROM json_each(?))"
    [rows] = await reader.read(Statement(statement, (_json(users),)))
    return [row[0].decode(errors="replace") for row in rows]


async def _read(reader: Reader, kind: Kind, ids: Sequence[str]) -> dict[str, Record | Unreadable]:
    wanted = _json(ids)
    small = [part for part in kind.parts if part.table not in BALANCES]
    own, *rows = await reader.read(
        Statement(
            f"SELECT DISTINCT {_selected(kind.columns, kind.types)} FROM {kind.table}"  # noqa: S608
            f" WHERE {kind.columns[0]} IN (SELECT value FROM json_each(?))",
            (wanted,),
        ),
        *(_part_statement(part, wanted) for part in small),
    )
    lists = {part.field: _by_owner(part, found) for part, found in zip(small, rows, strict=True)}
    for part in kind.parts:
        if part not in small:
            lists[part.field] = _by_owner(part, [row async for row in _usage(reader, part, wanted)])
    return {row[0].decode(): _record(kind, row, lists) for row in own}


def _part_statement(part: Part, wanted: str) -> Statement:
    keys = ", ".join(part.columns[: part.keys])
    return Statement(
        f"SELECT {part.owner}, {_selected(part.columns, part.types)} FROM {part.table}"  # noqa: S608
        f" WHERE {part.owner} IN (SELECT value FROM json_each(?)) ORDER BY {part.owner}, {keys}",
        (wanted,),
    )


def _selected(columns: Iterable[str], types: Iterable[ColumnType]) -> str:
    """The columns, texts as bytes: one that is not UTF-8 would fail everything that is read with it."""
    pairs = zip(columns, types, strict=True)
    return ", ".join(name if kind in ("integer", "boolean") else f"CAST({name} AS BLOB)" for name, kind in pairs)


async def _usage(reader: Reader, part: Part, wanted: str) -> AsyncIterator[Row]:
    """All balances of these owners, some at a time; one of 0 says nothing, and may be there for a lease alone."""
    order = ", ".join((part.owner, *part.columns[: part.keys]))
    place = ", ".join("?" if kind == "integer" else "CAST(? AS TEXT)" for kind in ("text", *part.types[: part.keys]))
    sql = (
        f"SELECT {part.owner}, {_selected(part.columns, part.types)} FROM {part.table}"  # noqa: S608
        f" WHERE {part.owner} IN (SELECT ? || value FROM json_each(?)) AND used <> 0"
        f" AND ({order}) > ({place}) ORDER BY {order} LIMIT ?"
    )
    after: tuple[Value, ...] = ("", *(0 if kind == "integer" else b"" for kind in part.types[: part.keys]))
    while True:
        [rows] = await reader.read(Statement(sql, (part.prefix, wanted, *after, USAGE_PAGE)))
        for row in rows:
            yield row
        if len(rows) < USAGE_PAGE:
            return
        after = rows[-1][: part.keys + 1]


def _by_owner(part: Part, rows: Iterable[Row]) -> dict[str, list[Any]]:
    """The rows of each owner, or in the place of one why it can not be told."""
    found: dict[str, list[Any]] = {}
    for owner, *values in rows:
        try:
            columns = _converted(part.columns, part.types, values)
            made = columns[0] if part.row is str else part.row(**dict(zip(part.columns, columns, strict=True)))
        except ValueError as error:
            made = Unreadable(f"{part.field}: {error}")
        found.setdefault(owner.removeprefix(part.prefix), []).append(made)
    return found


def _record(kind: Kind, row: Row, lists: Mapping[str, Mapping[str, list[Any]]]) -> Record | Unreadable:
    try:
        own = _converted(kind.fields, kind.types, row)
    except ValueError as error:
        return Unreadable(str(error))
    parts = {field: found.get(own[0], []) for field, found in lists.items()}
    for rows in parts.values():
        for made in rows:
            if isinstance(made, Unreadable):
                return made
    record: Record = kind.record(**dict(zip(kind.fields, own, strict=True)), **parts)
    return record


def _converted(names: Iterable[str], types: Iterable[ColumnType], values: Iterable[Any]) -> list[Any]:
    """The values of a row as a record has them. Raises ValueError with the column's name."""
    return [
        value if value is None or kind == "integer" else _CONVERSIONS[kind](name, value)
        for name, kind, value in zip(names, types, values, strict=True)
    ]


def _boolean(name: str, value: int) -> bool:
    return bool(value)


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{name} is not UTF-8") from None


def _object(name: str, value: bytes) -> dict[str, Any]:
    try:
        return parse_object(_text(name, value))
    except ValueError as error:
        raise ValueError(f"{name} can not be read: {error}") from None


_CONVERSIONS: Mapping[ColumnType, Callable[[str, Any], Any]] = {"boolean": _boolean, "text": _text, "json": _object}


def _json(ids: Iterable[str]) -> str:
    return msgspec.json.encode(list(ids)).decode()
