"""Reads the facts of everybody on a plan, page by page: of what a change of the plan is worked out for each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from gateway.core.facts import Usages, UserFacts
from gateway.core.permissions import Grant, RoleGrant
from gateway.core.quotas import LONGEST_MS, Limit, QuotaOverride, Usage, period_bounds
from gateway.core.sections import override_rows
from gateway.store.catalog import decoded
from gateway.store.database import Database, Row, Statement
from gateway.store.documents import by_first_column

PAGE = 200
"""Users read at once."""
_EVER = -(2**53)

_THOSE = "(SELECT id FROM users WHERE plan = ?1 AND rowid > ?2 ORDER BY rowid LIMIT ?3) AS those"
_USERS = (
    "SELECT CAST(id AS BLOB), rowid, status, is_admin, CAST(timezone AS BLOB), anchor_at FROM users"
    " WHERE plan = ?1 AND rowid > ?2 ORDER BY rowid LIMIT ?3"
)
_ROLES = (
    f"SELECT CAST(r.user_id AS BLOB), CAST(r.role AS BLOB), r.expires_at FROM {_THOSE}"  # noqa: S608
    " CROSS JOIN user_roles AS r ON r.user_id = those.id"
)
_GRANTS = (
    f"SELECT CAST(p.user_id AS BLOB), CAST(p.permission AS BLOB), p.effect, p.starts_at, p.expires_at FROM {_THOSE}"  # noqa: S608
    " CROSS JOIN user_permissions AS p ON p.user_id = those.id"
)
_OVERRIDES = (
    "SELECT CAST(q.user_id AS BLOB), CAST(q.quota AS BLOB), q.limit_value, q.period, q.hard, q.starts_at, q.expires_at"  # noqa: S608
    f" FROM {_THOSE} CROSS JOIN user_quotas AS q ON q.user_id = those.id"
)
_USAGES = (
    f"SELECT CAST(those.id AS BLOB), CAST(u.quota AS BLOB), u.period_start, u.used, u.reserved FROM {_THOSE}"  # noqa: S608
    " CROSS JOIN json_each(?4) AS wanted CROSS JOIN quota_usage AS u"
    " ON u.owner = 'user:' || those.id AND u.quota = wanted.key AND u.period_start >= wanted.value"
)


async def users_on_plan(
    db: Database, plan: str, quotas: Mapping[str, Limit], now: int
) -> AsyncIterator[list[tuple[str, UserFacts | None]]]:
    """Everybody on a plan with what their permissions and limits come from, and what they took of these quotas in the
    periods under way at `now`. None stands for the facts of whom no document can be built.

    Each page is of one moment, and of a later one than the page before. The event loop is never blocked.
    """
    since = {
        quota: _EVER if limit.period == "never" else now - LONGEST_MS[limit.period] for quota, limit in quotas.items()
    }
    wanted, last = msgspec.json.encode(since).decode(), _EVER
    while True:
        place = (plan, last, PAGE)
        reads = [Statement(sql, place) for sql in (_USERS, _ROLES, _GRANTS, _OVERRIDES)]
        users, *parts = map(decoded, await db.scan(*reads, Statement(_USAGES, (*place, wanted))))
        grouped = [by_first_column(rows) for rows in parts]
        yield [(row[0], _facts(plan, row, *(rows.get(row[0], []) for rows in grouped))) for row in users]
        if len(users) < PAGE:
            return
        last = users[-1][1]


async def organizations_on_plan(db: Database, plan: str) -> int:
    """How many organizations are on a plan."""
    [[(count,)]] = await db.scan(Statement("SELECT count(*) FROM organizations WHERE plan = ?", (plan,)))
    return int(count)


def _facts(
    plan: str, row: Row, roles: list[Row], grants: list[Row], overrides: list[Row], usages: list[Row]
) -> UserFacts | None:
    _, _, status, is_admin, timezone, anchor_at = row
    try:
        period_bounds("day", None, timezone, 0)
    except ValueError:
        return None
    return UserFacts(
        plan,
        status == "active",
        bool(is_admin),
        timezone,
        anchor_at,
        tuple(RoleGrant(*role[1:]) for role in roles),
        tuple(Grant(*grant[1:]) for grant in grants),
        override_rows([(own[1], QuotaOverride(Limit(own[2], own[3], bool(own[4])), *own[5:])) for own in overrides]),
        _usages(usages),
    )


def _usages(rows: list[Row]) -> Usages:
    found: dict[Any, tuple[Usage, ...]] = {}
    for _, quota, *usage in rows:
        found[quota] = (*found.get(quota, ()), Usage(*usage))
    return found
