"""A gateway as the protocol describes it, without input or output: what a session is tested against."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from client_sdk.document import apply, diff
from tests.client_sdk.support.driver import HELLO, revision_of, snapshot

OWN = "user:u_me"


class ModelGateway:
    """Documents with their whole history, and at most one connection with the frames that are on their way."""

    def __init__(self, documents: Mapping[str, dict[str, Any]]) -> None:
        self.documents = dict(documents)
        self.seq = 100
        self.epoch = 1
        self.history = {doc: {revision_of(data)} for doc, data in documents.items()}
        self.connected = False
        self.frames: deque[dict[str, Any]] = deque()
        self._sent: dict[str, dict[str, Any]] = {}

    # --- what happens to the data ---

    def change(self, doc: str, patch: Mapping[str, Any], *, by_clock: bool = False) -> None:
        before = self.documents[doc]
        after = apply(before, patch)
        self.seq += 0 if by_clock else 1
        self._become(doc, after)

    def restore(self, doc: str, data: dict[str, Any]) -> None:
        """An older backup takes the place of the database: positions begin anew."""
        self.epoch += 1
        self.seq //= 2
        self._become(doc, data)

    def _become(self, doc: str, data: dict[str, Any]) -> None:
        self.documents[doc] = data
        self.history[doc].add(revision_of(data))
        if doc in self._sent:
            before = self._sent[doc]
            patch = diff(before, data)
            if patch:
                self._sent[doc] = data
                update = {"op": "update", "doc": doc, "from": revision_of(before), "rev": revision_of(data)}
                self.frames.append({**update, "seq": self.seq, "patch": patch, "causes": ["profile"]})

    # --- connections ---

    def accept(self, watch: tuple[str, ...]) -> None:
        self.connected = True
        self.frames.clear()
        self._sent.clear()
        self.frames.append({**HELLO, "epoch": f"e{self.epoch}"})
        self.frames.append({"op": "ready", "session": "s", "principal": OWN})
        for entry in watch:
            self._show(entry, None)

    def cut(self) -> None:
        self.connected = False
        self.frames.clear()
        self._sent.clear()

    def receive(self, frame: str | bytes) -> None:
        message = msgspec.json.decode(frame)
        match message["op"]:
            case "sync":
                self._sync(message["id"], message["doc"])
            case "watch":
                accepted = [doc for entry in message["docs"] if (doc := self._show(entry, message["id"])) is not None]
                if accepted:
                    self.frames.append({"op": "reply", "id": message["id"], "docs": accepted})
            case "unwatch":
                for doc in message["docs"]:
                    self._sent.pop(doc, None)
                self.frames.append({"op": "reply", "id": message["id"], "docs": message["docs"]})
            case "ping":
                revs = {doc: revision_of(data) for doc, data in self._sent.items()}
                self.frames.append({"op": "pong", "id": message["id"], "server_time": "", "revs": revs})

    def _sync(self, id: str, doc: str) -> None:
        if doc not in self._sent:
            self.frames.append({"op": "error", "id": id, "code": "not_found", "message": "No.", "doc": doc})
            return
        self.frames.append({"op": "reply", "id": id, "doc": doc})
        self._send_whole(doc)

    def _show(self, entry: str, id: str | None) -> str | None:
        name, _, rev = entry.partition("@")
        doc = OWN if name == "self" else name
        if doc not in self.documents:
            refusal = {"op": "error", "code": "not_found", "message": "No.", "doc": doc}
            self.frames.append(refusal if id is None else {**refusal, "id": id})
            return None
        if rev and rev == revision_of(self.documents[doc]):
            self._sent[doc] = self.documents[doc]
            self.frames.append({"op": "current", "doc": doc, "rev": rev, "seq": self.seq})
        else:
            self._send_whole(doc)
        return doc

    def _send_whole(self, doc: str) -> None:
        self._sent[doc] = self.documents[doc]
        self.frames.append(snapshot(doc, self.documents[doc], self.seq))
