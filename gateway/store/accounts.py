"""Users, and the rows that grant or limit something to one user.

Callers check text with `gateway.core.text` before it comes here. Every write is one atomic write and returns the
`seq` of its commit; `updated_at` moves by trigger.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from gateway.errors import NotFound
from gateway.store.database import Database, Row, Statement
from gateway.store.refusals import refusals

Status = Literal["active", "disabled"]
Effect = Literal["allow", "deny"]


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `users` without its password hash.

    Times are in milliseconds since 1970 UTC; `created_at` and `updated_at` are the database's to set.
    """

    id: str
    username: str
    plan: str
    name: str = ""
    email: str | None = None
    is_admin: bool = False
    status: Status = "active"
    attributes: dict[str, Any] = {}
    timezone: str = "UTC"
    anchor_at: int | None = None
    created_at: int = 0
    updated_at: int = 0


class RoleRow(msgspec.Struct, frozen=True):
    """A row of `user_roles`; `expires_at` in milliseconds since 1970 UTC (None: no end)."""

    role: str
    expires_at: int | None


class PermissionRow(msgspec.Struct, frozen=True):
    """A row of `user_permissions`: in force from `starts_at` until before `expires_at`, milliseconds since 1970 UTC."""

    permission: str
    effect: Effect
    starts_at: int | None
    expires_at: int | None


class QuotaRow(msgspec.Struct, frozen=True):
    """A row of `user_quotas`, which replaces the plan's while it is in force; `limit` None: unlimited."""

    quota: str
    limit: int | None
    period: str
    hard: bool
    starts_at: int | None = None
    expires_at: int | None = None


class Grants(msgspec.Struct, frozen=True):
    """All rows that were written for one user alone."""

    roles: tuple[RoleRow, ...]
    permissions: tuple[PermissionRow, ...]
    quotas: tuple[QuotaRow, ...]


_COLUMNS = "id, username, plan, name, email, is_admin, status, attributes, timezone, anchor_at, created_at, updated_at"


def insert_user(user: User) -> Statement:
    """The statement that adds `user`, for a write of several."""
    return Statement(
        "INSERT INTO users (id, username, plan, name, email, is_admin, status, attributes, timezone, anchor_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(user.id, user.username, user.plan, user.name, user.email, int(user.is_admin), user.status),
            *(msgspec.json.encode(user.attributes).decode(), user.timezone, user.anchor_at),
        ),
    )


async def add_user(db: Database, user: User) -> int:
    """Add a user; Conflict when the id, user name or e-mail is taken, NotFound when there is no such plan."""
    with refusals(taken="The id, user name or e-mail is taken.", missing=f"There is no plan {user.plan}."):
        return (await db.write(insert_user(user))).seq


async def find_user(db: Database, who: str) -> User:
    """The user with this id, else with this user name, else with this e-mail; NotFound when there is none."""
    [rows] = await db.read(
        Statement(
            f"SELECT {_COLUMNS} FROM users WHERE id = ?1 OR username = ?1 OR email = ?1"  # noqa: S608
            " ORDER BY id = ?1 DESC, username = ?1 DESC LIMIT 1",
            (who,),
        )
    )
    if not rows:
        raise NotFound(f"There is no user {who}.")
    return _user(rows[0])


async def list_users(
    db: Database, *, plan: str | None = None, status: Status | None = None, after: str = "", limit: int = 1000
) -> list[User]:
    """At most `limit` users in the order of their names, those after the user name `after`."""
    [rows] = await db.scan(
        Statement(
            f"SELECT {_COLUMNS} FROM users WHERE username > ?1 AND (?2 IS NULL OR plan = ?2)"  # noqa: S608
            " AND (?3 IS NULL OR status = ?3) ORDER BY username LIMIT ?4",
            (after, plan, status, limit),
        )
    )
    return [_user(row) for row in rows]


async def read_grants(db: Database, user_id: str) -> Grants:
    """The user's roles, permission rows and quota overrides, in force or not."""
    roles, permissions, quotas = await db.read(
        Statement("SELECT role, expires_at FROM user_roles WHERE user_id = ? ORDER BY role", (user_id,)),
        Statement(
            "SELECT permission, effect, starts_at, expires_at FROM user_permissions WHERE user_id = ?"
            " ORDER BY permission, effect",
            (user_id,),
        ),
        Statement(
            "SELECT quota, limit_value, period, hard, starts_at, expires_at FROM user_quotas WHERE user_id = ?"
            " ORDER BY quota",
            (user_id,),
        ),
    )
    return Grants(
        tuple(RoleRow(*row) for row in roles),
        tuple(PermissionRow(*row) for row in permissions),
        tuple(_quota_row(row) for row in quotas),
    )


async def set_status(db: Database, user_id: str, status: Status) -> int:
    """Enable or disable a user; whoever is disabled is cut off everywhere. NotFound when there is no such user."""
    with refusals(missing=f"There is no user {user_id}."):
        statement = Statement("UPDATE users SET status = ? WHERE id = ?", (status, user_id), must_change=True)
        return (await db.write(statement)).seq


async def set_plan(db: Database, user_id: str, plan: str) -> int:
    """Put a user on a plan; NotFound when there is no such user or plan."""
    with refusals(missing=f"There is no user {user_id} or no plan {plan}."):
        statement = Statement("UPDATE users SET plan = ? WHERE id = ?", (plan, user_id), must_change=True)
        return (await db.write(statement)).seq


async def set_permission(
    db: Database, user_id: str, permission: str, effect: Effect | None, until: int | None = None
) -> int:
    """Allow or deny a permission until `until` (milliseconds since 1970 UTC; None: no end); None leaves it to plan
    and roles.

    Replaces all rows of this user that name the permission, so that the last word counts. NotFound when there is no
    such user.
    """
    with refusals(missing=f"There is no user {user_id}."):
        return (await db.write(*_permission_statements(user_id, permission, effect, until))).seq


def _permission_statements(user_id: str, permission: str, effect: Effect | None, until: int | None) -> list[Statement]:
    statements = [
        _user_exists(user_id),
        Statement(
            "DELETE FROM user_permissions WHERE user_id = ? AND permission = ? AND effect IS NOT ?",
            (user_id, permission, effect),
        ),
    ]
    if effect is not None:
        statements.append(
            Statement(
                "INSERT INTO user_permissions (user_id, permission, effect, expires_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (user_id, permission, effect) DO UPDATE"
                " SET starts_at = NULL, expires_at = excluded.expires_at",
                (user_id, permission, effect, until),
            )
        )
    return statements


async def set_quota(db: Database, user_id: str, row: QuotaRow) -> int:
    """Override one quota of the user's plan, also where it is overridden already; NotFound for an unknown user."""
    with refusals(missing=f"There is no user {user_id}."):
        statement = Statement(
            "INSERT INTO user_quotas (user_id, quota, limit_value, period, hard, starts_at, expires_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (user_id, quota) DO UPDATE"
            " SET limit_value = excluded.limit_value, period = excluded.period, hard = excluded.hard,"
            " starts_at = excluded.starts_at, expires_at = excluded.expires_at",
            (user_id, row.quota, row.limit, row.period, int(row.hard), row.starts_at, row.expires_at),
        )
        return (await db.write(statement)).seq


async def remove_quota(db: Database, user_id: str, quota: str) -> int:
    """Leave a quota to the user's plan again; NotFound when nothing overrides it."""
    with refusals(missing=f"Nothing overrides the quota {quota} of user {user_id}."):
        statement = Statement(
            "DELETE FROM user_quotas WHERE user_id = ? AND quota = ?", (user_id, quota), must_change=True
        )
        return (await db.write(statement)).seq


async def delete_user(db: Database, user_id: str) -> int:
    """Delete a user with every credential, grant, membership and balance; NotFound when there is no such user."""
    with refusals(missing=f"There is no user {user_id}."):
        return (await db.write(Statement("DELETE FROM users WHERE id = ?", (user_id,), must_change=True))).seq


def _user_exists(user_id: str) -> Statement:
    """Fails the write unless the user is there; changes nothing, so the triggers log nothing."""
    return Statement("UPDATE users SET id = id WHERE id = ?", (user_id,), must_change=True)


def _user(row: Row) -> User:
    user_id, username, plan, name, email, is_admin, status, attributes, *rest = row
    timezone, anchor_at, created_at, updated_at = rest
    return User(
        id=user_id,
        username=username,
        plan=plan,
        name=name,
        email=email,
        is_admin=bool(is_admin),
        status=status,
        attributes=msgspec.json.decode(attributes),
        timezone=timezone,
        anchor_at=anchor_at,
        created_at=created_at,
        updated_at=updated_at,
    )


def _quota_row(row: Row) -> QuotaRow:
    quota, limit, period, hard, starts_at, expires_at = row
    return QuotaRow(quota, limit, period, bool(hard), starts_at, expires_at)
