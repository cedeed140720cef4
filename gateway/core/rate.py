"""How often somebody may ask: so many requests in a minute, evenly refilled (the generic cell rate algorithm).

One number for each who asks, and the exact moment at which the next request is allowed.

Two others bound something else: `allowance` the messages of one session, for whom the few who send too many are told to
slow down before they are ended, without a moment; the throttles of logins (`auth.lockout`) count failures in the
database, for they hold on all nodes and over a restart.
"""

from __future__ import annotations

import math
from typing import NamedTuple

WINDOW_S = 60
_SPARE = 1_000
"""So many are remembered before those are looked for whose allowance is whole again."""

_FORGET_EVERY_S = 1.0


class Allowed(NamedTuple):
    """What was found: `retry_after_s` None: the request is allowed. `remaining` requests are left at once, and after
    `reset_s` seconds of silence all of `limit`.
    """

    limit: int
    remaining: int
    reset_s: int
    retry_after_s: float | None = None


class Rates:
    """The rates of one process, by name; times are seconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._whole_at: dict[str, float] = {}
        self._forgets_at = 0.0

    def __len__(self) -> int:
        return len(self._whole_at)

    def charge(self, name: str, per_minute: int, now: float) -> Allowed:
        """Count a request, unless there have been too many."""
        step = WINDOW_S / per_minute
        whole_at = max(self._whole_at.get(name, now), now)
        # A limit that was lowered leaves nobody waiting for longer than a minute.
        used = min(whole_at - now, WINDOW_S)
        if used + step > WINDOW_S + 1e-9:
            return Allowed(per_minute, 0, math.ceil(used), max(used + step - WINDOW_S, 0.001))
        self._whole_at[name] = now + used + step
        if len(self._whole_at) > _SPARE and now >= self._forgets_at:
            self._forget(now)
        left = int((WINDOW_S - used - step) / step + 1e-6)
        return Allowed(per_minute, left, math.ceil(used + step))

    def left(self, name: str, per_minute: int, now: float) -> Allowed:
        """What there is for who asks, without counting that."""
        used = min(max(self._whole_at.get(name, now) - now, 0.0), WINDOW_S)
        return Allowed(per_minute, int((WINDOW_S - used) * per_minute / WINDOW_S + 1e-6), math.ceil(used))

    def _forget(self, now: float) -> None:
        self._forgets_at = now + _FORGET_EVERY_S
        self._whole_at = {name: at for name, at in self._whole_at.items() if at > now}
