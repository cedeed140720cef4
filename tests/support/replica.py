"""What one connection has been told, and the oracle over it: whatever breaks the protocol's promises is a `Violation`.

Nothing here knows the gateway's code: patches are applied by RFC 7396, revisions computed with another implementation
of RFC 8785, ends compared with the protocol's table.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any, NamedTuple

import rfc8785

CAUSES = frozenset(
    (
        "profile",
        "status",
        "permissions",
        "roles",
        "plan",
        "quota_limit",
        "quota_usage",
        "organization",
        "revocation",
        "keys",
        "clock",
    )
)
ENDS = {
    "going_away": (1001, "now"),
    "internal": (4000, "later"),
    "timeout": (4001, "now"),
    "too_slow": (4002, "now"),
    "replaced": (4003, "later"),
    "overloaded": (4004, "later"),
    "rate_limited": (4005, "later"),
    "token_expired": (4100, "new_credential"),
    "auth_timeout": (4101, "now"),
    "auth_failed": (4102, "new_credential"),
    "revoked": (4500, "never"),
    "principal_changed": (4501, "never"),
    "bad_frame": (4502, "never"),
    "too_large": (4503, "never"),
    "not_authenticated": (4504, "never"),
    "forbidden": (4505, "never"),
}
ERRORS = frozenset(
    (
        "bad_request",
        "unknown_op",
        "not_found",
        "forbidden",
        "quota_exceeded",
        "conflict",
        "rate_limited",
        "unavailable",
        "auth_failed",
        "too_many_documents",
        "lease_not_found",
        "lease_expired",
        "uncertain",
    )
)
REPORTED = 1_000
"""Documents whose revisions stand in one answer to a ping."""
BEFORE_READY = frozenset(("hello", "ready", "ended"))


class Violation(AssertionError):
    """The gateway broke a promise of the protocol."""


class Held(NamedTuple):
    """One document as the client holds it."""

    data: dict[str, Any]
    rev: str
    seq: int


class Received(NamedTuple):
    """One message and when it came (seconds of the monotonic clock)."""

    message: dict[str, Any]
    at: float


def revision(data: dict[str, Any]) -> str:
    """The revision that a document must have."""
    return hashlib.sha256(rfc8785.dumps(data)).hexdigest()[:16]


def merge(target: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7396 §2)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def _holds_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_null, value.values()))
    if isinstance(value, list):
        return any(map(_holds_null, value))
    return value is None


class Replica:
    """The client's side of one connection. `held` are documents of an earlier connection, offered for resuming."""

    def __init__(self, held: dict[str, Held] | None = None) -> None:
        self.offered = dict(held or {})
        self.documents: dict[str, Held] = dict(held or {})
        self.confirmed: set[str] = set()
        self.received: list[Received] = []
        self.states: list[Held] = []
        """Every state of every document that was held on this connection."""
        self.ready: dict[str, Any] | None = None
        self.ended: dict[str, Any] | None = None
        self.close_code: int | None = None

    def take(self, message: Any) -> None:
        """A message came; raises `Violation` when it may not."""
        self._require(isinstance(message, dict) and isinstance(message.get("op"), str), message, "not a message")
        op = message["op"]
        self._require(self.ended is None, message, "something after the end")
        self._require(self.close_code is None, message, "something after the close frame")
        self._require(bool(self.received) == (op != "hello"), message, "hello comes first, and once")
        self._require(self.ready is not None or op in BEFORE_READY, message, "something before ready")
        self._require(op == "update" or not _holds_null(message), message, "a null that is not in a patch")
        self.received.append(Received(message, time.monotonic()))
        handler = getattr(self, f"_{op}", None)
        if handler is None:
            raise Violation(f"an op that the protocol does not know: {message}")
        handler(message)

    def closed(self, code: int) -> None:
        """The close frame came."""
        self.close_code = code
        if self.ended is not None:
            expected = ENDS[self.ended["code"]][0]
            if code != expected:
                raise Violation(f"ended {self.ended['code']} was closed by {code} and not by {expected}")

    def _require(self, holds: bool, message: Any, what: str) -> None:
        if not holds:
            raise Violation(f"{what}: {message}; before it: {[r.message['op'] for r in self.received[-5:]]}")

    def _hello(self, message: dict[str, Any]) -> None:
        for field in ("protocol", "node", "epoch", "server_time", "heartbeat_s", "auth_timeout_s", "max_frame_bytes"):
            self._require(field in message, message, f"hello without {field}")
        self._require(message["protocol"] == 1, message, "another protocol")

    def _ready(self, message: dict[str, Any]) -> None:
        if self.ready is not None:
            self._require(message["session"] == self.ready["session"], message, "another session in the same one")
            self._require(message["principal"] == self.ready["principal"], message, "another principal")
        self.ready = message

    def _snapshot(self, message: dict[str, Any]) -> None:
        data = message["data"]
        self._require(revision(data) == message["rev"], message, "rev is not that of the data")
        self._hold(message, data)

    def _current(self, message: dict[str, Any]) -> None:
        held = self.documents.get(message["doc"])
        self._require(held is not None and held.rev == message["rev"], message, "current, but not what is held")
        assert held is not None
        self._hold(message, held.data)

    def _update(self, message: dict[str, Any]) -> None:
        doc = message["doc"]
        held = self.documents.get(doc)
        self._require(held is not None and doc in self.confirmed, message, "an update of what was never sent")
        assert held is not None
        self._require(message["from"] == held.rev, message, f"from is not the revision held, {held.rev}")
        self._require(bool(message["patch"]), message, "an empty patch")
        data = merge(held.data, message["patch"])
        self._require(revision(data) == message["rev"], message, "the patch does not lead to rev")
        self._require(message["rev"] != held.rev, message, "an update to the same revision")
        self._require(bool(message["causes"]) and CAUSES.issuperset(message["causes"]), message, "causes")
        self._require(not _holds_null(data), message, "a null in the document")
        self._hold(message, data)

    def _hold(self, message: dict[str, Any], data: dict[str, Any]) -> None:
        doc, seq = message["doc"], message["seq"]
        held = self.documents.get(doc)
        if held is not None and doc in self.confirmed:
            self._require(seq >= held.seq, message, f"seq went back from {held.seq}")
        self.documents[doc] = Held(data, message["rev"], seq)
        self.states.append(self.documents[doc])
        self.confirmed.add(doc)

    def _gone(self, message: dict[str, Any]) -> None:
        self._require(message["doc"] in self.documents, message, "gone, but never there")
        del self.documents[message["doc"]]
        self.confirmed.discard(message["doc"])

    def _pong(self, message: dict[str, Any]) -> None:
        held = {doc: self.documents[doc].rev for doc in self.confirmed}
        told = message["revs"]
        some = len(held) > REPORTED and len(told) == REPORTED and told.items() <= held.items()
        self._require(told == held or some, message, f"revs are not what was sent: {held}")

    def _error(self, message: dict[str, Any]) -> None:
        self._require(message["code"] in ERRORS, message, "an error code that the protocol does not know")
        self._require(bool(message["message"]), message, "an error without a message")

    def _status(self, message: dict[str, Any]) -> None:
        self._require(message["store"] in ("fresh", "stale"), message, "status")
        self._require("since" in message and message["age_s"] >= 0, message, "status")

    def _expiring(self, message: dict[str, Any]) -> None:
        self._require("expires_at" in message, message, "expiring")

    def _reply(self, message: dict[str, Any]) -> None:
        self._require(bool(message["id"]), message, "a reply to nothing")

    def _ended(self, message: dict[str, Any]) -> None:
        self._require(message["code"] in ENDS, message, "an end that the protocol does not know")
        self._require(message["reconnect"] == ENDS[message["code"]][1], message, "reconnect is not the table's")
        self.ended = message
