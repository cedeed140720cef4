"""Organizations: their members, what a membership's role grants, and how much of a pool one member may take.

Every write is one atomic write and returns the `seq` of its commit; `updated_at` moves by trigger.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from gateway.errors import NotFound
from gateway.store.accounts import Status
from gateway.store.database import Database, Row, Statement
from gateway.store.refusals import refusals

MemberRole = Literal["owner", "admin", "member"]
MEMBER_ROLES: tuple[MemberRole, ...] = ("owner", "admin", "member")


class Organization(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `organizations`.

    Times are in milliseconds since 1970 UTC; `created_at` and `updated_at` are the database's to set.
    """

    id: str
    plan: str
    name: str = ""
    attributes: dict[str, Any] = {}
    timezone: str = "UTC"
    anchor_at: int | None = None
    status: Status = "active"
    created_at: int = 0
    updated_at: int = 0


class Member(msgspec.Struct, frozen=True):
    """A row of `memberships` with the user's name; `since` in milliseconds since 1970 UTC."""

    user_id: str
    username: str
    role: MemberRole
    since: int


class MemberCap(msgspec.Struct, frozen=True):
    """A row of `member_caps`: what one member may take of the organization's quota in a period; None: all of it."""

    user_id: str
    quota: str
    limit: int | None


_COLUMNS = "id, plan, name, attributes, timezone, anchor_at, status, created_at, updated_at"


def insert_organization(organization: Organization) -> Statement:
    """The statement that adds `organization`, for a write of several."""
    return Statement(
        "INSERT INTO organizations (id, plan, name, attributes, timezone, anchor_at, status)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            *(organization.id, organization.plan, organization.name),
            msgspec.json.encode(organization.attributes).decode(),
            *(organization.timezone, organization.anchor_at, organization.status),
        ),
    )


async def add_organization(db: Database, organization: Organization) -> int:
    """Add an organization; Conflict when the id is taken, NotFound when there is no such plan."""
    with refusals(taken="The id is taken.", missing=f"There is no plan {organization.plan}."):
        return (await db.write(insert_organization(organization))).seq


async def find_organization(db: Database, organization_id: str) -> Organization:
    """The organization with this id; NotFound when there is none."""
    [rows] = await db.read(Statement(f"SELECT {_COLUMNS} FROM organizations WHERE id = ?", (organization_id,)))  # noqa: S608
    if not rows:
        raise NotFound(f"There is no organization {organization_id}.")
    return _organization(rows[0])


async def list_organizations(db: Database, *, after: str = "", limit: int = 1000) -> list[Organization]:
    """At most `limit` organizations in the order of their ids, those after the id `after`."""
    [rows] = await db.scan(
        Statement(f"SELECT {_COLUMNS} FROM organizations WHERE id > ? ORDER BY id LIMIT ?", (after, limit))  # noqa: S608
    )
    return [_organization(row) for row in rows]


async def set_organization_plan(db: Database, organization_id: str, plan: str) -> int:
    """Put an organization on a plan; NotFound when there is no such organization or plan."""
    with refusals(missing=f"There is no organization {organization_id} or no plan {plan}."):
        statement = Statement("UPDATE organizations SET plan = ? WHERE id = ?", (plan, organization_id), True)
        return (await db.write(statement)).seq


async def set_organization_status(db: Database, organization_id: str, status: Status) -> int:
    """Enable or disable an organization; a disabled one is in nobody's document. NotFound when there is none."""
    with refusals(missing=f"There is no organization {organization_id}."):
        statement = Statement("UPDATE organizations SET status = ? WHERE id = ?", (status, organization_id), True)
        return (await db.write(statement)).seq


async def delete_organization(db: Database, organization_id: str) -> int:
    """Delete an organization with its memberships, caps and balances; NotFound when there is none."""
    with refusals(missing=f"There is no organization {organization_id}."):
        return (await db.write(Statement("DELETE FROM organizations WHERE id = ?", (organization_id,), True))).seq


def member_statement(organization_id: str, user_id: str, role: MemberRole) -> Statement:
    """The statement that makes a user a member, or changes the role of one, for a write of several."""
    return Statement(
        "INSERT INTO memberships (org_id, user_id, role) VALUES (?, ?, ?)"
        " ON CONFLICT (org_id, user_id) DO UPDATE SET role = excluded.role",
        (organization_id, user_id, role),
    )


async def set_member(db: Database, organization_id: str, user_id: str, role: MemberRole) -> int:
    """Make a user a member with this role, or change a member's role; NotFound when either does not exist."""
    with refusals(missing=f"There is no organization {organization_id} or no user {user_id}."):
        return (await db.write(member_statement(organization_id, user_id, role))).seq


async def remove_member(db: Database, organization_id: str, user_id: str) -> int:
    """End a membership; caps stay, for the case that the member comes back. NotFound when there is no such
    membership.
    """
    with refusals(missing=f"User {user_id} is not a member of {organization_id}."):
        statement = Statement(
            "DELETE FROM memberships WHERE org_id = ? AND user_id = ?", (organization_id, user_id), must_change=True
        )
        return (await db.write(statement)).seq


async def list_members(db: Database, organization_id: str) -> list[Member]:
    """The members in the order of their user names."""
    [rows] = await db.scan(
        Statement(
            "SELECT m.user_id, u.username, m.role, m.created_at"
            " FROM memberships AS m JOIN users AS u ON u.id = m.user_id"
            " WHERE m.org_id = ? ORDER BY u.username",
            (organization_id,),
        )
    )
    return [Member(*row) for row in rows]


async def list_caps(db: Database, organization_id: str) -> list[MemberCap]:
    """The members' caps, by user and quota."""
    [rows] = await db.scan(
        Statement(
            "SELECT user_id, quota, limit_value FROM member_caps WHERE org_id = ? ORDER BY user_id, quota",
            (organization_id,),
        )
    )
    return [MemberCap(*row) for row in rows]


async def set_cap(db: Database, organization_id: str, cap: MemberCap) -> int:
    """Bound what one member may take of a pooled quota in a period; NotFound when either does not exist."""
    with refusals(missing=f"There is no organization {organization_id} or no user {cap.user_id}."):
        statement = Statement(
            "INSERT INTO member_caps (org_id, user_id, quota, limit_value) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (org_id, user_id, quota) DO UPDATE SET limit_value = excluded.limit_value",
            (organization_id, cap.user_id, cap.quota, cap.limit),
        )
        return (await db.write(statement)).seq


async def remove_cap(db: Database, organization_id: str, user_id: str, quota: str) -> int:
    """Lift a cap; NotFound when there is none."""
    with refusals(missing=f"User {user_id} has no cap on {quota} in {organization_id}."):
        statement = Statement(
            "DELETE FROM member_caps WHERE org_id = ? AND user_id = ? AND quota = ?",
            (organization_id, user_id, quota),
            must_change=True,
        )
        return (await db.write(statement)).seq


async def read_role_permissions(db: Database) -> dict[MemberRole, tuple[str, ...]]:
    """What each membership role grants inside its organization, every role named."""
    [rows] = await db.read(Statement("SELECT role, permission FROM org_role_permissions ORDER BY role, permission"))
    return {role: tuple(row[1] for row in rows if row[0] == role) for role in MEMBER_ROLES}


def role_permission_statements(role: MemberRole, permissions: Iterable[str]) -> list[Statement]:
    """The statements that make a role grant exactly `permissions`, for a write of several."""
    wanted = msgspec.json.encode(sorted(permissions)).decode()
    return [
        Statement(
            "DELETE FROM org_role_permissions WHERE role = ? AND permission NOT IN (SELECT value FROM json_each(?))",
            (role, wanted),
        ),
        Statement(
            "INSERT INTO org_role_permissions (role, permission) SELECT ?, value FROM json_each(?) WHERE true"
            " ON CONFLICT (role, permission) DO NOTHING",
            (role, wanted),
        ),
    ]


async def set_role_permissions(db: Database, role: MemberRole, permissions: Iterable[str]) -> int:
    """Let a membership role grant exactly `permissions`, in every organization."""
    with refusals():
        return (await db.write(*role_permission_statements(role, permissions))).seq


def _organization(row: Row) -> Organization:
    organization_id, plan, name, attributes, timezone, anchor_at, status, created_at, updated_at = row
    return Organization(
        id=organization_id,
        plan=plan,
        name=name,
        attributes=msgspec.json.decode(attributes),
        timezone=timezone,
        anchor_at=anchor_at,
        status=status,
        created_at=created_at,
        updated_at=updated_at,
    )
