"""What changed and was not published yet: which documents, which parts of them, why, and since when; and what the clock will change."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

from gateway.store.documents import Part


class Task:
    """One document to read or build again. `since` is the commit's time in milliseconds since 1970 UTC; None when no commit asked for it."""

    __slots__ = ("causes", "parts", "since", "swept")

    def __init__(self) -> None:
        self.parts = Part.NONE
        self.causes: set[str] = set()
        self.since: int | None = None
        self.swept = False

    def add(self, parts: int, causes: Iterable[str], since: int | None) -> None:
        """Join another reason."""
        self.parts |= parts
        self.causes.update(causes)
        if since is not None and (self.since is None or since < self.since):
            self.since = since


class PendingWork:
    """The feed's list, in the order in which documents first came onto it."""

    def __init__(self) -> None:
        self.users: dict[str, Task] = {}
        self.organizations: dict[str, Task] = {}
        self.catalog: dict[str, Task] = {}
        self.credentials: dict[str, int | None] = {}
        self.wake: Callable[[], None] = lambda: None
        self._due: list[tuple[int, str]] = []

    def __bool__(self) -> bool:
        return bool(self.users or self.organizations or self.catalog or self.credentials)

    def user(self, doc: str, parts: int, causes: Iterable[str], since: int | None, *, swept: bool = False) -> None:
        """Read these parts of a user's document again; no parts: build it again from facts."""
        task = self.users.get(doc)
        if task is None:
            task = self.users[doc] = Task()
        task.add(parts, causes, since)
        task.swept |= swept
        self.wake()

    def organization(self, organization: str, causes: Iterable[str], since: int | None) -> None:
        """Read an organization again."""
        task = self.organizations.get(organization)
        if task is None:
            task = self.organizations[organization] = Task()
        task.add(Part.NONE, causes, since)
        self.wake()

    def plan_or_role(self, doc: str, causes: Iterable[str], since: int | None) -> None:
        """Read the catalog again; `doc` is what changed in it."""
        task = self.catalog.get(doc)
        if task is None:
            task = self.catalog[doc] = Task()
        task.add(Part.NONE, causes, since)
        self.wake()

    def take_users(self, limit: int) -> list[tuple[str, Task]]:
        """The first users on the list; they leave it, and `put_back` returns them after a failure."""
        taken = []
        for doc in self.users:
            taken.append(doc)
            if len(taken) == limit:
                break
        return [(doc, self.users.pop(doc)) for doc in taken]

    def put_back(self, users: Iterable[tuple[str, Task]], organizations: Iterable[tuple[str, Task]]) -> None:
        """What was taken could not be read."""
        for doc, task in users:
            self.user(doc, task.parts, task.causes, task.since, swept=task.swept)
        for organization, task in organizations:
            self.organization(organization, task.causes, task.since)

    def take_organizations(self) -> list[tuple[str, Task]]:
        """All organizations on the list."""
        taken, self.organizations = list(self.organizations.items()), {}
        return taken

    def forget(self, doc: str) -> None:
        """Nobody wants this document any more."""
        self.users.pop(doc, None)

    # --- the clock ---

    def due(self, doc: str, at: int) -> None:
        """A document changes by the clock at this moment (milliseconds since 1970 UTC)."""
        heapq.heappush(self._due, (at, doc))

    def take_due(self, now: int, limit: int) -> list[tuple[int, str]]:
        """Moments that have come, with their documents. A document may be named that has changed since, or is gone."""
        due: list[tuple[int, str]] = []
        while self._due and self._due[0][0] <= now and len(due) < limit:
            due.append(heapq.heappop(self._due))
        return due
