"""What is to be done about a document that changed."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from gateway.store.documents import CAUSE_PARTS, Part


class Task(NamedTuple):
    """One document to read or build again; many documents may share a task.

    `since` is the commit's time in milliseconds since 1970 UTC; None when no commit asked for it.
    """

    parts: int
    causes: frozenset[str]
    since: int | None = None
    swept: bool = False

    def join(self, other: Task) -> Task:
        """Both reasons in one."""
        since = (
            self.since if other.since is None else other.since if self.since is None else min(self.since, other.since)
        )
        return Task(self.parts | other.parts, self.causes | other.causes, since, self.swept or other.swept)

    def adds_to(self, known: Task) -> bool:
        """Whether there is more to do than is known."""
        return bool(self.parts & ~known.parts or self.causes - known.causes or self.swept > known.swept)


@lru_cache(maxsize=64)
def causes_of(cause: str) -> frozenset[str]:
    """The set of one cause, always the same object."""
    return frozenset((cause,))


@lru_cache(maxsize=16)
def user_task(cause: str, at: int) -> Task:
    """What a row of the log about a user asks for; the rows of one transaction ask for the same."""
    return Task(CAUSE_PARTS.get(cause, Part.ALL), causes_of(cause), at)


@lru_cache(maxsize=16)
def shared_task(cause: str, at: int) -> Task:
    """What a row of the log about an organization, a plan or a role asks for."""
    return Task(Part.ALL, causes_of(cause), at)


NO_CAUSES: frozenset[str] = frozenset()
USAGE = causes_of("quota_usage")
READ_AGAIN = Task(Part.ALL, NO_CAUSES)
