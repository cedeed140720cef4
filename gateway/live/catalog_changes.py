"""Plans or roles changed: whose documents hang on what really differs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from gateway.core.facts import Catalog, Plan
from gateway.live.entry import UserEntry
from gateway.live.task import NO_CAUSES, READ_AGAIN, Task
from gateway.store.documents import Part

if TYPE_CHECKING:
    from gateway.live.hub import Hub


def replace_catalog(hub: Hub, catalog: Catalog, tasks: Mapping[str, Task]) -> list[str]:
    """Let the hub go by this catalog, and put every document that hangs on what really differs on its list.
    Organizations stay as they are.

    `tasks` says why: by ``plan:ID`` and ``role:ID``. Answers what differs, in the same words.
    """
    before, hub.catalog = hub.catalog, catalog
    differs: list[str] = []
    catalog.organizations, catalog.bad_organizations = before.organizations, before.bad_organizations
    for id in before.plans.keys() | catalog.plans.keys():
        old, new = before.plan(id), catalog.plan(id)
        if old != new:
            differs.append(f"plan:{id}")
            if old.quotas == new.quotas and id in catalog.plans:
                catalog.plans[id] = new._replace(quotas=old.quotas)
            _plan_changed(hub, id, old, new, tasks.get(f"plan:{id}"))
        elif id in before.plans and id in catalog.plans:
            catalog.plans[id] = old
    for id in before.roles.keys() | catalog.roles.keys():
        if before.roles.get(id) != catalog.roles.get(id):
            differs.append(f"role:{id}")
            _build_again(hub, hub.related.with_role(id), tasks.get(f"role:{id}"))
    for role in before.organization_roles.keys() | catalog.organization_roles.keys():
        if before.organization_roles.get(role) != catalog.organization_roles.get(role):
            differs.append(f"role:org.{role}")
            _build_again(hub, hub.related.in_organizations(), tasks.get(f"role:org.{role}"))
    return differs


def _plan_changed(hub: Hub, id: str, old: Plan, new: Plan, task: Task | None) -> None:
    parts = Part.NONE if _periods(old) == _periods(new) else Part.USAGES
    _build_again(hub, hub.related.on_plan(id), task, parts)
    for organization, facts in hub.catalog.organizations.items():
        if facts.plan == id:
            hub.work.organization(organization, task or READ_AGAIN)
            _build_again(hub, hub.related.members(organization), task, parts)


def _build_again(hub: Hub, entries: Iterable[UserEntry], task: Task | None, parts: int = Part.NONE) -> None:
    again = Task(parts, task.causes, task.since) if task else Task(parts, NO_CAUSES)
    hub.work.all_of((entry.doc for entry in entries), again)


def _periods(plan: Plan) -> dict[str, str]:
    return {quota: limit.period for quota, limit in plan.quotas.items()}
