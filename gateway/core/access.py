"""Who may watch and read which document."""

from __future__ import annotations

import enum

from gateway.core.facts import Catalog, UserFacts
from gateway.core.principal import Principal, PrincipalKind

READ_USERS = "users.read"
READ_ORGANIZATIONS = "orgs.read"
MANAGE_MEMBERS = "manage_members"
SPEND = "quotas.spend"


class Access(enum.Enum):
    """How much of a document a principal may see. PARTIAL: an organization without its member list."""

    NONE = enum.auto()
    PARTIAL = enum.auto()
    FULL = enum.auto()


def allowed(principal: Principal, facts: UserFacts, permissions: frozenset[str], permission: str) -> bool:
    """Whether the principal holds a permission now, an administrator all of them, and its credential does not narrow
    it away.
    """
    if principal.permissions is not None and permission not in principal.permissions:
        return False
    return facts.active and (facts.is_admin or permission in permissions)


def access_to_user(principal: Principal, facts: UserFacts, permissions: frozenset[str], user: str) -> Access:
    """A user's document: for that user, and for whoever holds ``users.read``."""
    if principal.kind is PrincipalKind.USER and principal.id == user:
        return Access.FULL
    return Access.FULL if allowed(principal, facts, permissions, READ_USERS) else Access.NONE


def access_to_organization(
    principal: Principal, facts: UserFacts, permissions: frozenset[str], organization: str, catalog: Catalog
) -> Access:
    """An organization's document: whole for ``orgs.read`` and for members who may manage it, without the member list
    for the others.
    """
    if allowed(principal, facts, permissions, READ_ORGANIZATIONS):
        return Access.FULL
    known = catalog.organizations.get(organization)
    if known is None or not known.active or not facts.active:
        return Access.NONE
    for membership in facts.memberships:
        if membership.organization == organization:
            granted = catalog.organization_roles.get(membership.role, frozenset())
            return Access.FULL if MANAGE_MEMBERS in granted else Access.PARTIAL
    return Access.NONE


def access_of_instance(doc: str) -> Access:
    """What a server instance may watch beside its own document: users, organizations, what is revoked, the keys."""
    kind, _, id = doc.partition(":")
    may = doc in ("revocations", "keys") or (kind in ("user", "org") and id != "")
    return Access.FULL if may else Access.NONE


def may_spend(principal: Principal) -> bool:
    """Whether the credential spends its owner's quotas, and pools that its owner is a member of: each does that was not
    narrowed, and one whose scopes name ``quotas.spend``.
    """
    return principal.permissions is None or SPEND in principal.permissions
