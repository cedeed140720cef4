"""Requests that wait for an answer."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from client_sdk.errors import ChannelError


class Kind(enum.Enum):
    """What was asked."""

    WATCH = enum.auto()
    UNWATCH = enum.auto()
    SYNC = enum.auto()
    PING = enum.auto()


@dataclass(slots=True)
class Pending:
    """One request under way.

    `own`: the session asked by itself, nobody waits for it. `docs` are what it is about and not answered yet.
    """

    id: str
    kind: Kind
    sent_at: float
    deadline: float
    own: bool
    docs: set[str] = field(default_factory=set)
    accepted: list[str] = field(default_factory=list)
    refused: dict[str, ChannelError] = field(default_factory=dict)
    answered: bool = False

    def accept(self, docs: Iterable[str]) -> None:
        """The gateway accepted these."""
        self.accepted += docs
        self.docs.difference_update(self.accepted)

    def refuse(self, doc: str, error: ChannelError) -> None:
        """The gateway refused this one."""
        self.docs.discard(doc)
        self.refused[doc] = error


class Requests:
    """The requests of one connection, by id."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._pending: dict[str, Pending] = {}
        self._count = 0

    def __iter__(self) -> Iterator[Pending]:
        return iter(list(self._pending.values()))

    def own_id(self) -> str:
        """An id for a request of the session's own; never one of the application's."""
        self._count += 1
        return f"s{self._count}"

    def add(self, id: str, kind: Kind, now: float, docs: Iterable[str] = (), *, own: bool = False) -> Pending:
        """Wait for an answer."""
        pending = Pending(id, kind, now, now + self._timeout_s, own, set(docs))
        self._pending[id] = pending
        return pending

    def get(self, id: str) -> Pending | None:
        """The request if it still waits."""
        return self._pending.get(id)

    def remove(self, id: str) -> Pending | None:
        """Wait no longer."""
        return self._pending.pop(id, None)

    def clear(self) -> list[Pending]:
        """The connection is gone, and with it every answer."""
        pending = list(self._pending.values())
        self._pending.clear()
        return pending

    def deadline(self) -> float:
        """When the next one has waited too long."""
        return min((pending.deadline for pending in self._pending.values()), default=float("inf"))

    def overdue(self, now: float) -> list[Pending]:
        """Those that have waited too long; they are removed."""
        late = [pending for pending in self._pending.values() if pending.deadline <= now]
        for pending in late:
            del self._pending[pending.id]
        return late
