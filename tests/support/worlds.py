"""Databases full of small, odd rows: what Hypothesis draws, and how it gets into a file.

Everything happens around `NOW`, so that dates, periods and usages meet. Ids are few, so that rows meet too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
from hypothesis import strategies as st

from tests.support.document_model import Row, Tables

NOW = 1_795_288_200_000  # 2026-11-21T19:10:00Z
HOUR = 3_600_000
USERS = ("u1", "u2", "u3")
ORGANIZATIONS = ("o1", "o2")
PLANS = ("p1", "p2")
ROLES = ("r1", "r2")
PERMISSIONS = ("a", "b", "users.read", "orgs.read", "manage_members")
QUOTAS = ("q1", "q2")

TABLES = (
    *("plans", "plan_permissions", "plan_quotas", "roles", "role_permissions", "users", "organizations"),
    *("user_roles", "user_permissions", "user_quotas", "quota_usage", "memberships", "org_role_permissions"),
    *("member_caps", "member_usage"),
)
"""The tables that documents are made of, parents first. Only `member_usage` is not anybody's to write."""

moments = st.integers(-5, 5).map(lambda step: NOW + step * 7 * HOUR)
maybe_moments = st.none() | moments
flags = st.integers(0, 1)
amounts = st.integers(0, 30)
limit_columns: dict[str, st.SearchStrategy[Any]] = {
    "limit_value": st.none() | amounts,
    "period": st.sampled_from(["hour", "day", "week", "month", "year", "never"]),
    "hard": flags,
}
attributes = st.sampled_from(["{}", '{"persona":"boss"}', '{"n":1.0,"x":null,"l":[null,1.5]}', '{"\u00e9":{"a":[{}]}}'])
timezones = st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"])
anchors = st.none() | st.sampled_from([NOW - 11 * HOUR, NOW - 40 * 24 * HOUR, NOW + 5 * HOUR])
statuses = st.sampled_from(["active", "active", "active", "disabled"])
own_columns: dict[str, st.SearchStrategy[Any]] = {
    "plan": st.sampled_from(PLANS),
    "status": statuses,
    "attributes": attributes,
    "timezone": timezones,
    "anchor_at": anchors,
    "created_at": moments,
    "updated_at": moments,
}
user_columns = own_columns | {"name": st.sampled_from(["", "Ada", "Zo\u00eb \U0001f600"]), "is_admin": flags}
organization_columns = own_columns | {"name": st.sampled_from(["Acme", ""])}


def _rows(keys: dict[str, Sequence[Any]], columns: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[list[Row]]:
    """Any rows of a table with these keys, none twice."""
    drawn = {name: st.sampled_from(values) for name, values in keys.items()} | columns
    return st.lists(st.fixed_dictionaries(drawn), max_size=4, unique_by=lambda row: tuple(row[name] for name in keys))


owners = [f"user:{user}" for user in USERS] + [f"org:{organization}" for organization in ORGANIZATIONS]
periods = [NOW + step * 7 * HOUR for step in range(-5, 3)]
DEPENDENT: dict[str, st.SearchStrategy[list[Row]]] = {
    "plan_permissions": _rows({"plan": PLANS, "permission": PERMISSIONS}, {}),
    "plan_quotas": _rows({"plan": PLANS, "quota": QUOTAS}, limit_columns),
    "role_permissions": _rows({"role": ROLES, "permission": PERMISSIONS}, {}),
    "user_roles": _rows({"user_id": USERS, "role": ROLES}, {"expires_at": maybe_moments}),
    "user_permissions": _rows(
        {"user_id": USERS, "permission": PERMISSIONS, "effect": ("allow", "deny")},
        {"starts_at": maybe_moments, "expires_at": maybe_moments},
    ),
    "user_quotas": _rows(
        {"user_id": USERS, "quota": QUOTAS}, limit_columns | {"starts_at": maybe_moments, "expires_at": maybe_moments}
    ),
    "quota_usage": _rows(
        {"owner": owners, "quota": QUOTAS, "period_start": periods}, {"used": amounts, "reserved": amounts}
    ),
    "memberships": _rows(
        {"org_id": ORGANIZATIONS, "user_id": USERS},
        {"role": st.sampled_from(["owner", "admin", "member"]), "created_at": moments},
    ),
    "org_role_permissions": _rows({"role": ("owner", "admin", "member"), "permission": PERMISSIONS}, {}),
    "member_caps": _rows(
        {"org_id": ORGANIZATIONS, "user_id": USERS, "quota": QUOTAS}, {"limit_value": st.none() | amounts}
    ),
}
"""Rows of every public table that refers to others, by table."""

member_usages = _rows(
    {"org_id": ORGANIZATIONS, "user_id": USERS, "quota": QUOTAS, "period_start": periods},
    {"used": amounts, "reserved": amounts},
)


def _user(id: str) -> st.SearchStrategy[Row]:
    email = st.sampled_from([None, f"{id}@example.org"])
    return st.fixed_dictionaries({"id": st.just(id), "username": st.just(id), "email": email} | user_columns)


def _organization(id: str) -> st.SearchStrategy[Row]:
    return st.fixed_dictionaries({"id": st.just(id)} | organization_columns)


worlds: st.SearchStrategy[Tables] = st.fixed_dictionaries(
    {
        "plans": st.just([{"id": plan} for plan in PLANS]),
        "roles": st.just([{"id": role} for role in ROLES]),
        "users": st.tuples(*map(_user, USERS)).map(list),
        "organizations": st.tuples(*map(_organization, ORGANIZATIONS)).map(list),
    }
    | DEPENDENT
    | {"member_usage": member_usages}
)

changes: st.SearchStrategy[tuple[str, tuple[Any, ...]]] = st.one_of(
    st.tuples(
        st.just("users"), st.sampled_from(USERS).flatmap(lambda id: st.tuples(st.just(id), _partly(user_columns)))
    ),
    st.tuples(
        st.just("organizations"),
        st.sampled_from(ORGANIZATIONS).flatmap(lambda id: st.tuples(st.just(id), _partly(organization_columns))),
    ),
    *(st.tuples(st.just(table), st.tuples(rows)) for table, rows in DEPENDENT.items()),
    st.tuples(st.just("member_usage"), st.tuples(member_usages)),
)
"""One change of one table: some columns of one user or organization, all rows of another table, or what some members
took, which is added to or put in place and never goes away.
"""


def _partly(columns: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Row]:
    return st.sampled_from(sorted(columns)).flatmap(lambda name: st.fixed_dictionaries({name: columns[name]}))


class World:
    """A writer of such rows into one migrated file, by a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._connection = apsw.Connection(str(path))
        self._connection.set_busy_timeout(5_000)
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.execute("PRAGMA synchronous = OFF")

    def close(self) -> None:
        self._connection.close()

    def fill(self, tables: Tables) -> None:
        """Make the database hold exactly these rows, in one commit."""
        with self._connection:
            for table in reversed(TABLES):
                self._connection.execute(f"DELETE FROM {table}")
            for table in TABLES:
                self._insert(table, tables.get(table, ()))

    def change(self, table: str, change: tuple[Any, ...]) -> None:
        """Carry out one of `changes`, in one commit. Rows that stay the same are not touched."""
        with self._connection:
            if table in ("users", "organizations"):
                id, columns = change
                names = ", ".join(f"{name} = ?" for name in columns)
                self._connection.execute(f"UPDATE {table} SET {names} WHERE id = ?", (*columns.values(), id))
                return
            [rows] = change
            if table == "member_usage":
                self._insert(
                    table, rows, "ON CONFLICT DO UPDATE SET used = excluded.used, reserved = excluded.reserved"
                )
                return
            present = self.rows(table)
            for row in present:
                if row not in rows:
                    where = " AND ".join(f"{name} IS ?" for name in row)
                    self._connection.execute(f"DELETE FROM {table} WHERE {where}", tuple(row.values()))
            self._insert(table, [row for row in rows if row not in present])

    def execute(self, sql: str, *args: Any) -> list[Any]:
        """Any statement, a commit of its own."""
        return self._connection.execute(sql, args).fetchall()

    def tables(self) -> Tables:
        """Everything that is in the file now."""
        return {table: self.rows(table) for table in TABLES}

    def rows(self, table: str) -> list[Row]:
        cursor = self._connection.execute(f"SELECT * FROM {table}")
        try:
            names = [column[0] for column in cursor.get_description()]
        except apsw.ExecutionCompleteError:
            return []
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def _insert(self, table: str, rows: Sequence[Row], otherwise: str = "") -> None:
        for row in rows:
            names, marks = ", ".join(row), ", ".join("?" * len(row))
            self._connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks}) {otherwise}", tuple(row.values()))
