"""Lets a session live through a random life, and writes down everything that it does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import msgspec

from client_sdk import events, wire
from client_sdk.document import apply, diff, revision
from client_sdk.errors import ChannelError, Disconnected, MalformedMessage, QuotaExceeded
from client_sdk.events import Watched
from client_sdk.options import make_options
from client_sdk.session import Condition, Session
from tests.client_sdk.support.driver import HELLO

PRINCIPAL = "user:u_a"
NAMES = ("self", PRINCIPAL, "user:u_b", "org:o_c", "user:ü\U0001f600")
DOCUMENTS: tuple[dict[str, Any], ...] = (
    {},
    {"permissions": {"a": True}},
    {"permissions": {"a": True, "b": True}, "quotas": {"x": {"used": 1.5, "limit": 10}}},
    {"quotas": {"x": {"used": 2.5, "limit": 10}}, "identity": {"name": "ü\ue000\U0001f600"}},
    {"permissions": {"__proto__": True, "constructor": {"prototype": 1e-7}}, "list": [1, {"a": []}, "x"]},
)
CODES = (None, 1000, 1001, 1006, 1011, 4001, 4005, 4100, 4102, 4999 - 700)
FINAL_CODES = (4500, 4501, 4503, 4700)
ERRORS = (
    "bad_request", "not_found", "forbidden", "unavailable", "rate_limited", "internal", "uncertain", "conflict",
    "quota_exceeded", "auth_failed", "lease_expired", "from_the_future",
)  # fmt: skip
SPENDING: tuple[Callable[[str], wire.SpendingMessage], ...] = (
    lambda id: wire.Consume(id=id, quota="x", amount=2, key=f"k{id}"),
    lambda id: wire.Reserve(id=id, lease=f"l{id}", quota="x", amount=2, ttl_s=60.0, org="o_c"),
    lambda id: wire.Extend(id=id, lease="l", ttl_s=60.0),
    lambda id: wire.Extend(id=id, lease="l", ttl_s=60.0, amount=3, key=f"k{id}"),
    lambda id: wire.Commit(id=id, lease="l", amount=1),
    lambda id: wire.Release(id=id, lease="l"),
)


class Life:
    """One session and the steps of its life: each an event, and what can be seen of the session afterwards."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.session = Session(
            make_options({"watch": ("self", "user:u_b"), "credential": "message", "backoff_base_s": 0.25})
        )
        self.now = 1000.0
        self.count = 0
        self.ids = ["s1", "s2", "nobody"]
        self.seq = 10
        self.steps: list[dict[str, Any]] = []

    def live(self, steps: int) -> list[dict[str, Any]]:
        self.step({"type": "start"}, events.Start())
        for _ in range(steps):
            if self.session.condition is Condition.STOPPED and self.random.random() < 0.5:
                break
            self.advance()
        return self.steps

    # --- what happens next ---

    def advance(self) -> None:
        chance = self.random.random()
        condition = self.session.condition
        if chance < 0.12:
            self.request()
        elif chance < 0.2:
            self.pass_time(self.random.choice((0.013, 0.37, 1.9, 11.3, 47.7, 61.3)) * (0.5 + self.random.random()))
        elif chance < 0.26:
            self.until_deadline()
        elif chance < 0.275:
            self.lose()
        elif condition is Condition.WAITING:
            self.until_deadline()
        elif condition is Condition.ASKING or (condition is Condition.LIVE and chance < 0.32):
            self.answer_for_the_provider()
        elif condition is Condition.CONNECTING:
            subprotocol = self.random.choice(("gateway.v1+json", "gateway.v1+json", "gateway.v1+json", None, "other"))
            self.step({"type": "opened", "subprotocol": subprotocol}, events.Opened(subprotocol))
        else:
            self.hear()

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.step({"type": "tick", "afterMs": seconds * 1000}, events.Tick())

    def until_deadline(self) -> None:
        if self.session.deadline < float("inf"):
            self.now = max(self.now, self.session.deadline)
            self.step({"type": "tick", "afterMs": None}, events.Tick())

    def lose(self) -> None:
        code = self.random.choice(FINAL_CODES if self.random.random() < 0.04 else CODES)
        reason = self.random.choice(("", "why"))
        self.step({"type": "lost", "code": code, "reason": reason}, events.Lost(code, reason))

    def answer_for_the_provider(self) -> None:
        if self.random.random() < 0.15:
            away = self.random.random() < 0.5
            cause = Disconnected("no network") if away else OSError("no network")
            self.step({"type": "tokenFailed", "cause": "no network", "away": away}, events.TokenFailed(cause))
        else:
            token = self.random.choice(("t1", "t2", "t3"))
            self.step({"type": "tokenGiven", "token": token}, events.TokenGiven(token))

    def request(self) -> None:
        self.count += 1
        id = str(self.count)
        self.ids.append(id)
        docs = tuple(self.random.choices(NAMES, k=self.random.randint(1, 3)))
        kind = self.random.choice(("watch", "unwatch", "sync", "ping", "await", "spend", "spend", "forget"))
        match kind:
            case "watch":
                self.step({"type": "watchDocuments", "id": id, "docs": docs}, events.WatchDocuments(id, docs))
            case "unwatch":
                self.step({"type": "unwatchDocuments", "id": id, "docs": docs}, events.UnwatchDocuments(id, docs))
            case "sync":
                self.step({"type": "syncDocument", "id": id, "doc": docs[0]}, events.SyncDocument(id, docs[0]))
            case "ping":
                self.step({"type": "measurePing", "id": id}, events.MeasurePing(id))
            case "await":
                seq = self.seq + self.random.randint(-2, 5)
                self.step({"type": "awaitSeq", "id": id, "seq": seq}, events.AwaitSeq(id, seq))
            case "spend":
                message = self.random.choice(SPENDING)(id)
                timeout_s = self.random.choice((0.9, 30.3, 61.7))
                written = {"message": msgspec.to_builtins(message), "timeoutMs": timeout_s * 1000}
                self.step({"type": "spend", "id": id, **written}, events.Spend(id, message, timeout_s))
            case "forget":
                forgotten = self.random.choice(self.ids)
                self.step({"type": "forget", "id": forgotten}, events.Forget(forgotten))

    # --- what the gateway says ---

    def hear(self) -> None:
        if self.session.condition is Condition.GREETING and self.random.random() < 0.9:
            message = self.random.choice((self.hello, self.ready, self.ready))()
        else:
            message = self.random.choice(
                (self.snapshot, self.snapshot, self.snapshot, self.update, self.update, self.current, self.gone,
                 self.reply, self.reply, self.reply, self.error, self.error, self.pong, self.pong, self.status,
                 self.ready, self.hello, self.odd)
            )()  # fmt: skip
        if self.random.random() < 0.015:
            message = self.ended()
        frame = json.dumps(message, ensure_ascii=self.random.random() < 0.5)
        if self.random.random() < 0.004:
            frame = frame[:-1]
        self.step({"type": "received", "frame": frame}, events.Received(frame))

    def doc(self) -> str:
        return self.random.choice(NAMES[1:] if self.random.random() < 0.9 else NAMES)

    def moved_seq(self) -> int:
        self.seq += self.random.choice((0, 1, 1, 2))
        return self.seq + self.random.choice((0, 0, 0, 0, -4))

    def hello(self) -> dict[str, Any]:
        return {
            **HELLO,
            "protocol": 2 if self.random.random() < 0.03 else 1,
            "epoch": self.random.choice(("e1", "e1", "e1", "e2")),
            "max_frame_bytes": 16384,
        }

    def ready(self) -> dict[str, Any]:
        principal = "user:other" if self.random.random() < 0.01 else PRINCIPAL
        expires = {"expires_at": "2026-11-21T20:15:00.000Z"} if self.random.random() < 0.5 else {}
        return {"op": "ready", "session": f"n{self.random.randint(1, 3)}", "principal": principal, **expires}

    def snapshot(self) -> dict[str, Any]:
        data = self.random.choice(DOCUMENTS)
        held = [(doc, self.session.replica.get(doc)) for doc in self.session.replica]
        asked = [doc for doc, one in held if one and one.answers > 0]
        doc = self.random.choice(asked) if asked and self.random.random() < 0.5 else self.doc()
        rev = revision(data) if self.random.random() < (0.6 if doc in asked else 0.9) else "0" * 16
        return {"op": "snapshot", "doc": doc, "rev": rev, "seq": self.moved_seq(), "data": data}

    def update(self) -> dict[str, Any]:
        doc = self.doc()
        held = self.session.replica.get(doc)
        before = DOCUMENTS[1] if held is None else held.data
        after = self.random.choice(DOCUMENTS)
        start = revision(before) if self.random.random() < 0.9 else "1" * 16
        rev = revision(apply(before, diff(before, after))) if self.random.random() < 0.9 else "2" * 16
        more = {"causes": ["plan", "clock"]} if self.random.random() < 0.5 else {}
        patch = diff(before, after)
        return {"op": "update", "doc": doc, "from": start, "rev": rev, "seq": self.moved_seq(), "patch": patch, **more}

    def current(self) -> dict[str, Any]:
        doc = self.doc()
        held = self.session.replica.get(doc)
        rev = held.rev if held is not None and held.rev is not None and self.random.random() < 0.9 else "3" * 16
        return {"op": "current", "doc": doc, "rev": rev, "seq": self.moved_seq()}

    def gone(self) -> dict[str, Any]:
        return {"op": "gone", "doc": self.doc(), "reason": "deleted"}

    def reply(self) -> dict[str, Any]:
        more: tuple[dict[str, Any], ...] = (
            {"docs": self.random.choices(NAMES[1:], k=self.random.randint(0, 2))},
            {"doc": self.doc()},
            {"quota": "x", "used": 3, "limit": 10, "remaining": 7, "hard": True, "seq": 12, "cap_remaining": 4},
        )
        return {"op": "reply", "id": self.random.choice(self.ids[-12:]), **self.random.choice(more)}

    def error(self) -> dict[str, Any]:
        named: dict[str, Any] = {"op": "error", "code": self.random.choice(ERRORS), "message": "No."}
        if self.random.random() < 0.9:
            named["id"] = self.random.choice(self.ids[-12:])
        if self.random.random() < 0.4:
            named["doc"] = self.doc()
        if self.random.random() < 0.3:
            named["retry_after_s"] = self.random.choice((0, 0.03, 7, 61.5))
        if named["code"] == "quota_exceeded":
            named |= {"quota": "x", "remaining": 1, "resets_at": "2026-12-01T00:00:00.000Z"}
        return named

    def pong(self) -> dict[str, Any]:
        held = {change.doc: change.rev for change in self.session.replica.changes()}
        if held and self.random.random() < 0.1:
            del held[self.random.choice(list(held))]
        if held and self.random.random() < 0.2:
            held[self.random.choice(list(held))] = "4" * 16
        id = {"id": self.random.choice(self.ids[-12:])} if self.random.random() < 0.6 else {}
        return {"op": "pong", "server_time": "", "revs": held, **id}

    def status(self) -> dict[str, Any]:
        doc = {"doc": self.doc()} if self.random.random() < 0.4 else {}
        return {"op": "status", "store": self.random.choice(("stale", "fresh")), "age_s": 3.25, **doc}

    def odd(self) -> dict[str, Any]:
        return self.random.choice(({"op": "expiring", "expires_at": "x"}, {"op": "later", "doc": 7}))

    def ended(self) -> dict[str, Any]:
        reconnect = self.random.choice(("now", "now", "later", "new_credential", "soon", "never"))
        code = {"never": "revoked", "new_credential": "token_expired"}.get(reconnect, "going_away")
        more = {"retry_after_s": 2.5} if self.random.random() < 0.5 else {}
        return {"op": "ended", "code": code, "message": "", "reconnect": reconnect, **more}

    # --- what is written down ---

    def step(self, written: dict[str, Any], event: events.Event) -> None:
        chance = self.random.random()
        effects = [self.effect(effect) for effect in self.session.handle(event, self.now, chance)]
        self.steps.append({"event": written, "chance": chance, "effects": effects, "seen": self.seen()})

    def seen(self) -> dict[str, Any]:
        session = self.session
        freshness = session.freshness(self.now)
        held = [(doc, session.replica.get(doc)) for doc in session.replica]
        wait_s = session.deadline - self.now
        return {
            "condition": session.condition.name.lower(),
            "dueInMs": None if wait_s == float("inf") else wait_s * 1000,
            "freshness": {"state": freshness.state, "ageS": freshness.age_s, "reason": freshness.reason},
            "expiresAt": session.expires_at,
            "principal": session.principal,
            "id": session.id,
            "epoch": session.epoch,
            "malformed": session.malformed,
            "mismatches": session.replica.mismatches,
            "complete": session.complete(),
            "held": [
                [doc, one.rev, one.seq, one.standing.name.lower(), one.stale, one.verified] for doc, one in held if one
            ],
        }

    def effect(self, effect: events.Effect) -> dict[str, Any]:
        kind = type(effect).__name__
        written: dict[str, Any] = {"type": kind[0].lower() + kind[1:]}
        match effect:
            case events.Send(frame):
                message = json.loads(frame)
                if "id" in message:
                    self.ids.append(message["id"])
                return {**written, "message": message}
            case events.Connect():
                return written
            case events.Change():
                documents = {"before": dict(effect.before), "data": dict(effect.data), "patch": effect.patch}
                return {**written, **effect._asdict(), **documents}
            case events.FreshnessChanged(freshness):
                return {**written, "state": freshness.state}
            case events.Resolve(id, value):
                return {**written, "id": id, "value": _value(value)}
            case events.Reject() | events.Trouble() | events.Stopped():
                return {**written, "id": getattr(effect, "id", None), "error": _error(effect.error)}
            case _:
                return {**written, **effect._asdict()}


def _value(value: Any) -> Any:
    match value:
        case Watched(docs, refused):
            return {"docs": docs, "refused": {doc: _error(error) for doc, error in refused.items()}}
        case wire.Reply():
            return msgspec.structs.asdict(value)
        case float():
            return {"ms": value * 1000}
    return value


def _error(error: BaseException | None) -> dict[str, Any] | None:
    if not isinstance(error, ChannelError):
        return None
    # How a frame is malformed is said in other words.
    message = "" if isinstance(error, MalformedMessage) or error.code == "malformed_message" else error.message
    details: Mapping[str, Any] = {}
    if isinstance(error, QuotaExceeded):
        details = {"quota": error.quota, "remaining": error.remaining, "resetsAt": error.resets_at}
    return {
        "name": type(error).__name__,
        "code": error.code,
        "message": message,
        "retryAfterS": error.retry_after_s,
        "doc": error.doc,
        "key": error.key,
        **details,
    }
