"""Moments, wall times and zones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.clock import instant, local, offset, parse_rfc3339, rfc3339, transition, zone

YEAR_1, YEAR_9999 = -62_135_596_800_000, 253_402_300_799_999
ZONES = sorted(available_timezones() - {"localtime"})
moments = st.integers(0, 7_258_118_400_000)  # 1970 to 2200


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (1_795_288_200_000, "2026-11-21T19:10:00.000Z"),
        (1_582_934_400_007, "2020-02-29T00:00:00.007Z"),
        (YEAR_1, "0001-01-01T00:00:00.000Z"),
        (YEAR_9999, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_moment_is_written_in_utc_with_milliseconds(ms: int, text: str) -> None:
    assert rfc3339(ms) == text
    assert parse_rfc3339(text) == ms


@pytest.mark.parametrize("ms", [YEAR_1 - 1, YEAR_9999 + 1, 10**30, -(10**30)])
def test_a_moment_outside_four_digit_years_is_refused(ms: int) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        rfc3339(ms)


@given(st.integers(YEAR_1, YEAR_9999))
def test_written_moments_agree_with_datetime_and_are_read_back(ms: int) -> None:
    text = rfc3339(ms)
    expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    assert text == expected.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert parse_rfc3339(text) == ms


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("1985-04-12T23:20:50.52Z", "1985-04-12T23:20:50.520Z"),  # RFC 3339 §5.8
        ("1996-12-19T16:39:57-08:00", "1996-12-20T00:39:57.000Z"),
        ("1937-01-01T12:00:27.87+00:20", "1937-01-01T11:40:27.870Z"),
        ("2026-11-21t19:10:00z", "2026-11-21T19:10:00.000Z"),
        ("2026-11-21T19:10:00.0009Z", "2026-11-21T19:10:00.000Z"),
        ("2026-11-21T19:10:00.12399999999999999999Z", "2026-11-21T19:10:00.123Z"),
        ("2026-11-21T19:10:00-00:00", "2026-11-21T19:10:00.000Z"),
        ("1969-12-31T23:59:59.9999Z", "1969-12-31T23:59:59.999Z"),
    ],
)
def test_every_form_of_rfc_3339_is_read(text: str, same: str) -> None:
    assert rfc3339(parse_rfc3339(text)) == same


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-21",
        "2026-11-21T19:10:00",
        "2026-11-21 19:10:00Z",
        "2026-11-21T19:10Z",
        "2026-11-21T19:10:00.Z",
        "2026-11-21T19:10:00Z\n",
        " 2026-11-21T19:10:00Z",
        "2026-02-30T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-11-21T24:00:00Z",
        "1990-12-31T23:59:60Z",
        "2026-11-21T19:10:00+24:00",
        "2026-11-21T19:10:00+01:60",
        "2026-11-21T19:10:00+0100",
        "٢٠٢٦-11-21T19:10:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "2026-11-21T19:10:00." + "0" * 100 + "Z",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_rfc3339(text)


@pytest.mark.parametrize("name", ZONES)
def test_every_zone_of_the_database_is_known(name: str) -> None:
    assert zone(name).key == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Mars/Olympus",
        "America",
        "localtime",
        "posixrules",
        "posix/Europe/Berlin",
        "right/Europe/Berlin",
        "europe/berlin",
        "/etc/localtime",
        "../etc/passwd",
        "Europe/../Europe/Berlin",
        "Europe/Berlin\n",
        "Europe/Berlin\0",
        "Europe/Berl\udcffin",
        "Zone/" + "A" * 5000,
    ],
)
def test_no_other_file_is_a_zone(name: str) -> None:
    with pytest.raises(ValueError, match="IANA"):
        zone(name)


def test_wall_time_and_offset() -> None:
    berlin = zone("Europe/Berlin")
    ms = parse_rfc3339("2026-07-01T10:00:00.123Z")
    assert local(ms, berlin) == datetime(2026, 7, 1, 12, 0, 0, 123_000)
    assert offset(ms, berlin) == 7_200_000
    assert instant(datetime(2026, 7, 1, 12, 0, 0, 123_000), berlin) == ms


@pytest.mark.parametrize(
    ("name", "wall", "moment"),
    [
        ("Europe/Berlin", datetime(2026, 3, 29, 2, 30), "2026-03-29T01:00:00.000Z"),  # skipped: the end of the gap
        ("Europe/Berlin", datetime(2026, 3, 29, 2, 0), "2026-03-29T01:00:00.000Z"),
        ("Europe/Berlin", datetime(2026, 3, 29, 3, 0), "2026-03-29T01:00:00.000Z"),
        ("Europe/Berlin", datetime(2026, 10, 25, 2, 30), "2026-10-25T00:30:00.000Z"),  # twice: the first time
        ("Europe/Berlin", datetime(2026, 10, 25, 2, 0, 0, 1000), "2026-10-25T00:00:00.001Z"),
        ("Europe/Berlin", datetime(2026, 10, 25, 3, 0), "2026-10-25T02:00:00.000Z"),
        ("Pacific/Apia", datetime(2011, 12, 30, 12, 0), "2011-12-30T10:00:00.000Z"),  # a whole day skipped
        ("Pacific/Apia", datetime(2011, 12, 31, 0, 0), "2011-12-30T10:00:00.000Z"),
        ("America/Sao_Paulo", datetime(2018, 11, 4, 0, 0), "2018-11-04T03:00:00.000Z"),  # midnight itself skipped
        ("Australia/Lord_Howe", datetime(2026, 10, 4, 2, 15), "2026-10-03T15:30:00.000Z"),  # a gap of half an hour
    ],
)
def test_wall_times_at_a_transition(name: str, wall: datetime, moment: str) -> None:
    assert rfc3339(instant(wall, zone(name))) == moment


@given(st.sampled_from(ZONES), moments, st.integers(0, 200 * 3_600_000))
def test_a_wall_time_is_the_first_moment_that_shows_it_or_later(name: str, ms: int, later: int) -> None:
    where = zone(name)
    wall = local(ms, where)
    first = instant(wall, where)
    assert first <= ms
    assert local(first, where) >= wall > local(first - 1, where)
    assert instant(wall + timedelta(milliseconds=later), where) >= first


@given(st.sampled_from(ZONES), moments)
def test_a_transition_is_found_to_the_second(name: str, ms: int) -> None:
    where = zone(name)
    end = ms + 3_600_000
    if offset(ms, where) == offset(end, where):
        end = ms + 200 * 86_400_000
    if offset(ms, where) != offset(end, where):
        found = transition(ms, end, where)
        assert ms < found <= end
        assert offset(found, where) == offset(end, where) != offset(found - 1, where)


def test_moments_at_the_ends_of_time_are_refused() -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        local(YEAR_9999, ZoneInfo("Asia/Tokyo"))
    with pytest.raises(ValueError, match="years 1 to 9999"):
        local(10**20, ZoneInfo("UTC"))
