"""Reads the facts that documents are built from, many documents at a time and only the parts that changed.

All reads of one call come from one snapshot. Ids travel as one JSON array, so that a statement serves any number of
documents.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from gateway.core.facts import (
    Cap,
    Catalog,
    Member,
    Membership,
    OrganizationFacts,
    UserFacts,
)
from gateway.core.permissions import Grant, RoleGrant
from gateway.core.quotas import Limit, QuotaOverride, period_bounds
from gateway.core.sections import (
    OrganizationRow,
    UserRow,
    identity_section,
    organization_section,
    override_rows,
)
from gateway.store.database import Reader, Row, Snapshot, Statement
from gateway.store.usages import read_pool_usages, read_user_usages

W = TypeVar("W")
F = TypeVar("F")


class Part:
    """The tables that a user's document is read from, as bits of an int (an enum's operators would be a third of a
    document's cost).
    """

    NONE = 0
    IDENTITY = 1
    ROLES = 2
    GRANTS = 4
    OVERRIDES = 8
    USAGES = 16
    MEMBERSHIPS = 32
    CAPS = 64
    ALL = 127


CAUSE_PARTS: Mapping[str, int] = {
    "profile": Part.IDENTITY,
    "status": Part.IDENTITY,
    "plan": Part.IDENTITY | Part.USAGES,
    "roles": Part.ROLES,
    "permissions": Part.GRANTS,
    "quota_limit": Part.OVERRIDES | Part.USAGES | Part.CAPS,
    "quota_usage": Part.USAGES,
    "organization": Part.MEMBERSHIPS | Part.USAGES,
    "revocation": Part.NONE,
}
"""What a change of a user's document makes necessary to read again; any other cause: everything."""


class LoadedUser(NamedTuple):
    """A user as just read; `identity` is None when that part was not asked for."""

    facts: UserFacts
    identity: bytes | None


class BadDocument(NamedTuple):
    """A document that can not be built: the reason is for logs."""

    reason: str


Wanted = Mapping[str, tuple[int, UserFacts | None]]
"""By user, the parts to read (bits of `Part`) and what is known already."""

Users = dict[str, LoadedUser | BadDocument | None]
"""By user, what was read; None: there is no such user."""


_IDENTITY = """
SELECT u.id, u.username, u.name, u.email, u.plan, u.status, u.is_admin, u.attributes, u.created_at, u.updated_at,
       u.timezone, u.anchor_at
FROM json_each(?1) AS wanted CROSS JOIN users AS u ON u.id = wanted.value"""
_WHOLE = """
SELECT u.id, u.username, u.name, u.email, u.plan, u.status, u.is_admin, u.attributes, u.created_at, u.updated_at,
       u.timezone, u.anchor_at,
       2 * EXISTS (SELECT 1 FROM user_roles WHERE user_id = u.id)
       + 4 * EXISTS (SELECT 1 FROM user_permissions WHERE user_id = u.id)
       + 8 * EXISTS (SELECT 1 FROM user_quotas WHERE user_id = u.id)
       + 16 * (EXISTS (SELECT 1 FROM quota_usage WHERE owner = 'user:' || u.id)
         OR EXISTS (SELECT 1 FROM member_usage WHERE user_id = u.id))
       + 32 * EXISTS (SELECT 1 FROM memberships WHERE user_id = u.id)
       + 64 * EXISTS (SELECT 1 FROM member_caps WHERE user_id = u.id)
FROM json_each(?1) AS wanted CROSS JOIN users AS u ON u.id = wanted.value"""
"""`_IDENTITY`, and which parts a user has any rows of: most users have few, and a statement not made is the fastest."""
_STATUSES = "SELECT u.id, u.status FROM json_each(?1) AS wanted CROSS JOIN users AS u ON u.id = wanted.value"
_ROLES = """
SELECT r.user_id, r.role, r.expires_at
FROM json_each(?1) AS wanted CROSS JOIN user_roles AS r ON r.user_id = wanted.value"""
_GRANTS = """
SELECT p.user_id, p.permission, p.effect, p.starts_at, p.expires_at
FROM json_each(?1) AS wanted CROSS JOIN user_permissions AS p ON p.user_id = wanted.value"""
_OVERRIDES = """
SELECT q.user_id, q.quota, q.limit_value, q.period, q.hard, q.starts_at, q.expires_at
FROM json_each(?1) AS wanted CROSS JOIN user_quotas AS q ON q.user_id = wanted.value"""
_MEMBERSHIPS = """
SELECT m.user_id, m.org_id, m.role
FROM json_each(?1) AS wanted CROSS JOIN memberships AS m ON m.user_id = wanted.value
ORDER BY m.user_id, m.org_id"""
_CAPS = """
SELECT c.user_id, c.org_id, c.quota, c.limit_value
FROM json_each(?1) AS wanted CROSS JOIN member_caps AS c ON c.user_id = wanted.value"""
_ORGANIZATIONS = """
SELECT o.id, o.name, o.plan, o.status, o.attributes, o.created_at, o.updated_at, o.timezone, o.anchor_at
FROM json_each(?1) AS wanted CROSS JOIN organizations AS o ON o.id = wanted.value"""
_MEMBERS = """
SELECT m.org_id, m.user_id, m.role, m.created_at
FROM json_each(?1) AS wanted CROSS JOIN memberships AS m ON m.org_id = wanted.value"""


async def load_users(snapshot: Snapshot, wanted: Wanted, catalog: Catalog, now: int) -> Users:
    """Read the parts named for each user; parts not named are taken from the facts given.

    Facts must be given wherever not all parts are asked for. `catalog` must be exact at the snapshot.
    """
    return await _isolated(lambda some: _load_users(snapshot, some, catalog, now), wanted)


async def _isolated(
    load: Callable[[Mapping[str, W]], Awaitable[dict[str, F | BadDocument | None]]], wanted: Mapping[str, W]
) -> dict[str, F | BadDocument | None]:
    """All together; each alone when one of them spoils that (text that is not UTF-8, a period beyond the calendar)."""
    try:
        return await load(wanted)
    except ValueError as exc:
        if len(wanted) == 1:
            return dict.fromkeys(wanted, BadDocument(f"{type(exc).__name__}: {exc}"))
    loaded: dict[str, F | BadDocument | None] = {}
    for name, want in wanted.items():
        loaded |= await _isolated(load, {name: want})
    return loaded


async def _load_users(snapshot: Snapshot, wanted: Wanted, catalog: Catalog, now: int) -> Users:
    identities = await _read_identities(snapshot, wanted)
    parts_of = {
        user: parts & (identities[user][12] | Part.IDENTITY) if parts == Part.ALL and user in identities else parts
        for user, (parts, _) in wanted.items()
    }
    rows = await _read_parts(snapshot, parts_of)
    loaded: Users = {}
    for user, (parts, before) in wanted.items():
        if parts & Part.IDENTITY and user not in identities:
            loaded[user] = None
            continue
        try:
            known = None if parts == Part.ALL else before
            found = loaded[user] = _assemble(user, parts_of[user], known, identities.get(user), rows)
        except (ValueError, TypeError, OverflowError) as exc:
            loaded[user] = BadDocument(f"{type(exc).__name__}: {exc}")
            continue
        if known is not None and (found.facts.timezone, found.facts.anchor_at) != (known.timezone, known.anchor_at):
            # The periods begin elsewhere now, perhaps before anything that was read.
            parts_of[user] |= Part.USAGES
    await _load_user_usages(snapshot, parts_of, loaded, catalog, now)
    return loaded


async def _read_identities(snapshot: Snapshot, wanted: Wanted) -> dict[Any, Row]:
    whole = [user for user, (parts, _) in wanted.items() if parts == Part.ALL]
    alone = [user for user, (parts, _) in wanted.items() if parts & Part.IDENTITY and parts != Part.ALL]
    statements = [Statement(sql, (_array(ids),)) for sql, ids in ((_WHOLE, whole), (_IDENTITY, alone)) if ids]
    answers = await snapshot.read(*statements) if statements else []
    return {row[0]: row for answer in answers for row in answer}


async def _read_parts(snapshot: Snapshot, parts_of: Mapping[str, int]) -> dict[int, dict[Any, list[Row]]]:
    reads = [
        (part, ids, sql)
        for part, sql in _PART_STATEMENTS
        if (ids := [user for user, parts in parts_of.items() if parts & part])
    ]
    answers = await snapshot.read(*(Statement(sql, (_array(ids),)) for _, ids, sql in reads)) if reads else []
    return {part: by_first_column(answer) for (part, _, _), answer in zip(reads, answers, strict=True)}


def _assemble(
    user: str, parts: int, before: UserFacts | None, row: Row | None, rows: Mapping[int, Mapping[Any, list[Row]]]
) -> LoadedUser:
    facts = before
    identity = None
    if row is not None:
        identity = identity_section(UserRow._make(row[:10]))
        own: tuple[Any, ...] = (row[4], row[5] == "active", bool(row[6]), row[10], row[11])
        if facts is None or facts[:5] != own:
            period_bounds("day", None, own[3], 0)
            facts = UserFacts(*own, *(facts[5:] if facts is not None else ()))
    if facts is None:
        raise ValueError("parts of a document that was never read whole")
    if parts & ~(Part.IDENTITY | Part.USAGES):
        facts = _with_grants(facts, user, parts, rows)
    return LoadedUser(facts, identity)


def _with_grants(facts: UserFacts, user: str, parts: int, rows: Mapping[int, Mapping[Any, list[Row]]]) -> UserFacts:
    new: dict[str, Any] = {}
    if parts & Part.ROLES:
        new["roles"] = tuple(RoleGrant(*row[1:]) for row in rows[Part.ROLES].get(user, ()))
    if parts & Part.GRANTS:
        new["grants"] = tuple(Grant(*row[1:]) for row in rows[Part.GRANTS].get(user, ()))
    if parts & Part.OVERRIDES:
        new["overrides"] = override_rows([_override(row) for row in rows[Part.OVERRIDES].get(user, ())])
    if parts & Part.MEMBERSHIPS:
        new["memberships"] = tuple(Membership(*row[1:]) for row in rows[Part.MEMBERSHIPS].get(user, ()))
    if parts & Part.CAPS:
        new["caps"] = tuple(Cap(*row[1:]) for row in rows[Part.CAPS].get(user, ()))
    if any(new.values()) or any(getattr(facts, name) for name in new):
        return facts._replace(**new)
    return facts


def _override(row: Row) -> tuple[str, QuotaOverride]:
    _, quota, limit_value, period, hard, starts_at, expires_at = row
    limit = Limit(limit_value, period, bool(hard))
    return quota, QuotaOverride(limit, starts_at, expires_at)


async def _load_user_usages(
    snapshot: Snapshot, parts_of: Mapping[str, int], loaded: Users, catalog: Catalog, now: int
) -> None:
    """Read balances of the periods under way, for the quotas that each user has."""
    found = {
        user: known.facts
        for user, parts in parts_of.items()
        if parts & Part.USAGES and isinstance(known := loaded[user], LoadedUser)
    }
    for user, (own, of_pools) in (await read_user_usages(snapshot, found, catalog, now)).items():
        facts, known = found[user], loaded[user]
        if isinstance(known, LoadedUser) and (own or of_pools or facts.usages or facts.member_usages):
            loaded[user] = known._replace(facts=facts._replace(usages=own, member_usages=of_pools))


async def load_organizations(
    snapshot: Snapshot, wanted: Mapping[str, bool], catalog: Catalog, now: int
) -> dict[str, OrganizationFacts | BadDocument | None]:
    """Read whole organizations; the value says whether the member list is wanted too. None: there is no such
    organization.
    """
    if not wanted:
        return {}
    return await _isolated(lambda some: _load_organizations(snapshot, some, catalog, now), wanted)


async def _load_organizations(
    snapshot: Snapshot, wanted: Mapping[str, bool], catalog: Catalog, now: int
) -> dict[str, OrganizationFacts | BadDocument | None]:
    statements = [Statement(_ORGANIZATIONS, (_array(list(wanted)),))]
    listed = [organization for organization, members in wanted.items() if members]
    if listed:
        statements.append(Statement(_MEMBERS, (_array(listed),)))
    answers = await snapshot.read(*statements)
    members = by_first_column(answers[1]) if listed else {}
    loaded: dict[str, OrganizationFacts | BadDocument | None] = dict.fromkeys(wanted)
    for row in answers[0]:
        organization: Any = row[0]
        try:
            facts = _organization(row)
        except (ValueError, TypeError, OverflowError) as exc:
            loaded[organization] = BadDocument(f"{type(exc).__name__}: {exc}")
            continue
        if wanted[organization]:
            facts = facts._replace(members=tuple(Member(*m[1:]) for m in members.get(organization, ())))
        loaded[organization] = facts
    found = {id: facts for id, facts in loaded.items() if isinstance(facts, OrganizationFacts)}
    for organization, usages in (await read_pool_usages(snapshot, found, catalog, now)).items():
        loaded[organization] = found[organization]._replace(usages=usages)
    return loaded


def _organization(row: Row) -> OrganizationFacts:
    profile = organization_section(OrganizationRow(*row[:7]))
    timezone: Any = row[7]
    period_bounds("day", None, timezone, 0)
    return OrganizationFacts(row[1], row[2], row[3] == "active", timezone, row[8], profile)


async def statuses(reader: Reader, users: Iterable[str]) -> dict[str, str]:
    """By user, ``active`` or ``disabled``; who does not exist is left out."""
    [rows] = await reader.read(Statement(_STATUSES, (_array(list(users)),)))
    return dict(rows)


def by_first_column(rows: Iterable[Row]) -> dict[Any, list[Row]]:
    """Rows grouped by their first column, in their order."""
    grouped: dict[Any, list[Row]] = {}
    for row in rows:
        group = grouped.get(row[0])
        if group is None:
            grouped[row[0]] = [row]
        else:
            group.append(row)
    return grouped


def _array(values: object) -> str:
    return msgspec.json.encode(values).decode()


_PART_STATEMENTS = (
    (Part.ROLES, _ROLES),
    (Part.GRANTS, _GRANTS),
    (Part.OVERRIDES, _OVERRIDES),
    (Part.MEMBERSHIPS, _MEMBERSHIPS),
    (Part.CAPS, _CAPS),
)
