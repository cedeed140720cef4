"""Which users' documents hang on which plan, role and organization: the way from one changed row to everybody it
touches.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gateway.core.facts import UserFacts

if TYPE_CHECKING:
    from gateway.live.entry import UserEntry

Index = dict[str, "dict[UserEntry, None]"]


class Related:
    """Three indexes from an id to the user entries on this node."""

    def __init__(self) -> None:
        self._plans: Index = {}
        self._roles: Index = {}
        self._organizations: Index = {}

    def on_plan(self, plan: str) -> Iterable[UserEntry]:
        """Users on a plan."""
        return tuple(self._plans.get(plan, ()))

    def with_role(self, role: str) -> Iterable[UserEntry]:
        """Users that have a role, in force or not."""
        return tuple(self._roles.get(role, ()))

    def members(self, organization: str) -> tuple[UserEntry, ...]:
        """Users that are members of an organization."""
        return tuple(self._organizations.get(organization, ()))

    def in_organizations(self) -> Iterable[UserEntry]:
        """Users that are members anywhere."""
        return tuple({entry: None for entries in self._organizations.values() for entry in entries})

    def update(self, entry: UserEntry, before: UserFacts | None, after: UserFacts | None) -> None:
        """An entry's facts changed; None: it has none before, or none any more."""
        if before is after:
            return
        if before is None or after is None or before.plan != after.plan:
            _move(self._plans, entry, (before.plan,) if before else (), (after.plan,) if after else ())
        old_roles = {grant.role for grant in before.roles} if before and before.roles else ()
        new_roles = {grant.role for grant in after.roles} if after and after.roles else ()
        if old_roles != new_roles:
            _move(self._roles, entry, old_roles, new_roles)
        old = {membership.organization for membership in before.memberships} if before and before.memberships else ()
        new = {membership.organization for membership in after.memberships} if after and after.memberships else ()
        if old != new:
            _move(self._organizations, entry, old, new)


def _move(index: Index, entry: UserEntry, old: Iterable[str], new: Iterable[str]) -> None:
    for key in old:
        entries = index.get(key)
        if entries is not None:
            entries.pop(entry, None)
            if not entries:
                del index[key]
    for key in new:
        index.setdefault(key, {})[entry] = None
