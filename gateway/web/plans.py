"""Plans: what they permit and which quotas they set.

They are read by whoever changes plans, users or organizations, and by readers of users: what a plan of somebody else
gives is nobody else's business. The gateway's own permissions get into a plan, and out of it, by administrators alone.
"""

from __future__ import annotations

import functools

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from gateway.core.access import READ_USERS
from gateway.core.administration import WRITE_ORGANIZATIONS, WRITE_PLANS, WRITE_USERS, check_handing_out
from gateway.core.text import TEXT_CHECKS, check_permission, check_quota
from gateway.errors import Conflict, Forbidden, NotFound, PreconditionFailed, Unprocessable
from gateway.store import plans as store
from gateway.store.database import Database, Reader
from gateway.store.plans import Plan, PlanQuota
from gateway.web.caller import Rights
from gateway.web.checks import holders
from gateway.web.fields import checked
from gateway.web.operation import Call, Operation
from gateway.web.paging import Page, Paged
from gateway.web.resource import EDITING, Edit, Kind, Resource
from gateway.web.turns import Turns
from gateway.web.users import Seq

READERS = (WRITE_PLANS, READ_USERS, WRITE_USERS, WRITE_ORGANIZATIONS)
NO_SUCH_PLAN = "No such plan."
MAX_NAMES = 1_000
"""Permissions or quotas of one plan or role."""


class PlanShown(msgspec.Struct, frozen=True, kw_only=True):
    """A plan; `quotas` by name, a `limit` of null is none."""

    id: str
    name: str
    permissions: list[str]
    quotas: dict[str, PlanQuota]


class PlanChanged(PlanShown, frozen=True, kw_only=True):
    """A plan after a change; `seq` is that of its commit."""

    seq: int


class NewPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plan to be made."""

    id: str
    name: str = ""
    permissions: list[str] = []
    quotas: dict[str, PlanQuota] = {}


class PlanReplacement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is to be so about a plan; `id` may be there, as it is."""

    permissions: list[str]
    quotas: dict[str, PlanQuota]
    name: str = ""
    id: str | UnsetType = UNSET


class QuotaPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to change about a quota; null means the default."""

    limit: int | UnsetType | None = UNSET
    period: str | UnsetType | None = UNSET
    hard: bool | UnsetType | None = UNSET


class PlanPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge patch (RFC 7396) of a plan: `permissions` are replaced as a whole, a quota of null is removed."""

    name: str | UnsetType | None = UNSET
    permissions: list[str] | UnsetType = UNSET
    quotas: dict[str, QuotaPatch | None] | UnsetType = UNSET
    id: str | UnsetType = UNSET


class Plans(Resource[Plan]):
    """The routes of plans."""

    def __init__(self, database: Database, turns: Turns) -> None:
        described = Kind("plan", "/plans", NO_SUCH_PLAN, store.find_plan, plan_shown, store.plan_before)
        super().__init__(database, turns, described)

    def operations(self) -> list[Operation]:
        """All of them."""
        one = "/plans/{id}"
        change = EDITING | {"answers": {200: PlanChanged}, "check": self._writable}
        return [
            Operation(
                *("GET", "/plans", self.list),
                "Plans in the order of their ids",
                {200: Page[PlanShown]},
                query=Paged,
                errors=(Forbidden,),
            ),
            Operation(
                *("POST", "/plans", self.create),
                "Make a plan",
                {201: PlanChanged},
                body=NewPlan,
                check=holders(WRITE_PLANS),
                errors=(Forbidden, Conflict),
                writes=True,
                tagged=True,
            ),
            Operation(*("GET", one, self.find), "A plan", {200: PlanShown, 304: None}, errors=(Forbidden,)),
            Operation(*("PUT", one, self.replace), "Make a plan exactly this", body=PlanReplacement, **change),
            Operation(*("PATCH", one, self.patch), "Change some of a plan (RFC 7396)", body=PlanPatch, **change),
            Operation(
                *("DELETE", one, self.delete),
                "Delete a plan that nobody is on",
                {200: Seq},
                errors=(Forbidden, Conflict, PreconditionFailed),
                writes=True,
            ),
        ]

    async def list(self, call: Call) -> Response:
        """One page."""
        _require_reader(await call.rights())
        return await self.listed(call, functools.partial(store.list_plans, self._database))

    async def seen(self, call: Call) -> Plan:
        """For those who read them."""
        _require_reader(await call.rights())
        return await self.found(call.path["id"])

    async def create(self, call: Call) -> Response:
        """A new plan."""
        rights = await call.rights()
        rights.require(WRITE_PLANS)
        plan = checked_plan(call.body.id, call.body)
        check_handing_out(rights.is_admin, (), plan.permissions)
        seq = await store.create_plan(self.audited(call, "plan.write", plan.id, plan), plan)
        return self.answered(plan, seq, made=True)

    async def edited(self, call: Call, edit: Edit) -> tuple[int, Plan]:
        """For those who write them."""
        rights, before = await self._writable(call)
        after = checked_plan(before.id, edit.body(self.shown(before), PlanReplacement), before)
        check_handing_out(rights.is_admin, before.permissions, after.permissions)
        return await store.replace_plan(self.audited(call, "plan.write", before.id, after), before, after), after

    async def deletable(self, call: Call) -> Plan:
        """For those who write them."""
        rights, plan = await self._writable(call)
        check_handing_out(rights.is_admin, plan.permissions, ())
        return plan

    async def deleted(self, call: Call, row: Plan) -> int:
        """As it stands: who may delete it hangs on what it permits."""
        return await store.delete_plan(self.audited(call, "plan.delete", row.id, None), row)

    async def _writable(self, call: Call) -> tuple[Rights, Plan]:
        return await writable(self._database, call)


def plan_shown(plan: Plan) -> PlanShown:
    """A plan as clients see it: names in order, so that the same plan is the same text."""
    return PlanShown(
        id=plan.id,
        name=plan.name,
        permissions=sorted(plan.permissions),
        quotas=dict(sorted(plan.quotas.items())),
    )


def checked_permissions(permissions: list[str], standing: frozenset[str] = frozenset()) -> frozenset[str]:
    """The permissions of a body; those that are `standing` already are not looked at. Raises Unprocessable."""
    if len(permissions) > MAX_NAMES:
        raise Unprocessable(f"There are at most {MAX_NAMES} permissions.")
    return frozenset(name if name in standing else checked(check_permission, name) for name in permissions)


def checked_plan(plan_id: str, body: NewPlan | PlanReplacement, before: Plan | None = None) -> Plan:
    """The plan that a body says. Raises Unprocessable."""
    standing = before or Plan(checked(TEXT_CHECKS["plan"], plan_id))
    if len(body.quotas) > MAX_NAMES:
        raise Unprocessable(f"There are at most {MAX_NAMES} quotas.")
    for quota in body.quotas.keys() - standing.quotas.keys():
        checked(check_quota, quota)
    name = body.name if body.name == standing.name else checked(TEXT_CHECKS["name"], body.name)
    return Plan(standing.id, name, checked_permissions(body.permissions, standing.permissions), body.quotas)


async def writable(db: Reader, call: Call) -> tuple[Rights, Plan]:
    """What the caller may do, and the plan that the path names; for those who write plans. Raises Forbidden and
    NotFound.
    """
    rights = await call.rights()
    rights.require(WRITE_PLANS)
    try:
        return rights, await store.find_plan(db, call.path["id"])
    except NotFound:
        raise NotFound(NO_SUCH_PLAN) from None


def _require_reader(rights: Rights) -> None:
    if not any(rights.may(permission) for permission in READERS):
        raise Forbidden(f"This needs one of the permissions {', '.join(READERS)}.")
