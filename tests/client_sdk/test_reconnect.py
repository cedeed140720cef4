from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.connection import parse_retry_after
from client_sdk.errors import AuthFailed, ChannelError, Disconnected, Forbidden, Revoked
from client_sdk.reconnect import Backoff, End, Reconnect, end_of_close, end_of_message, end_of_refusal
from client_sdk.wire import Ended, Problem

NOW = End("disconnected", "", Reconnect.NOW)
LATER = End("overloaded", "", Reconnect.LATER)


@pytest.mark.parametrize(
    ("close_code", "code", "reconnect"),
    [
        (1001, "going_away", "now"),
        (1000, "disconnected", "now"),
        (None, "disconnected", "now"),
        (1012, "going_away", "now"),
        (4000, "internal", "later"),
        (4001, "timeout", "now"),
        (4002, "too_slow", "now"),
        (4003, "replaced", "later"),
        (4004, "overloaded", "later"),
        (4005, "rate_limited", "later"),
        (4100, "token_expired", "new_credential"),
        (4101, "auth_timeout", "now"),
        (4102, "auth_failed", "new_credential"),
        (4500, "revoked", "never"),
        (4501, "principal_changed", "never"),
        (4502, "bad_frame", "never"),
        (4503, "too_large", "never"),
        (4504, "not_authenticated", "never"),
        (4505, "forbidden", "never"),
        (4499, "disconnected", "later"),
        (4999, "disconnected", "never"),
        (1009, "disconnected", "later"),
    ],
)
def test_a_close_code_says_what_the_lost_message_said(close_code: int | None, code: str, reconnect: str) -> None:
    end = end_of_close(close_code, "")
    assert (end.code, end.reconnect) == (code, reconnect)


@pytest.mark.parametrize(
    ("status", "problem", "code", "reconnect", "error"),
    [
        (401, Problem(), "auth_failed", "new_credential", AuthFailed),
        (401, Problem("auth_failed"), "auth_failed", "new_credential", AuthFailed),
        (401, Problem("revoked"), "revoked", "never", Revoked),
        (403, Problem("forbidden"), "forbidden", "never", Forbidden),
        (403, Problem(), "unavailable", "later", Disconnected),
        (400, Problem("bad_request"), "bad_request", "never", ChannelError),
        (503, Problem("unavailable"), "unavailable", "later", Disconnected),
        (503, Problem(), "unavailable", "later", Disconnected),
        (404, Problem("not_found"), "unavailable", "later", Disconnected),
        (429, Problem(), "rate_limited", "later", Disconnected),
    ],
)
def test_a_refused_handshake_has_the_same_outcomes(
    status: int, problem: Problem, code: str, reconnect: str, error: type[ChannelError]
) -> None:
    end = end_of_refusal(status, problem, 2.0)
    assert (end.code, end.reconnect, end.retry_after_s) == (code, reconnect, 2.0)
    assert type(end.error()) is error or (error is ChannelError and isinstance(end.error(), error))
    assert end.error().code == code


def test_a_word_of_the_future_means_later() -> None:
    assert end_of_message(Ended("odd", "m", "tomorrow", 3.0)) == End("odd", "m", Reconnect.LATER, 3.0)


def backoff() -> Backoff:
    return Backoff(base_s=0.25, cap_s=30.0, stable_s=5.0)


def test_waits_double_up_to_the_cap() -> None:
    one = backoff()
    waits = [one.after(NOW, 0.0, 1.0) for _ in range(10)]
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30]


def test_a_healthy_connection_comes_back_at_once_but_not_in_step_with_all_others() -> None:
    one = backoff()
    one.failures = 7
    assert one.after(NOW, 5.0, 0.0) == pytest.approx(0.025)
    assert one.after(NOW, 5.0, 1.0) == pytest.approx(0.25)


def test_later_waits_longer_and_is_not_forgotten_by_a_short_life() -> None:
    one = backoff()
    assert [one.after(LATER, 10.0, 1.0) for _ in range(4)] == [2.0, 4.0, 8.0, 16.0]
    assert one.after(LATER, 30.0, 1.0) == 2.0


@given(
    st.lists(st.sampled_from([NOW, LATER, NOW._replace(retry_after_s=7.0)]), min_size=1, max_size=60),
    st.floats(0, 1, exclude_max=True),
)
def test_the_wait_is_never_below_what_the_gateway_says_nor_zero_nor_above_the_cap(
    ends: list[End], chance: float
) -> None:
    one = backoff()
    for end in ends:
        jitter = one.after(end, 0.0, chance) - end.retry_after_s
        assert 0.0249 <= jitter <= 30.0


def test_full_jitter_spreads_over_the_whole_wait() -> None:
    waits = []
    for chance in (0.0, 0.25, 0.5, 0.75, 1.0):
        one = backoff()
        one.failures = 3
        waits.append(one.after(NOW, 0.0, chance))
    steps = {round(later - earlier, 6) for earlier, later in itertools.pairwise(waits)}
    assert waits[0] == pytest.approx(0.025)
    assert waits[-1] == 4.0
    assert len(steps) == 1


def test_a_refused_token_is_held_back_for_longer() -> None:
    assert backoff().after_refused_token(1.0) == 4.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("17", 17.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 40.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after(text, lambda: 60.0) == seconds
