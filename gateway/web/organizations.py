"""Organizations, changed by holders of ``orgs.write`` and, in part, by those of their members who manage them.

Whoever is neither a member nor a reader is told what is told of an organization that is not there; so is a member of
one that is disabled.
"""

from __future__ import annotations

import functools
import secrets
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from gateway.core.access import MANAGE_MEMBERS, READ_ORGANIZATIONS
from gateway.core.administration import MANAGED_FIELDS, WRITE_ORGANIZATIONS, Standing
from gateway.core.text import make_id
from gateway.errors import AuthFailed, Conflict, Forbidden, NotFound, PreconditionFailed, Unprocessable
from gateway.store import organizations as store
from gateway.store.accounts import Status
from gateway.store.database import Database
from gateway.store.guarded import Guarded
from gateway.store.guards import Guard
from gateway.store.organizations import Organization
from gateway.store.plans import find_plan
from gateway.web.caller import Rights
from gateway.web.checks import holders
from gateway.web.fields import checked_fields, given, moment, moment_or_null
from gateway.web.operation import Call, Operation
from gateway.web.paging import Page, Paged
from gateway.web.resource import EDITING, FIXED_FIELDS, Edit, Kind, Resource, still_named
from gateway.web.turns import Turns
from gateway.web.users import Seq

NO_SUCH_ORGANIZATION = "No such organization."
ID_BYTES = 10


class OrganizationShown(msgspec.Struct, frozen=True, kw_only=True):
    """An organization. Times are RFC 3339; `anchor_at` is where quota periods begin (null: calendar)."""

    id: str
    name: str
    plan: str
    status: Status
    attributes: dict[str, Any]
    timezone: str
    anchor_at: str | None
    created_at: str
    updated_at: str


class OrganizationChanged(OrganizationShown, frozen=True, kw_only=True):
    """An organization after a change; `seq` is that of its commit."""

    seq: int


class NewOrganization(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An organization to be made; without an `id` it gets one, and without a `plan` it is on `free`, as by the command.
    `owner` is the id of the user who owns it first.
    """

    plan: str = "free"
    id: str | UnsetType = UNSET
    name: str = ""
    status: Status = "active"
    attributes: dict[str, Any] = {}
    timezone: str = "UTC"
    anchor_at: str | None = None
    owner: str | None = None


class OrganizationReplacement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is to be so about an organization; what is left out takes its default. `id`, `created_at` and
    `updated_at` may be there, as they are.
    """

    plan: str
    name: str = ""
    status: Status = "active"
    attributes: dict[str, Any] = {}
    timezone: str = "UTC"
    anchor_at: str | None = None
    id: str | UnsetType = UNSET
    created_at: str | UnsetType = UNSET
    updated_at: str | UnsetType = UNSET


class OrganizationPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge patch (RFC 7396) of an organization; null means the default."""

    plan: str | UnsetType = UNSET
    name: str | UnsetType | None = UNSET
    status: Status | UnsetType | None = UNSET
    attributes: dict[str, Any] | UnsetType | None = UNSET
    timezone: str | UnsetType | None = UNSET
    anchor_at: str | UnsetType | None = UNSET
    id: str | UnsetType = UNSET
    created_at: str | UnsetType = UNSET
    updated_at: str | UnsetType = UNSET


class Organizations(Resource[Organization]):
    """The routes of organizations."""

    def __init__(self, database: Database, turns: Turns) -> None:
        find, before = store.find_organization, store.organization_before
        described = Kind("org", "/orgs", NO_SUCH_ORGANIZATION, find, organization_shown, before, FIXED_FIELDS)
        super().__init__(database, turns, described)

    def operations(self) -> list[Operation]:
        """All of them."""
        one = "/orgs/{id}"
        change = EDITING | {"answers": {200: OrganizationChanged}, "check": self._manageable}
        return [
            Operation(
                *("GET", "/orgs", self.list),
                "Organizations in the order of their ids: all for readers, for others those they are members of",
                {200: Page[OrganizationShown]},
                query=Paged,
            ),
            Operation(
                *("POST", "/orgs", self.create),
                "Make an organization",
                {201: OrganizationChanged},
                body=NewOrganization,
                check=holders(WRITE_ORGANIZATIONS),
                errors=(Forbidden, Conflict),
                writes=True,
                tagged=True,
            ),
            Operation(
                *("GET", one, self.find),
                "An organization, for its members and readers",
                {200: OrganizationShown, 304: None},
            ),
            Operation(
                *("PUT", one, self.replace), "Make an organization exactly this", body=OrganizationReplacement, **change
            ),
            Operation(*("PATCH", one, self.patch), "Change some of an organization", body=OrganizationPatch, **change),
            Operation(
                *("DELETE", one, self.delete),
                "Delete an organization with its memberships and balances",
                {200: Seq},
                errors=(Forbidden, PreconditionFailed),
                writes=True,
            ),
        ]

    async def list(self, call: Call) -> Response:
        """One page."""
        rights = await call.rights()
        member = None if may_read(rights) else rights.caller.principal.id
        return await self.listed(call, functools.partial(store.list_organizations, self._database, member=member))

    async def seen(self, call: Call) -> Organization:
        """For members and readers."""
        return (await standing(self._database, await call.rights(), call.path["id"])).organization

    async def create(self, call: Call) -> Response:
        """A new organization."""
        (await call.rights()).require(WRITE_ORGANIZATIONS)
        fields = given(call.body)
        fields.setdefault("id", make_id("o_", secrets.token_bytes(ID_BYTES)))
        owner = fields.pop("owner")
        organization = Organization(**checked_fields(fields))
        told = {} if owner is None else {"owner": owner}
        db = self.audited(call, "org.create", organization.id, organization, **told)
        try:
            seq = await store.add_organization(db, organization, owner)
        except NotFound:
            raise Unprocessable("There is no such plan, or no such owner.") from None
        return self.answered(await self.found(organization.id), seq, made=True)

    async def edited(self, call: Call, edit: Edit) -> tuple[int, Organization]:
        """For those who write them; in part for those who manage it."""
        before, stance, guards = await self._manageable(call)
        stands = self.shown(before)
        check_change(stance, edit.named(stands))
        changed = edit.changed(stands, OrganizationReplacement)
        if "plan" in changed:
            try:
                await find_plan(self._database, changed["plan"])
            except NotFound:
                raise Unprocessable("There is no such plan.") from None
        after = msgspec.structs.replace(before, **changed)
        db = Guarded(self.audited(call, "org.update", before.id, after), guards)
        seq = await store.replace_organization(db, before, after)
        return seq, await self.found(before.id)

    async def deletable(self, call: Call) -> Organization:
        """For those who write them."""
        rights = await call.rights()
        organization = (await standing(self._database, rights, call.path["id"])).organization
        rights.require(WRITE_ORGANIZATIONS)
        return organization

    async def deleted(self, call: Call, row: Organization) -> int:
        """With its memberships and balances."""
        guards = await still_named(call, functools.partial(store.still, self._database), row)
        db = Guarded(self.audited(call, "org.delete", row.id, None), guards)
        return await store.delete_organization(db, row.id)

    async def _manageable(self, call: Call) -> Stance:
        stance = await standing(self._database, await call.rights(), call.path["id"])
        check_change(stance.standing, frozenset())
        return stance


def organization_shown(organization: Organization) -> OrganizationShown:
    """An organization as clients see it."""
    return OrganizationShown(
        id=organization.id,
        name=organization.name,
        plan=organization.plan,
        status=organization.status,
        attributes=organization.attributes,
        timezone=organization.timezone,
        anchor_at=moment_or_null(organization.anchor_at),
        created_at=moment(organization.created_at),
        updated_at=moment(organization.updated_at),
    )


def may_read(rights: Rights) -> bool:
    """Whether the caller may see all organizations: whoever may change them has to."""
    return rights.may(READ_ORGANIZATIONS) or rights.may(WRITE_ORGANIZATIONS)


def check_change(stance: Standing, named: frozenset[str]) -> None:
    """Raises Forbidden unless somebody of this standing may change what is `named` about an organization."""
    if stance < Standing.MANAGER:
        raise Forbidden("This is for those who manage the organization.")
    if stance < Standing.ADMINISTRATOR and named - MANAGED_FIELDS:
        raise Forbidden(f"Those who manage it may change {', '.join(sorted(MANAGED_FIELDS))}, and nothing else.")


async def found_organization(database: Database, org_id: str) -> Organization:
    """The organization with this id. Raises NotFound."""
    try:
        return await store.find_organization(database, org_id)
    except NotFound:
        raise NotFound(NO_SUCH_ORGANIZATION) from None


class Stance(NamedTuple):
    """What the caller is to an organization, and what a change that builds on it hangs on."""

    organization: Organization
    standing: Standing
    guards: tuple[Guard, ...] = ()


async def standing(database: Database, rights: Rights, org_id: str) -> Stance:
    """What the caller is to the organization that the path names: by the database, so that a membership that ended
    gives nothing. Raises NotFound for strangers as for an organization that is not there.
    """
    facts = rights.entry.facts
    if facts is None or not facts.active:
        raise AuthFailed("The token is not valid.")
    organization = await found_organization(database, org_id)
    if rights.may(WRITE_ORGANIZATIONS):
        return Stance(organization, Standing.ADMINISTRATOR)
    user = rights.caller.principal.id
    role = await store.find_member_role(database, org_id, user)
    if role is not None and organization.status == "active":
        granted = (await store.read_role_permissions(database))[role]
        narrowed = rights.caller.principal.permissions
        if MANAGE_MEMBERS in granted and (narrowed is None or MANAGE_MEMBERS in narrowed):
            stance = Standing.OWNER if role == "owner" else Standing.MANAGER
            return Stance(organization, stance, (store.still_manages(org_id, user, role),))
    if rights.may(READ_ORGANIZATIONS):
        return Stance(organization, Standing.READER)
    if role is not None and organization.status == "active":
        return Stance(organization, Standing.MEMBER)
    raise NotFound(NO_SUCH_ORGANIZATION)
