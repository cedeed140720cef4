"""What is taken is in exactly one period, and stays where it is when the kind of period, the anchor or zone change."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, NamedTuple
from zoneinfo import available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.clock import parse_rfc3339, rfc3339
from gateway.core.quotas import (
    LONGEST_MS,
    PERIODS,
    Limit,
    QuotaOverride,
    Usage,
    balance,
    explain_quota,
    period_bounds,
    taken_in_period,
)
from gateway.core.spending import Basis

HOUR = 3_600_000
DAY = 24 * HOUR
ODD_ZONES = [
    *("Africa/Monrovia", "America/Havana", "America/Sao_Paulo", "America/St_Johns", "Asia/Kathmandu", "Asia/Kolkata"),
    *("Australia/Lord_Howe", "Europe/Berlin", "Pacific/Apia", "Pacific/Kwajalein", "UTC"),
]
zones = st.sampled_from(ODD_ZONES) | st.sampled_from(sorted(available_timezones() - {"localtime"}))
moments = st.integers(0, 4_102_444_800_000)  # 1970 to 2100
# Where clocks or calendars moved, where a month or a year ends: boundaries are dense there.
turns = st.sampled_from(
    [
        *("1993-08-21T12:00:00Z", "2010-11-07T02:31:00Z", "2011-12-30T10:00:00Z", "2018-11-04T03:00:00Z"),
        *("2026-02-28T23:00:00Z", "2026-03-29T01:00:00Z", "2026-10-03T15:30:00Z", "2026-10-25T01:00:00Z"),
        *("2026-12-31T23:00:00Z", "2028-02-29T00:00:00Z"),
    ]
).map(parse_rfc3339)
origins = turns.flatmap(lambda turn: st.integers(turn - 40 * DAY, turn + 2 * DAY)) | moments
bases = st.builds(Basis, zones, st.none() | origins, st.sampled_from(PERIODS))
steps = st.sampled_from([0, 1, 999, 17 * 60_000, HOUR, 5 * HOUR, DAY, 8 * DAY, 27 * DAY, 31 * DAY, 200 * DAY])
amounts = st.integers(1, 9)


class Taking(NamedTuple):
    """Units that were taken, at a moment, by the basis of then."""

    at: int
    amount: int
    basis: Basis


def booked(takings: list[Taking]) -> list[Usage]:
    """The rows of `quota_usage`: what is taken is added to the row of the present period."""
    rows: dict[int, int] = {}
    for at, amount, basis in takings:
        start = basis.bounds(at)[0]
        rows[start] = rows.get(start, 0) + amount
    return [Usage(start, used, 0) for start, used in rows.items()]


def used(takings: list[Taking], basis: Basis, now: int) -> int:
    """What a document shows."""
    limit = Limit(100, basis.period, True)
    entry, changes_at = balance(limit, booked(takings), basis.anchor_at, basis.timezone, now)
    assert changes_at is None or changes_at > now
    return int(entry["used"])


def course(first: int, after: list[tuple[int, int]], chosen: list[Basis]) -> list[Taking]:
    """Takings one after the other, each by the next basis of those chosen."""
    times = accumulate((step for step, _ in after), initial=first)
    return [
        Taking(at, amount, chosen[number % len(chosen)])
        for number, (at, (_, amount)) in enumerate(zip(times, [(0, 1), *after], strict=True))
    ]


courses = st.lists(st.tuples(steps, amounts), max_size=8)


@settings(max_examples=300)
@given(basis=bases, first=origins, after=courses, later=steps)
@example(Basis("Pacific/Apia", None, "day"), parse_rfc3339("2011-12-30T09:59:59Z"), [(1000, 2), (DAY, 3)], 0)
@example(Basis("Europe/Berlin", None, "hour"), parse_rfc3339("2026-10-25T00:30:00Z"), [(HOUR, 2), (HOUR, 3)], 0)
@example(Basis("UTC", parse_rfc3339("2026-01-31T10:30:00Z"), "month"), 1_772_274_599_999, [(1, 2), (31 * DAY, 3)], 0)
def test_each_unit_is_in_exactly_one_period(basis: Basis, first: int, after: list[tuple[int, int]], later: int) -> None:
    takings = course(first, after, [basis])
    now = takings[-1].at + later
    start, end = basis.bounds(now)
    assert used(takings, basis, now) == sum(one.amount for one in takings if start <= one.at)
    seen, reached = 0, first - 1
    for at in (one.at for one in takings):  # period by period, each at its last moment
        if at <= reached:
            continue
        end = basis.bounds(at)[1]
        reached = now if end is None else min(now, end - 1)
        seen += used([one for one in takings if one.at <= reached], basis, reached)
    if basis.period != "never":
        assert seen == sum(one.amount for one in takings)


@settings(max_examples=300)
@given(chosen=st.lists(bases, min_size=1, max_size=4), first=origins, after=courses, later=steps)
def test_nothing_counts_twice_and_nothing_from_before(
    chosen: list[Basis], first: int, after: list[tuple[int, int]], later: int
) -> None:
    takings = course(first, after, chosen)
    now = takings[-1].at + later
    for basis in chosen:
        start, _ = basis.bounds(now)
        shown = used(takings, basis, now)
        assert shown <= sum(one.amount for one in takings if one.at >= start)
        assert shown >= sum(one.amount for one in takings if one.basis == basis and one.at >= start)


NESTED = ["hour", "day", "month", "year", "never"]


@settings(max_examples=200)
@given(
    # In these zones midnight is on the hour; elsewhere an hour may begin in the day before.
    timezone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Tokyo"]),
    kinds=st.lists(st.sampled_from(NESTED), min_size=1, max_size=4),
    first=st.integers(parse_rfc3339("2026-01-01T00:00:00Z"), parse_rfc3339("2027-01-01T00:00:00Z")),
    after=courses,
)
def test_there_and_back_again_nothing_is_lost(
    timezone: str, kinds: list[str], first: int, after: list[tuple[int, int]]
) -> None:
    """Of the calendar's periods that lie within each other, the longest counts whatever was taken in it by any."""
    chosen = [Basis(timezone, None, kind) for kind in kinds]
    takings = course(first, after, chosen)
    now = takings[-1].at
    longest = max(chosen, key=lambda basis: NESTED.index(basis.period))
    start, _ = longest.bounds(now)
    assert used(takings, longest, now) == sum(one.amount for one in takings if one.at >= start)


@given(basis=bases, now=origins, amount=amounts)
def test_at_the_boundary_the_next_period_begins_with_nothing(basis: Basis, now: int, amount: int) -> None:
    start, end = basis.bounds(now)
    if end is None:
        return
    takings = [Taking(start, amount, basis), Taking(end - 1, amount, basis)]
    assert used(takings, basis, end - 1) == 2 * amount
    if basis.period != "never":
        assert used(takings, basis, end) == 0
        assert used([*takings, Taking(end, amount, basis)], basis, end) == amount


@given(basis=bases, now=origins)
def test_no_period_is_longer_than_was_said(basis: Basis, now: int) -> None:
    if basis.period != "never":
        start, end = basis.bounds(now)
        assert end is not None
        assert end - start <= LONGEST_MS[basis.period]


MARCH_10 = parse_rfc3339("2026-03-10T12:00:00Z")


def test_from_days_to_the_month_and_back() -> None:
    """The table of docs/quotas.md."""
    daily, monthly = (Basis("UTC", None, period) for period in ("day", "month"))
    takings = [Taking(MARCH_10 - DAY, 4, daily), Taking(MARCH_10, 3, daily)]
    assert used(takings, daily, MARCH_10) == 3
    assert used(takings, monthly, MARCH_10) == 7
    takings.append(Taking(MARCH_10 + HOUR, 5, monthly))
    assert used(takings, monthly, MARCH_10 + HOUR) == 12
    assert used(takings, daily, MARCH_10 + HOUR) == 3  # what was taken for the month is no day's
    takings.append(Taking(MARCH_10 + 2 * HOUR, 1, daily))
    assert used(takings, daily, MARCH_10 + 2 * HOUR) == 4
    assert used(takings, monthly, MARCH_10 + 2 * HOUR) == 13
    assert used(takings, daily, MARCH_10 + DAY) == 0
    assert used(takings, monthly, MARCH_10 + DAY) == 13


@pytest.mark.parametrize(
    ("anchor", "timezone", "shown"),
    [
        (None, "UTC", 7),
        (None, "Asia/Tokyo", 7),  # its month began on the last day of UTC's
        (None, "America/New_York", 3),  # and here it began later than the first row
        ("2026-01-10T00:00:00Z", "UTC", 3),
        ("2026-01-10T18:00:00Z", "UTC", 7),  # the period that began on 10 February
    ],
)
def test_another_anchor_or_zone_counts_what_began_in_its_period(anchor: str | None, timezone: str, shown: int) -> None:
    march = parse_rfc3339("2026-03-01T00:00:00Z")
    rows = [Usage(march, 4, 0), Usage(MARCH_10, 2, 1)]
    anchor_ms = None if anchor is None else parse_rfc3339(anchor)
    taken, changes_at = taken_in_period(rows, "month", anchor_ms, timezone, MARCH_10)
    assert (taken, changes_at) == (shown, None), rfc3339(period_bounds("month", anchor_ms, timezone, MARCH_10)[0])


usages = st.dictionaries(st.integers(-60 * DAY, DAY), st.tuples(amounts, amounts), max_size=5).map(
    lambda rows: [Usage(MARCH_10 + at, *amounts) for at, amounts in rows.items()]
)
limits = st.builds(Limit, st.none() | amounts, st.sampled_from(PERIODS), st.booleans())


@given(
    plan=limits,
    overrides=st.lists(st.builds(QuotaOverride, limits, st.none(), st.none()), max_size=1),
    rows=usages,
    anchor=st.none() | origins,
    timezone=zones,
)
def test_the_rows_that_are_explained_to_count_add_up_to_what_is_shown(
    plan: Limit, overrides: list[QuotaOverride], rows: list[Usage], anchor: int | None, timezone: str
) -> None:
    who: dict[str, Any] = {"owner": "user:u", "plan": "p", "anchor_ms": anchor, "timezone": timezone}
    reasons = explain_quota("q", plan_limit=plan, overrides=overrides, usages=rows, now_ms=MARCH_10, **who)
    limit = overrides[0].limit if overrides else plan
    entry, _ = balance(limit, rows, anchor, timezone, MARCH_10)
    counting = [reason for reason in reasons if reason.source == "usage" and reason.counts]
    assert sum(reason.used or 0 for reason in counting) == entry["used"]
    assert sum(reason.reserved or 0 for reason in counting) == entry.get(
        "reserved", sum(r.reserved or 0 for r in counting)
    )
    assert len([reason for reason in reasons if reason.source == "usage"]) == len(rows)
    taken, _ = taken_in_period(rows, limit.period, anchor, timezone, MARCH_10)
    assert taken == sum((reason.used or 0) + (reason.reserved or 0) for reason in counting)
