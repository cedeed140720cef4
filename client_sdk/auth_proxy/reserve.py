"""Half of what an instance may ask is kept for tokens that are known.

Whoever shows an application made-up tokens makes it ask about each of them, and only the answer says that a token was
made up. So of what the gateway says that is left, tokens that were never seen get what is beyond a half: those that are
in use are asked about again however many strangers come.
"""

from __future__ import annotations

from client_sdk.rate_limit import RateLimit

KEPT = 0.5


class Reserve:
    """Reckons from what the gateway said last; times are seconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._told: RateLimit | None = None
        self._told_at = 0.0

    def note(self, told: RateLimit | None, now: float) -> None:
        """What the gateway said last, by `now`; the same object again is nothing new."""
        if told is not self._told:
            self._told, self._told_at = told, now

    def spares(self, asking: int, now: float) -> bool:
        """Whether there is enough for a token that was never seen, besides the questions under way."""
        told = self._told
        if told is None:
            return True
        left = told.remaining + (now - self._told_at) * told.limit / told.window_s
        return min(left, told.limit) - asking >= told.limit * KEPT
