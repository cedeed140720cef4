"""What was granted or limited to one user alone: roles, permissions, and overrides of the plan's quotas.

Callers check text with `gateway.core.text` before it comes here. Every write is one atomic write and returns the `seq`
of its commit.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from gateway.store.accounts import user_exists
from gateway.store.audit import Lookup, Store
from gateway.store.database import Reader, Row, Statement
from gateway.store.foreign_text import read_shown
from gateway.store.refusals import refusals

Effect = Literal["allow", "deny"]


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


async def read_grants(db: Reader, user_id: str) -> Grants:
    """The user's roles, permission rows and quota overrides, in force or not."""
    roles, permissions, quotas = await read_shown(
        db.read,
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


async def set_role(db: Store, user_id: str, role: str, until: int | None = None) -> int:
    """Give a user a role until `until` (milliseconds since 1970 UTC; None: no end), also one who has it already.

    NotFound when there is no such user or role.
    """
    with refusals(missing=f"There is no user {user_id} or no role {role}."):
        statement = Statement(
            "INSERT INTO user_roles (user_id, role, expires_at) VALUES (?, ?, ?)"
            " ON CONFLICT (user_id, role) DO UPDATE SET expires_at = excluded.expires_at",
            (user_id, role, until),
        )
        return (await db.write(statement)).seq


async def remove_role(db: Store, user_id: str, role: str) -> int:
    """Take a role from a user; NotFound when the user does not have it."""
    with refusals(missing=f"User {user_id} does not have the role {role}."):
        statement = Statement(
            "DELETE FROM user_roles WHERE user_id = ? AND role = ?", (user_id, role), must_change=True
        )
        return (await db.write(statement)).seq


async def set_permission(
    db: Store,
    user_id: str,
    permission: str,
    effect: Effect | None,
    until: int | None = None,
    *,
    starts_at: int | None = None,
) -> int:
    """Allow or deny a permission from `starts_at` until `until` (milliseconds since 1970 UTC; None: at once, no end);
    an `effect` of None leaves it to plan and roles.

    Replaces all rows of this user that name the permission, so that the last word counts. NotFound when there is no
    such user.
    """
    row = None if effect is None else PermissionRow(permission, effect, starts_at, until)
    with refusals(missing=f"There is no user {user_id}."):
        return (await db.write(*_permission_statements(user_id, permission, row))).seq


async def remove_permission(db: Store, user_id: str, permission: str) -> int:
    """Neither allow nor deny a permission any more; NotFound when no row of this user names it."""
    with refusals(missing=f"Nothing allows or denies {permission} to user {user_id}."):
        statement = Statement(
            "DELETE FROM user_permissions WHERE user_id = ? AND permission = ?", (user_id, permission), must_change=True
        )
        return (await db.write(statement)).seq


def _permission_statements(user_id: str, permission: str, row: PermissionRow | None) -> list[Statement]:
    statements = [
        user_exists(user_id),
        Statement(
            "DELETE FROM user_permissions WHERE user_id = ? AND permission = ? AND effect IS NOT ?",
            (user_id, permission, None if row is None else row.effect),
        ),
    ]
    if row is not None:
        statements.append(
            Statement(
                "INSERT INTO user_permissions (user_id, permission, effect, starts_at, expires_at)"
                " VALUES (?, ?, ?, ?, ?) ON CONFLICT (user_id, permission, effect) DO UPDATE"
                " SET starts_at = excluded.starts_at, expires_at = excluded.expires_at",
                (user_id, permission, row.effect, row.starts_at, row.expires_at),
            )
        )
    return statements


async def set_quota(db: Store, user_id: str, row: QuotaRow) -> int:
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


async def remove_quota(db: Store, user_id: str, quota: str) -> int:
    """Leave a quota to the user's plan again; NotFound when nothing overrides it."""
    with refusals(missing=f"Nothing overrides the quota {quota} of user {user_id}."):
        statement = Statement(
            "DELETE FROM user_quotas WHERE user_id = ? AND quota = ?", (user_id, quota), must_change=True
        )
        return (await db.write(statement)).seq


def role_before(user_id: str, role: str) -> Lookup:
    """For the audit trail: whether the user has the role, and until when."""
    return Lookup(
        "SELECT json_object('role', role, 'expires_at', expires_at) FROM user_roles WHERE user_id = ? AND role = ?",
        (user_id, role),
    )


def permission_before(user_id: str, permission: str) -> Lookup:
    """For the audit trail: the rows of one user that name the permission, by effect."""
    return Lookup(
        "SELECT json_group_object(effect, json_object('starts_at', starts_at, 'expires_at', expires_at))"
        " FROM user_permissions WHERE user_id = ? AND permission = ?",
        (user_id, permission),
    )


def quota_before(user_id: str, quota: str) -> Lookup:
    """For the audit trail: what overrides the quota."""
    return Lookup(
        "SELECT json_object('quota', quota, 'limit', limit_value, 'period', period, 'hard',"
        " json(iif(hard, 'true', 'false')), 'starts_at', starts_at, 'expires_at', expires_at)"
        " FROM user_quotas WHERE user_id = ? AND quota = ?",
        (user_id, quota),
    )


def _quota_row(row: Row) -> QuotaRow:
    quota, limit, period, hard, starts_at, expires_at = row
    return QuotaRow(quota, limit, period, bool(hard), starts_at, expires_at)
