"""Ids in the order of their priority, of which any may be taken away or moved."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

NEVER = float("inf")
# So many entries that do not count any more are kept beside those that do, before they are cleared away.
SPARE = 64


class PriorityQueue:
    """Each id once, with a number: a time that it is due, or a place. The lowest comes first; equal ones in the order
    in which they were put.

    Every operation takes a time that grows with the logarithm of how many there are.
    """

    def __init__(self) -> None:
        self._entries: dict[str, tuple[float, int, str]] = {}
        self._heap: list[tuple[float, int, str]] = []  # has entries too that were removed, or put anew
        self._count = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, id: str) -> bool:
        return id in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._entries))

    def put(self, id: str, priority: float) -> None:
        """Add an id, or move it."""
        self._count += 1
        entry = self._entries[id] = (priority, self._count, id)
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._entries) + SPARE:
            self._heap = sorted(self._entries.values())

    def remove(self, id: str) -> bool:
        """Take an id away; whether it was there."""
        return self._entries.pop(id, None) is not None

    def first(self) -> float:
        """The lowest number; infinite when there is nothing."""
        heap, entries = self._heap, self._entries
        while heap and entries.get(heap[0][2]) is not heap[0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else NEVER

    def take(self, until: float = NEVER) -> str | None:
        """Take away and return what comes first, unless its number is above `until`; None when there is nothing."""
        if self.first() > until or not self._heap:
            return None
        id = heapq.heappop(self._heap)[2]
        del self._entries[id]
        return id

    def clear(self) -> None:
        """Take everything away."""
        self._entries.clear()
        self._heap.clear()
