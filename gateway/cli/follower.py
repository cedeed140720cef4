"""The client's side of the channel, as far as ``gateway watch`` needs it: exact copies of documents, and what changed
in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gateway.core.document import apply, canonical, revision


class Step(NamedTuple):
    """One thing that happened to a document; `lines` say what changed, a line each."""

    doc: str
    kind: str
    seq: int
    causes: tuple[str, ...]
    lines: tuple[str, ...]


class Held(NamedTuple):
    """A document as it was told."""

    rev: str
    data: dict[str, Any]


class Follower:
    """Holds the documents that messages tell of, and checks each against its revision."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}

    def receive(self, message: Mapping[str, Any]) -> Step | None:
        """Take ``snapshot``, ``current``, ``update`` or ``gone``; None when the document has to be asked for again
        (``sync``).
        """
        doc, op = message["doc"], message["op"]
        before = self.held.get(doc)
        if op == "gone":
            self.held.pop(doc, None)
            return Step(doc, f"gone: {message['reason']}", 0, (), ())
        seq, rev = message["seq"], message["rev"]
        if op == "snapshot":
            data = message["data"]
        elif before is None or before.rev != message.get("from", rev):
            self.held.pop(doc, None)
            return None
        else:
            data = apply(before.data, message.get("patch", {}))
        if revision(canonical(data)) != rev:
            self.held.pop(doc, None)
            return None
        self.held[doc] = Held(rev, data)
        lines = tuple(differences(before.data if before else {}, data))
        return Step(doc, op, seq, tuple(message.get("causes", ())), lines)

    def names(self, asked: tuple[str, ...], principal: str) -> list[str]:
        """What to watch after a new connection: the documents asked for, with the revisions that are held."""
        documents = [principal if name == "self" and principal else name for name in asked]
        return [f"{doc}@{self.held[doc].rev}" if doc in self.held else doc for doc in documents]


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """What differs between two JSON objects, a line for each value: ``identity.plan: "pro" → "free"``."""
    for name in sorted(before.keys() | after.keys()):
        where = f"{path}.{name}" if path else name
        old, new = before.get(name), after.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from differences(old, new, where)
        elif isinstance(new, dict) and new and old is None:
            yield from differences({}, new, where)
        elif old != new or type(old) is not type(new):
            yield f"{where}: {_shown(old)} → {_shown(new)}" if name in before else f"{where}: {_shown(new)}"


def _shown(value: Any) -> str:
    return "gone" if value is None else canonical(value).decode()
