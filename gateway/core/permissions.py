"""What a user may do, until when, and why.

A permission is held when the plan, a role or an ``allow`` row gives it and no ``deny`` row takes it, each within its
dates: from `starts_at` (included; None: always) until `expires_at` (excluded; None: for good). A user who is not active
has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

_NONE: frozenset[str] = frozenset()


class Grant(NamedTuple):
    """A row of `user_permissions`; `effect` is ``allow`` or ``deny``."""

    permission: str
    effect: str
    starts_at: int | None
    expires_at: int | None


class RoleGrant(NamedTuple):
    """A row of `user_roles`."""

    role: str
    expires_at: int | None


class Reason(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One thing that has to do with a permission.

    `source` is ``status``, ``plan``, ``role``, ``allow`` or ``deny``; `name` the user's status, the plan or the role,
    and the permission for a row about it; `effect` ``allow`` or ``deny``. `counts` says whether it decides the answer
    now: one outside its dates does not, nor does what a denial overrules. So the permission is held if and only if a
    reason that counts allows it. `row` names the table and the row's key.
    """

    source: str
    name: str
    effect: str
    counts: bool
    row: dict[str, str | int | None]
    starts_at: int | None = None
    expires_at: int | None = None


def effective(
    active: bool,
    plan: frozenset[str],
    roles: Sequence[tuple[RoleGrant, frozenset[str]]],
    grants: Sequence[Grant],
    now_ms: int,
) -> tuple[frozenset[str], int | None]:
    """The permissions held now, and the next moment at which that may change by the clock (None: never).

    `roles` come with what each role gives. A user without roles and grants gets the very set of the plan. Raises
    ValueError for an effect that is neither ``allow`` nor ``deny``.
    """
    if not active:
        return _NONE, None
    if not roles and not grants:
        return plan, None
    changes: list[int] = []
    held = plan
    for grant, given in roles:
        if _in_force(None, grant.expires_at, now_ms, changes):
            held |= given
    allowed: set[str] = set()
    denied: set[str] = set()
    for permission, effect, starts_at, expires_at in grants:
        if effect not in ("allow", "deny"):
            raise ValueError("the effect of a user's permission is allow or deny")
        if _in_force(starts_at, expires_at, now_ms, changes):
            (allowed if effect == "allow" else denied).add(permission)
    return (held | allowed) - denied, min(changes, default=None)


def _in_force(starts_at: int | None, expires_at: int | None, now_ms: int, changes: list[int]) -> bool:
    """Whether now lies within the dates; the moment at which that changes next, if any, is added to `changes`."""
    if expires_at is not None and expires_at <= now_ms:
        return False
    if starts_at is not None and starts_at > now_ms:
        if expires_at is None or starts_at < expires_at:
            changes.append(starts_at)
        return False
    if expires_at is not None:
        changes.append(expires_at)
    return True


def explain_permission(
    permission: str,
    *,
    user: str,
    active: bool,
    plan: str,
    plan_permissions: frozenset[str],
    roles: Sequence[tuple[RoleGrant, frozenset[str]]] = (),
    grants: Sequence[Grant] = (),
    now_ms: int,
) -> list[Reason]:
    """Everything that has to do with a user's permission, by the rules of `effective`: status, plan, roles, own rows.

    Empty: nothing gives it and nothing denies it.
    """
    reasons: list[Reason] = []
    own = [grant for grant in grants if grant.permission == permission]
    denied = any(grant.effect == "deny" and _in_force(grant.starts_at, grant.expires_at, now_ms, []) for grant in own)
    allows = active and not denied
    if not active:
        row: dict[str, str | int | None] = {"table": "users", "id": user}
        reasons.append(Reason(source="status", name="disabled", effect="deny", counts=True, row=row))
    if permission in plan_permissions:
        row = {"table": "plan_permissions", "plan": plan, "permission": permission}
        reasons.append(Reason(source="plan", name=plan, effect="allow", counts=allows, row=row))
    for held, given in roles:
        if permission in given:
            row = {"table": "user_roles", "user_id": user, "role": held.role}
            counts = allows and _in_force(None, held.expires_at, now_ms, [])
            ends = held.expires_at
            reasons.append(
                Reason(source="role", name=held.role, effect="allow", counts=counts, row=row, expires_at=ends)
            )
    return reasons + [_own_row(user, grant, active, allows, now_ms) for grant in own]


def _own_row(user: str, grant: Grant, active: bool, allows: bool, now_ms: int) -> Reason:
    """The reason that a row of `user_permissions` is; `allows`: whether allowing rows can count."""
    may_count = active if grant.effect == "deny" else allows
    return Reason(
        source=grant.effect,
        name=grant.permission,
        effect=grant.effect,
        counts=may_count and _in_force(grant.starts_at, grant.expires_at, now_ms, []),
        row={"table": "user_permissions", "user_id": user, "permission": grant.permission, "effect": grant.effect},
        starts_at=grant.starts_at,
        expires_at=grant.expires_at,
    )
