"""Roles, and what the roles of members grant within their organizations.

Roles are read by whoever changes them or users, and by readers of users. The gateway's own permissions get into a role,
and out of it, by administrators alone, and so does ``manage_members`` for the roles of members.
"""

from __future__ import annotations

import functools

import msgspec
from msgspec import UNSET, UnsetType
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.core.access import READ_USERS
from gateway.core.administration import WRITE_ROLES, WRITE_USERS, check_handing_out, check_membership_roles
from gateway.core.text import TEXT_CHECKS
from gateway.errors import Conflict, Forbidden, MethodNotAllowed, PreconditionFailed, Unprocessable
from gateway.store import organizations
from gateway.store import roles as store
from gateway.store.audit import Audited, Entry
from gateway.store.database import Database
from gateway.store.organizations import MEMBER_ROLES, MemberRole, RolePermissions
from gateway.store.roles import Role
from gateway.web.answer import answer, etag_of, require_match
from gateway.web.caller import Rights
from gateway.web.checks import holders
from gateway.web.fields import checked
from gateway.web.operation import Call, Operation
from gateway.web.paging import Page, Paged
from gateway.web.plans import checked_permissions
from gateway.web.resource import EDITING, Edit, Kind, Resource
from gateway.web.turns import Turns
from gateway.web.users import Seq

READERS = (WRITE_ROLES, READ_USERS, WRITE_USERS)
ORGANIZATION = "organization"
"""No role can be called so: at its place stand the roles of members."""


class RoleShown(msgspec.Struct, frozen=True, kw_only=True):
    """A role with what it permits."""

    id: str
    name: str
    permissions: list[str]


class RoleChanged(RoleShown, frozen=True, kw_only=True):
    """A role after a change; `seq` is that of its commit."""

    seq: int


class NewRole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A role to be made."""

    id: str
    name: str = ""
    permissions: list[str] = []


class RoleReplacement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is to be so about a role; `id` may be there, as it is."""

    permissions: list[str]
    name: str = ""
    id: str | UnsetType = UNSET


class RolePatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge patch (RFC 7396) of a role: `permissions` are replaced as a whole."""

    name: str | UnsetType | None = UNSET
    permissions: list[str] | UnsetType = UNSET
    id: str | UnsetType = UNSET


class MembershipRoles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What each role of a member grants within its organization."""

    owner: list[str]
    admin: list[str]
    member: list[str]


class MembershipRolesChanged(msgspec.Struct, frozen=True, kw_only=True):
    """What each role of a member grants, after a change; `seq` is that of its commit."""

    owner: list[str]
    admin: list[str]
    member: list[str]
    seq: int


class Roles(Resource[Role]):
    """The routes of roles."""

    def __init__(self, database: Database, turns: Turns) -> None:
        described = Kind("role", "/roles", "No such role.", store.find_role, role_shown, store.role_before)
        super().__init__(database, turns, described)

    def operations(self) -> list[Operation]:
        """All of them; the roles of members first, whose path would be a role's else."""
        one = "/roles/{id}"
        change = EDITING | {"answers": {200: RoleChanged}, "check": self._writable}
        return [
            *self._of_members(f"/roles/{ORGANIZATION}"),
            Operation(
                *("GET", "/roles", self.list),
                "Roles in the order of their ids",
                {200: Page[RoleShown]},
                query=Paged,
                errors=(Forbidden,),
            ),
            Operation(
                *("POST", "/roles", self.create),
                "Make a role",
                {201: RoleChanged},
                body=NewRole,
                check=holders(WRITE_ROLES),
                errors=(Forbidden, Conflict),
                writes=True,
                tagged=True,
            ),
            Operation(*("GET", one, self.find), "A role", {200: RoleShown, 304: None}, errors=(Forbidden,)),
            Operation(*("PUT", one, self.replace), "Make a role exactly this", body=RoleReplacement, **change),
            Operation(*("PATCH", one, self.patch), "Change some of a role (RFC 7396)", body=RolePatch, **change),
            Operation(
                *("DELETE", one, self.delete),
                "Delete a role; whoever has it loses it",
                {200: Seq},
                errors=(Forbidden, PreconditionFailed),
                writes=True,
            ),
        ]

    def _of_members(self, path: str) -> list[Operation]:
        return [
            Operation(
                *("GET", path, self.find_membership_roles),
                "What the roles of members grant within their organizations",
                {200: MembershipRoles, 304: None},
                errors=(Forbidden,),
            ),
            Operation(
                *("PUT", path, self.replace_membership_roles),
                "Let the roles of members grant exactly this",
                {200: MembershipRolesChanged},
                body=MembershipRoles,
                check=holders(WRITE_ROLES),
                **EDITING,
            ),
        ]

    async def list(self, call: Call) -> Response:
        """One page."""
        _require_reader(await call.rights())
        return await self.listed(call, functools.partial(store.list_roles, self._database))

    async def seen(self, call: Call) -> Role:
        """For those who read them."""
        _require_reader(await call.rights())
        return await self.found(call.path["id"])

    async def create(self, call: Call) -> Response:
        """A new role."""
        rights = await call.rights()
        rights.require(WRITE_ROLES)
        if call.body.id == ORGANIZATION:
            raise Unprocessable(f"A role can not be called {ORGANIZATION}.")
        role = _checked(checked(TEXT_CHECKS["role"], call.body.id), call.body, Role(""))
        check_handing_out(rights.is_admin, (), role.permissions)
        seq = await store.create_role(self.audited(call, "role.write", role.id, role), role)
        return self.answered(role, seq, made=True)

    async def edited(self, call: Call, edit: Edit) -> tuple[int, Role]:
        """For those who write them."""
        rights, before = await self._writable(call)
        after = _checked(before.id, edit.body(self.shown(before), RoleReplacement), before)
        check_handing_out(rights.is_admin, before.permissions, after.permissions)
        return await store.replace_role(self.audited(call, "role.write", before.id, after), before, after), after

    async def deletable(self, call: Call) -> Role:
        """For those who write them."""
        rights, role = await self._writable(call)
        check_handing_out(rights.is_admin, role.permissions, ())
        return role

    async def deleted(self, call: Call, row: Role) -> int:
        """As it stands: who may delete it hangs on what it permits."""
        return await store.delete_role(self.audited(call, "role.delete", row.id, None), row)

    async def find_membership_roles(self, call: Call) -> Response:
        """What they grant."""
        _require_reader(await call.rights())
        shown = msgspec.to_builtins(await organizations.read_role_permissions(self._database))
        return answer(shown, etag=etag_of(shown))

    async def replace_membership_roles(self, call: Call) -> Response:
        """Let them grant what the body says."""

        async def attempt() -> tuple[int, RolePermissions]:
            rights = await call.rights()
            rights.require(WRITE_ROLES)
            before = await organizations.read_role_permissions(self._database)
            require_match(call.request, etag_of(msgspec.to_builtins(before)))
            after = {role: _granted(getattr(call.body, role), before[role]) for role in MEMBER_ROLES}
            for role in MEMBER_ROLES:
                check_membership_roles(rights.is_admin, before[role], after[role])
            entries = [_membership_entry(call, role, after[role]) for role in after if after[role] != before[role]]
            db = Audited(call.writing(self._database), *entries)
            return await organizations.replace_role_permissions(db, before, after), after

        seq, after = await self._turns.change(f"role:{ORGANIZATION}", call.request, attempt)
        shown = msgspec.to_builtins(after)
        return answer({**shown, "seq": seq}, seq=seq, etag=etag_of(shown))

    async def found(self, key: str) -> Role:
        """As of every kind; at one place stands something else."""
        if key == ORGANIZATION:  # with a method that its own path does not have
            raise HTTPException(MethodNotAllowed.status, headers={"Allow": "GET, HEAD, PUT"})
        return await super().found(key)

    async def _writable(self, call: Call) -> tuple[Rights, Role]:
        rights = await call.rights()
        rights.require(WRITE_ROLES)
        return rights, await self.found(call.path["id"])


def role_shown(role: Role) -> RoleShown:
    """A role as clients see it: permissions in order, so that the same role is the same text."""
    return RoleShown(id=role.id, name=role.name, permissions=sorted(role.permissions))


def _granted(wanted: list[str], before: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(checked_permissions(wanted, frozenset(before))))


def _membership_entry(call: Call, role: MemberRole, granted: tuple[str, ...]) -> Entry:
    before, target = organizations.role_permissions_before(role), f"role:org.{role}"
    return Entry(call.caller.actor, "role.write", target, call.address, before=before, after={"permissions": granted})


def _checked(role_id: str, body: NewRole | RoleReplacement, before: Role) -> Role:
    """The role that a body says; what stays is not looked at. Raises Unprocessable."""
    name = body.name if body.name == before.name else checked(TEXT_CHECKS["name"], body.name)
    return Role(role_id, name, checked_permissions(body.permissions, before.permissions))


def _require_reader(rights: Rights) -> None:
    if not any(rights.may(permission) for permission in READERS):
        raise Forbidden(f"This needs one of the permissions {', '.join(READERS)}.")
