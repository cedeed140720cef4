"""Organizations, changed by holders of ``orgs.write`` and, in part, by those of their members who manage them.

Whoever is neither a member nor a reader is told what is told of an organization that is not there; so is a member of
one that is disabled.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from gateway.core.access import MANAGE_MEMBERS, READ_ORGANIZATIONS
from gateway.core.administration import MANAGED_FIELDS, WRITE_ORGANIZATIONS, Standing, differing
from gateway.core.document import apply
from gateway.core.text import make_id
from gateway.errors import AuthFailed, Conflict, Forbidden, NotFound, PreconditionFailed, Unprocessable
from gateway.store import organizations as store
from gateway.store.accounts import Status
from gateway.store.audit import Action, Audited, Entry
from gateway.store.database import Database
from gateway.store.guarded import Guarded
from gateway.store.guards import Guard
from gateway.store.organizations import Organization
from gateway.store.plans import find_plan
from gateway.web.answer import answer, etag_of, require_match
from gateway.web.caller import Rights
from gateway.web.fields import checked_fields, converted, given, moment, moment_or_null, stored_moment
from gateway.web.operation import Call, Operation
from gateway.web.paging import Page, Paged, page, read_cursor
from gateway.web.turns import Turns
from gateway.web.users import Seq

NO_SUCH_ORGANIZATION = "No such organization."
FIXED_FIELDS = ("id", "created_at", "updated_at")
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
    """An organization to be made; without an `id` it gets one. `owner` is the id of the user who owns it first."""

    plan: str
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


class Organizations:
    """The routes of organizations."""

    def __init__(self, database: Database, turns: Turns) -> None:
        self._database = database
        self._turns = turns

    def operations(self) -> list[Operation]:
        """All of them."""
        one = "/orgs/{id}"
        change: dict[str, Any] = {
            "answers": {200: OrganizationChanged},
            "errors": (Forbidden, PreconditionFailed),
            "writes": True,
        }
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
                errors=(Forbidden, Conflict),
                writes=True,
            ),
            Operation(
                *("GET", one, self.find), "An organization, for its members and readers", {200: OrganizationShown}
            ),
            Operation(
                *("PUT", one, self.replace), "Make an organization exactly this", body=OrganizationReplacement, **change
            ),
            Operation(*("PATCH", one, self.patch), "Change some of an organization", body=OrganizationPatch, **change),
            Operation(
                *("DELETE", one, self.delete),
                "Delete an organization with its memberships and balances",
                {200: Seq},
                errors=(Forbidden,),
                writes=True,
            ),
        ]

    async def list(self, call: Call) -> Response:
        """One page."""
        rights = await call.rights()
        asked: Paged = call.query
        after = "" if asked.cursor is None else read_cursor("orgs", asked.cursor, str)
        member = None if may_read(rights) else rights.caller.principal.id
        found = await store.list_organizations(self._database, member=member, after=after, limit=asked.limit + 1)
        return answer(page("orgs", found, asked.limit, position=lambda one: one.id, shown=organization_shown))

    async def find(self, call: Call) -> Response:
        """One organization, with the entity tag that a change can name."""
        organization = (await standing(self._database, await call.rights(), call.path["id"])).organization
        shown = msgspec.to_builtins(organization_shown(organization))
        return answer(shown, etag=etag_of(shown))

    async def create(self, call: Call) -> Response:
        """A new organization."""
        (await call.rights()).require(WRITE_ORGANIZATIONS)
        fields = given(call.body)
        fields.setdefault("id", make_id("o_", secrets.token_bytes(ID_BYTES)))
        owner = fields.pop("owner")
        organization = Organization(**checked_fields(fields))
        after = _left(organization) | ({} if owner is None else {"owner": owner})
        db = self._audited(call, "org.create", organization.id, after)
        try:
            seq = await store.add_organization(db, organization, owner)
        except NotFound:
            raise Unprocessable("There is no such plan, or no such owner.") from None
        made = await store.find_organization(self._database, organization.id)
        shown = msgspec.to_builtins(organization_shown(made))
        headers = {"Location": f"/orgs/{organization.id}"}
        return answer({**shown, "seq": seq}, status=201, seq=seq, etag=etag_of(shown), headers=headers)

    async def replace(self, call: Call) -> Response:
        """Make the organization what the body says."""
        return await self._change(call, whole=True)

    async def patch(self, call: Call) -> Response:
        """Merge the body into the organization."""
        return await self._change(call, whole=False)

    async def delete(self, call: Call) -> Response:
        """Delete the organization."""
        rights = await call.rights()
        organization = (await standing(self._database, rights, call.path["id"])).organization
        rights.require(WRITE_ORGANIZATIONS)
        db = self._audited(call, "org.delete", organization.id, None)
        seq = await store.delete_organization(db, organization.id)
        return answer(Seq(seq), seq=seq)

    async def _change(self, call: Call, *, whole: bool) -> Response:
        org_id, wanted = call.path["id"], given(call.body)
        if isinstance(wanted.get("anchor_at"), str):
            wanted["anchor_at"] = moment_or_null(stored_moment(wanted["anchor_at"], "anchor_at"))

        async def attempt() -> int:
            before, stance, guards = await standing(self._database, await call.rights(), org_id)
            stands = msgspec.to_builtins(organization_shown(before))
            check_change(stance, differing(stands, {**stands, **wanted}) if whole else frozenset(wanted))
            require_match(call.request, etag_of(stands))
            after = await self._replaced(before, stands, wanted if whole else apply(stands, wanted))
            db = Guarded(self._audited(call, "org.update", org_id, _left(after)), guards)
            return await store.replace_organization(db, before, after)

        seq = await self._turns.change(f"org:{org_id}", call.request, attempt)
        shown = msgspec.to_builtins(organization_shown(await found_organization(self._database, org_id)))
        return answer({**shown, "seq": seq}, seq=seq, etag=etag_of(shown))

    async def _replaced(
        self, before: Organization, stands: Mapping[str, Any], wanted: Mapping[str, Any]
    ) -> Organization:
        """The organization with what is wanted; what stays is not looked at again. Raises Unprocessable."""
        whole = msgspec.to_builtins(converted(wanted, OrganizationReplacement))
        changed = {name: whole[name] for name in differing(stands, {**stands, **whole})}
        for name in FIXED_FIELDS:
            if name in changed:
                raise Unprocessable(f"{name} can not be changed.")
        if "plan" in changed:
            try:
                await find_plan(self._database, changed["plan"])
            except NotFound:
                raise Unprocessable("There is no such plan.") from None
        return msgspec.structs.replace(before, **checked_fields(changed))

    def _audited(self, call: Call, action: Action, org_id: str, after: Mapping[str, Any] | None) -> Audited:
        before = store.organization_before(org_id)
        return Audited(
            self._database, Entry(call.caller.actor, action, f"org:{org_id}", call.address, before=before, after=after)
        )


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


def _left(organization: Organization) -> dict[str, Any]:
    """For the audit trail: what a change left."""
    shown = msgspec.to_builtins(organization_shown(organization))
    return {name: value for name, value in shown.items() if name not in FIXED_FIELDS}
