"""What was taken of quotas stays taken when somebody moves to another time zone, and stays in its day, week, month or
year.

A period has the same name everywhere (the 15th of November, November, 2026) and begins some hours earlier or later. At
a change of zone the rows of the present, the next and the last ones go to where their periods begin there, with the
leases that hold units in them: so no day of the calendar has more than its limit, whatever way it was reached, and
nobody's month is short of what was taken in another. Hours have no names: what was taken in the present one goes along.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple, Protocol

import msgspec

from gateway.core.clock import DAY_MS, instant, local, zone
from gateway.core.quotas import LONGEST_MS
from gateway.core.spending import Basis
from gateway.store.driver import Reader, Statement

_KINDS = """
WITH own AS (
  SELECT quota, period FROM user_quotas
  WHERE user_id = ?2 AND coalesce(starts_at <= ?3, 1) AND coalesce(expires_at > ?3, 1)
)
SELECT quota, period FROM own
UNION ALL SELECT quota, period FROM plan_quotas
WHERE plan = ?1 AND quota NOT IN (SELECT quota FROM own)"""
_STARTS = """
SELECT DISTINCT quota, period_start FROM quota_usage
WHERE owner = ? AND quota IN (SELECT value FROM json_each(?)) AND period_start > ?"""
# ?1: the owner; ?2: the moves. Rows step aside first: one may go to where another still is.
_LISTED = """(
SELECT value ->> 0 AS quota, value ->> 1 AS origin, value ->> 2 AS target, value ->> 3 AS ending
FROM json_each(?2)) AS m"""
_ASIDE = f"""
UPDATE {{table}} SET period_start = -1 - period_start
WHERE {{owned}} AND (quota, period_start) IN (SELECT quota, origin FROM {_LISTED})"""  # noqa: S608 - no input in these
_ADDED = f"""
INSERT INTO {{table}}({{columns}}, quota, period_start, used, reserved)
SELECT {{columns}}, m.quota, m.target, sum(used), sum(reserved) FROM {_LISTED} CROSS JOIN {{table}} AS t
WHERE t.{{owned}} AND t.quota = m.quota AND t.period_start = -1 - m.origin
GROUP BY {{columns}}, m.quota, m.target HAVING 1
ON CONFLICT DO UPDATE SET used = used + excluded.used, reserved = reserved + excluded.reserved"""  # noqa: S608
_GONE = f"""
DELETE FROM {{table}}
WHERE {{owned}} AND (quota, period_start) IN (SELECT quota, -1 - origin FROM {_LISTED})"""  # noqa: S608
_LEASES_ASIDE = f"""
UPDATE leases SET period_start = -1 - period_start
WHERE owner = ?1 AND state = 'open' AND (quota, period_start) IN (SELECT quota, origin FROM {_LISTED})"""  # noqa: S608
_LEASES = f"""
UPDATE leases SET period_start = m.target, period_end = m.ending FROM {_LISTED}
WHERE owner = ?1 AND state = 'open' AND leases.quota = m.quota AND period_start = -1 - m.origin"""  # noqa: S608

_OWN = {"table": "quota_usage", "owned": "owner = ?1", "columns": "owner"}
_MEMBERS = {"table": "member_usage", "owned": "org_id = substr(?1, 5)", "columns": "org_id, user_id"}

SPREAD_MS = 3 * DAY_MS
"""Longer than the same day lasts anywhere on earth: what ended before is over in every zone."""


class Placed(Protocol):
    """Who has quotas by a plan, in a time zone."""

    @property
    def plan(self) -> str:
        """The plan's id."""

    @property
    def timezone(self) -> str:
        """The IANA name."""

    @property
    def anchor_at(self) -> int | None:
        """In milliseconds since 1970 UTC."""


class Move(NamedTuple):
    """The row at `origin` becomes that of the period from `target` to `ending`."""

    origin: int
    target: int
    ending: int


def plan_moves(before: Basis, after: Basis, starts: Iterable[int], now: int) -> list[Move]:
    """Where the rows with these starts go when the basis of a quota with calendar periods changes at `now`. Raises
    ValueError as `period_bounds` does.
    """
    start, end = _bounds(before, now)
    moves = []
    # The present period's row may be made by somebody who spends meanwhile.
    for row in sorted({*starts, start}):
        if before.period == "hour":
            found = _bounds(after, now) if start <= row < end else None
        else:
            found = _of_the_same_name(before, after, row, now)
        if found is not None and found[0] != row:
            moves.append(Move(row, *found))
    return moves


def _of_the_same_name(before: Basis, after: Basis, row: int, now: int) -> tuple[int, int] | None:
    """The period of the new zone that is the row's in the old one; None: it is over everywhere."""
    start, end = _bounds(before, row)
    if end <= now - SPREAD_MS:
        return None
    if before.anchor_at is not None:  # an anniversary falls on nearly the same moment everywhere
        return _bounds(after, (start + end) // 2)
    first = local(start, zone(before.timezone))
    return _bounds(after, instant(datetime(first.year, first.month, first.day), zone(after.timezone)))


def _bounds(basis: Basis, moment: int) -> tuple[int, int]:
    start, end = basis.bounds(moment)
    if end is None:
        raise ValueError("the period has no end")
    return start, end


async def zone_moves(db: Reader, owner: str, before: Placed, after: Placed, now: int) -> list[Statement]:
    """What belongs into the write by which `before` becomes `after`, whose balances are those of `owner` (``user:ID``
    or ``org:ID``), at `now` (milliseconds since 1970 UTC). Another anchor is meant to begin periods anew.
    """
    if before.timezone == after.timezone or before.anchor_at != after.anchor_at:
        return []
    kind, _, id = owner.partition(":")
    [kinds] = await db.read(Statement(_KINDS, (after.plan, id if kind == "user" else "", now)))
    periods = {str(quota): str(period) for quota, period in kinds if period in LONGEST_MS}
    [rows] = await db.read(Statement(_STARTS, (owner, _told(list(periods)), now - LONGEST_MS["year"] - SPREAD_MS)))
    moves: list[tuple[object, ...]] = []
    for quota, period in periods.items():
        old, new = (Basis(who.timezone, who.anchor_at, period) for who in (before, after))
        try:
            moves += [(quota, *move) for move in plan_moves(old, new, (at for name, at in rows if name == quota), now)]
        except ValueError:
            continue  # a zone from SQL, by which nothing could be taken
    if not moves:
        return []
    tables = (_OWN, _MEMBERS) if kind == "org" else (_OWN,)
    done = [sql.format(**names) for sql in (_ASIDE, _ADDED, _GONE) for names in tables]
    return [Statement(sql, (owner, _told(moves))) for sql in (*done, _LEASES_ASIDE, _LEASES)]


def _told(value: object) -> str:
    return msgspec.json.encode(value).decode()
