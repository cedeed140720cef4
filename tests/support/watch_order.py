"""What a client asked to watch, and the promise about the answers: the reply comes behind what it is a reply to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TELLING = frozenset(("snapshot", "current"))


class Asked:
    """One request to watch, sent when so many frames had left the gateway: what became of its documents until now."""

    def __init__(self, docs: set[str], frames: int) -> None:
        self.docs = docs
        self.frames = frames
        self.told: set[str] = set()
        self.refused: set[str] = set()
        self.unwatched: set[str] = set()
        """Those that the client did not want any more: nothing more is said of them, and the request is answered."""


class WatchOrder:
    """Looks at all that one client says and hears on one connection. A reply to `watch` names documents that were told
    since it was asked for, and accounts for all that were asked for.
    """

    def __init__(self) -> None:
        self.open: dict[str, Asked] = {}
        """The requests without an answer."""
        self.own = ""

    def said(self, message: Mapping[str, Any], frames: int) -> None:
        """The gateway gets a message; it had sent so many frames before."""
        if message["op"] == "unwatch":
            docs = {self._name(text) for text in message["docs"]}
            for asked in self.open.values():
                asked.unwatched |= asked.docs & docs
        elif message["op"] == "watch":
            self.open[message["id"]] = Asked({self._name(text) for text in message["docs"]}, frames)

    def heard(self, message: Mapping[str, Any], frame: int) -> None:
        """The client reads a message, the gateway's frame of this number, counted from 0."""
        op, doc = message["op"], message.get("doc")
        if op == "ready":
            self.own = message["principal"]
        elif op in TELLING or (op == "status" and message["store"] == "stale" and doc is not None):
            for asked in self.open.values():
                if frame >= asked.frames:
                    asked.told.add(message["doc"])
        elif op == "error" and message.get("id") in self.open:
            if doc is None:
                del self.open[message["id"]]
            else:
                self._refused(message["id"], self._name(doc))
        elif op == "reply" and message["id"] in self.open:
            asked, docs = self.open.pop(message["id"]), set(message["docs"])
            assert docs <= asked.told | asked.unwatched, f"replied before {docs - asked.told} came: {message}"
            assert docs | asked.refused == asked.docs, f"{asked.docs - docs - asked.refused} is left out: {message}"

    def _refused(self, id: str, doc: str) -> None:
        asked = self.open[id]
        asked.refused.add(doc)
        if asked.refused == asked.docs:
            del self.open[id]

    def _name(self, text: str) -> str:
        name, at, rev = text.rpartition("@")
        name = name if at and len(rev) == 16 and set(rev) <= set("0123456789abcdef") else text
        return self.own if name == "self" else name
