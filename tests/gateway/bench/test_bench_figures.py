from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.bench.percentiles import Spread, median, percentile


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=200), st.floats(0.001, 1.0))
def test_a_percentile_is_the_least_value_that_covers_its_share(values: list[int], share: float) -> None:
    ordered = sorted(values)
    found = percentile(ordered, share)
    needed = share * len(ordered)
    assert sum(1 for value in ordered if value <= found) >= needed - 1e-9
    assert sum(1 for value in ordered if value < found) < needed


def test_percentiles_of_a_hundred_values() -> None:
    ordered = list(range(1, 101))
    assert [percentile(ordered, share) for share in (0.5, 0.9, 0.99, 1.0)] == [50, 90, 99, 100]


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


@pytest.mark.parametrize(("values", "middle"), [([3], 3), ([9, 1, 5], 5), ([4, 1, 3, 2], 2.5)])
def test_the_median_is_the_middle(values: list[float], middle: float) -> None:
    assert median(values) == middle


def test_a_spread_is_named_in_milliseconds() -> None:
    spread = Spread.of(range(1_000_000, 101_000_000, 1_000_000))
    assert spread.named("commit_to_frame") == {
        "commit_to_frame_samples": 100,
        "commit_to_frame_p50_ms": 50,
        "commit_to_frame_p90_ms": 90,
        "commit_to_frame_p99_ms": 99,
        "commit_to_frame_max_ms": 100,
    }
