"""Tables that say which permissions somebody has, one row each: made exactly so, and compared."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.store.driver import Statement


def permission_statements(table: str, column: str, owner: str, permissions: Iterable[str]) -> list[Statement]:
    """The statements after which `table` has exactly `permissions` for the `owner`, whom `column` names, for a write of
    several; rows that are right already are not touched. Table and column are the program's own.
    """
    wanted = as_json(permissions)
    return [
        Statement(
            f"DELETE FROM {table} WHERE {column} = ?"  # noqa: S608
            " AND permission NOT IN (SELECT value FROM json_each(?))",
            (owner, wanted),
        ),
        Statement(
            f"INSERT INTO {table} ({column}, permission) SELECT ?, value FROM json_each(?) WHERE true"  # noqa: S608
            f" ON CONFLICT ({column}, permission) DO NOTHING",
            (owner, wanted),
        ),
    ]


def same_permissions(table: str, column: str) -> str:
    """A condition: as many rows as there should be, and none that should not; ?1 is the owner, ?3 `as_json`."""
    those = f"FROM {table} WHERE {column} = ?1"
    return (
        f"(SELECT count() {those}) = json_array_length(?3)"  # noqa: S608
        f" AND NOT EXISTS (SELECT permission {those} EXCEPT SELECT value FROM json_each(?3))"
    )


def as_json(permissions: Iterable[str]) -> str:
    """Permissions as a JSON array, each once."""
    return msgspec.json.encode(sorted(set(permissions))).decode()
