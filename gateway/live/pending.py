"""What changed and was not published yet: which documents, which parts of them, why, and since when; and what the
clock will change.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import islice

from gateway.live.pacing import EVERY_S, Pacing
from gateway.live.task import USAGE, Task


class RecentChanges:
    """Users whose credentials were changed a short while ago: a token that was read before may open a session after.

    Two sets, of which the older is dropped at each `turn`: what was added is known for one to two turns.
    """

    __slots__ = ("_new", "_old")

    def __init__(self) -> None:
        self._new: set[str] = set()
        self._old: set[str] = set()

    def add(self, doc: str) -> None:
        """A credential of this user was changed."""
        self._new.add(doc)

    def turn(self) -> None:
        """Forget what was added before the last turn."""
        self._old, self._new = self._new, set()

    def __contains__(self, doc: str) -> bool:
        return doc in self._new or doc in self._old


class PendingWork:
    """The feed's list, in the order in which documents first came onto it. `busy` and `show_every_s` are of the
    balances that wait: see `Pacing`.
    """

    def __init__(self, busy: Callable[[], bool], *, show_every_s: float = EVERY_S) -> None:
        self.users: OrderedDict[str, Task] = OrderedDict()
        self.organizations: dict[str, Task] = {}
        self.catalog: dict[str, Task] = {}
        self.credentials: dict[str, int | None] = {}
        self.shared: dict[str, Task] = {}
        """What instances watch beside users and organizations."""
        self.noted = 0
        """Rows of the log that told of the revocations since those were read."""
        self._postponed: dict[str, Task] = {}
        self.pacing = Pacing(self._put, busy, every_s=show_every_s)
        self.recent = RecentChanges()
        self.taken: set[str] = set()
        """The documents that a round has taken from the list and not published yet."""
        self.wake: Callable[[], None] = lambda: None
        self._due: list[tuple[int, str]] = []

    def __bool__(self) -> bool:
        return bool(self.users or self.organizations or self.catalog or self.credentials or self.shared)

    def user(self, doc: str, task: Task) -> None:
        """Read the task's parts of a user's document again; no parts: build it again from facts."""
        self._join(doc, task)
        self.wake()

    def all_of(self, docs: Iterable[str], task: Task) -> None:
        """The same task for many users' documents."""
        join = self.balance if task.causes == USAGE else self._join
        for doc in docs:
            join(doc, task)
        self.wake()

    def _join(self, doc: str, task: Task) -> None:
        if self.pacing and (waited := self.pacing.take(doc)) is not None:
            task = waited.join(task)
        known = self.users.get(doc)
        self.users[doc] = task if known is None else known.join(task)

    def organization(self, organization: str, task: Task) -> None:
        """Read an organization again."""
        if self.pacing and (waited := self.pacing.take(f"org:{organization}")) is not None:
            task = waited.join(task)
        known = self.organizations.get(organization)
        self.organizations[organization] = task if known is None else known.join(task)
        self.wake()

    def balance(self, doc: str, task: Task, pools: Iterable[str] = ()) -> None:
        """A balance that a document shows moved, and nothing else: it is read again at once, or soon. `pools`: the
        organizations (``org:ID``) whose balances it shows too.
        """
        later = [pool for pool in pools if not self.is_listed(pool)]
        if self.is_listed(doc) or not self.pacing.holds(doc, task, later):
            self._put(doc, task)

    def _put(self, doc: str, task: Task) -> None:
        if doc.startswith("org:"):
            self.organization(doc[4:], task)
        else:
            self.user(doc, task)

    def hurry(self, docs: Iterable[str]) -> bool:
        """Read at once those of the documents whose balances wait; False when none does."""
        hurried = False
        for doc in docs:
            if (task := self.pacing.take(doc)) is not None:
                self._put(doc, task)
                hurried = True
        return hurried

    def plan_or_role(self, doc: str, task: Task) -> None:
        """Read the catalog again; `doc` is what changed in it."""
        known = self.catalog.get(doc)
        self.catalog[doc] = task if known is None else known.join(task)
        self.wake()

    def share(self, doc: str, task: Task) -> None:
        """Read a document again that instances watch."""
        listed = self._postponed if doc in self._postponed else self.shared
        known = listed.get(doc)
        listed[doc] = task if known is None else known.join(task)
        self.wake()

    def postpone(self, doc: str) -> None:
        """Take such a document off the list until `resume`, if it is on it."""
        if (task := self.shared.pop(doc, None)) is not None:
            self._postponed[doc] = task

    def resume(self, doc: str) -> None:
        """Put it on the list again."""
        if (task := self._postponed.pop(doc, None)) is not None:
            self.share(doc, task)

    def is_listed(self, doc: str) -> bool:
        """Whether a document is on the list itself, for whatever reason, and does not only wait."""
        if doc.startswith("org:"):
            return doc[4:] in self.organizations
        return doc in self.users or doc in self.shared

    def reaches(self, doc: str) -> bool:
        """Whether the next rounds may change this document, or one is reading for it."""
        return doc in self.taken or self.is_listed(doc)

    def concerns(self, doc: str) -> bool:
        """Whether something that is known may change this document, now or soon."""
        return self.reaches(doc) or doc in self.pacing or doc in self._postponed

    def next_users(self, limit: int) -> list[str]:
        """The first users on the list, which stay there."""
        return list(islice(self.users, limit))

    def take_users(self, limit: int) -> list[tuple[str, Task]]:
        """The first users on the list; they leave it, and `put_back` returns them after a failure."""
        taken = [self.users.popitem(last=False) for _ in range(min(limit, len(self.users)))]
        self.taken.update(doc for doc, _ in taken)
        return taken

    def put_back(self, users: Iterable[tuple[str, Task]], organizations: Iterable[tuple[str, Task]]) -> None:
        """What was taken could not be read."""
        for doc, task in users:
            self.user(doc, task)
        for organization, task in organizations:
            self.organization(organization, task)

    def take_organizations(self) -> list[tuple[str, Task]]:
        """All organizations on the list."""
        taken, self.organizations = list(self.organizations.items()), {}
        self.taken.update(f"org:{organization}" for organization, _ in taken)
        return taken

    def forget(self, doc: str) -> None:
        """Nobody watches this document any more. What waits of an organization's balances stays: members' documents
        show them too.
        """
        self.users.pop(doc, None)
        self.shared.pop(doc, None)
        self._postponed.pop(doc, None)
        if doc.startswith("user:"):
            self.pacing.take(doc)

    # --- the clock ---

    def due(self, doc: str, at: int) -> None:
        """A document changes by the clock at this moment (milliseconds since 1970 UTC)."""
        heapq.heappush(self._due, (at, doc))

    def due_count(self) -> int:
        """How many moments are remembered, of documents held, changed since or forgotten."""
        return len(self._due)

    def replace_due(self, due: Iterable[tuple[int, str]]) -> None:
        """Remember these moments and no others."""
        self._due = list(due)
        heapq.heapify(self._due)

    def take_due(self, now: int, limit: int) -> list[tuple[int, str]]:
        """Moments that have come, with their documents. A document may be named that has changed since, or is gone."""
        due: list[tuple[int, str]] = []
        while self._due and self._due[0][0] <= now and len(due) < limit:
            due.append(heapq.heappop(self._due))
        return due
