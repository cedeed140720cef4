"""Roles: sets of permissions that users are given by name, beside what their plan permits.

Callers check text with `gateway.core.text` before it comes here. Every write is one atomic write and returns the `seq`
of its commit.
"""

from __future__ import annotations

import msgspec

from gateway.errors import NotFound, PreconditionFailed
from gateway.store.audit import Lookup, Store
from gateway.store.database import Reader, Row, Statement, Value
from gateway.store.documents import by_first_column
from gateway.store.foreign_text import place_after, read_exactly, read_shown
from gateway.store.guards import Guard, guard, guarded_write
from gateway.store.permission_sets import as_json, permission_statements, same_permissions
from gateway.store.refusals import refusals


class Role(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A role with what it permits."""

    id: str
    name: str = ""
    permissions: frozenset[str] = frozenset()


async def list_roles(db: Reader, *, after: str = "", limit: int = -1) -> list[Role]:
    """At most `limit` roles (-1: all) in the order of their ids, those after the id `after`."""
    place = await place_after(db.read, "roles", "id", after)
    return _roles(*await read_shown(db.read, *_selects("id > CAST(? AS TEXT) ORDER BY id LIMIT ?", (place, limit))))


async def find_role(db: Reader, role: str) -> Role:
    """The role with this id; NotFound when there is none."""
    for found in _roles(*await read_shown(db.read, *_selects("id = ?", (role,)))):
        return found
    raise NotFound(f"There is no role {role}.")


async def create_role(db: Store, role: Role) -> int:
    """Add a role; Conflict when the id is taken."""
    insert = Statement("INSERT INTO roles (id, name) VALUES (?, ?)", (role.id, role.name))
    with refusals(taken="The id is taken."):
        return (await db.write(insert, *_permission_statements(role.id, role))).seq


async def replace_role(db: Store, before: Role, after: Role) -> int:
    """Make the role `before` exactly `after`, whose id does not count. Raises PreconditionFailed when the role is not
    `before` any more, NotFound when it is gone."""
    await read_exactly(db, "role", *_selects("id = ?", (before.id,)))
    guards = [guard("roles", "id = ?", (before.id,), NotFound(f"There is no role {before.id}.")), still(before)]
    rename = Statement("UPDATE roles SET name = ? WHERE id = ?", (after.name, before.id))
    with refusals():
        return (await guarded_write(db, guards, rename, *_permission_statements(before.id, after))).seq


async def delete_role(db: Store, before: Role) -> int:
    """Delete the role `before`, also where users have it; NotFound when there is no such role, PreconditionFailed when
    it is not `before` any more."""
    await read_exactly(db, "role", *_selects("id = ?", (before.id,)))
    guards = [guard("roles", "id = ?", (before.id,), NotFound(f"There is no role {before.id}.")), still(before)]
    with refusals():
        return (await guarded_write(db, guards, Statement("DELETE FROM roles WHERE id = ?", (before.id,)))).seq


def still(role: Role) -> Guard:
    """The role is what it was."""
    changed = PreconditionFailed("The role was changed in the meantime.")
    return guard("roles", _SAME, (role.id, role.name, as_json(role.permissions)), changed)


def role_before(role: str) -> Lookup:
    """For the audit trail: the role with what it permits, as `find_role` has it."""
    return Lookup(
        "SELECT json_object('id', id, 'name', name,"
        " 'permissions', json((SELECT json_group_array(permission) FROM role_permissions WHERE role = roles.id)))"
        " FROM roles WHERE id = ?",
        (role,),
    )


_SAME = f"id = ?1 AND name IS ?2 AND {same_permissions('role_permissions', 'role')}"


def _selects(which: str, args: tuple[Value, ...]) -> tuple[Statement, ...]:
    those = f"WHERE role IN (SELECT id FROM roles WHERE {which})"  # noqa: S608
    return (
        Statement(f"SELECT id, name FROM roles WHERE {which}", args),  # noqa: S608
        Statement(f"SELECT role, permission FROM role_permissions {those}", args),  # noqa: S608
    )


def _roles(roles: list[Row], permissions: list[Row]) -> list[Role]:
    granted = by_first_column(permissions)
    return [Role(role, name, frozenset(row[1] for row in granted.get(role, ()))) for role, name in roles]


def _permission_statements(role_id: str, role: Role) -> list[Statement]:
    return permission_statements("role_permissions", "role", role_id, role.permissions)
