"""Reads what was taken in the periods under way: of users' quotas, of organizations' pools, and of pools by the members
who have a cap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from gateway.core.facts import (
    NO_MEMBER_USAGES,
    NO_USAGES,
    Catalog,
    MemberUsages,
    OrganizationFacts,
    Usages,
    UserFacts,
)
from gateway.core.quotas import LONGEST_MS, Usage, period_bounds
from gateway.store.database import Row, Snapshot, Statement

_EVER = -(2**53)

_USAGES = """
SELECT u.owner, u.quota, u.period_start, u.used, u.reserved
FROM json_each(?1) AS wanted CROSS JOIN quota_usage AS u
  ON u.owner = wanted.value ->> 0 AND u.quota = wanted.value ->> 1 AND u.period_start >= wanted.value ->> 2"""
_MEMBER_USAGES = """
SELECT c.user_id, c.org_id, c.quota, u.period_start, u.used, u.reserved
FROM json_each(?1) AS wanted
CROSS JOIN member_caps AS c ON c.user_id = wanted.value AND c.limit_value IS NOT NULL
CROSS JOIN organizations AS o ON o.id = c.org_id
CROSS JOIN plan_quotas AS p ON p.plan = o.plan AND p.quota = c.quota
CROSS JOIN member_usage AS u ON u.org_id = c.org_id AND u.user_id = c.user_id AND u.quota = c.quota
  AND u.period_start >= ?2 ->> p.period"""
"""By the longest that a period of the kind may last: of the organization nothing has to be known yet."""


class UserUsages(NamedTuple):
    """What one user took: of the own quotas, and of pools with a cap."""

    own: Usages = NO_USAGES
    of_pools: MemberUsages = NO_MEMBER_USAGES


async def read_user_usages(
    snapshot: Snapshot, users: Mapping[str, UserFacts], catalog: Catalog, now: int
) -> dict[str, UserUsages]:
    """For the quotas that each user has by plan, override or, in an organization, with a cap. One round trip."""
    asked = [period for user, facts in users.items() for period in _periods_of(user, facts, catalog, now)]
    capped = [user for user, facts in users.items() if any(cap.limit is not None for cap in facts.caps)]
    statements = [_usages_since(asked)] if asked else []
    if capped:
        since = {"never": _EVER} | {period: now - longest for period, longest in LONGEST_MS.items()}
        statements.append(Statement(_MEMBER_USAGES, (_json(capped), _json(since))))
    answers = await snapshot.read(*statements) if statements else []
    own = _by_owner(answers[0]) if asked else {}
    pools = _by_member(answers[-1]) if capped else {}
    return {user: UserUsages(own.get(f"user:{user}", NO_USAGES), pools.get(user, NO_MEMBER_USAGES)) for user in users}


async def read_pool_usages(
    snapshot: Snapshot, organizations: Mapping[str, OrganizationFacts], catalog: Catalog, now: int
) -> dict[str, Usages]:
    """By organization, what was taken of its pools; who took nothing is left out."""
    asked = [
        (f"org:{organization}", quota, period_bounds(limit.period, facts.anchor_at, facts.timezone, now)[0])
        for organization, facts in organizations.items()
        for quota, limit in catalog.plan(facts.plan).quotas.items()
    ]
    if not asked:
        return {}
    [rows] = await snapshot.read(_usages_since(asked))
    return {owner[4:]: usages for owner, usages in _by_owner(rows).items()}


def _periods_of(user: str, facts: UserFacts, catalog: Catalog, now: int) -> list[tuple[str, str, int]]:
    owner, limits = f"user:{user}", catalog.plan(facts.plan).quotas
    asked = [
        (owner, quota, period_bounds(limit.period, facts.anchor_at, facts.timezone, now)[0])
        for quota, limit in limits.items()
        if quota not in facts.overrides
    ]
    for quota, overrides in facts.overrides.items():
        candidates = [override.limit for override in overrides]
        if quota in limits:
            candidates.append(limits[quota])
        starts = [period_bounds(limit.period, facts.anchor_at, facts.timezone, now)[0] for limit in candidates]
        asked.append((owner, quota, min(starts)))
    return asked


def _usages_since(asked: list[tuple[str, str, int]]) -> Statement:
    return Statement(_USAGES, (_json(asked),))


def _by_owner(rows: Iterable[Row]) -> dict[str, dict[str, tuple[Usage, ...]]]:
    usages: dict[str, dict[str, tuple[Usage, ...]]] = {}
    owner: Any
    quota: Any
    for owner, quota, *usage in rows:
        mine = usages.setdefault(owner, {})
        mine[quota] = (*mine.get(quota, ()), Usage(*usage))
    return usages


def _by_member(rows: Iterable[Row]) -> dict[str, dict[tuple[str, str], tuple[Usage, ...]]]:
    usages: dict[str, dict[tuple[str, str], tuple[Usage, ...]]] = {}
    user: Any
    for user, *pool, period_start, used, reserved in rows:
        mine = usages.setdefault(user, {})
        organization, quota = pool
        mine[organization, quota] = (*mine.get((organization, quota), ()), Usage(period_start, used, reserved))
    return usages


def _json(values: object) -> str:
    return msgspec.json.encode(values).decode()
