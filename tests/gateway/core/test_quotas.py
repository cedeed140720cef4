"""Periods, limits in force, balances, levels, explanations."""

from __future__ import annotations

from calendar import monthrange
from datetime import timedelta
from zoneinfo import available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.clock import local, parse_rfc3339, rfc3339, zone
from gateway.core.document import MAX_INTEGER
from gateway.core.quotas import (
    LONGEST_MS,
    PERIODS,
    Limit,
    QuotaOverride,
    Usage,
    _latest,
    balance,
    effective_limit,
    explain_quota,
    level,
    period_bounds,
    usage_in_period,
)

HOUR = 3_600_000
NOW = parse_rfc3339("2026-11-21T19:10:00.000Z")
NOVEMBER, DECEMBER = parse_rfc3339("2026-11-01T00:00:00Z"), parse_rfc3339("2026-12-01T00:00:00Z")
ZONES = sorted(available_timezones() - {"localtime"})
# Zones that moved their clocks by parts of an hour, at midnight, or over the date line; half of all examples go there.
ODD_ZONES = [
    "Africa/Monrovia",
    "America/Caracas",
    "America/Havana",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Troll",
    "Antarctica/Vostok",
    "Asia/Kathmandu",
    "Asia/Pyongyang",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Pacific/Apia",
    "Pacific/Kwajalein",
]
zones = st.one_of(st.sampled_from(ODD_ZONES), st.sampled_from(ZONES))
moments = st.integers(0, 7_258_118_400_000)  # 1970 to 2200
anchors = st.one_of(st.none(), moments)


def bounds(period: str, timezone: str, now: str) -> tuple[str, str | None]:
    start, end = period_bounds(period, None, timezone, parse_rfc3339(now))
    return rfc3339(start), None if end is None else rfc3339(end)


def minute(text: str) -> int:
    return parse_rfc3339(f"{text}:00Z")


# periods


@pytest.mark.parametrize(
    ("period", "timezone", "now", "start", "end"),
    [
        ("hour", "UTC", "2026-11-21T19:10:00Z", "2026-11-21T19:00:00.000Z", "2026-11-21T20:00:00.000Z"),
        ("day", "UTC", "2026-11-21T19:10:00Z", "2026-11-21T00:00:00.000Z", "2026-11-22T00:00:00.000Z"),
        ("week", "UTC", "2026-11-21T19:10:00Z", "2026-11-16T00:00:00.000Z", "2026-11-23T00:00:00.000Z"),
        ("month", "UTC", "2026-11-21T19:10:00Z", "2026-11-01T00:00:00.000Z", "2026-12-01T00:00:00.000Z"),
        ("year", "UTC", "2026-11-21T19:10:00Z", "2026-01-01T00:00:00.000Z", "2027-01-01T00:00:00.000Z"),
        ("month", "Europe/Berlin", "2026-10-31T23:00:00Z", "2026-10-31T23:00:00.000Z", "2026-11-30T23:00:00.000Z"),
        ("month", "Europe/Berlin", "2026-10-31T22:59:59.999Z", "2026-09-30T22:00:00.000Z", "2026-10-31T23:00:00.000Z"),
        ("week", "Asia/Tokyo", "2026-11-22T15:00:00Z", "2026-11-22T15:00:00.000Z", "2026-11-29T15:00:00.000Z"),
        ("year", "Pacific/Auckland", "2026-12-31T12:00:00Z", "2026-12-31T11:00:00.000Z", "2027-12-31T11:00:00.000Z"),
        # daylight saving: days of 23 and 25 hours
        ("day", "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00.000Z", "2026-03-29T22:00:00.000Z"),
        ("day", "Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00.000Z", "2026-10-25T23:00:00.000Z"),
        # the day begins at 01:00, for midnight is skipped
        ("day", "America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04T03:00:00.000Z", "2018-11-05T02:00:00.000Z"),
        # midnight comes twice: at the first
        ("day", "America/Havana", "2026-11-01T04:30:00Z", "2026-11-01T04:00:00.000Z", "2026-11-02T05:00:00.000Z"),
        ("day", "America/Havana", "2026-11-01T05:30:00Z", "2026-11-01T04:00:00.000Z", "2026-11-02T05:00:00.000Z"),
        # one minute after midnight back to the day before: it has ended all the same
        ("day", "America/St_Johns", "2010-11-07T02:45:00Z", "2010-11-07T02:30:00.000Z", "2010-11-08T03:30:00.000Z"),
        # 30 December 2011 did not take place
        ("day", "Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T10:00:00.000Z", "2011-12-30T10:00:00.000Z"),
        ("day", "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00.000Z", "2011-12-31T10:00:00.000Z"),
        # full hours of the zone
        ("hour", "Asia/Kolkata", "2026-11-21T19:10:00Z", "2026-11-21T18:30:00.000Z", "2026-11-21T19:30:00.000Z"),
        ("hour", "Asia/Kathmandu", "2026-11-21T19:10:00Z", "2026-11-21T18:15:00.000Z", "2026-11-21T19:15:00.000Z"),
        ("hour", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T00:00:00.000Z", "2026-10-25T01:00:00.000Z"),
        ("hour", "Europe/Berlin", "2026-10-25T01:30:00Z", "2026-10-25T01:00:00.000Z", "2026-10-25T02:00:00.000Z"),
        # clocks that move by half an hour cut one hour off
        ("hour", "Australia/Lord_Howe", "2026-10-03T15:40:00Z", "2026-10-03T15:30:00.000Z", "2026-10-03T16:00:00.000Z"),
        ("hour", "Australia/Lord_Howe", "2026-10-03T15:29:59Z", "2026-10-03T14:30:00.000Z", "2026-10-03T15:30:00.000Z"),
        ("hour", "America/Caracas", "2016-05-01T06:45:00Z", "2016-05-01T06:30:00.000Z", "2016-05-01T07:00:00.000Z"),
        ("hour", "America/Caracas", "2016-05-01T07:00:00Z", "2016-05-01T07:00:00.000Z", "2016-05-01T08:00:00.000Z"),
        ("hour", "Australia/Lord_Howe", "2026-10-03T16:00:00Z", "2026-10-03T16:00:00.000Z", "2026-10-03T17:00:00.000Z"),
    ],
)
def test_the_calendar_of_the_zone(period: str, timezone: str, now: str, start: str, end: str) -> None:
    assert bounds(period, timezone, now) == (start, end)


@pytest.mark.parametrize(
    ("period", "anchor", "timezone", "now", "start", "end"),
    [
        ("month", "2026-01-31T10:30", "UTC", "2026-02-28T10:29", "2026-01-31T10:30", "2026-02-28T10:30"),
        ("month", "2026-01-31T10:30", "UTC", "2026-03-01T00:00", "2026-02-28T10:30", "2026-03-31T10:30"),
        ("month", "2026-01-31T10:30", "UTC", "2028-03-01T00:00", "2028-02-29T10:30", "2028-03-31T10:30"),
        ("month", "2026-01-31T10:30", "UTC", "2026-04-30T10:30", "2026-04-30T10:30", "2026-05-31T10:30"),
        ("year", "2024-02-29T06:00", "UTC", "2025-03-01T00:00", "2025-02-28T06:00", "2026-02-28T06:00"),
        ("year", "2024-02-29T06:00", "UTC", "2028-03-01T00:00", "2028-02-29T06:00", "2029-02-28T06:00"),
        ("week", "2026-11-18T06:00", "UTC", "2026-11-25T05:59", "2026-11-18T06:00", "2026-11-25T06:00"),
        ("day", "2026-11-18T06:00", "UTC", "2026-11-21T05:00", "2026-11-20T06:00", "2026-11-21T06:00"),
        ("hour", "2026-11-18T06:20", "Asia/Kolkata", "2026-11-21T19:10", "2026-11-21T18:20", "2026-11-21T19:20"),
        # before the anchor
        ("month", "2026-11-15T00:00", "UTC", "2026-02-20T00:00", "2026-02-15T00:00", "2026-03-15T00:00"),
        ("hour", "2026-11-18T06:20", "UTC", "2026-11-18T06:10", "2026-11-18T05:20", "2026-11-18T06:20"),
        ("week", "2026-11-18T06:00", "UTC", "2026-11-11T05:00", "2026-11-04T06:00", "2026-11-11T06:00"),
        # the same wall time in summer and in winter; the day of the month is that of the zone
        ("month", "2026-01-15T23:30", "Europe/Berlin", "2026-07-20T00:00", "2026-07-15T22:30", "2026-08-15T22:30"),
        # 02:30 is skipped: the end of the gap, and 02:30 again the day after
        ("day", "2026-03-01T01:30", "Europe/Berlin", "2026-03-29T12:00", "2026-03-29T01:00", "2026-03-30T00:30"),
        # 02:30 comes twice: the first time
        ("day", "2026-03-01T01:30", "Europe/Berlin", "2026-10-25T12:00", "2026-10-25T00:30", "2026-10-26T01:30"),
    ],
)
def test_anniversaries_of_an_anchor(period: str, anchor: str, timezone: str, now: str, start: str, end: str) -> None:
    found = period_bounds(period, minute(anchor), timezone, minute(now))
    assert found == (minute(start), minute(end))


def test_the_31st_clamps_and_recovers() -> None:
    anchor = parse_rfc3339("2027-01-31T12:00:00Z")
    days, now = [], anchor
    for _ in range(14):
        start, end = period_bounds("month", anchor, "America/New_York", now)
        assert start == now
        assert end is not None
        days.append(local(start, zone("America/New_York")).day)
        now = end
    assert days == [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31, 29]


def test_never_has_no_end() -> None:
    assert period_bounds("never", None, "UTC", NOW) == (0, None)
    assert period_bounds("never", 5, "UTC", NOW) == (5, None)
    assert period_bounds("never", NOW, "UTC", NOW) == (NOW, None)
    assert period_bounds("never", NOW + 1, "UTC", NOW) == (0, NOW + 1)  # and then it begins
    assert period_bounds("never", 0, "UTC", -5) == (-5, 0)


@pytest.mark.parametrize("period", ["", "months", "decade", "MONTH"])
def test_an_unknown_period_is_refused(period: str) -> None:
    for anchor in (None, 0):
        with pytest.raises(ValueError, match="hour, day, week, month, year, never"):
            period_bounds(period, anchor, "UTC", NOW)


@pytest.mark.parametrize("period", [period for period in PERIODS if period != "never"])
def test_an_unknown_zone_is_refused_every_time(period: str) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="IANA"):
            period_bounds(period, None, "Mars/Olympus", NOW)


@pytest.mark.parametrize("now", [-62_135_596_800_000, 253_402_300_799_999, 10**17])
def test_the_ends_of_time_are_refused(now: int) -> None:
    with pytest.raises(ValueError, match="year"):
        period_bounds("year", parse_rfc3339("2026-07-01T00:00:00Z"), "Asia/Tokyo", now)
    with pytest.raises(ValueError, match=r"year|ordinal"):
        period_bounds("week", parse_rfc3339("2026-07-01T00:00:00Z"), "America/New_York", now)


@given(st.sampled_from([period for period in PERIODS if period != "never"]), anchors, zones, moments)
@settings(max_examples=500)
@example("day", None, "Pacific/Apia", parse_rfc3339("2011-12-30T10:00:00Z"))
@example("day", parse_rfc3339("2000-01-01T00:30:00Z"), "Pacific/Apia", parse_rfc3339("2011-12-30T10:00:00Z"))
@example("hour", None, "Australia/Lord_Howe", parse_rfc3339("2026-04-04T15:10:00Z"))
@example("hour", None, "Africa/Monrovia", 63_593_070_000)
@example("day", parse_rfc3339("2010-11-07T03:00:00Z"), "America/St_Johns", parse_rfc3339("2010-11-07T03:10:00Z"))
def test_periods_follow_each_other_without_gap_or_overlap(
    period: str, anchor: int | None, timezone: str, now: int
) -> None:
    start, end = period_bounds(period, anchor, timezone, now)
    assert end is not None
    assert start <= now < end
    for inside in (start, (start + end) // 2, end - 1):
        assert period_bounds(period, anchor, timezone, inside) == (start, end)
    after, before = period_bounds(period, anchor, timezone, end), period_bounds(period, anchor, timezone, start - 1)
    assert after[0] == end
    assert before[1] == start
    assert 0 < end - start <= LONGEST_MS[period]


@given(st.sampled_from(["day", "week", "month", "year"]), anchors, zones, moments)
@settings(max_examples=300)
def test_a_period_begins_at_its_wall_time(period: str, anchor: int | None, timezone: str, now: int) -> None:
    where = zone(timezone)
    start, _ = period_bounds(period, anchor, timezone, now)
    shown = local(start, where)
    wanted = shown.replace(hour=0, minute=0, second=0, microsecond=0)
    if anchor is not None:
        origin = local(anchor, where)
        wanted = wanted.replace(
            hour=origin.hour, minute=origin.minute, second=origin.second, microsecond=origin.microsecond
        )
    if shown != wanted:  # only where the clocks skipped it: a second before, they showed less
        if wanted > shown:
            wanted -= timedelta(days=1)
        assert local(start - 1, where) < wanted < shown
        return
    if anchor is None:
        assert period != "week" or shown.weekday() == 0
        assert period not in ("month", "year") or shown.day == 1
        assert period != "year" or shown.month == 1
    else:
        assert period != "week" or (shown.date() - origin.date()).days % 7 == 0
        if period in ("month", "year"):
            assert shown.day == min(origin.day, monthrange(shown.year, shown.month)[1])
        assert period != "year" or shown.month == origin.month


@given(anchors, zones, moments)
@settings(max_examples=300)
def test_an_hour_lasts_an_hour(anchor: int | None, timezone: str, now: int) -> None:
    where = zone(timezone)
    start, end = period_bounds("hour", anchor, timezone, now)
    assert end is not None
    if anchor is not None:
        assert end - start == HOUR
        assert (start - anchor) % HOUR == 0
        return
    first, last = local(start, where), local(end, where)
    if last - first == timedelta(hours=1):
        assert end - start == HOUR
        assert (first.minute, first.second, first.microsecond) == (0, 0, 0)


@given(st.sampled_from(["hour", "day", "month"]), anchors, zones, st.lists(moments, min_size=2, max_size=6))
def test_the_answer_does_not_depend_on_what_was_asked_before(
    period: str, anchor: int | None, timezone: str, nows: list[int]
) -> None:
    warm = [period_bounds(period, anchor, timezone, now) for now in nows]
    cold = []
    for now in reversed(nows):
        _latest.cache_clear()
        cold.append(period_bounds(period, anchor, timezone, now))
    assert warm == cold[::-1]


# limits in force


MONTHLY = Limit(500, "month", True)


def override(limit: int | None, starts_at: int | None, expires_at: int | None) -> QuotaOverride:
    return QuotaOverride(Limit(limit, "month", True), starts_at, expires_at)


@pytest.mark.parametrize(
    ("overrides", "limit", "changes_at"),
    [
        ([], 500, None),
        ([override(1, None, None)], 1, None),
        ([override(None, None, None)], None, None),
        ([override(1, NOW, NOW + 1)], 1, NOW + 1),  # starts_at is included, expires_at is not
        ([override(1, NOW - 1, NOW)], 500, None),
        ([override(1, NOW + 1, NOW + 2)], 500, NOW + 1),
        ([override(1, NOW - 9, None), override(2, NOW - 1, NOW + 5), override(3, NOW + 3, None)], 2, NOW + 3),
        ([override(1, None, None), override(2, NOW - 1, None)], 2, None),  # the one that began last
        ([override(1, NOW - 1, None), override(2, NOW - 1, NOW + 9)], 2, NOW + 9),  # began together: ends first
        ([override(1, NOW - 1, NOW - 5)], 500, None),
    ],
)
def test_the_override_that_began_last_counts(
    overrides: list[QuotaOverride], limit: int | None, changes_at: int | None
) -> None:
    for order in (overrides, overrides[::-1]):
        found, moment = effective_limit(MONTHLY, order, NOW)
        assert found is not None
        assert (found.limit, moment) == (limit, changes_at)


def test_without_a_plan_row_the_override_alone_gives_the_quota() -> None:
    assert effective_limit(None, [], NOW) == (None, None)
    assert effective_limit(None, [override(7, NOW + 1, None)], NOW) == (None, NOW + 1)
    assert effective_limit(None, [override(7, NOW + 1, None)], NOW + 1) == (override(7, None, None).limit, None)


near = st.integers(-5, 5)
dates = st.one_of(st.none(), near)


@given(st.lists(st.builds(override, st.one_of(st.none(), st.integers(0, 9)), dates, dates), max_size=4), near)
def test_no_change_of_the_limit_comes_unannounced(overrides: list[QuotaOverride], now: int) -> None:
    limit, changes_at = effective_limit(MONTHLY, overrides, now)
    assert changes_at is None or changes_at > now
    for later in range(now, 7 if changes_at is None else changes_at):
        assert effective_limit(MONTHLY, overrides, later) == (limit, changes_at)


# balances


@pytest.mark.parametrize(
    ("limit", "taken", "name"),
    [
        (None, 10**9, "ok"),
        (0, 0, "exhausted"),
        (100, 0, "ok"),
        (100, 79, "ok"),
        (100, 80, "low"),
        (100, 94, "low"),
        (100, 95, "critical"),
        (100, 99, "critical"),
        (100, 100, "exhausted"),
        (100, 101, "exhausted"),
        (1, 0, "ok"),
        (3, 2, "ok"),
        (MAX_INTEGER, MAX_INTEGER - 1, "critical"),
    ],
)
def test_levels(limit: int | None, taken: int, name: str) -> None:
    assert level(limit, taken) == name


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_level_never_falls_while_more_is_taken(limit: int, taken: int, more: int) -> None:
    order = ["ok", "low", "critical", "exhausted"]
    assert order.index(level(limit, taken)) <= order.index(level(limit, taken + more))


def test_the_entry_of_a_limited_quota() -> None:
    entry, changes_at = balance(MONTHLY, [Usage(NOVEMBER, 12, 5)], None, "UTC", NOW)
    assert entry == {
        "limit": 500,
        "used": 12,
        "reserved": 5,
        "remaining": 483,
        "period": "month",
        "hard": True,
        "resets_at": "2026-12-01T00:00:00.000Z",
        "level": "ok",
    }
    assert changes_at == DECEMBER


def test_the_entry_of_an_unlimited_quota() -> None:
    entry, changes_at = balance(Limit(None, "month", True), [Usage(NOVEMBER, 3, 2)], None, "UTC", NOW)
    assert entry == {"used": 3, "period": "month", "resets_at": "2026-12-01T00:00:00.000Z", "level": "ok"}
    assert changes_at == DECEMBER


def test_the_entry_of_a_quota_that_never_resets() -> None:
    entry, changes_at = balance(Limit(10, "never", False), [Usage(0, 12, 0)], None, "UTC", NOW)
    assert entry == {
        "limit": 10,
        "used": 12,
        "reserved": 0,
        "remaining": 0,
        "period": "never",
        "hard": False,
        "level": "exhausted",
    }
    assert changes_at is None
    entry, changes_at = balance(Limit(10, "never", False), [Usage(0, 12, 0)], NOW + 7, "UTC", NOW)
    assert "resets_at" not in entry
    assert changes_at == NOW + 7


def test_what_was_taken_in_another_period_does_not_count() -> None:
    october = parse_rfc3339("2026-10-01T00:00:00Z")
    assert balance(MONTHLY, [Usage(october, 400, 9)], None, "UTC", NOW)[0]["remaining"] == 500
    assert balance(MONTHLY, [Usage(october, 400, 9), Usage(NOVEMBER, 1, 0)], None, "UTC", NOW)[0]["remaining"] == 499


def test_the_period_ends_by_the_clock_alone() -> None:
    usages = [Usage(NOVEMBER, 500, 0)]
    before, changes_at = balance(MONTHLY, usages, None, "UTC", DECEMBER - 1)
    assert (before["level"], changes_at) == ("exhausted", DECEMBER)
    after, changes_at = balance(MONTHLY, usages, None, "UTC", DECEMBER)
    assert (after["level"], after["used"], after["remaining"]) == ("ok", 0, 500)
    assert changes_at == parse_rfc3339("2027-01-01T00:00:00Z")


def test_a_row_that_begins_later_in_the_period_is_announced() -> None:
    usages = [Usage(NOVEMBER, 1, 0), Usage(NOW + 5, 2, 0)]
    entry, changes_at = balance(MONTHLY, usages, None, "UTC", NOW)
    assert (entry["used"], changes_at) == (1, NOW + 5)
    entry, changes_at = balance(MONTHLY, usages, None, "UTC", NOW + 5)
    assert (entry["used"], changes_at) == (3, DECEMBER)
    assert balance(Limit(9, "never", True), [Usage(NOW + 5, 2, 0)], None, "UTC", NOW)[1] == NOW + 5


@pytest.mark.parametrize(
    ("limit", "usage"),
    [
        (MAX_INTEGER + 1, (0, 0)),
        (-1, (0, 0)),
        (5, (MAX_INTEGER + 1, 0)),
        (None, (-1, 0)),
        (5, (0, -1)),
        (5, (0, 2**62)),
    ],
)
def test_amounts_that_no_document_may_hold_are_refused(limit: int | None, usage: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="amounts"):
        balance(Limit(limit, "month", True), [Usage(NOVEMBER, *usage)], None, "UTC", NOW)


def test_the_rows_of_a_period_are_all_that_began_in_it_and_not_after_now() -> None:
    rows = [Usage(10, 1, 0), Usage(30, 3, 0), Usage(20, 2, 0), Usage(50, 5, 0)]
    assert usage_in_period(rows, 10, 40) == [row for row in rows if 10 <= row.period_start <= 40]
    assert usage_in_period(rows, 30, 30) == [Usage(30, 3, 0)]
    assert usage_in_period(rows, 31, 40) == []
    assert usage_in_period(rows, 0, 9) == []
    assert usage_in_period([], 0, NOW) == []


amounts = st.integers(0, 1000)
rows = st.builds(Usage, st.integers(NOVEMBER - 40 * 24 * HOUR, DECEMBER), amounts, amounts)


@given(
    st.builds(Limit, st.one_of(st.none(), amounts), st.sampled_from(PERIODS), st.booleans()),
    st.lists(rows, max_size=3, unique_by=lambda row: row.period_start),
    st.one_of(st.none(), st.integers(0, 2 * NOW)),
    zones,
)
def test_a_balance_holds_until_it_said_it_would(
    limit: Limit, usages: list[Usage], anchor: int | None, timezone: str
) -> None:
    entry, changes_at = balance(limit, usages, anchor, timezone, NOW)
    assert changes_at is None or changes_at > NOW
    horizon = NOW + 10 * 365 * 24 * HOUR if changes_at is None else changes_at
    for later in ((NOW + horizon) // 2, horizon - 1):
        assert balance(limit, usages, anchor, timezone, later) == (entry, changes_at)
    assert ("resets_at" in entry) == (limit.period != "never")
    if limit.limit is None:
        assert {"limit", "remaining", "reserved", "hard"}.isdisjoint(entry)
    else:
        assert entry["remaining"] == max(0, limit.limit - entry["used"] - entry["reserved"])


# explanations


def test_every_row_about_a_quota_is_listed() -> None:
    overrides = [override(7, NOW - 5, NOW + 5), override(9, None, NOW), override(None, NOW + 1, None)]
    usages = [Usage(NOVEMBER, 1, 2), Usage(NOVEMBER - 1, 3, 4)]
    reasons = explain_quota(
        "voice_minutes",
        owner="user:u_1",
        plan="pro",
        plan_limit=MONTHLY,
        overrides=overrides,
        usages=usages,
        anchor_ms=None,
        timezone="UTC",
        now_ms=NOW,
    )
    assert [(reason.source, reason.counts) for reason in reasons] == [
        ("plan", False),
        ("override", True),
        ("override", False),
        ("override", False),
        ("usage", True),
        ("usage", False),
    ]
    assert reasons[0].row == {"table": "plan_quotas", "plan": "pro", "quota": "voice_minutes"}
    assert (reasons[0].limit, reasons[0].period, reasons[0].hard) == (500, "month", True)
    assert reasons[1].row == {"table": "user_quotas", "user_id": "u_1", "quota": "voice_minutes"}
    assert (reasons[1].limit, reasons[1].starts_at, reasons[1].expires_at) == (7, NOW - 5, NOW + 5)
    assert reasons[4].row == {
        "table": "quota_usage",
        "owner": "user:u_1",
        "quota": "voice_minutes",
        "period_start": NOVEMBER,
    }
    assert (reasons[4].period_start, reasons[4].used, reasons[4].reserved) == (NOVEMBER, 1, 2)


def test_a_quota_that_nobody_gives_has_no_reason_that_counts() -> None:
    def explain(overrides: list[QuotaOverride]) -> list[tuple[str, bool]]:
        reasons = explain_quota(
            "q",
            owner="org:o_1",
            plan="pro",
            plan_limit=None,
            overrides=overrides,
            usages=[Usage(NOVEMBER, 1, 0)],
            anchor_ms=None,
            timezone="UTC",
            now_ms=NOW,
        )
        return [(reason.source, reason.counts) for reason in reasons]

    assert explain([]) == [("usage", False)]
    assert explain([override(1, NOW + 1, None)]) == [("override", False), ("usage", False)]
    assert explain([override(1, NOW, None)]) == [("override", True), ("usage", True)]


@given(
    st.one_of(st.none(), st.just(MONTHLY)),
    st.lists(st.builds(override, amounts, dates, dates), max_size=3),
)
def test_the_reason_that_counts_is_the_limit_in_force(plan: Limit | None, overrides: list[QuotaOverride]) -> None:
    limit, _ = effective_limit(plan, overrides, 0)
    reasons = explain_quota(
        "q", owner="user:u", plan="p", plan_limit=plan, overrides=overrides, anchor_ms=None, timezone="UTC", now_ms=0
    )
    assert [reason.limit for reason in reasons if reason.counts] == ([] if limit is None else [limit.limit])
