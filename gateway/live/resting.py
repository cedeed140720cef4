"""Users' documents that are kept for a while after the last session: who comes back needs no reading of them.

All sessions of a node may be cut at once and be back within seconds. A resting document is followed like any other,
with one exception: what the change log says about it lets go of it, since nobody waits for the next state.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from gateway.live.entry import UserEntry

REST_MS = 60_000
"""A document rests for one to two times as long."""
REST_LIMIT = 50_000
"""How many documents a node may hold before none of them rests: as many as it has sessions at the most."""
AT_ONCE = 500


class Resting:
    """Two generations, of which the older is let go of when the younger becomes it. `forget` lets go of a document."""

    __slots__ = ("_forget", "_new", "_old", "_turned_at")

    def __init__(self, forget: Callable[[UserEntry], None]) -> None:
        self._forget = forget
        self._new: dict[str, UserEntry] = {}
        self._old: dict[str, UserEntry] = {}
        self._turned_at = 0

    def add(self, entry: UserEntry, held: int) -> bool:
        """Keep a document that nobody needs any more, unless it is not worth it: unknown, faulty, of a user who is not
        active, or one of too many (`held`).
        """
        facts = entry.facts
        if facts is None or not facts.active or entry.publication is None or entry.fault is not None:
            return False
        if not entry.idle() or held > REST_LIMIT:
            return False
        self._new[entry.doc] = entry
        return True

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def discard(self, doc: str) -> None:
        """Somebody needs the document again, or it is gone."""
        if self._new.pop(doc, None) is None:
            self._old.pop(doc, None)

    def end(self, doc: str) -> bool:
        """Something changed about a document: let go of it if it rests, which is the answer."""
        entry = self._new.get(doc) or self._old.get(doc)
        if entry is None:
            return False
        self._forget(entry)
        return True

    def clock_moved(self, now: int) -> None:
        """Let go of what has rested for long enough, some at a time; `now` in milliseconds since 1970 UTC."""
        for doc in list(islice(self._old, AT_ONCE)):
            self._forget(self._old.pop(doc))
        if not self._old and not self._turned_at <= now < self._turned_at + REST_MS:
            self._old, self._new, self._turned_at = self._new, {}, now
