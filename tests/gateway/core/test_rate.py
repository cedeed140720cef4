from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.rate import Rates


def test_a_minutes_worth_at_once_and_then_one_by_one() -> None:
    rates = Rates()
    assert [rates.charge("a", 3, 0.0)[:3] for _ in range(3)] == [(3, 2, 20), (3, 1, 40), (3, 0, 60)]
    refused = rates.charge("a", 3, 0.0)
    assert refused.retry_after_s == 20.0
    assert rates.charge("a", 3, 19.9).retry_after_s is not None
    assert rates.charge("a", 3, 20.0).retry_after_s is None
    assert rates.charge("b", 3, 20.0).remaining == 2, "each has its own"


def test_looking_at_what_is_left_takes_nothing() -> None:
    rates = Rates()
    assert rates.left("a", 3, 0.0) == (3, 3, 0, None)
    for now in (0.0, 0.0, 0.5, 27.0):
        charged = rates.charge("a", 3, now)
        assert charged.retry_after_s is None
        assert rates.left("a", 3, now) == charged
        assert rates.left("a", 3, now) == charged
    assert rates.left("a", 3, 1_000.0) == (3, 3, 0, None)
    assert rates.left("a", 1, 20.0).remaining == 0
    assert len(rates) == 1


def test_a_limit_that_was_lowered_locks_nobody_out() -> None:
    rates = Rates()
    for _ in range(60):
        rates.charge("a", 60, 0.0)
    refused = rates.charge("a", 1, 0.0)
    assert refused.retry_after_s == 60.0
    assert rates.charge("a", 1, 60.0).retry_after_s is None


def test_who_is_silent_is_forgotten() -> None:
    rates = Rates()
    for number in range(1_000):
        rates.charge(str(number), 60, 0.0)
    for number in range(1_000, 1_010):
        rates.charge(str(number), 60, 100.0)
    assert len(rates) <= 10


@given(st.integers(1, 200), st.lists(st.floats(0, 5), max_size=200))
def test_no_minute_has_more_than_twice_the_limit_and_a_wait_is_exact(per_minute: int, pauses: list[float]) -> None:
    """At once what a minute allows, and what is refilled in it."""
    rates, now, taken = Rates(), 0.0, list[float]()
    for pause in pauses:
        now += pause
        allowed = rates.charge("a", per_minute, now)
        if allowed.retry_after_s is None:
            taken.append(now)
            assert 0 <= allowed.remaining < per_minute
        else:
            assert rates.charge("a", per_minute, now + allowed.retry_after_s + 0.001).retry_after_s is None
            taken.append(now + allowed.retry_after_s)
            now += allowed.retry_after_s + 0.001
    for start in taken:
        assert sum(start <= at < start + 60 for at in taken) <= 2 * per_minute


def test_what_is_forgotten_is_looked_for_once_in_a_second() -> None:
    """Not at each charge while more are active than are spared."""
    rates, looks = Rates(), []
    forget = rates._forget
    rates._forget = lambda now: (looks.append(now), forget(now))[0]  # type: ignore[method-assign, func-returns-value]
    for number in range(3_000):
        rates.charge(str(number), 6_000, 100.0 + number / 1_000)
    assert 1 <= len(looks) <= 3
