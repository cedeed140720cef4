"""Leases that the database does not let end: rows that only SQL can have written, or triggers of somebody's own.

They are tried again later and later, apart from all others, which they must not keep open.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import msgspec

FIRST_DELAY_MS = 1_000
LAST_DELAY_MS = 60_000
"""How long one is left alone after the first failure, and at the most; each time twice as long."""

Name: TypeAlias = tuple[str, str]
"""Spender and id."""


class _Trial(NamedTuple):
    at: int
    delay_ms: int


class StuckLeases:
    """What one process knows of them. Moments are milliseconds since 1970 UTC."""

    def __init__(self) -> None:
        self._trials: dict[Name, _Trial] = {}

    def failed(self, name: Name, now: int) -> bool:
        """This one could not be ended at `now`; whether that is new."""
        before = self._trials.get(name)
        delay_ms = FIRST_DELAY_MS if before is None else min(2 * before.delay_ms, LAST_DELAY_MS)
        self._trials[name] = _Trial(now + delay_ms, delay_ms)
        return before is None

    def ended(self, name: Name) -> None:
        """It is none of them any more."""
        self._trials.pop(name, None)

    def due(self, now: int) -> list[Name]:
        """Those to be tried again."""
        return [name for name, trial in self._trials.items() if trial.at <= now]

    def next_trial(self) -> int | None:
        """When the next of them is due; None: there is none."""
        return min((trial.at for trial in self._trials.values()), default=None)

    def names(self) -> str:
        """All of them in JSON, for a statement that leaves them out."""
        return msgspec.json.encode(list(self._trials)).decode()
