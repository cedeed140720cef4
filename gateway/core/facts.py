"""What the database says about users, plans, roles and organizations: the material that documents are built from.

Facts are immutable and small: a node keeps those of every document that somebody watches, so that a change of a
plan, or of the time, needs no database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.core.permissions import Grant, RoleGrant
from gateway.core.quotas import Limit, QuotaOverride, Usage

Usages = Mapping[str, tuple[Usage, ...]]
NO_USAGES: Usages = {}
MemberUsages = Mapping[tuple[str, str], tuple[Usage, ...]]
"""By organization and quota, what one member took of the pool."""
NO_MEMBER_USAGES: MemberUsages = {}
NOBODY: frozenset[str] = frozenset()


class Plan(NamedTuple):
    """A row of `plans` with its permissions and quota limits by name."""

    permissions: frozenset[str]
    quotas: Mapping[str, Limit]


NO_PLAN = Plan(NOBODY, {})


class Membership(NamedTuple):
    """A user's place in an organization."""

    organization: str
    role: str


class Cap(NamedTuple):
    """A row of `member_caps`: how much of an organization's pool one member may take in a period (None: no cap)."""

    organization: str
    quota: str
    limit: int | None


class UserFacts(NamedTuple):
    """All about one user but the identity section, which is kept encoded; `member_usages` of pools with a cap alone."""

    plan: str
    active: bool
    is_admin: bool
    timezone: str
    anchor_at: int | None
    roles: tuple[RoleGrant, ...] = ()
    grants: tuple[Grant, ...] = ()
    overrides: Mapping[str, tuple[QuotaOverride, ...]] = {}
    usages: Usages = NO_USAGES
    memberships: tuple[Membership, ...] = ()
    caps: tuple[Cap, ...] = ()
    member_usages: MemberUsages = NO_MEMBER_USAGES

    def pools(self) -> Sequence[str]:
        """The organizations whose balances the user's document shows beside the user's own: ``org:ID``."""
        return [f"org:{membership.organization}" for membership in self.memberships] if self.memberships else ()


class Member(NamedTuple):
    """A member as an organization's document lists it; `since` in milliseconds since 1970 UTC."""

    user: str
    role: str
    since: int


class OrganizationFacts(NamedTuple):
    """All about one organization; `profile` is its encoded own section, `members` None until somebody watches its
    document.
    """

    name: str
    plan: str
    active: bool
    timezone: str
    anchor_at: int | None
    profile: bytes
    usages: Usages = NO_USAGES
    members: tuple[Member, ...] | None = None


class Section(NamedTuple):
    """Canonical JSON, and the moment at which it changes by the clock (milliseconds since 1970 UTC; None: never)."""

    content: bytes
    changes_at: int | None


class UserSections(NamedTuple):
    """A user's document without its identity: what it may do, the sections ``organizations``, ``permissions`` and
    ``quotas`` as canonical JSON, and for how long they hold: from `since` until `changes_at` (milliseconds since
    1970 UTC; None: for ever).
    """

    permissions: frozenset[str]
    contents: tuple[bytes, bytes, bytes]
    changes_at: int | None
    since: int

    def holds(self, now: int) -> bool:
        """Whether building them again would make the same; no longer, when the clock was set back."""
        return self.since <= now and (self.changes_at is None or now < self.changes_at)


class Catalog:
    """What many documents share. A node keeps one, whole for plans and roles, and with the organizations that its
    documents mention.
    """

    def __init__(self) -> None:
        self.plans: dict[str, Plan] = {}
        self.roles: dict[str, frozenset[str]] = {}
        self.organization_roles: dict[str, frozenset[str]] = {}
        self.organizations: dict[str, OrganizationFacts] = {}
        self.bad_organizations: set[str] = set()
        """Those that are there, but whose facts can not be made from their rows."""
        self.plain_sections: dict[tuple[str, bool, str], UserSections] = {}
        """What users share who have nothing but their plan, by plan, being active, and time zone."""

    def plan(self, plan_id: str) -> Plan:
        """The plan, or one that gives nothing."""
        return self.plans.get(plan_id, NO_PLAN)

    def known_permissions(self) -> frozenset[str]:
        """Every permission that some plan gives."""
        return NOBODY.union(*(plan.permissions for plan in self.plans.values()))
