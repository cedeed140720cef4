"""Why a user has a permission or a quota: the rows behind what the user's document shows."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.core.facts import Catalog, UserFacts
from gateway.core.permissions import Reason, explain_permission
from gateway.core.quotas import QuotaReason, balance, effective_limit, explain_quota
from gateway.core.sections import user_permissions


class PermissionAnswer(msgspec.Struct, frozen=True):
    """Whether the user's document shows the permission now, when the clock may change that (None: never), and why."""

    user: str
    permission: str
    allowed: bool
    changes_at: int | None
    reasons: list[Reason]


class QuotaAnswer(msgspec.Struct, frozen=True):
    """The quota as the user's document shows it now (None: not at all), when it changes by the clock, and why."""

    user: str
    quota: str
    balance: dict[str, Any] | None
    changes_at: int | None
    reasons: list[QuotaReason]


def why_permission(user_id: str, facts: UserFacts, catalog: Catalog, permission: str, now: int) -> PermissionAnswer:
    """Everything that gives the user the permission or takes it. `now`: milliseconds since 1970 UTC."""
    held, changes_at = user_permissions(facts, catalog, now)
    reasons = explain_permission(
        permission,
        user=user_id,
        active=facts.active,
        plan=facts.plan,
        plan_permissions=catalog.plan(facts.plan).permissions,
        roles=[(grant, catalog.roles.get(grant.role, frozenset())) for grant in facts.roles],
        grants=facts.grants,
        now_ms=now,
    )
    return PermissionAnswer(user_id, permission, permission in held, changes_at, reasons)


def why_quota(user_id: str, facts: UserFacts, catalog: Catalog, quota: str, now: int) -> QuotaAnswer:
    """Everything that sets the user's quota, and what was taken of it. `now`: milliseconds since 1970 UTC."""
    plan_limit = catalog.plan(facts.plan).quotas.get(quota)
    overrides, usages = facts.overrides.get(quota, ()), facts.usages.get(quota, ())
    limit, changes_at = effective_limit(plan_limit, overrides, now)
    entry = None
    if limit is not None:
        entry, resets_at = balance(limit, usages, facts.anchor_at, facts.timezone, now)
        changes_at = min((at for at in (changes_at, resets_at) if at is not None), default=None)
    reasons = explain_quota(
        quota,
        owner=f"user:{user_id}",
        plan=facts.plan,
        plan_limit=plan_limit,
        overrides=overrides,
        usages=usages,
        anchor_ms=facts.anchor_at,
        timezone=facts.timezone,
        now_ms=now,
    )
    return QuotaAnswer(user_id, quota, entry, changes_at, reasons)
