"""From facts to documents: each section of a user's or an organization's document, as canonical JSON.

Sections that many users share (the same permissions, the untouched quotas of one plan) are the same bytes object:
building them again costs a look-up, and the patch between two of them is computed once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from gateway.core.clock import rfc3339
from gateway.core.document import canonical, parse_object
from gateway.core.facts import Catalog, Membership, OrganizationFacts, Section, UserFacts, UserSections
from gateway.core.permissions import effective
from gateway.core.quotas import QuotaOverride, balance, effective_limit, taken_in_period


class UserRow(NamedTuple):
    """The columns of `users` that the identity section shows; times in milliseconds since 1970 UTC."""

    id: str
    username: str
    name: str
    email: str | None
    plan: str
    status: str
    is_admin: int
    attributes: str
    created_at: int
    updated_at: int


class OrganizationRow(NamedTuple):
    """The columns of `organizations` that its own section shows; times in milliseconds since 1970 UTC."""

    id: str
    name: str
    plan: str
    status: str
    attributes: str
    created_at: int
    updated_at: int


class _Identity(msgspec.Struct):
    """The section as it is written: its members in the order of RFC 8785 §3.2.3."""

    attributes: msgspec.Raw
    created_at: str
    email: str | msgspec.UnsetType
    id: str
    is_admin: bool
    name: str
    plan: str
    status: str
    updated_at: str
    username: str


EMPTY = b"{}"
NO_ATTRIBUTES = msgspec.Raw(EMPTY)

_encode = msgspec.json.Encoder().encode


def identity_section(row: UserRow) -> bytes:
    """The identity of a user; raises ValueError for attributes that a document can not hold."""
    id, username, name, email, plan, status, is_admin, attributes, created_at, updated_at = row
    return _encode(
        _Identity(
            NO_ATTRIBUTES if attributes == "{}" else msgspec.Raw(canonical(parse_object(attributes))),
            rfc3339(created_at),
            UNSET if email is None else email,
            id,
            bool(is_admin),
            name,
            plan,
            status,
            rfc3339(updated_at),
            username,
        )
    )


def organization_section(row: OrganizationRow) -> bytes:
    """An organization's own section; raises ValueError for attributes that a document can not hold."""
    profile: dict[str, Any] = {
        "id": row.id,
        "name": row.name,
        "plan": row.plan,
        "status": row.status,
        "created_at": rfc3339(row.created_at),
        "updated_at": rfc3339(row.updated_at),
        "attributes": {} if row.attributes == "{}" else parse_object(row.attributes),
    }
    return canonical(profile)


def user_permissions(facts: UserFacts, catalog: Catalog, now: int) -> tuple[frozenset[str], int | None]:
    """What the user may do now, and when that changes by the clock."""
    roles = tuple((grant, catalog.roles.get(grant.role, frozenset())) for grant in facts.roles) if facts.roles else ()
    return effective(facts.active, catalog.plan(facts.plan).permissions, roles, facts.grants, now)


@lru_cache(maxsize=4096)
def permissions_section(permissions: frozenset[str]) -> bytes:
    """``{name: true}`` for each permission."""
    return canonical(dict.fromkeys(permissions, True)) if permissions else EMPTY


def quotas_section(facts: UserFacts, catalog: Catalog, now: int) -> Section:
    """The user's own quotas: the plan's rows, replaced one by one by overrides in force."""
    limits = catalog.plan(facts.plan).quotas
    if not limits and not facts.overrides:
        return Section(EMPTY, None)
    quotas: dict[str, Any] = {}
    changes: list[int] = []
    for quota in limits if not facts.overrides else limits.keys() | facts.overrides.keys():
        limit = limits.get(quota)
        overrides = facts.overrides.get(quota, ())
        if overrides:
            limit, limit_changes_at = effective_limit(limit, overrides, now)
            if limit_changes_at is not None:
                changes.append(limit_changes_at)
        if limit is not None:
            usages = facts.usages.get(quota, ())
            quotas[quota], resets_at = balance(limit, usages, facts.anchor_at, facts.timezone, now)
            if resets_at is not None:
                changes.append(resets_at)
    return Section(canonical(quotas), min(changes, default=None))


def user_sections(facts: UserFacts, catalog: Catalog, now: int) -> UserSections:
    """All of a user's document but the identity; one object for all who have nothing but their plan.

    Raises ValueError for what a document can not hold.
    """
    if (
        facts.usages
        or facts.grants
        or facts.roles
        or facts.overrides
        or facts.memberships
        or facts.anchor_at is not None
    ):
        return _user_sections(facts, catalog, now)
    key = (facts.plan, facts.active, facts.timezone)
    known = catalog.plain_sections.get(key)
    if known is None or not known.holds(now):
        known = catalog.plain_sections[key] = _user_sections(facts, catalog, now)
    return known


def _user_sections(facts: UserFacts, catalog: Catalog, now: int) -> UserSections:
    permissions, permissions_change_at = user_permissions(facts, catalog, now)
    quotas = quotas_section(facts, catalog, now)
    organizations = organizations_section(facts, catalog, now)
    moments = (permissions_change_at, quotas.changes_at, organizations.changes_at)
    return UserSections(
        permissions,
        (organizations.content, permissions_section(permissions), quotas.content),
        min((moment for moment in moments if moment is not None), default=None),
        now,
    )


def pool_quotas(organization: OrganizationFacts, catalog: Catalog, now: int) -> tuple[dict[str, Any], int | None]:
    """An organization's pooled quotas by name, and when they change by the clock."""
    quotas: dict[str, Any] = {}
    changes: list[int] = []
    for quota, limit in catalog.plan(organization.plan).quotas.items():
        usages = organization.usages.get(quota, ())
        quotas[quota], resets_at = balance(limit, usages, organization.anchor_at, organization.timezone, now)
        if resets_at is not None:
            changes.append(resets_at)
    return quotas, min(changes, default=None)


def organizations_section(facts: UserFacts, catalog: Catalog, now: int) -> Section:
    """The organizations that the user is a member of; a disabled one is not shown. Raises ValueError for one whose
    facts are not to be had.
    """
    if not facts.memberships:
        return Section(EMPTY, None)
    organizations: dict[str, Any] = {}
    changes: list[int] = []
    for membership in facts.memberships:
        organization = catalog.organizations.get(membership.organization)
        if organization is None and membership.organization in catalog.bad_organizations:
            raise ValueError(f"its organization {membership.organization} can not be built")
        if organization is None or not organization.active:
            continue
        quotas, changes_at = pool_quotas(organization, catalog, now)
        if facts.caps:
            changes += _add_caps(quotas, membership.organization, facts, catalog, now)
        organizations[membership.organization] = {
            "name": organization.name,
            "role": membership.role,
            "permissions": dict.fromkeys(membership_permissions(facts, membership, catalog), True),
            "quotas": quotas,
        }
        if changes_at is not None:
            changes.append(changes_at)
    return Section(canonical(organizations), min(changes, default=None))


def _add_caps(quotas: dict[str, Any], organization_id: str, facts: UserFacts, catalog: Catalog, now: int) -> list[int]:
    """Add to a pool's entries how much of it this member may take, and how much of that is left. Answers when the clock
    changes that before the period ends.
    """
    organization = catalog.organizations[organization_id]
    limits = catalog.plan(organization.plan).quotas
    changes: list[int] = []
    for cap in facts.caps:
        if cap.organization != organization_id or cap.limit is None or cap.quota not in quotas:
            continue
        usages = facts.member_usages.get((organization_id, cap.quota), ())
        period = limits[cap.quota].period
        taken, changes_at = taken_in_period(usages, period, organization.anchor_at, organization.timezone, now)
        quotas[cap.quota]["cap"] = cap.limit
        quotas[cap.quota]["cap_remaining"] = max(0, cap.limit - taken)
        if changes_at is not None:
            changes.append(changes_at)
    return changes


def membership_permissions(facts: UserFacts, membership: Membership, catalog: Catalog) -> frozenset[str]:
    """What a membership's role grants inside its organization; nothing for a user who is not active."""
    return catalog.organization_roles.get(membership.role, frozenset()) if facts.active else frozenset()


def members_section(organization: OrganizationFacts) -> bytes:
    """The member list: ``{user id: {role, since}}``."""
    return canonical(
        {member.user: {"role": member.role, "since": rfc3339(member.since)} for member in organization.members or ()}
    )


def override_rows(rows: list[tuple[str, QuotaOverride]]) -> dict[str, tuple[QuotaOverride, ...]]:
    """Group a user's override rows by quota."""
    grouped: dict[str, tuple[QuotaOverride, ...]] = {}
    for quota, override in rows:
        grouped[quota] = (*grouped.get(quota, ()), override)
    return grouped
