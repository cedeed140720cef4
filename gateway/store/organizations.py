"""Organizations: their members, what a membership's role grants, and how much of a pool one member may take.

Every write is one atomic write and returns the `seq` of its commit; `updated_at` moves by trigger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from gateway.core.access import MANAGE_MEMBERS
from gateway.errors import Conflict, NotFound, PreconditionFailed
from gateway.store.accounts import Status
from gateway.store.audit import Lookup, Store
from gateway.store.database import Reader, Row, Statement, Value
from gateway.store.foreign_text import attributes_of, json_if_changed, place_after, read_shown
from gateway.store.guarded import unchanged
from gateway.store.guards import Guard, guard, guarded_write
from gateway.store.permission_sets import permission_statements
from gateway.store.refusals import refusals
from gateway.store.zone_changes import zone_moves

MemberRole = Literal["owner", "admin", "member"]
MEMBER_ROLES: tuple[MemberRole, ...] = ("owner", "admin", "member")
RolePermissions: TypeAlias = Mapping[MemberRole, tuple[str, ...]]


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
        (organization.id, *_settable(organization, msgspec.json.encode(organization.attributes).decode())),
    )


async def add_organization(db: Store, organization: Organization, owner: str | None = None) -> int:
    """Add an organization, and its first owner (a user's id); Conflict when the id is taken, NotFound when there is no
    such plan or user."""
    statements = [insert_organization(organization)]
    missing = f"There is no plan {organization.plan}."
    if owner is not None:
        statements.append(member_statement(organization.id, owner, "owner"))
        missing = f"There is no plan {organization.plan} or no user {owner}."
    with refusals(taken="The id is taken.", missing=missing):
        return (await db.write(*statements)).seq


async def find_organization(db: Reader, organization_id: str) -> Organization:
    """The organization with this id; NotFound when there is none."""
    sql = f"SELECT {_COLUMNS} FROM organizations WHERE id = ?"  # noqa: S608
    [rows] = await read_shown(db.read, Statement(sql, (organization_id,)))
    if not rows:
        raise NotFound(f"There is no organization {organization_id}.")
    return _organization(rows[0])


async def list_organizations(
    db: Store, *, member: str | None = None, after: str = "", limit: int = 1000
) -> list[Organization]:
    """At most `limit` organizations in the order of their ids, those after the id `after`. `member` (a user's id): the
    active ones that this user is a member of.
    """
    own = "AND status = 'active' AND id IN (SELECT org_id FROM memberships WHERE user_id = ?)"
    which, args = ("", ()) if member is None else (own, (member,))
    sql = f"SELECT {_COLUMNS} FROM organizations WHERE id > CAST(? AS TEXT) {which} ORDER BY id LIMIT ?"  # noqa: S608
    place = await place_after(db.scan, "organizations", "id", after)
    [rows] = await read_shown(db.scan, Statement(sql, (place, *args, limit)))
    return [_organization(row) for row in rows]


async def replace_organization(db: Store, before: Organization, after: Organization) -> int:
    """Make the organization `before` be `after`, whose id and times do not count.

    Raises PreconditionFailed when the row is not `before` any more, NotFound when it is gone or there is no such plan.
    """
    guards = await still(db, before)
    update = Statement(
        "UPDATE organizations SET plan = ?, name = ?, attributes = coalesce(?, attributes), timezone = ?,"
        " anchor_at = ?, status = ? WHERE id = ?",
        (*_settable(after, json_if_changed(before.attributes, after.attributes)), before.id),
    )
    moves = await zone_moves(db, f"org:{before.id}", before, after, db.clock())
    with refusals(missing=f"There is no plan {after.plan}."):
        return (await guarded_write(db, guards, update, *moves)).seq


async def set_organization_plan(db: Store, organization_id: str, plan: str) -> int:
    """Put an organization on a plan; NotFound when there is no such organization or plan."""
    with refusals(missing=f"There is no organization {organization_id} or no plan {plan}."):
        statement = Statement("UPDATE organizations SET plan = ? WHERE id = ?", (plan, organization_id), True)
        return (await db.write(statement)).seq


async def set_organization_status(db: Store, organization_id: str, status: Status) -> int:
    """Enable or disable an organization; a disabled one is in nobody's document. NotFound when there is none."""
    with refusals(missing=f"There is no organization {organization_id}."):
        statement = Statement("UPDATE organizations SET status = ? WHERE id = ?", (status, organization_id), True)
        return (await db.write(statement)).seq


async def delete_organization(db: Store, organization_id: str) -> int:
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


async def set_member(
    db: Store, organization_id: str, user_id: str, role: MemberRole, *, before: MemberRole | None
) -> int:
    """Make a user a member with this role, or change a member's role, which was `before` (None: no member).

    NotFound when either does not exist, PreconditionFailed when the role is not `before` any more, Conflict when the
    last owner would be none any more.
    """
    missing = f"There is no organization {organization_id} or no user {user_id}."
    guards = [
        guard("organizations", "id = ?", (organization_id,), NotFound(missing)),
        _has_role(organization_id, user_id, before),
    ]
    if role != "owner":
        guards.append(_another_owner(organization_id, user_id))
    with refusals(missing=missing):
        return (await guarded_write(db, guards, member_statement(organization_id, user_id, role))).seq


async def remove_member(db: Store, organization_id: str, user_id: str, *, before: MemberRole | None) -> int:
    """End a membership whose role was `before` (None: there was none); caps stay, for the case that the member comes
    back.

    NotFound when there is no such membership, PreconditionFailed when the role is not `before` any more, Conflict when
    it is the last owner's.
    """
    missing = f"User {user_id} is not a member of {organization_id}."
    guards = [
        guard("organizations", "id = ?", (organization_id,), NotFound(missing)),
        _has_role(organization_id, user_id, before),
        _another_owner(organization_id, user_id),
    ]
    with refusals(missing=missing):
        statement = Statement(
            "DELETE FROM memberships WHERE org_id = ? AND user_id = ?", (organization_id, user_id), must_change=True
        )
        return (await guarded_write(db, guards, statement)).seq


async def find_member(db: Reader, organization_id: str, user_id: str) -> Member:
    """One member; NotFound for whoever is none."""
    statement = Statement(f"{_MEMBERS} WHERE m.org_id = ? AND m.user_id = ?", (organization_id, user_id))
    [rows] = await read_shown(db.read, statement)
    if not rows:
        raise NotFound(f"User {user_id} is not a member of {organization_id}.")
    return Member(*rows[0])


async def find_member_role(db: Reader, organization_id: str, user_id: str) -> MemberRole | None:
    """The role of one member; None for whoever is none."""
    sql = "SELECT role FROM memberships WHERE org_id = ? AND user_id = ?"
    [rows] = await db.read(Statement(sql, (organization_id, user_id)))
    return rows[0][0] if rows else None


async def still(db: Reader, before: Organization) -> list[Guard]:
    """The organization is what it was. Raises as `replace_organization` where that is known already."""
    return await unchanged(db, "organizations", _COLUMNS, before, _organization)


def still_member(organization_id: str, before: Member) -> Guard:
    """The member is what it was: of this name, with this role, since then."""
    condition = (
        "id = ? AND EXISTS (SELECT 1 FROM memberships AS m JOIN users AS u ON u.id = m.user_id"
        " WHERE m.org_id = organizations.id AND m.user_id = ?"
        " AND (u.username COLLATE BINARY, m.role, m.created_at) IS (?, ?, ?))"
    )
    args = (organization_id, before.user_id, before.username, before.role, before.since)
    return guard("organizations", condition, args, _changed())


def still_manages(organization_id: str, user_id: str, role: MemberRole) -> Guard:
    """The user has this role in the organization, which is active, and the role lets its members be managed."""
    condition = (
        "id = ? AND status = 'active'"
        " AND (SELECT role FROM memberships WHERE org_id = organizations.id AND user_id = ?) IS ?"
        " AND EXISTS (SELECT 1 FROM org_role_permissions WHERE role = ? AND permission = ?)"
    )
    changed = PreconditionFailed("What allows this was changed in the meantime.")
    return guard("organizations", condition, (organization_id, user_id, role, role, MANAGE_MEMBERS), changed)


async def list_members(db: Store, organization_id: str, *, after: str = "", limit: int = -1) -> list[Member]:
    """At most `limit` members (-1: all) in the order of their user names, those after the user name `after`."""
    sql = f"{_MEMBERS} WHERE m.org_id = ? AND u.username > CAST(? AS TEXT) ORDER BY u.username LIMIT ?"
    place = await place_after(db.scan, "users", "username", after)
    [rows] = await read_shown(db.scan, Statement(sql, (organization_id, place, limit)))
    return [Member(*row) for row in rows]


async def list_caps(db: Store, organization_id: str) -> list[MemberCap]:
    """The members' caps, by user and quota."""
    [rows] = await read_shown(
        db.scan,
        Statement(
            "SELECT user_id, quota, limit_value FROM member_caps WHERE org_id = ? ORDER BY user_id, quota",
            (organization_id,),
        ),
    )
    return [MemberCap(*row) for row in rows]


async def set_cap(db: Store, organization_id: str, cap: MemberCap) -> int:
    """Bound what one member may take of a pooled quota in a period; NotFound when either does not exist."""
    with refusals(missing=f"There is no organization {organization_id} or no user {cap.user_id}."):
        statement = Statement(
            "INSERT INTO member_caps (org_id, user_id, quota, limit_value) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (org_id, user_id, quota) DO UPDATE SET limit_value = excluded.limit_value",
            (organization_id, cap.user_id, cap.quota, cap.limit),
        )
        return (await db.write(statement)).seq


async def remove_cap(db: Store, organization_id: str, user_id: str, quota: str) -> int:
    """Lift a cap; NotFound when there is none."""
    with refusals(missing=f"User {user_id} has no cap on {quota} in {organization_id}."):
        statement = Statement(
            "DELETE FROM member_caps WHERE org_id = ? AND user_id = ? AND quota = ?",
            (organization_id, user_id, quota),
            must_change=True,
        )
        return (await db.write(statement)).seq


async def read_role_permissions(db: Reader) -> RolePermissions:
    """What each membership role grants inside its organization, every role named, permissions in order."""
    every = Statement("SELECT role, permission FROM org_role_permissions ORDER BY role, permission")
    [rows] = await read_shown(db.read, every)
    return {role: tuple(row[1] for row in rows if row[0] == role) for role in MEMBER_ROLES}


def role_permission_statements(role: str, permissions: Iterable[str]) -> list[Statement]:
    """The statements that make a membership role grant exactly `permissions`, for a write of several."""
    return permission_statements("org_role_permissions", "role", role, permissions)


async def set_role_permissions(db: Store, role: MemberRole, permissions: Iterable[str]) -> int:
    """Let a membership role grant exactly `permissions`, in every organization."""
    with refusals():
        return (await db.write(*role_permission_statements(role, permissions))).seq


async def replace_role_permissions(db: Store, before: RolePermissions, after: RolePermissions) -> int:
    """Let the membership roles, which granted `before`, grant exactly `after`. Raises PreconditionFailed when that is
    not what they grant any more."""
    standing = [(role, permission) for role, granted in before.items() for permission in granted]
    # A row that is always there, for an UPDATE that touches one.
    same = Statement(_SAME_GRANTED, (msgspec.json.encode(standing).decode(),), must_change=True)
    changed = PreconditionFailed("What the roles of members grant was changed in the meantime.")
    statements = [statement for role in after for statement in role_permission_statements(role, after[role])]
    with refusals():
        return (await guarded_write(db, [Guard(same, changed)], *statements)).seq


def organization_before(organization_id: str) -> Lookup:
    """For the audit trail: the organization's row."""
    return Lookup(
        "SELECT json_object('id', id, 'plan', plan, 'name', name, 'attributes', json(attributes), 'timezone', timezone,"
        " 'anchor_at', anchor_at, 'status', status, 'created_at', created_at, 'updated_at', updated_at)"
        " FROM organizations WHERE id = ?",
        (organization_id,),
    )


def member_before(organization_id: str, user_id: str) -> Lookup:
    """For the audit trail: the membership of one user."""
    return Lookup(
        "SELECT json_object('user_id', user_id, 'role', role) FROM memberships WHERE org_id = ? AND user_id = ?",
        (organization_id, user_id),
    )


def cap_before(organization_id: str, user_id: str, quota: str) -> Lookup:
    """For the audit trail: the cap of one member on one quota."""
    return Lookup(
        "SELECT json_object('user_id', user_id, 'quota', quota, 'limit', limit_value)"
        " FROM member_caps WHERE org_id = ? AND user_id = ? AND quota = ?",
        (organization_id, user_id, quota),
    )


def role_permissions_before(role: MemberRole) -> Lookup:
    """For the audit trail: what a membership role grants."""
    return Lookup(
        "SELECT json_object('permissions', json_group_array(permission))"
        " FROM (SELECT permission FROM org_role_permissions WHERE role = ? ORDER BY permission)",
        (role,),
    )


_MEMBERS = (
    "SELECT m.user_id, u.username, m.role, m.created_at FROM memberships AS m JOIN users AS u ON u.id = m.user_id"
)
# As many rows as there should be, and none that should not.
_SAME_GRANTED = """
UPDATE meta SET value = value WHERE key = 'epoch'
AND (SELECT count() FROM org_role_permissions) = json_array_length(?1)
AND NOT EXISTS (SELECT role, permission FROM org_role_permissions
    EXCEPT SELECT value ->> 0, value ->> 1 FROM json_each(?1))"""


def _has_role(organization_id: str, user_id: str, role: MemberRole | None) -> Guard:
    """The user has this role in the organization (None: is no member), which is there."""
    condition = "id = ? AND (SELECT role FROM memberships WHERE org_id = organizations.id AND user_id = ?) IS ?"
    return guard("organizations", condition, (organization_id, user_id, role), _changed())


def _changed() -> PreconditionFailed:
    return PreconditionFailed("The membership was changed in the meantime.")


def _another_owner(organization_id: str, user_id: str) -> Guard:
    """The user is not the last owner of the organization, which is there."""
    owner = "SELECT 1 FROM memberships WHERE org_id = ? AND role = 'owner' AND user_id"
    refusal = Conflict(f"User {user_id} is the last owner of {organization_id}: there must be one.")
    condition = f"id = ? AND (NOT EXISTS ({owner} = ?) OR EXISTS ({owner} <> ?))"
    args = (organization_id, organization_id, user_id, organization_id, user_id)
    return guard("organizations", condition, args, refusal)


def _settable(organization: Organization, attributes: str | None) -> tuple[Value, ...]:
    """What may be written of an organization, in the order of `_COLUMNS`."""
    return (
        *(organization.plan, organization.name, attributes),
        *(organization.timezone, organization.anchor_at, organization.status),
    )


def _organization(row: Row) -> Organization:
    organization_id, plan, name, attributes, timezone, anchor_at, status, created_at, updated_at = row
    return Organization(
        id=organization_id,
        plan=plan,
        name=name,
        attributes=attributes_of(attributes),
        timezone=timezone,
        anchor_at=anchor_at,
        status=status,
        created_at=created_at,
        updated_at=updated_at,
    )
