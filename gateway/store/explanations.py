"""Why a user has a permission or a quota: the rows behind the answer, of one moment."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.core.facts import Catalog, UserFacts
from gateway.core.permissions import Reason, effective, explain_permission
from gateway.core.quotas import QuotaReason, balance, effective_limit, explain_quota
from gateway.errors import NotFound, StoreError
from gateway.store.database import Database
from gateway.store.documents import LoadedUser, Part, load_catalog, load_users


class PermissionAnswer(msgspec.Struct, frozen=True):
    """Whether the permission is held now, until when that is sure by the clock (None: no end), and why."""

    permission: str
    held: bool
    changes_at: int | None
    reasons: list[Reason]


class QuotaAnswer(msgspec.Struct, frozen=True):
    """The quota as the user's document shows it now (None: not there), and why."""

    quota: str
    entry: dict[str, Any] | None
    changes_at: int | None
    reasons: list[QuotaReason]


async def why_permission(db: Database, user_id: str, permission: str, now: int) -> PermissionAnswer:
    """Everything that gives the user the permission or takes it; NotFound when there is no such user."""
    facts, catalog = await _facts(db, user_id, now)
    plan = catalog.plan(facts.plan).permissions
    roles = [(grant, catalog.roles.get(grant.role, frozenset())) for grant in facts.roles]
    held, changes_at = effective(facts.active, plan, roles, facts.grants, now)
    reasons = explain_permission(
        permission,
        user=user_id,
        active=facts.active,
        plan=facts.plan,
        plan_permissions=plan,
        roles=roles,
        grants=facts.grants,
        now_ms=now,
    )
    return PermissionAnswer(permission, permission in held, changes_at, reasons)


async def why_quota(db: Database, user_id: str, quota: str, now: int) -> QuotaAnswer:
    """Everything that sets the user's quota and what was taken of it; NotFound when there is no such user."""
    facts, catalog = await _facts(db, user_id, now)
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
    return QuotaAnswer(quota, entry, changes_at, reasons)


async def _facts(db: Database, user_id: str, now: int) -> tuple[UserFacts, Catalog]:
    async with db.snapshot() as snapshot:
        catalog = await load_catalog(snapshot)
        loaded = (await load_users(snapshot, {user_id: (Part.ALL, None)}, catalog, now))[user_id]
    if loaded is None:
        raise NotFound(f"There is no user {user_id}.")
    if not isinstance(loaded, LoadedUser):
        raise StoreError(f"the document of user {user_id} can not be built: {loaded.reason}")
    return loaded.facts, catalog
