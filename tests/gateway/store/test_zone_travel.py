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
BEGINNINGS = ["2026-11-15T12:00:00.000Z", "2026-12-30T20:15:00.000Z", "2027-02-27T03:00:00.000Z"]
CLOCKS_MOVE = [
    *("2026-03-28T12:00:00.000Z", "2026-04-04T09:00:00.000Z", "2026-10-24T12:00:00.000Z"),
    *("2026-10-31T12:00:00.000Z", "2026-09-26T00:00:00.000Z", "2026-03-07T12:00:00.000Z"),
]


def travels(
    period: str, zones: list[str], beginnings: list[str], anchor: int | None = None
) -> st.SearchStrategy[Callable[[], Traveller]]:
    """Somebody who goes about and takes all there is, mostly just before and after a period begins somewhere."""
    passes = st.one_of(
        st.tuples(st.just("boundary"), st.sampled_from(zones), st.sampled_from([0, 0, 0, -1, 1])),
        st.tuples(st.just("by"), st.just(""), st.sampled_from([1, 15 * 60_000, HOUR, 5 * HOUR, DAY, 9 * DAY])),
    )
    doings = st.one_of(
        st.tuples(st.just("move"), st.sampled_from(zones), st.just(0)),
        st.tuples(st.just("take"), st.just(""), st.sampled_from([LIMIT, LIMIT, LIMIT, 3])),
        st.tuples(st.just("hold"), st.just(""), st.sampled_from([LIMIT, 3])),
        st.tuples(st.just("settle"), st.just(""), st.just(0)),
        passes,
    )
    return st.builds(
        lambda zone, start, steps: lambda: travel(Traveller(period, zone, parse_rfc3339(start), anchor), steps),
        st.sampled_from(zones),
        st.sampled_from(beginnings),
        st.lists(doings, min_size=4, max_size=40),
    )


def travel(somebody: Traveller, steps: list[tuple[str, str, int]]) -> Traveller:
    """Every period that overlaps the one in which a unit was taken has it, whenever somebody looks."""
    for what, zone, number in steps:
        if what == "move":
            somebody.move(zone)
        elif what == "boundary":
            _, end = somebody.basis._replace(timezone=zone).bounds(somebody.now)
            somebody.now = max(somebody.now, (end or 0) + number)
        elif what == "by":
            somebody.now += number
        elif what == "settle":
            somebody.settle()
        assert somebody.counted() >= somebody.overlapping(), (what, zone, number)
        if what in ("take", "hold"):
            somebody.take(number, held=what == "hold")
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
@given(travels("day", FIXED, BEGINNINGS))
def test_days_in_zones_whose_clocks_stand_still(made: Callable[[], Traveller]) -> None:
    most(made().taken, DAY, 1)


@settings(max_examples=200)
@given(travels("day", MOVED, BEGINNINGS + CLOCKS_MOVE))
def test_days_wherever_clocks_are_moved(made: Callable[[], Traveller]) -> None:
    most(made().taken, DAY, 2)


@settings(max_examples=200)
@given(travels("hour", FIXED, BEGINNINGS))
def test_hours_that_begin_at_the_half_and_the_quarter(made: Callable[[], Traveller]) -> None:
    most(made().taken, HOUR, 1)


@settings(max_examples=100)
@given(travels("week", FIXED, BEGINNINGS))
def test_weeks(made: Callable[[], Traveller]) -> None:
    most(made().taken, 7 * DAY, 1)


@settings(max_examples=100)
@given(travels("month", FIXED + MOVED, BEGINNINGS + CLOCKS_MOVE))
def test_months(made: Callable[[], Traveller]) -> None:
    most(made().taken, 31 * DAY, 2)


@settings(max_examples=100)
@given(travels("month", FIXED + MOVED, BEGINNINGS, parse_rfc3339("2026-01-31T23:30:00.123Z")))
def test_months_since_an_anchor(made: Callable[[], Traveller]) -> None:
    most(made().taken, 31 * DAY, 2)


@pytest.mark.parametrize("period", ["hour", "day", "week", "month", "year"])
@settings(max_examples=60)
@given(
    st.sampled_from(FIXED + MOVED),
    st.sampled_from(FIXED + MOVED),
    st.sampled_from(BEGINNINGS + CLOCKS_MOVE),
    st.integers(0, 40 * DAY),
    st.integers(1, LIMIT),
)
def test_who_moves_once_has_each_unit_as_long_as_its_period_overlaps(
    period: str, here: str, there: str, beginning: str, later: int, amount: int
) -> None:
    somebody = Traveller(period, here, parse_rfc3339(beginning))
    somebody.take(amount)
    somebody.now += later // 40 if period in ("hour", "day") else later
    somebody.take(LIMIT - amount)
    somebody.move(there)
    for _ in range(4):
        assert somebody.counted() == somebody.overlapping()
        somebody.now = somebody.bounds()[1]


@settings(max_examples=300)
@given(
    st.sampled_from(["hour", "day", "week", "month", "year"]),
    st.lists(
        st.tuples(st.sampled_from(FIXED + MOVED), st.sampled_from([*[0] * 4, HOUR, DAY, -1, -1])),
        min_size=2,
        max_size=12,
    ),
    st.sampled_from(BEGINNINGS + CLOCKS_MOVE),
    st.integers(0, 40 * DAY),
)
def test_there_and_back_is_as_if_nothing_had_been(
    period: str, stations: list[tuple[str, int]], beginning: str, later: int
) -> None:
    """Somebody who tries out zones, at any pace (-1: until the period ends) and takes nothing more: in none is there
    more or less than what was taken in periods that overlap the one there, also where units were counted in two."""
    somebody = Traveller(period, stations[0][0], parse_rfc3339(beginning))
    somebody.take(3)
    somebody.now += later // 40 if period in ("hour", "day") else later
    somebody.take(4)
    for zone, stays in [*stations[1:], (stations[0][0], 0)]:
        if somebody.basis._replace(timezone=zone).bounds(somebody.now)[0] == somebody.now:
            somebody.now += 1
        somebody.move(zone)
        assert somebody.counted() == somebody.overlapping()
        somebody.now = somebody.now + stays if stays >= 0 else somebody.bounds()[1]
    for _ in range(4):
        assert somebody.counted() == somebody.overlapping()
        somebody.now = somebody.bounds()[1]
