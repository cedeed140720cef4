"""The statements that put one record into a database: one atomic write each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.store.database import Statement, Value
from gateway.store.transfer.records import BALANCES, KIND_OF, Kind, Part, Record, own_row, part_rows

CHUNK = 2_000
"""Rows in one statement: a server's values are bounded (5 MB)."""


def add_statements(record: Record) -> list[Statement]:
    """Add a record whose id is not there; the write fails when it is."""
    kind = KIND_OF[type(record)]
    return [*_own(kind, record, overwrite=False), *(s for part in kind.parts for s in _upserts(part, record))]


def set_statements(record: Record) -> list[Statement]:
    """Make everything exactly as the record says; rows that are right already are not touched, nor are those of lists
    that it does not have."""
    kind = KIND_OF[type(record)]
    statements = list(_own(kind, record, overwrite=True))
    for part in (part for part in kind.parts if getattr(record, part.field) is not msgspec.UNSET):
        statements += [*_without_others(part, record), *_upserts(part, record)]
    return statements


def _own(kind: Kind, record: Record, *, overwrite: bool) -> Iterator[Statement]:
    key, *others = kind.columns
    if not others:
        return
    sql = f"INSERT INTO {kind.table} ({', '.join(kind.columns)}) VALUES ({', '.join('?' * len(kind.columns))})"  # noqa: S608
    if overwrite:
        sql += f" ON CONFLICT ({key}) DO UPDATE SET {_assignments(others)}"
    yield Statement(sql, tuple(map(_value, own_row(record))))
    if overwrite and "updated_at" in others:
        # The trigger moves it where the line above changed the row and found this very moment there.
        at = own_row(record)[kind.fields.index("updated_at")]
        sql = f"UPDATE {kind.table} SET updated_at = ?1 WHERE id = ?2 AND updated_at IS NOT ?1"  # noqa: S608
        yield Statement(sql, (at, record.id))


def _upserts(part: Part, record: Record) -> Iterator[Statement]:
    names = part.columns
    keys, values = names[: part.keys], names[part.keys :]
    target = ("id",) if part.table == "api_tokens" else (part.owner, *keys)
    assignments = _assignments(values)
    if part.table == "api_tokens":
        # A token of somebody else is not taken over: NULL fails the whole write.
        own = "CASE WHEN api_tokens.user_id IS excluded.user_id THEN excluded.user_id END"
        assignments = f"user_id = {own}, {assignments}"
    picked = ", ".join(f"value ->> {index}" for index in range(len(names)))
    sql = (
        f"INSERT INTO {part.table} ({part.owner}, {', '.join(names)})"  # noqa: S608
        f" SELECT ?, {picked} FROM json_each(?) WHERE true"
        f" ON CONFLICT ({', '.join(target)}) DO {f'UPDATE SET {assignments}' if values else 'NOTHING'}"
    )
    rows = [tuple(map(_value, row)) for row in part_rows(record, part)]
    for first in range(0, len(rows), CHUNK):
        yield Statement(sql, (part.prefix + record.id, _json(rows[first : first + CHUNK])))


def _without_others(part: Part, record: Record) -> Iterator[Statement]:
    """Delete the rows that the record does not have. Units that leases hold stay with the leases."""
    rows = part_rows(record, part)
    where, args = f"{part.owner} = ?", list[Value]([part.prefix + record.id])
    has_balances = part.table in BALANCES
    if not has_balances or len(rows) <= CHUNK:
        keys = part.columns[: part.keys]
        picked = ", ".join(f"value ->> {index}" for index in range(part.keys))
        where += f" AND ({', '.join(keys)}) NOT IN (SELECT {picked} FROM json_each(?))"  # noqa: S608
        args.append(_json([row[: part.keys] for row in rows]))
    if has_balances:
        yield Statement(f"UPDATE {part.table} SET used = 0 WHERE {where} AND reserved > 0", tuple(args))  # noqa: S608
        where += " AND reserved = 0"
    yield Statement(f"DELETE FROM {part.table} WHERE {where}", tuple(args))  # noqa: S608


def _assignments(columns: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"{name} = excluded.{name}" for name in columns)


def _value(value: Any) -> Value:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, dict):
        return _json(value)
    column: Value = value
    return column


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
