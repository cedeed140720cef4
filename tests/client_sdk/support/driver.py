"""Drives a session by hand: a clock that stands still, and messages as plain dictionaries."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
import rfc8785

from client_sdk import events
from client_sdk.events import Effect, Event
from client_sdk.options import SessionOptions, make_options
from client_sdk.session import Session

T = TypeVar("T")

ADA: dict[str, Any] = {
    "identity": {"id": "u_7f3k", "username": "ada", "name": "Ada Lovelace", "plan": "pro", "status": "active"},
    "permissions": {"can_use_voice": True, "can_use_sms": True},
    "quotas": {"voice_minutes": {"limit": 500, "used": 12, "reserved": 5, "remaining": 483, "level": "ok"}},
    "organizations": {},
}
SELF = "user:u_7f3k"
HELLO: dict[str, Any] = {
    "op": "hello",
    "protocol": 1,
    "node": "n1",
    "epoch": "e1",
    "server_time": "2026-11-21T20:00:00.000Z",
    "heartbeat_s": 25.0,
    "auth_timeout_s": 10.0,
    "max_frame_bytes": 16384,
    "features": ["resume"],
}


def revision_of(data: Mapping[str, Any]) -> str:
    """The revision, by an implementation that is not the SDK's."""
    return hashlib.sha256(rfc8785.dumps(dict(data))).hexdigest()[:16]


def snapshot(doc: str, data: Mapping[str, Any], seq: int) -> dict[str, Any]:
    return {"op": "snapshot", "doc": doc, "rev": revision_of(data), "seq": seq, "data": data}


class Driver:
    """A session, its time, and everything it wanted so far."""

    def __init__(self, *, chance: float = 0.5, **options: Any) -> None:
        fields: SessionOptions = options  # type: ignore[assignment]
        self.session = Session(make_options(fields))
        self.now = 1000.0
        self.chance = chance
        self.effects: list[Effect] = []

    def feed(self, event: Event) -> list[Effect]:
        effects = self.session.handle(event, self.now, self.chance)
        self.effects += effects
        return effects

    def server(self, *messages: Mapping[str, Any]) -> list[Effect]:
        """The gateway sends these; what came of all of them."""
        return [
            effect
            for message in messages
            for effect in self.feed(events.Received(msgspec.json.encode(message).decode()))
        ]

    def until_deadline(self) -> list[Effect]:
        """Let time pass until the next deadline."""
        self.now = self.session.deadline
        return self.feed(events.Tick())

    def connect(self, token: str = "t1") -> events.Connect:
        """From where it waits or begins to an open socket; what the session asked to connect with."""
        asked = self.until_deadline() if self.session.deadline < float("inf") else self.feed(events.Start())
        assert any(isinstance(effect, events.AskToken) for effect in asked)
        [connect] = self.feed(events.TokenGiven(token))
        assert isinstance(connect, events.Connect)
        self.feed(events.Opened("gateway.v1+json"))
        return connect

    def greet(self, *, session: str = "s1", principal: str = SELF, epoch: str = "e1", **ready: Any) -> list[Effect]:
        return self.server(
            {**HELLO, "epoch": epoch}, {"op": "ready", "session": session, "principal": principal, **ready}
        )

    def live(self, data: Mapping[str, Any] = ADA, seq: int = 10) -> Driver:
        """Connected, with the own document held."""
        self.connect()
        self.greet()
        self.server(snapshot(SELF, data, seq))
        self.effects.clear()
        return self

    def data(self, doc: str = SELF) -> Mapping[str, Any]:
        return self.session.replica.documents()[doc]


def only(kind: type[T], effects: list[Effect]) -> T:
    """The one effect of this kind."""
    [found] = every(kind, effects)
    return found


def every(kind: type[T], effects: list[Effect]) -> list[T]:
    return [effect for effect in effects if isinstance(effect, kind)]


def sent(effects: list[Effect]) -> list[dict[str, Any]]:
    """The messages that were sent."""
    return [msgspec.json.decode(effect.frame) for effect in every(events.Send, effects)]
