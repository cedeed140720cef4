"""What the documents were, state by state, and who might see which: the oracle of the model test."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import rfc8785

from tests.support.document_model import Row, Tables, organization_document, user_document

BAD_ATTRIBUTES = '{"n":1e999}'
BAD_TIMEZONE = "Nowhere/Land"


class Shown(NamedTuple):
    """What one user is shown of one document in one state: nothing when `data` and `is_bad` say so; `is_bad`: there is
    such a document, and its rows can not be read.
    """

    data: dict[str, Any] | None
    rev: str | None
    is_bad: bool = False


NOTHING = Shown(None, None)
BAD = Shown(None, None, is_bad=True)


class State:
    """One moment: the rows as they were, at a time (milliseconds since 1970 UTC)."""

    def __init__(self, tables: Tables, now: int) -> None:
        self.tables = tables
        self.now = now
        self._users = {row["id"]: row for row in tables["users"]}
        self._organizations = {row["id"]: row for row in tables["organizations"]}
        self._known: dict[tuple[str, bool], Shown] = {}

    def shown(self, viewer: str, doc: str) -> Shown:
        """What this viewer may see of a document."""
        kind, _, id = doc.partition(":")
        if kind == "user":
            return self._document(doc, True) if viewer == id or self._may_read(viewer, "users.read") else NOTHING
        if self._may_read(viewer, "orgs.read"):
            return self._document(doc, True)
        role = self._role(viewer, id)
        if role is None:
            return NOTHING
        granted = [row["permission"] for row in self.tables["org_role_permissions"] if row["role"] == role]
        return self._document(doc, "manage_members" in granted)

    def whole(self, doc: str) -> Shown:
        """A document as those see it who may see all of it."""
        return self._document(doc, True)

    def partial(self, doc: str) -> Shown:
        """A document as the others see it."""
        return self._document(doc, doc.startswith("user:"))

    def is_bad(self, user: str) -> bool:
        """Whether there is such a user, and its row can not be read."""
        return user in self._users and _is_bad(self._users[user])

    def is_active(self, user: str) -> bool:
        """Whether the user may have sessions."""
        return user in self._users and self._users[user]["status"] == "active"

    def _document(self, doc: str, whole: bool) -> Shown:
        key = (doc, whole)
        if key not in self._known:
            self._known[key] = self._build(doc, whole)
        return self._known[key]

    def _build(self, doc: str, whole: bool) -> Shown:
        kind, _, id = doc.partition(":")
        row = (self._users if kind == "user" else self._organizations).get(id)
        if row is None:
            return NOTHING
        if _is_bad(row):
            return BAD
        if kind == "user":
            data = user_document(self.tables, id, self.now)
        else:
            data = organization_document(self.tables, id, self.now, members=whole)
        assert data is not None
        return Shown(data, _revision(json.dumps(data, sort_keys=True)))

    def _may_read(self, viewer: str, permission: str) -> bool:
        if not self.is_active(viewer):
            return False
        if self._users[viewer]["is_admin"]:
            return True
        own = self._document(f"user:{viewer}", True).data
        return own is not None and permission in own["permissions"]

    def _role(self, viewer: str, organization: str) -> str | None:
        if not self.is_active(viewer) or self._organizations.get(organization, {}).get("status") != "active":
            return None
        for row in self.tables["memberships"]:
            if row["org_id"] == organization and row["user_id"] == viewer:
                return str(row["role"])
        return None


@lru_cache(100_000)
def _revision(text: str) -> str:
    """The revision of a document that is written so: states are many, and much alike."""
    return hashlib.sha256(rfc8785.dumps(json.loads(text))).hexdigest()[:16]


def _is_bad(row: Row) -> bool:
    return row["attributes"] == BAD_ATTRIBUTES or row["timezone"] == BAD_TIMEZONE


class Commit:
    """What was to be seen from one commit to the next; `seq` is the commit's last position.

    `exact` are the revisions of each document, whole or not; `shown` those that a viewer might see, by viewer and
    document.
    """

    def __init__(self, tables: Tables, seq: int) -> None:
        self.tables = tables
        self.seq = seq
        self.exact: dict[str, set[str]] = {}
        self.shown: dict[tuple[str, str], set[str]] = {}


class History:
    """Everything that was true since the last quiet point, for each viewer and document."""

    def __init__(self, viewers: Iterable[str], docs: Iterable[str]) -> None:
        self._docs = list(docs)
        self._pairs = [(viewer, doc) for viewer in viewers for doc in self._docs]
        self._good: dict[str, set[str]] = {doc: set() for doc in self._docs}
        self._times: list[int] = []
        self._withheld: set[tuple[str, str]] = set()
        self._unreadable: set[str] = set()
        self._commits: list[Commit] = []
        self.now: State = State({"users": [], "organizations": []}, 0)

    def begin_anew(self) -> None:
        """All clients know the present state: nothing older may be shown any more."""
        last = self._commits[-1]
        self._good = {doc: revs if self.now.whole(doc).is_bad else set() for doc, revs in self._good.items()}
        self._withheld.clear()
        self._unreadable.clear()
        self._commits.clear()
        self._times.clear()
        self.committed(last.tables, last.seq, self.now.now)

    def committed(self, tables: Tables, seq: int, now: int) -> None:
        """The rows are these from now on; who has not looked at the clock yet sees them as of an earlier time."""
        self._commits.append(Commit(tables, seq))
        self.now = State(tables, now)
        self._record(self._commits[-1], self.now)
        for earlier in self._times:
            self._record(self._commits[-1], State(tables, earlier))

    def moved(self, now: int, *, blind: bool) -> None:
        """Time has passed. `blind`: the gateway may not have seen the last commits, and knows the time all the same."""
        self._times.append(self.now.now)
        self.now = State(self.now.tables, now)
        self._record(self._commits[-1], self.now)
        for commit in self._commits[:-1] if blind else ():
            self._record(commit, State(commit.tables, now))

    def was_shown(self, viewer: str, doc: str, rev: str, seq: int) -> bool:
        """Whether the document was so at this position, and the viewer might see it so in some state."""
        past = [commit for commit in self._commits if commit.seq <= seq]
        if rev not in (past[-1] if past else self._commits[0]).exact[doc]:
            return False
        return self._is_uncertain(viewer, doc) or any(rev in commit.shown[viewer, doc] for commit in self._commits)

    def was_withheld(self, viewer: str, doc: str) -> bool:
        """Whether there was a state in which the viewer might not see the document, or it did not exist."""
        return (viewer, doc) in self._withheld or self._is_uncertain(viewer, doc)

    def describe(self, viewer: str, doc: str) -> str:
        """What might be shown, commit by commit."""
        return "\n".join(f"{one.seq}: {one.exact[doc]}, shown {one.shown[viewer, doc]}" for one in self._commits)

    def _is_uncertain(self, viewer: str, doc: str) -> bool:
        """While a viewer's own rows can not be read, the rights from before stay: nobody knows the new ones."""
        return viewer in self._unreadable and doc != f"user:{viewer}"

    def _record(self, commit: Commit, state: State) -> None:
        self._unreadable |= {viewer for viewer, _ in self._pairs if state.is_bad(viewer)}
        for doc in self._docs:
            forms = [state.whole(doc), state.partial(doc)]
            self._good[doc].update(form.rev for form in forms if form.rev is not None)
            exact = self._good[doc] if forms[0].is_bad else {form.rev for form in forms if form.rev is not None}
            commit.exact.setdefault(doc, set()).update(exact)
        for pair in self._pairs:
            shown = state.shown(*pair)
            revs = commit.shown.setdefault(pair, set())
            if shown.rev is not None:
                revs.add(shown.rev)
            elif shown.is_bad:  # stays as it was, and its readers are told that it may be old
                revs |= self._good[pair[1]]
            else:
                self._withheld.add(pair)
