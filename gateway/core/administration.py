"""Who may change what about whom.

The gateway's own permissions open this very API. Whoever may hand out those holds all of them, so they are handed out
and taken by administrators alone, on every way there is: rows of a user, roles, plans. So is what makes somebody an
administrator, and every change of an administrator's account. A refused attempt changes nothing, and is counted, not
put into the audit trail: else anybody could fill that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any

import msgspec

from gateway.core.access import MANAGE_MEMBERS, READ_ORGANIZATIONS, READ_USERS
from gateway.errors import Forbidden

WRITE_USERS = "users.write"
WRITE_PLANS = "plans.write"
WRITE_ROLES = "roles.write"
WRITE_ORGANIZATIONS = "orgs.write"
INTROSPECT_TOKENS = "tokens.introspect"

OWN_PERMISSIONS = frozenset(
    (READ_USERS, WRITE_USERS, WRITE_PLANS, WRITE_ROLES, READ_ORGANIZATIONS, WRITE_ORGANIZATIONS, INTROSPECT_TOKENS)
)
"""The permissions that the gateway itself asks for."""

OWN_FIELDS = frozenset(("name", "email", "timezone", "attributes"))
"""What users may change about themselves."""

MANAGED_FIELDS = frozenset(("name", "timezone", "attributes"))
"""What those who manage an organization may change about it."""


def check_handing_out(is_admin: bool, before: Iterable[str], after: Iterable[str]) -> None:
    """Raises Forbidden when anybody but an administrator changes who has which of the gateway's own permissions:
    `before` and `after` are what a plan, a role or a user's rows give.
    """
    handed = frozenset(before) ^ frozenset(after)
    if not is_admin and handed & OWN_PERMISSIONS:
        raise Forbidden("The gateway's own permissions are handed out by administrators.")


def check_membership_roles(is_admin: bool, before: Iterable[str], after: Iterable[str]) -> None:
    """Raises Forbidden when anybody but an administrator changes whether a membership's role manages its organization:
    `before` and `after` are what it grants.
    """
    if not is_admin and MANAGE_MEMBERS in frozenset(before) ^ frozenset(after):
        raise Forbidden(f"Which members have {MANAGE_MEMBERS} is decided by administrators.")


def check_account(is_admin: bool, target_is_admin: bool) -> None:
    """Raises Forbidden when anybody but an administrator touches an administrator's account."""
    if target_is_admin and not is_admin:
        raise Forbidden("An administrator's account is changed by administrators.")


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> frozenset[str]:
    """The names of the members that are not the same JSON (to Python, 1 is True)."""
    return frozenset(
        name
        for name in before.keys() | after.keys()
        if msgspec.json.encode(before.get(name), order="sorted") != msgspec.json.encode(after.get(name), order="sorted")
    )


class Standing(IntEnum):
    """What somebody is to an organization; whoever stands higher may do all that those below may."""

    STRANGER = 0
    MEMBER = 1
    READER = 2
    MANAGER = 3
    OWNER = 4
    ADMINISTRATOR = 5


def check_membership(standing: Standing, before: str | None, after: str | None) -> None:
    """Raises Forbidden unless somebody of this standing may change a member's role from `before` to `after` (None: no
    member): managers do, but owners are made and removed by owners.
    """
    if standing < Standing.MANAGER:
        raise Forbidden("This is for those who manage the organization.")
    if "owner" in (before, after) and standing < Standing.OWNER:
        raise Forbidden("Owners are made and removed by owners.")
