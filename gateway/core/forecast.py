"""What a change of a plan would mean for one user who is on it, by the rules that documents are built by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gateway.core.facts import NOBODY, Catalog, Plan, UserFacts
from gateway.core.quotas import Limit, effective_limit, taken_in_period
from gateway.core.sections import user_permissions


class Outlook(NamedTuple):
    """What becomes of one user: permissions `gained` and `lost`, the `quotas` whose limit, period or hardness becomes
    another (or that come or go), and those of them of which more is taken than the new limit.
    """

    gained: frozenset[str] = NOBODY
    lost: frozenset[str] = NOBODY
    quotas: frozenset[str] = NOBODY
    over: frozenset[str] = NOBODY


UNCHANGED = Outlook()


class Forecast:
    """The plan `plan_id` as it is in `catalog`, and as it would be: `after`."""

    def __init__(self, plan_id: str, catalog: Catalog, after: Plan) -> None:
        self._before = catalog.plan(plan_id).quotas
        self._after = after.quotas
        self._catalog, self._changed = catalog, Catalog()
        self._changed.roles, self._changed.plans = catalog.roles, {**catalog.plans, plan_id: after}
        names = self._before.keys() | self._after.keys()
        self.quotas = frozenset(name for name in names if _told(self._before.get(name)) != _told(self._after.get(name)))
        """The quotas that are about to change."""

    def outlook(self, facts: UserFacts, now: int) -> Outlook:
        """What becomes of a user on the plan, if it changes at `now` (milliseconds since 1970 UTC). The balances in
        `facts` have to be those of the new periods. Raises ValueError for facts that no document can be built from.
        """
        before, _ = user_permissions(facts, self._catalog, now)
        after, _ = user_permissions(facts, self._changed, now)
        changed = [quota for quota in self.quotas if self._differs(quota, facts, now)]
        return Outlook(after - before, before - after, frozenset(changed), self._over(changed, facts, now))

    def _differs(self, quota: str, facts: UserFacts, now: int) -> bool:
        """An override in force stands for the plan's limit, before and after."""
        own = facts.overrides.get(quota, ())
        before, _ = effective_limit(self._before.get(quota), own, now)
        after, _ = effective_limit(self._after.get(quota), own, now)
        return _told(before) != _told(after)

    def _over(self, changed: Iterable[str], facts: UserFacts, now: int) -> frozenset[str]:
        """Whose entitlement changes has the plan's new limit."""
        found = []
        for quota in changed:
            limit = self._after.get(quota)
            if limit is None:
                continue
            taken, _ = taken_in_period(facts.usages.get(quota, ()), limit.period, facts.anchor_at, facts.timezone, now)
            if limit.limit is not None and taken > limit.limit:
                found.append(quota)
        return frozenset(found)


def _told(limit: Limit | None) -> Limit | None:
    """A limit as documents show it: whether none may be passed is nobody's question."""
    return limit if limit is None or limit.limit is not None else limit._replace(hard=True)
