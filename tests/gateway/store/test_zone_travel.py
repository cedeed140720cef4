"""However somebody moves about, what may be taken is bounded. `test_zone_changes`: that the database does the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.clock import parse_rfc3339
from tests.support.zone_traveller import LIMIT, Taken, Traveller

HOUR = 3_600_000
DAY = 24 * HOUR
FIXED = [f"Etc/GMT{by:+d}" for by in range(-14, 13)] + ["Asia/Kolkata", "Asia/Kathmandu", "Australia/Eucla"]
MOVED = [
    *("UTC", "Europe/Berlin", "America/New_York", "Pacific/Auckland", "Pacific/Chatham", "Pacific/Tongatapu"),
    *("Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Pago_Pago", "Pacific/Kiritimati", "Africa/Cairo", "America/Adak"),
]
BEGINNINGS = [
    *("2026-11-15T12:00:00.000Z", "2026-12-30T20:15:00.000Z", "2027-02-27T03:00:00.000Z", "2026-03-28T12:00:00.000Z"),
    *("2026-04-04T09:00:00.000Z", "2026-10-24T12:00:00.000Z", "2026-10-31T12:00:00.000Z", "2026-03-07T12:00:00.000Z"),
]


def travels(period: str, zones: list[str], anchor: int | None = None) -> st.SearchStrategy[Callable[[], Traveller]]:
    """Somebody who goes about and takes all there is, mostly just before and after a period begins somewhere."""
    passes = st.one_of(
        st.tuples(st.just("boundary"), st.sampled_from(zones), st.sampled_from([0, 0, 0, -1, 1])),
        st.tuples(st.just("by"), st.just(""), st.sampled_from([1, 15 * 60_000, HOUR, 5 * HOUR, DAY, 9 * DAY])),
    )
    doings = st.one_of(
        st.tuples(st.just("move"), st.sampled_from(zones), st.just(0)),
        st.tuples(st.just("take"), st.just(""), st.sampled_from([LIMIT, LIMIT, LIMIT, 3])),
        passes,
    )
    return st.builds(
        lambda zone, start, steps: lambda: travel(Traveller(period, zone, parse_rfc3339(start), anchor), steps),
        st.sampled_from(zones),
        st.sampled_from(BEGINNINGS),
        st.lists(doings, min_size=4, max_size=40),
    )


def travel(somebody: Traveller, steps: list[tuple[str, str, int]]) -> Traveller:
    for what, zone, number in steps:
        if what == "move":
            somebody.move(zone)
        elif what == "boundary":
            _, end = somebody.basis._replace(timezone=zone).bounds(somebody.now)
            somebody.now = max(somebody.now, (end or 0) + number)
        elif what == "by":
            somebody.now += number
        else:
            somebody.take(number)
        assert all(sum(row) <= LIMIT for row in somebody.rows.values()), "a period has more than its limit"
    return somebody


def most(taken: list[Taken], length: int, more: int) -> None:
    """No window of n periods of that length has more than (n + `more`) limits."""
    for place, first in enumerate(taken):
        amount = 0
        for last in taken[place:]:
            amount += last.amount
            periods = -(-(last.at - first.at + 1) // length)
            assert amount <= (periods + more) * LIMIT, (first, last)


@settings(max_examples=300)
@given(travels("day", FIXED + MOVED))
def test_days(made: Callable[[], Traveller]) -> None:
    """At any moment there are three dates on earth."""
    most(made().taken, DAY, 2)


@settings(max_examples=100)
@given(travels("week", FIXED + MOVED))
def test_weeks(made: Callable[[], Traveller]) -> None:
    most(made().taken, 7 * DAY, 2)


@settings(max_examples=100)
@given(travels("month", FIXED + MOVED))
def test_months(made: Callable[[], Traveller]) -> None:
    most(made().taken, 31 * DAY, 3)


@settings(max_examples=100)
@given(travels("month", FIXED + MOVED, parse_rfc3339("2026-01-31T23:30:00.123Z")))
def test_months_since_an_anchor(made: Callable[[], Traveller]) -> None:
    most(made().taken, 31 * DAY, 3)


@pytest.mark.parametrize("period", ["day", "week", "month", "year"])
@settings(max_examples=60)
@given(
    st.sampled_from(FIXED + MOVED),
    st.sampled_from(FIXED + MOVED),
    st.sampled_from(BEGINNINGS),
    st.integers(0, 40 * DAY),
    st.integers(1, LIMIT),
)
def test_who_moves_has_each_unit_in_its_own_period_alone(
    period: str, here: str, there: str, beginning: str, later: int, amount: int
) -> None:
    """The last period's units are not the present one's, wherever somebody goes, and back it is as it was."""
    somebody = Traveller(period, here, parse_rfc3339(beginning))
    somebody.take(amount)
    somebody.now += later
    somebody.take(LIMIT - amount)
    before = {start: list(row) for start, row in somebody.rows.items() if start > somebody.now - DAY}
    counted = somebody.counted()
    somebody.move(there)
    assert somebody.counted() <= max(counted, amount)
    somebody.move(here)
    assert somebody.counted() == counted
    assert {start: row for start, row in somebody.rows.items() if start in before} == before
