"""Figures of a set of measured times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of values in ascending order: the smallest one that `share` (0 < share <= 1) of
    them do not pass.
    """
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Iterable[float]) -> float:
    """The middle value, the mean of the middle two when their number is even."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


class Spread(NamedTuple):
    """The distribution of a time, in milliseconds."""

    samples: int
    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, nanoseconds: Iterable[int]) -> Spread:
        """The distribution of times in nanoseconds; ValueError when there are none."""
        ordered = sorted(nanoseconds)
        p50, p90, p99, top = (round(percentile(ordered, share) / 1e6, 3) for share in (0.5, 0.9, 0.99, 1.0))
        return cls(len(ordered), p50, p90, p99, top)

    def named(self, prefix: str) -> dict[str, float]:
        """The figures as values of a result: ``PREFIX_p50_ms`` and so on."""
        figures = {f"{prefix}_{name}_ms": value for name, value in zip(self._fields[1:], self[1:], strict=True)}
        return {f"{prefix}_samples": self.samples, **figures}
