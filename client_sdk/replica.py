"""The documents that a client holds: exact copies, or known not to be."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from client_sdk.document import apply, revision
from client_sdk.events import NOTHING, Change
from client_sdk.wire import Current, Snapshot, Update


class Standing(enum.Enum):
    """What is known about one document on this connection.

    AWAITED ──snapshot, current──▶ EXACT ◀──answer to sync──▶ SUSPECT
       ▲                             │
       └──────── disconnected ───────┘
    """

    AWAITED = enum.auto()
    EXACT = enum.auto()
    SUSPECT = enum.auto()


class Held:
    """One document as it is held; `rev` is None until it was held once.

    `verified`: it is what its revision says. `known_at`: for one that is not exact now, when it was last known to be
    (None: never, or not on record).
    """

    __slots__ = ("answers", "data", "known_at", "rev", "seq", "stale", "standing", "verified")

    def __init__(self) -> None:
        self.data: Mapping[str, Any] = NOTHING
        self.rev: str | None = None
        self.seq = 0
        self.standing = Standing.AWAITED
        self.stale = False
        self.verified = True
        self.answers = 0
        self.known_at: float | None = None

    @property
    def exact(self) -> bool:
        """Whether this is a true copy of what the gateway has, as far as the gateway itself knows."""
        return self.standing is Standing.EXACT and not self.stale


class Outcome(NamedTuple):
    """What a message about a document led to: a change for the application, and whether to ask for the document whole.

    `answered`: this was the snapshot that a sync asked for.
    """

    change: Change | None = None
    sync: bool = False
    answered: bool = False


IGNORED = Outcome()


class Replica:
    """All documents that are watched, by their canonical names.

    On one connection a document never goes back in the change log, except by the answer to a sync: then the gateway's
    database is an older one. Every copy is verified by its revision, unless `verify` is off; `mismatches` counts what
    was not what it said to be.

    One thread changes it; any other may read what is held meanwhile, hence the copies.

    `on_settled` is called with the name of a document that is exact, or is not watched any more: nobody has to wait for
    it. That must not change anything here.
    """

    def __init__(self, *, verify: bool = True) -> None:
        self._held: dict[str, Held] = {}
        self._unsure: set[str] = set()  # those that did not come yet, or that the gateway itself is not sure of
        self._unverified: set[str] = set()  # those that are not what their revision says, which is all that is amiss
        self._verify = verify
        self.mismatches = 0
        self.on_settled: Callable[[str], object] = _ignore

    def __contains__(self, doc: object) -> bool:
        return doc in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._held))

    def get(self, doc: str) -> Held | None:
        """The document if it is watched."""
        return self._held.get(doc)

    @property
    def copies(self) -> Mapping[str, Held]:
        """Every document that is watched, as it is at any moment: for readers in the same thread."""
        return self._held

    def documents(self) -> dict[str, Mapping[str, Any]]:
        """Every document that is held."""
        return {doc: held.data for doc, held in self._held.copy().items() if held.rev is not None}

    def changes(self) -> list[Change]:
        """Every document that is held, as the change from nothing to it."""
        return [
            Change(doc, "snapshot", NOTHING, held.data, held.rev, held.seq, ())
            for doc, held in self._held.copy().items()
            if held.rev is not None
        ]

    def amiss(self) -> str | None:
        """Why not every watched document is known to be a true copy; None when each is."""
        return "document" if self._unsure else "unverified" if self._unverified else None

    def awaited(self, docs: Iterable[str] | None = None) -> bool:
        """Whether one of these documents (None: of all) did not come yet on this connection."""
        candidates = self._unsure if docs is None else self._unsure.intersection(docs)
        return any(self._held[doc].standing is Standing.AWAITED for doc in candidates)

    def missing(self, revs: Mapping[str, str]) -> list[str]:
        """The documents that the gateway did not send on this connection, or of which its `gone` was lost."""
        return [doc for doc, held in self._held.items() if doc not in revs and held.standing is not Standing.SUSPECT]

    def expect_again(self, docs: Iterable[str]) -> None:
        """These documents are to come once more; until then nobody knows how they are."""
        for doc in docs:
            self._held[doc].standing = Standing.AWAITED
            self._doubt(doc)

    def expect(self, doc: str) -> None:
        """Watch a document; what is held already stays."""
        if doc not in self._held:
            self._held[doc] = Held()
            self._doubt(doc)

    def forget(self, doc: str) -> Change | None:
        """Watch a document no longer."""
        held = self._held.pop(doc, None)
        self._unsure.discard(doc)
        self._unverified.discard(doc)
        self.on_settled(doc)
        if held is None or held.rev is None:
            return None
        return Change(doc, "gone", held.data, NOTHING, held.rev, held.seq, ())

    def disconnect(self, known_at: float | None = None) -> None:
        """The connection is gone: nothing is known to be exact any more, but everything is kept. What was exact was so
        at `known_at`.
        """
        for held in self._held.values():
            if held.exact:
                held.known_at = known_at
            held.standing = Standing.AWAITED
            held.stale = False
            held.answers = 0
        self._unsure.update(self._held)
        self._unverified.clear()

    def mark_stale(self, doc: str, *, is_stale: bool, known_at: float | None = None) -> None:
        """The gateway says that it can not, or can again, know how this document is; it knew at `known_at`."""
        held = self._held.get(doc)
        if held is not None:
            if is_stale and held.exact:
                held.known_at = known_at
            held.stale = is_stale
            self._judge(doc, held)

    def suspect(self, doc: str) -> bool:
        """Mark a document as perhaps not exact; false when it is marked already, or not watched."""
        held = self._held.get(doc)
        if held is None or held.standing is Standing.SUSPECT:
            return False
        if held.exact:
            held.known_at = None
        held.standing = Standing.SUSPECT
        self._doubt(doc)
        return True

    def suspected(self, doc: str) -> bool:
        """Whether a document is perhaps not exact."""
        held = self._held.get(doc)
        return held is not None and held.standing is Standing.SUSPECT

    def expect_answer(self, doc: str) -> None:
        """The reply to a sync came: the next snapshot is what it asked for."""
        held = self._held.get(doc)
        if held is not None:
            held.answers += 1

    def snapshot(self, message: Snapshot) -> Outcome:
        """A whole document replaces what is held.

        One that is not what its revision says is asked for once more; if the answer is no better, it is the best there
        is, and unverified.
        """
        held = self._held.get(message.doc)
        if held is None:
            return IGNORED
        answered = held.answers > 0
        if not answered and held.standing is not Standing.AWAITED and message.seq < held.seq:
            return Outcome(sync=True)
        verified = self._is_true(message.data, message.rev)
        if not verified and not answered:
            return Outcome(sync=True)
        held.verified = verified
        if answered or held.standing is Standing.AWAITED:
            self._confirm(message.doc, held)
        else:
            self._judge(message.doc, held)
        if answered:
            held.answers = 0
        return Outcome(self._replace(message.doc, held, message, message.data, "snapshot", ()), answered=answered)

    def update(self, message: Update) -> Outcome:
        """A patch applies if and only if it starts from the revision held and leads to the one it names."""
        held = self._held.get(message.doc)
        if held is None:
            return IGNORED
        on_this_connection = held.standing is not Standing.AWAITED
        if message.from_ != held.rev or (on_this_connection and message.seq < held.seq):
            return Outcome(sync=True)
        data = apply(held.data, message.patch)
        if not self._is_true(data, message.rev):
            return Outcome(sync=True)
        held.verified = True
        if held.standing is Standing.AWAITED:
            self._confirm(message.doc, held)
        else:
            self._judge(message.doc, held)
        return Outcome(self._replace(message.doc, held, message, data, "update", message.causes))

    def current(self, message: Current) -> Outcome:
        """The revision that was named at connecting still counts."""
        held = self._held.get(message.doc)
        if held is None:
            return IGNORED
        if held.rev != message.rev:
            return Outcome(sync=True)
        held.seq = message.seq if held.standing is Standing.AWAITED else max(held.seq, message.seq)
        if held.standing is Standing.AWAITED:
            self._confirm(message.doc, held)
        return IGNORED

    def compare(self, revs: Mapping[str, str]) -> list[str]:
        """The documents of which the gateway sent another revision last than is held; those that agree are exact."""
        divergent = []
        for doc, rev in revs.items():
            held = self._held.get(doc)
            if held is None:
                continue
            if held.rev != rev:
                divergent.append(doc)
            elif held.standing is Standing.AWAITED:
                self._confirm(doc, held)
        return divergent

    def _confirm(self, doc: str, held: Held) -> None:
        held.standing = Standing.EXACT
        self._judge(doc, held)

    def _judge(self, doc: str, held: Held) -> None:
        if held.standing is not Standing.EXACT or held.stale:
            self._doubt(doc)
            return
        self._unsure.discard(doc)
        if held.verified:
            self._unverified.discard(doc)
            self.on_settled(doc)
        else:
            self._unverified.add(doc)

    def _doubt(self, doc: str) -> None:
        self._unsure.add(doc)
        self._unverified.discard(doc)

    def _is_true(self, data: Mapping[str, Any], rev: str) -> bool:
        if not self._verify:
            return True
        try:
            if revision(data) == rev:
                return True
        except (ValueError, RecursionError):
            pass  # what can not be written as JSON has no revision
        self.mismatches += 1
        return False

    def _replace(
        self,
        doc: str,
        held: Held,
        message: Snapshot | Update,
        data: Mapping[str, Any],
        kind: str,
        causes: tuple[str, ...],
    ) -> Change | None:
        before, was = held.data, held.rev
        held.data, held.rev, held.seq = data, message.rev, message.seq
        if was == message.rev:
            return None
        return Change(doc, "update" if kind == "update" else "snapshot", before, data, message.rev, message.seq, causes)


def _ignore(doc: str) -> None:
    """Nobody waits."""
