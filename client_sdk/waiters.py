"""Those who wait for a position of the change log. Times in monotonic seconds."""

from __future__ import annotations

NEVER = float("inf")
FIRST_NUDGE_S = 0.25
# How long to wait before asking again where a document stands: at first, and at the most.
NUDGE_S = 2.0
LONGEST_NUDGE_S = 30.0


class Waiters:
    """All wait until the own document is exact up to a position; now and then, and ever more seldom, it is asked where
    that stands: once for all of them.
    """

    __slots__ = ("_interval_s", "_nudge_at", "_nudged_at", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[str, int] = {}
        self._interval_s = NUDGE_S
        self._nudge_at = NEVER
        self._nudged_at = -NEVER

    def add(self, id: str, seq: int, now: float) -> None:
        """Somebody waits."""
        soon = max(now + FIRST_NUDGE_S, self._nudged_at + NUDGE_S)
        self._nudge_at = min(self._nudge_at, soon) if self._waiting else soon
        self._interval_s = NUDGE_S
        self._waiting[id] = seq

    def remove(self, id: str) -> None:
        """Nobody waits under this id any more."""
        self._waiting.pop(id, None)

    def begin(self, now: float) -> None:
        """A connection begins, which may bring what is waited for."""
        self._nudge_at = now + FIRST_NUDGE_S
        self._interval_s = NUDGE_S

    def take(self, reached: float = NEVER) -> list[str]:
        """Take away those whose position is reached, or all; their ids."""
        ids = [id for id, seq in self._waiting.items() if seq <= reached]
        for id in ids:
            del self._waiting[id]
        return ids

    def deadline(self) -> float:
        """When it is to be asked where the document stands; infinite when nobody waits."""
        return self._nudge_at if self._waiting else NEVER

    def nudged(self, now: float) -> None:
        """It was asked, or somebody else has asked that already."""
        self._nudged_at = now
        self._nudge_at = now + self._interval_s
        self._interval_s = min(2 * self._interval_s, LONGEST_NUDGE_S)
