"""A moment on both of the clocks that matter."""

from __future__ import annotations

from typing import NamedTuple


class Instant(NamedTuple):
    """A moment on both clocks: `mono` in seconds for durations, `wall` in milliseconds since 1970 UTC for dates."""

    mono: float
    wall: int
