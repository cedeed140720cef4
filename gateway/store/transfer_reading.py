"""Reads whole records, many at a time, from whatever database: for exports, and to see what an import would change."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from gateway.core.document import parse_object
from gateway.store.database import Database, Reader, Row, Statement
from gateway.store.transfer_records import Kind, Part, Record

PAGE = 200
"""Records read at once: a server's answers are bounded (10 MB)."""

USAGE_PAGE = 20_000
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


async def read_records(reader: Reader, kind: Kind, ids: Iterable[str]) -> dict[str, Record | Unreadable]:
    """The records with these ids, those that exist."""
    wanted = list(ids)
    try:
        return await _read(reader, kind, wanted)
    except UnicodeDecodeError as error:
        if len(wanted) == 1:
            return {wanted[0]: Unreadable(f"text that is not UTF-8: {error.reason}")}
    found: dict[str, Record | Unreadable] = {}
    for one in wanted:
        found |= await read_records(reader, kind, [one])
    return found


async def read_revocations(reader: Reader, users: Iterable[str]) -> list[str]:
    """The ids of the revoked credentials of these users."""
    statement = "SELECT CAST(id AS BLOB) FROM revocations WHERE user_id IN (SELECT value FROM json_each(?))"
    [rows] = await reader.read(Statement(statement, (_json(users),)))
    return [row[0].decode(errors="replace") for row in rows]


async def _read(reader: Reader, kind: Kind, ids: list[str]) -> dict[str, Record | Unreadable]:
    wanted = _json(ids)
    small = [part for part in kind.parts if part.table != "quota_usage"]
    columns = ", ".join(kind.columns)
    own, *rows = await reader.read(
        Statement(
            f"SELECT DISTINCT {columns} FROM {kind.table}"  # noqa: S608
            f" WHERE {kind.columns[0]} IN (SELECT value FROM json_each(?))",
            (wanted,),
        ),
        *(_part_statement(part, wanted) for part in small),
    )
    lists = {part.field: _by_owner(part, found) for part, found in zip(small, rows, strict=True)}
    for part in kind.parts:
        if part not in small:
            lists[part.field] = _by_owner(part, [row async for row in _usage(reader, part, wanted)])
    return {row[0]: _record(kind, row, lists) for row in own}


def _part_statement(part: Part, wanted: str) -> Statement:
    names = ", ".join(part.names())
    keys = ", ".join(part.names()[: part.keys])
    return Statement(
        f"SELECT {part.owner}, {names} FROM {part.table}"  # noqa: S608
        f" WHERE {part.owner} IN (SELECT value FROM json_each(?)) ORDER BY {part.owner}, {keys}",
        (wanted,),
    )


async def _usage(reader: Reader, part: Part, wanted: str) -> AsyncIterator[Row]:
    """All balances of these owners, some at a time."""
    after: tuple[Any, ...] = ("", "", 0)
    while True:
        [rows] = await reader.read(
            Statement(
                "SELECT owner, quota, period_start, used, reserved FROM quota_usage"
                " WHERE owner IN (SELECT ?1 || value FROM json_each(?2))"
                " AND (owner, quota, period_start) > (?3, ?4, ?5)"
                " ORDER BY owner, quota, period_start LIMIT ?6",
                (part.prefix, wanted, *after, USAGE_PAGE),
            )
        )
        for row in rows:
            yield row
        if len(rows) < USAGE_PAGE:
            return
        after = rows[-1][:3]


Made = Any
"""A row of a part, or why it can not be told."""


def _by_owner(part: Part, rows: Iterable[Row]) -> dict[str, list[Made]]:
    found: dict[str, list[Made]] = {}
    convert = [_CONVERSIONS.get(name) for name in part.names()]
    for owner, *values in rows:
        try:
            columns = _converted(values, convert)
            made = columns[0] if part.row is str else part.row(**dict(zip(part.names(), columns, strict=True)))
        except ValueError as error:
            made = Unreadable(f"{part.field}: {error}")
        found.setdefault(owner.removeprefix(part.prefix), []).append(made)
    return found


def _record(kind: Kind, row: Row, lists: Mapping[str, Mapping[str, list[Made]]]) -> Record | Unreadable:
    parts = {field: found.get(row[0], []) for field, found in lists.items()}
    for rows in parts.values():
        for made in rows:
            if isinstance(made, Unreadable):
                return made
    try:
        own = _converted(row, [_CONVERSIONS.get(name) for name in kind.fields])
    except ValueError as error:
        return Unreadable(str(error))
    record: Record = kind.record(**dict(zip(kind.fields, own, strict=True)), **parts)
    return record


def _converted(values: Iterable[Any], convert: list[Callable[[Any], Any] | None]) -> list[Any]:
    return [value if change is None else change(value) for value, change in zip(values, convert, strict=True)]


def _object(name: str) -> Callable[[str], dict[str, Any]]:
    def convert(text: str) -> dict[str, Any]:
        try:
            return parse_object(text)
        except ValueError as error:
            raise ValueError(f"{name} can not be read: {error}") from None

    return convert


_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "is_admin": bool,
    "hard": bool,
    "attributes": _object("attributes"),
    "scopes": _object("scopes"),
}


def _json(ids: Iterable[str]) -> str:
    return msgspec.json.encode(list(ids)).decode()
