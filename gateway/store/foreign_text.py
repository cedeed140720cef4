"""Reading what other writers left: anybody may write the public tables, and one odd row must not hide the others.

A text that is not UTF-8 is read with U+FFFD where it is none, JSON that no document can hold as an empty object. That
is for looking at; whoever writes what builds on a text reads it exactly.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from gateway.core.document import plain_object
from gateway.errors import Conflict
from gateway.store.driver import Reader, Row, Statement, Value

REPLACEMENT = "\ufffd"
"""Stands where a text is not UTF-8."""

_Read = Callable[..., Awaitable[list[list[Row]]]]
_COLUMNS = re.compile(r"SELECT ([a-z_.]+(?:, [a-z_.]+)*) FROM ")


async def read_shown(read: _Read, *statements: Statement) -> list[list[Row]]:
    """What `read` (a `read` or `scan`) finds, every text with U+FFFD where it is not UTF-8.

    Each statement is ``SELECT column, ... FROM ...``: columns by their names, none of them a BLOB. The cost of an odd
    row is that all are read once more.
    """
    try:
        return await read(*statements)
    except UnicodeDecodeError:
        found = await read(*map(_raw, statements))
    return [[tuple(map(_shown, row)) for row in rows] for rows in found]


async def read_exactly(db: Reader, what: str, *statements: Statement) -> list[list[Row]]:
    """What `db` finds, for a write that builds on it. Raises Conflict where a text of `what` is not UTF-8: what is
    shown of it is not what stands there."""
    try:
        return await db.read(*statements)
    except UnicodeDecodeError:
        raise Conflict(f"The {what} holds a text that is not UTF-8, which has to be mended by SQL.") from None


async def place_after(read: _Read, table: str, column: str, shown: str) -> Value:
    """What ``column > CAST(? AS TEXT)`` takes to go on behind the key that is `shown`: itself, or the bytes of the
    last key that looks like this. Table and column are the program's own."""
    start, replaced, _ = shown.partition(REPLACEMENT)
    if not replaced:
        return shown
    sql = f"SELECT CAST({column} AS BLOB) FROM {table} WHERE {column} >= ? ORDER BY {column}"  # noqa: S608
    [rows] = await read(Statement(sql, (start,)))
    return next((raw for (raw,) in reversed(rows) if _shown(raw) == shown), shown)


def attributes_of(text: str) -> dict[str, Any]:
    """The object of a JSON column; an empty one where no document can hold it (`parse_object`)."""
    return _object(text) or {}


def scopes_of(text: str) -> dict[str, Any]:
    """The scopes of a token; where they can not be read, those by which it may do nothing, as it is."""
    scopes = _object(text)
    return {"permissions": []} if scopes is None else scopes


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(text)
        plain_object(value)
    except (ValueError, RecursionError):
        return None
    return value  # type: ignore[no-any-return]


def json_if_changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """`after` as it is stored, None where it is `before`: what could not be shown is not to be lost by a change of
    something else."""
    encoded = msgspec.json.encode(after)
    return None if encoded == msgspec.json.encode(before) else encoded.decode()


def _raw(statement: Statement) -> Statement:
    """The same, with its texts as bytes."""
    found = _COLUMNS.match(statement.sql)
    if found is None:
        raise ValueError("the columns of a statement have to be named")
    columns = [f"iif(typeof({name}) = 'text', CAST({name} AS BLOB), {name})" for name in found[1].split(", ")]
    sql = f"SELECT {', '.join(columns)} FROM {statement.sql[found.end() :]}"  # noqa: S608 - the program's own
    return statement._replace(sql=sql)


def _shown(value: Value) -> Value:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
