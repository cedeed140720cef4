"""Balances that move faster than anybody can look at.

What moves a balance and nothing else is shown at once after a quiet time. While it goes on, a document waits, its
changes joined, and is let go every 50 ms, who waits longest first: 20 frames a second of a document at the most, and
the last one is the truth. What waits claims nothing: a document is known to be exact only up to what was read for it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence

from gateway.live.task import Task

QUIET_S = 0.25
"""A balance that did not move for so long is shown at once when it does."""
EVERY_S = 0.05
AT_ONCE = 50
"""While this process has many orders to carry out: documents that are let go at a time, and that are shown at once in
this time, 1,000 a second of each sort. Whoever asks for units comes first then; else there is no such bound."""

LONG_AGO = float("-inf")


class Pacing:
    """The documents that wait. `let_go` takes one of them and what is to be done about it, on the event loop, every
    `every_s` seconds; `busy` says whether this process has something better to do.
    """

    def __init__(
        self, let_go: Callable[[str, Task], None], busy: Callable[[], bool], *, every_s: float = EVERY_S
    ) -> None:
        self._let_go = let_go
        self._busy = busy
        self._every_s = every_s
        self._waiting: OrderedDict[str, Task] = OrderedDict()
        self._moved: OrderedDict[str, float] = OrderedDict()
        self._slot = 0
        self._shown_at_once = 0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, doc: str) -> bool:
        return doc in self._waiting

    def holds(self, doc: str, task: Task, pools: Sequence[str] = ()) -> bool:
        """A balance moved that this document shows: whether it waits. `pools` are the organizations whose balances it
        shows too: it waits when one of them does, or moved a moment ago, for it is built together with them.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        waiting = self._waiting
        known = waiting.get(doc)
        recent = known is not None or self._is_recent(doc, now) or any(self._is_recent(pool, now) for pool in pools)
        self._note(doc, now)
        if known is None and not recent and self._may_go_at_once(now):
            return False
        if known is None or task.adds_to(known):
            waiting[doc] = task if known is None else known.join(task)
        if self._timer is None:
            self._timer = loop.call_later(self._every_s, self._release)
        return True

    def take(self, doc: str) -> Task | None:
        """A document that goes on at once, for another reason or because somebody asks; None: it does not wait."""
        return self._waiting.pop(doc, None)

    def _is_recent(self, doc: str, now: float) -> bool:
        return doc in self._waiting or self._moved.get(doc, LONG_AGO) > now - QUIET_S

    def _note(self, doc: str, now: float) -> None:
        moved = self._moved
        moved[doc] = now
        moved.move_to_end(doc)
        while True:
            oldest = next(iter(moved))
            if moved[oldest] > now - QUIET_S:
                return
            del moved[oldest]

    def _may_go_at_once(self, now: float) -> bool:
        slot = int(now / self._every_s)
        if slot != self._slot:
            self._slot, self._shown_at_once = slot, 0
        self._shown_at_once += 1
        return self._shown_at_once <= AT_ONCE or not self._busy()

    def _release(self) -> None:
        self._timer = None
        waiting = len(self._waiting)
        for _ in range(min(AT_ONCE, waiting) if self._busy() else waiting):
            self._let_go(*self._waiting.popitem(last=False))
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(self._every_s, self._release)
