"""What a hub has done, counted."""

from __future__ import annotations


class HubCounters:
    """What the hub has done, for metrics."""

    __slots__ = ("built", "conflated", "drift", "faults", "pushed", "suppressed")

    def __init__(self) -> None:
        self.built = 0
        self.suppressed = 0
        self.pushed = 0
        self.conflated = 0
        self.drift = 0
        self.faults = 0
