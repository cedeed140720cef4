"""``POST /plans/{id}/preview``: whom a change of a plan would reach, before it is made."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
from starlette.responses import Response

from gateway.core import facts
from gateway.core.administration import WRITE_PLANS, check_handing_out
from gateway.core.facts import UserFacts
from gateway.core.forecast import UNCHANGED, Forecast, Outlook
from gateway.core.quotas import Limit
from gateway.errors import Forbidden, PreconditionFailed, Unavailable
from gateway.live.node import Node
from gateway.store.catalog import load_catalog
from gateway.store.plan_users import organizations_on_plan, users_on_plan
from gateway.store.plans import Plan, PlanQuota
from gateway.web.answer import answer, etag_of
from gateway.web.caller import Rights
from gateway.web.fields import given
from gateway.web.operation import Call, Operation
from gateway.web.patience import while_there
from gateway.web.plans import PlanPatch, PlanReplacement, checked_plan, plan_shown, writable
from gateway.web.resource import Edit

MAX_WAITING = 3
"""Who waits while another preview is worked out."""
RETRY_AFTER_S = 1.0


class Reached(msgspec.Struct):
    """How many users, and how many of them have a live session on the node that answers."""

    users: int = 0
    connected: int = 0


class PermissionsPreview(msgspec.Struct, frozen=True):
    """By permission that the plan would give or give no more, who would gain or lose it."""

    gained: dict[str, Reached]
    lost: dict[str, Reached]


class QuotaPreview(msgspec.Struct):
    """A quota of the plan as it is and would be (null: not there), who would get another limit, period or hardness, and
    how many of these would have taken more than the new limit.
    """

    before: PlanQuota | None
    after: PlanQuota | None
    users: int = 0
    connected: int = 0
    over: int = 0


class PlanPreview(msgspec.Struct):
    """Whom a change reaches: users and organizations on the plan, `connected` with a session on the node that answers,
    and what would be different for how many.
    """

    users: int
    connected: int
    organizations: int
    permissions: PermissionsPreview
    quotas: dict[str, QuotaPreview]


class Previews:
    """The route. One preview at a time: they read much."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._turn = asyncio.Lock()
        self._asked = 0

    def operations(self) -> list[Operation]:
        """The one."""
        return [
            Operation(
                *("POST", "/plans/{id}/preview", self.preview),
                "Whom a change of a plan (RFC 7396) would reach; nothing is changed",
                {200: PlanPreview},
                body=PlanPatch,
                check=self._writable,
                errors=(Forbidden, PreconditionFailed, Unavailable),
            )
        ]

    async def preview(self, call: Call) -> Response:
        """For those who may make that very change; the entity tag is that of the plan as it stands."""
        (await call.rights()).require(WRITE_PLANS)
        if self._asked > MAX_WAITING:
            raise Unavailable("Too many wait for a preview already.", retry_after_s=RETRY_AFTER_S)
        self._asked += 1
        try:
            return await while_there(call.request, self._in_turn(call))
        finally:
            self._asked -= 1

    async def _in_turn(self, call: Call) -> Response:
        """Whoever waited may not be the same any more, nor the plan."""
        async with self._turn:
            await call.renew()
            rights, before = await self._writable(call)
            shown = msgspec.to_builtins(plan_shown(before))
            edit = Edit(call.request, given(call.body), whole=False)
            after = checked_plan(before.id, edit.body(shown, PlanReplacement), before)
            check_handing_out(rights.is_admin, before.permissions, after.permissions)
            return answer(await self.worked_out(before, after), etag=etag_of(shown))

    async def _writable(self, call: Call) -> tuple[Rights, Plan]:
        return await writable(self._node.database, call)

    async def worked_out(self, before: Plan, after: Plan) -> PlanPreview:
        """Whom it would reach that a plan which stands as `before` became `after`."""
        database, now = self._node.database, self._node.clock.now().wall
        catalog = await load_catalog(database)
        catalog.plans[before.id] = _facts(before)
        forecast = Forecast(before.id, catalog, _facts(after))
        limited = {name: limit for name, limit in _limits(after.quotas).items() if name in forecast.quotas}
        tally = Tally(forecast, now)
        async for users in users_on_plan(database, before.id, limited, now):
            for user, known in users:
                tally.add(known, connected=bool(self._node.hub.presence.sessions(user)))
            await asyncio.sleep(0)
        return tally.result(before, after, await organizations_on_plan(database, before.id))


class Tally:
    """Counts users by what becomes of them. `now`: milliseconds since 1970 UTC."""

    def __init__(self, forecast: Forecast, now: int) -> None:
        self._forecast = forecast
        self._now = now
        self._counts: dict[Outlook, Reached] = {}
        self._plain: dict[bool, Outlook] = {}

    def add(self, known: UserFacts | None, *, connected: bool) -> None:
        """One more user."""
        reached = self._counts.setdefault(self._outlook(known), Reached())
        reached.users += 1
        reached.connected += connected

    def _outlook(self, known: UserFacts | None) -> Outlook:
        """The same for all who have nothing but their plan, and took nothing."""
        if known is None:
            return UNCHANGED
        plain = not (known.roles or known.grants or known.overrides or known.usages)
        if plain and known.active in self._plain:
            return self._plain[known.active]
        try:
            found = self._forecast.outlook(known, self._now)
        except ValueError:  # no document can be built from this
            return UNCHANGED
        if plain:
            self._plain[known.active] = found
        return found

    def result(self, before: Plan, after: Plan, organizations: int) -> PlanPreview:
        """All counts, by what is about to change."""
        everybody = Reached()
        gained = {name: Reached() for name in sorted(after.permissions - before.permissions)}
        lost = {name: Reached() for name in sorted(before.permissions - after.permissions)}
        names = sorted(before.quotas.keys() | after.quotas.keys())
        differing = [name for name in names if before.quotas.get(name) != after.quotas.get(name)]
        quotas = {name: QuotaPreview(before.quotas.get(name), after.quotas.get(name)) for name in differing}
        for outlook, reached in self._counts.items():
            concerned: list[Reached | QuotaPreview] = [everybody]
            concerned += [gained[name] for name in outlook.gained]
            concerned += [lost[name] for name in outlook.lost]
            concerned += [quotas[name] for name in outlook.quotas]
            for one in concerned:
                one.users += reached.users
                one.connected += reached.connected
            for name in outlook.over:
                quotas[name].over += reached.users
        permissions = PermissionsPreview(gained, lost)
        return PlanPreview(everybody.users, everybody.connected, organizations, permissions, quotas)


def _facts(plan: Plan) -> facts.Plan:
    return facts.Plan(plan.permissions, _limits(plan.quotas))


def _limits(quotas: Mapping[str, PlanQuota]) -> dict[str, Limit]:
    return {name: Limit(quota.limit, quota.period, quota.hard) for name, quota in quotas.items()}
