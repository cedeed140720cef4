"""How many messages a client may send."""

from __future__ import annotations

WINDOW_S = 60.0


class Allowance:
    """So many messages a minute; minutes begin with the connection, or with the first message after the one before.

    `mono` is the monotonic clock, in seconds.
    """

    __slots__ = ("_count", "_ends", "_limit", "_strikes")

    def __init__(self, limit: int, mono: float) -> None:
        self._limit = limit
        self._ends = mono + WINDOW_S
        self._count = 0
        self._strikes = 0

    def charge(self, mono: float) -> bool:
        """Count one message; True when it is beyond the allowance. A spent allowance is a strike."""
        limit = self._limit
        if mono >= self._ends:
            in_a_row = self._count > limit and mono < self._ends + WINDOW_S
            self._strikes = 1 if in_a_row else 0
            self._count = 0
            self._ends = mono + WINDOW_S
        self._count += 1
        if self._count in (limit + 1, 2 * limit + 1):
            self._strikes += 1
        return self._count > limit

    @property
    def spent_in_a_row(self) -> bool:
        """Whether one allowance was spent after another."""
        return self._strikes > 1

    def renewed_in_s(self, mono: float) -> float:
        """Seconds until there is a new one, to the millisecond."""
        return round(max(0.0, self._ends - mono), 3)
