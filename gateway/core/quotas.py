"""Quotas: periods, limits in force, balances, levels, and why a quota is what it is.

A period is a pure function of its kind, the anchor, the time zone and now. Every moment is in milliseconds since 1970
UTC, every interval includes its start and excludes its end.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Sequence
from datetime import date, datetime, time
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

import msgspec

from gateway.core.clock import HOUR_MS, instant, local, offset, rfc3339, transition, zone
from gateway.core.document import MAX_INTEGER

Period = Literal["hour", "day", "week", "month", "year", "never"]
PERIODS: tuple[Period, ...] = get_args(Period)

LONGEST_MS: dict[str, int] = {
    "hour": HOUR_MS,
    "day": 49 * HOUR_MS,
    "week": 9 * 24 * HOUR_MS,
    "month": 33 * 24 * HOUR_MS,
    "year": 368 * 24 * HOUR_MS,
}
"""What no period of the kind lasts longer than, whatever the zone did with its clocks or its calendar."""
LOW_PERCENT = 80
CRITICAL_PERCENT = 95

_Row = dict[str, str | int | None]

_MIDNIGHT = datetime(1, 1, 1)  # a Monday, in January, the first: the anchor of the calendar's own boundaries


class Limit(NamedTuple):
    """How much of a quota may be taken in a period (`limit` None: unlimited); one that is not `hard` may be passed."""

    limit: int | None
    period: str
    hard: bool


class Usage(NamedTuple):
    """A row of `quota_usage`: what was taken in the period that began at `period_start`."""

    period_start: int
    used: int
    reserved: int


class QuotaOverride(NamedTuple):
    """A row of `user_quotas`: replaces the plan's limit from `starts_at` (None: always) to `expires_at`."""

    limit: Limit
    starts_at: int | None
    expires_at: int | None


class QuotaReason(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row that has to do with a quota, and whether it `counts` now.

    `source` is ``plan``, ``override`` or ``usage``; the first two have a `limit` (None: unlimited), `period` and
    `hard`, the last has `period_start`, `used` and `reserved`. `row` names the table and the row's key.
    """

    source: str
    counts: bool
    row: _Row
    limit: int | None = None
    period: str | None = None
    hard: bool | None = None
    starts_at: int | None = None
    expires_at: int | None = None
    period_start: int | None = None
    used: int | None = None
    reserved: int | None = None


def period_bounds(period: str, anchor_ms: int | None, timezone: str, now_ms: int) -> tuple[int, int | None]:
    """The period ``[start, end)`` around `now_ms`; ``never`` has no end.

    Without an anchor the boundaries are the calendar's in `timezone`: full hours, midnights, Mondays, firsts of the
    month and of January. With one they are its anniversaries there, before it as well as after it: the same wall time
    every day, week, month or year; a day that the month lacks becomes its last. A wall time that occurs twice counts
    the first time, one that daylight saving skips becomes the end of the gap.

    An hour is 3,600 s long: an anchored one always, the clock's unless the zone moves its clocks by a part of an hour,
    which cuts the hour off there. ``never`` begins at the anchor; before it, there is one period that ends with it.

    Raises ValueError for an unknown period or zone, and near the ends of the years 1 to 9999.
    """
    if period == "never":
        if anchor_ms is None:
            return 0, None
        return (anchor_ms, None) if anchor_ms <= now_ms else (min(0, now_ms), anchor_ms)
    latest = _latest(period, anchor_ms, timezone)
    bounds = latest[0]
    if bounds[0] <= now_ms < bounds[1]:
        return bounds
    bounds = latest[0] = _bounds(period, anchor_ms, zone(timezone), now_ms)
    return bounds


@lru_cache(maxsize=16_384)
def _latest(period: str, anchor_ms: int | None, timezone: str) -> list[tuple[int, int]]:
    """A place for the bounds that were found last: the next question is almost always about the same period."""
    return [(0, 0)]


def _bounds(period: str, anchor_ms: int | None, where: ZoneInfo, now_ms: int) -> tuple[int, int]:
    """`period_bounds`, worked out."""
    if period == "hour":
        if anchor_ms is None:
            return _clock_hour(where, now_ms)
        start = now_ms - (now_ms - anchor_ms) % HOUR_MS
        return start, start + HOUR_MS
    anchor = _MIDNIGHT if anchor_ms is None else local(anchor_ms, where)
    index = _index(period, anchor, local(now_ms, where))
    try:
        start, end = _boundary(period, anchor, where, index), _boundary(period, anchor, where, index + 1)
        # The guess goes by the date alone: the wall time of the boundary, and clocks that go back over it, move it by
        # one. A period that a zone skipped has no length, and is passed over.
        while now_ms < start:
            index, end = index - 1, start
            start = _boundary(period, anchor, where, index)
        while end <= now_ms:
            index, start = index + 1, end
            end = _boundary(period, anchor, where, index + 1)
    except OverflowError as error:
        raise ValueError("the period reaches beyond the years 1 to 9999") from error
    return start, end


def _clock_hour(where: ZoneInfo, now_ms: int) -> tuple[int, int]:
    """The hour of the zone's clocks around `now_ms`, cut off where they move by a part of an hour."""
    ahead = offset(now_ms, where)
    start = now_ms - (now_ms + ahead) % HOUR_MS
    end = start + HOUR_MS
    if (offset(start, where) - ahead) % HOUR_MS:
        start = transition(start, now_ms, where)
    if (offset(end - 1, where) - ahead) % HOUR_MS:
        end = transition(now_ms, end - 1, where)
    return start, end


def _index(period: str, anchor: datetime, shown: datetime) -> int:
    """The number, in the count of `_boundary`, of the period that the date of `shown` falls into, give or take one."""
    if period == "day":
        return shown.toordinal()
    if period == "week":
        return (shown.toordinal() - anchor.toordinal()) // 7
    if period == "month":
        return shown.year * 12 + shown.month - 1
    if period == "year":
        return shown.year
    raise ValueError("not a period: " + ", ".join(PERIODS))


def _boundary(period: str, anchor: datetime, where: ZoneInfo, index: int) -> int:
    """The moment at which a period begins; `index` counts days, months, years, or the weeks since the anchor."""
    if period == "day":
        day = date.fromordinal(index)
    elif period == "week":
        day = date.fromordinal(anchor.toordinal() + 7 * index)
    else:
        year, month = (index // 12, index % 12 + 1) if period == "month" else (index, anchor.month)
        day = date(year, month, min(anchor.day, monthrange(year, month)[1]))
    return instant(datetime.combine(day, time(anchor.hour, anchor.minute, anchor.second, anchor.microsecond)), where)


def effective_limit(
    plan_limit: Limit | None, overrides: Sequence[QuotaOverride], now_ms: int
) -> tuple[Limit | None, int | None]:
    """The limit in force, and the next moment at which that may change by the clock (None: never).

    Of the overrides in force now the one that began last counts; of several that began together, the one that ends
    first. None: the user does not have this quota.
    """
    chosen = _chosen(overrides, now_ms)
    changes = [
        moment
        for override in overrides
        for moment in (override.starts_at, override.expires_at)
        if moment is not None and moment > now_ms
    ]
    return plan_limit if chosen is None else chosen.limit, min(changes, default=None)


def _chosen(overrides: Sequence[QuotaOverride], now_ms: int) -> QuotaOverride | None:
    """The override in force."""
    chosen, place = None, (0.0, 0.0)
    for override in overrides:
        begins = float("-inf") if override.starts_at is None else override.starts_at
        ends = float("inf") if override.expires_at is None else override.expires_at
        if begins <= now_ms < ends and (chosen is None or (begins, -ends) > place):
            chosen, place = override, (begins, -ends)
    return chosen


def level(limit: int | None, taken: int) -> str:
    """``ok``, ``low``, ``critical`` or ``exhausted``, for `taken` (used and reserved) of `limit` (None: unlimited)."""
    if limit is None:
        return "ok"
    if taken >= limit:
        return "exhausted"
    if taken * 100 >= limit * CRITICAL_PERCENT:
        return "critical"
    return "low" if taken * 100 >= limit * LOW_PERCENT else "ok"


def usage_in_period(usages: Sequence[Usage], start_ms: int, now_ms: int) -> list[Usage]:
    """The rows that count in the period that began at `start_ms`: those of periods that began in it and not after now.

    More than one where the kind of period, the anchor or the zone was changed meanwhile: what was taken carries over.
    """
    return [usage for usage in usages if start_ms <= usage.period_start <= now_ms]


def taken_in_period(
    usages: Sequence[Usage], period: str, anchor_ms: int | None, timezone: str, now_ms: int
) -> tuple[int, int | None]:
    """What was used and is reserved in the period around now, and when a row that is there already begins to count
    (None: none does before the period ends). Raises ValueError as `period_bounds` does.
    """
    start, _ = period_bounds(period, anchor_ms, timezone, now_ms)
    taken = sum(usage.used + usage.reserved for usage in usage_in_period(usages, start, now_ms))
    return taken, min((usage.period_start for usage in usages if usage.period_start > now_ms), default=None)


def quota_entry(limit: Limit, used: int, reserved: int, end_ms: int | None) -> dict[str, Any]:
    """A document's entry for one quota, of which so much is taken in the period that ends at `end_ms` (None: never).

    Limited: limit, used, reserved, remaining, period, hard, resets_at, level. Unlimited: used, period, resets_at,
    level. A period without an end has no resets_at. Raises ValueError for amounts below 0 or beyond 2^53 - 1.
    """
    limit_value, period, hard = limit
    if not (0 <= used <= MAX_INTEGER and 0 <= reserved <= MAX_INTEGER and 0 <= (limit_value or 0) <= MAX_INTEGER):
        raise ValueError("the amounts of a quota lie between 0 and 2^53 - 1")
    taken = used + reserved
    entry: dict[str, Any] = {"used": used, "period": period, "level": level(limit_value, taken)}
    if end_ms is not None and period != "never":
        entry["resets_at"] = rfc3339(end_ms)
    if limit_value is not None:
        entry["limit"] = limit_value
        entry["reserved"] = reserved
        entry["remaining"] = max(0, limit_value - taken)
        entry["hard"] = hard
    return entry


def balance(
    limit: Limit, usages: Sequence[Usage], anchor_ms: int | None, timezone: str, now_ms: int
) -> tuple[dict[str, Any], int | None]:
    """The `quota_entry` of now, and the next moment at which it changes by the clock (None: never).

    Raises ValueError for what `quota_entry` and `period_bounds` refuse.
    """
    start, end = period_bounds(limit.period, anchor_ms, timezone, now_ms)
    changes_at = end
    used = reserved = 0
    for usage in usages:
        if usage.period_start > now_ms:
            if changes_at is None or usage.period_start < changes_at:
                changes_at = usage.period_start
        elif usage.period_start >= start:
            used += usage.used
            reserved += usage.reserved
    return quota_entry(limit, used, reserved, end), changes_at


def explain_quota(
    quota: str,
    *,
    owner: str,
    plan: str,
    plan_limit: Limit | None,
    overrides: Sequence[QuotaOverride] = (),
    usages: Sequence[Usage] = (),
    anchor_ms: int | None,
    timezone: str,
    now_ms: int,
) -> list[QuotaReason]:
    """Every row that has to do with a quota of `owner` (``user:ID`` or ``org:ID``): the plan's, overrides, usages.

    At most one of plan and overrides counts, and the usages of the period: they are what `effective_limit` and
    `balance` go by. When no limit counts, the owner does not have this quota.
    """
    chosen = _chosen(overrides, now_ms)
    reasons = []
    if plan_limit is not None:
        row: _Row = {"table": "plan_quotas", "plan": plan, "quota": quota}
        reasons.append(_limit_reason("plan", chosen is None, row, QuotaOverride(plan_limit, None, None)))
    for override in overrides:
        row = {"table": "user_quotas", "user_id": owner.removeprefix("user:"), "quota": quota}
        reasons.append(_limit_reason("override", override is chosen, row, override))
    limit = plan_limit if chosen is None else chosen.limit
    current: list[Usage] = []
    if limit is not None:
        current = usage_in_period(usages, period_bounds(limit.period, anchor_ms, timezone, now_ms)[0], now_ms)
    for usage in usages:
        start, used, reserved = usage
        row = {"table": "quota_usage", "owner": owner, "quota": quota, "period_start": start}
        amounts = QuotaReason("usage", usage in current, row, period_start=start, used=used, reserved=reserved)
        reasons.append(amounts)
    return reasons


def _limit_reason(source: str, counts: bool, row: _Row, override: QuotaOverride) -> QuotaReason:
    """The reason that a limit is."""
    (limit, period, hard), starts_at, expires_at = override
    return QuotaReason(
        source, counts, row, limit=limit, period=period, hard=hard, starts_at=starts_at, expires_at=expires_at
    )
