"""Replays the gateway's side of a golden transcript against a session, and checks the client's side."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec

from client_sdk import events, wire
from client_sdk.options import make_options
from client_sdk.session import Session
from client_sdk.wire import Problem

PLACEHOLDER = re.compile(r"<(text|time|number|seq|token|any)(?::([a-z0-9_]+))?>")
TIME = "2026-11-21T20:00:00.000Z"
# What the placeholders of the gateway's messages stand for here.
NUMBERS = {"heartbeat": 25.0, "auth_timeout": 10.0}


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The first line and all others."""
    first, *lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return first, lines


class Replay:
    """One transcript and one session. `provider` is the token that it is given."""

    def __init__(self, header: dict[str, Any], lines: list[dict[str, Any]]) -> None:
        handshake = next(line for line in lines if line.get("do") == "connect")
        self.msgpack = handshake["subprotocol"] == "gateway.v1+msgpack"
        self.session = Session(
            make_options(
                {
                    "watch": tuple(handshake["watch"] or ["self"]),
                    "subprotocol": handshake["subprotocol"],
                    "credential": "header" if "authorization" in handshake else "message",
                    "ping_interval_s": 1e6,
                }
            )
        )
        self.lines = lines
        self.provider = self.concrete(f"<token:{next(iter(header['tokens']))}>")
        self.now = 0.0
        self.sent: list[dict[str, Any]] = []
        self.connects: list[events.Connect] = []
        self.closes: list[events.Close] = []
        self.stopped: list[events.Stopped] = []
        self.told: dict[str, dict[str, str]] = {}
        self.bound: dict[str, Any] = {}

    def run(self) -> None:
        self.feed(events.Start())
        for line in self.lines:
            self.advance(line["at"] / 1000)
            if line.get("from") == "client":
                self.client(line)
                continue
            if line.get("do") != "connect":
                assert self.sent == [], f"sent before {line}"
                assert self.connects == [], f"connected before {line}"
            if line.get("from") == "server":
                self.feed(events.Received(self.frame(self.concrete(line["message"]))))
            else:
                self.direct(line)
        assert self.sent == []

    # --- the session ---

    def feed(self, event: events.Event) -> None:
        for effect in self.session.handle(event, self.now, 0.5):
            match effect:
                case events.AskToken():
                    self.feed(events.TokenGiven(self.provider))
                case events.Send(frame):
                    assert isinstance(frame, bytes) == self.msgpack
                    decoded = msgspec.msgpack.decode(frame) if isinstance(frame, bytes) else msgspec.json.decode(frame)
                    self.sent.append(decoded)
                case events.Connect():
                    self.connects.append(effect)
                case events.Close():
                    self.closes.append(effect)
                case events.Stopped():
                    self.stopped.append(effect)
                case events.Resolve(id):
                    self.told[id] = {}
                case events.Reject(id, error):
                    self.told[id] = (
                        {"code": error.code} if error.key is None else {"code": error.code, "key": error.key}
                    )

    def advance(self, to: float) -> None:
        while self.session.deadline <= to:
            self.now = self.session.deadline
            self.feed(events.Tick())
        self.now = to

    def frame(self, message: dict[str, Any]) -> str | bytes:
        return msgspec.msgpack.encode(message) if self.msgpack else msgspec.json.encode(message).decode()

    # --- lines ---

    def client(self, line: dict[str, Any]) -> None:
        message = line["message"]
        if line.get("by") == "raw":
            return
        if line.get("by") == "app":
            self.ask(message)
        assert self.sent, f"not sent: {message}"
        self.match(message, self.sent.pop(0))

    def ask(self, message: dict[str, Any]) -> None:
        match message["op"]:
            case "watch":
                self.feed(events.WatchDocuments(message["id"], tuple(message["docs"])))
            case "unwatch":
                self.feed(events.UnwatchDocuments(message["id"], tuple(message["docs"])))
            case "sync":
                self.feed(events.SyncDocument(message["id"], message["doc"]))
            case "ping":
                self.feed(events.MeasurePing(message["id"]))
            case "consume" | "reserve" | "extend" | "commit" | "release":
                self.feed(events.Spend(message["id"], msgspec.convert(message, wire.SpendingMessage), 30.0))
            case op:
                raise AssertionError(f"no application asks for {op}")

    def direct(self, line: dict[str, Any]) -> None:
        match line["do"]:
            case "connect":
                token = line.get("authorization")
                expected = events.Connect(None if token is None else self.concrete(token), tuple(line["watch"]))
                assert self.connects == [expected]
                self.connects.clear()
                self.feed(events.Opened(line["subprotocol"]))
            case "refuse":
                self.feed(events.Refused(line["status"], msgspec.convert(line["problem"], Problem), None))
            case "close":
                self.feed(events.Lost(line["code"], ""))
            case "lose":
                self.feed(events.Lost(None, ""))
            case "bye":
                self.closes.clear()
                self.feed(events.Stop())
                assert self.closes == [events.Close(1000, "")]
            case "provider":
                self.provider = self.concrete(line["token"])
            case "holds":
                assert {change.doc: change.rev for change in self.session.replica.changes()} == line["docs"]
                assert self.session.freshness(self.now).state == line["freshness"]
            case "stopped":
                [stopped] = self.stopped
                assert stopped.error is not None
                assert stopped.error.code == line["code"]
            case "told":
                assert self.told.pop(line["id"]) == {name: line[name] for name in ("code", "key") if name in line}
            case "write" | "store" | "drain":
                pass
            case other:
                raise AssertionError(f"unknown line: {other}")

    # --- placeholders ---

    def concrete(self, value: Any) -> Any:
        """What the gateway sends where a placeholder is written."""
        if isinstance(value, dict):
            whole = {"seq": 100} if str(value.get("seq")).startswith("<number") else {}
            return {name: self.concrete(inner) for name, inner in {**value, **whole}.items()}
        if isinstance(value, list):
            return [self.concrete(inner) for inner in value]
        if not isinstance(value, str) or (placeholder := PLACEHOLDER.fullmatch(value)) is None:
            return value
        kind, name = placeholder.groups()
        match kind:
            case "time":
                return TIME
            case "number":
                return NUMBERS.get(name, 0.5)
            case "seq":
                return 100 + int(name)
            case "token":
                return f"token-{name}"
            case "any":
                return []
        return self.bound.get(value, f"some-{name}")

    def match(self, expected: Any, actual: Any) -> None:
        """Compare what the client sent; a placeholder for a text is bound by its first use."""
        if isinstance(expected, dict):
            assert isinstance(actual, dict)
            assert expected.keys() == actual.keys(), f"{actual} instead of {expected}"
            for name, value in expected.items():
                self.match(value, actual[name])
        elif isinstance(expected, str) and expected.startswith("<text"):
            assert actual
            assert self.bound.setdefault(expected, actual) == actual
        else:
            assert actual == self.concrete(expected)
