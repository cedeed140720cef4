"""The channel's protocol without input or output: events in, effects out, time and chance as arguments.

`Session.handle` takes one event, the time of a monotonic clock in seconds, and a random number in [0, 1); it returns
what to do. `deadline` is the time at which a `Tick` is due. Whoever drives it performs the effects in order and feeds
back what comes of them; nothing else.

    IDLE ──start──▶ ASKING ──token──▶ CONNECTING ──opened──▶ GREETING ──ready──▶ LIVE
                     ▲  │                 │                      │                │
        the wait is  │  │ no token,       │ refused, lost,       │ ended, lost,   │ ended, lost,
        over         │  ▼ refused token   ▼ too long             ▼ too long       ▼ no pong
                    WAITING ◀─────────────┴──────────────────────┴────────────────┘

    any of them ──stop, or an end that says never──▶ STOPPED

The token is asked for before every connection. What is watched and held survives a connection: the next one resumes
from the revisions held.
"""

from __future__ import annotations

import enum

from client_sdk import events, wire
from client_sdk.conversation import Conversation
from client_sdk.credential import Credential, Renewal
from client_sdk.errors import ChannelError, Disconnected, MalformedMessage, TokenUnavailable, request_error
from client_sdk.events import Effect, Event
from client_sdk.freshness import Freshness, FreshnessMeter
from client_sdk.options import Options
from client_sdk.pulse import Pulse
from client_sdk.reconnect import (
    Backoff,
    End,
    Reconnect,
    end_of_close,
    end_of_message,
    end_of_refusal,
    malformed,
    silent,
    somebody_else,
)
from client_sdk.replica import Held, Replica

NEVER = float("inf")
# What fits into the request line that every proxy takes, next to a path.
QUERY_BYTES = 4096
NORMAL_CLOSURE, PROTOCOL_ERROR, GOING_AWAY = 1000, 1002, 1001  # RFC 6455 §7.4.1
PROTOCOL = 1


class Condition(enum.Enum):
    """Where a session stands; see the diagram above."""

    IDLE = enum.auto()
    ASKING = enum.auto()
    CONNECTING = enum.auto()
    GREETING = enum.auto()
    LIVE = enum.auto()
    WAITING = enum.auto()
    STOPPED = enum.auto()


class Session:
    """The whole life of a channel, over any number of connections."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.condition = Condition.IDLE
        self.id: str | None = None
        self.epoch: str | None = None
        self.malformed = 0
        self._effects: list[Effect] = []
        self._talk = Conversation(
            options.watch, self._effects, verify=options.verify, request_timeout_s=options.request_timeout_s
        )
        self._credential = Credential(options.token_timeout_s)
        self._backoff = Backoff(options.backoff_base_s, options.backoff_cap_s, options.stable_s)
        self._now = 0.0
        self._chance = 0.0
        self._until = NEVER  # when the present condition has lasted long enough, or too long
        self._live_since = 0.0
        self._last_end: str | None = None
        self._fault: ChannelError | None = None
        self._pulse = Pulse(options, self._talk.ping)
        self._meter = FreshnessMeter()

    # --- what can be seen ---

    @property
    def principal(self) -> str | None:
        """Who this is, ``user:ID`` or ``instance:ID``; None before the first connection."""
        return self._talk.principal

    @property
    def replica(self) -> Replica:
        """The documents that are watched."""
        return self._talk.replica

    @property
    def own(self) -> Held | None:
        """The own document, if it is watched and its name is known."""
        return self._talk.replica.get(self._talk.resolve("self"))

    @property
    def token(self) -> str | None:
        """What was shown at the last attempt to connect."""
        return self._credential.token

    @property
    def expires_at(self) -> str | None:
        """When the credential ends (RFC 3339), as the gateway said; None: never, or not known."""
        return self._credential.expires_at

    def complete(self) -> bool:
        """Whether every watched document came on this connection."""
        return self.condition is Condition.LIVE and not self._talk.replica.awaited()

    def resolve(self, name: str) -> str:
        """The canonical name of a document: ``self`` is the own one, once it is known who that is."""
        return self._talk.resolve(name)

    def freshness(self, now: float) -> Freshness:
        """How true everything held is."""
        if self.condition is not Condition.LIVE:
            return self._meter.read(self._last_end or "connecting", None, now)
        return self._meter.read(None, "silence" if self._pulse.doubts(now) else self._talk.replica.amiss(), now)

    def known_at(self, now: float) -> float | None:
        """When documents that are held exactly were last known to be true: now, while the gateway vouches for them."""
        doubted = self.condition is not Condition.LIVE or self._meter.store_is_stale or self._pulse.doubts(now)
        return self._meter.known_at if doubted else now

    @property
    def deadline(self) -> float:
        """When a `Tick` is due, in seconds of the clock that `handle` is given; infinite when none is."""
        return min(self._due_at, self._talk.spending.deadline())

    @property
    def _due_at(self) -> float:
        """When the present condition has something to do."""
        if self.condition is Condition.LIVE:
            return min(self._pulse.deadline, self._credential.due_at, self._talk.deadline())
        return self._until

    # --- events ---

    def handle(self, event: Event, now: float, chance: float) -> list[Effect]:
        """Take an event at the time `now` (monotonic seconds); `chance` is a random number in [0, 1)."""
        self._now = self._talk.now = now
        self._chance = self._talk.chance = chance
        if self.condition is not Condition.STOPPED:
            self._take(event)
        elif isinstance(event, events.Request):
            error = Disconnected("The channel is closed.", code="closed")
            error.__cause__ = self._fault
            self._effects.append(events.Reject(event.id, error))
        self._report_freshness()
        effects = self._effects.copy()
        self._effects.clear()
        return effects

    def _report_freshness(self) -> None:
        freshness = self.freshness(self._now)
        if self._meter.changed(freshness, self._now):
            self._effects.append(events.FreshnessChanged(freshness))

    def _take(self, event: Event) -> None:
        match event:
            case events.Received(frame):
                self._receive(frame)
            case events.Tick():
                self._tick()
            case events.Start():
                if self.condition is Condition.IDLE:
                    self._ask()
            case events.Stop():
                self._last_end = "closed"
                self._hang_up(NORMAL_CLOSURE, "")
                self._stop(None)
            case events.TokenGiven(token):
                self._token_given(token)
            case events.TokenFailed(cause):
                self._token_failed(cause)
            case events.Opened(subprotocol):
                self._opened(subprotocol)
            case events.Refused(status, problem, retry_after_s):
                self._leave(end_of_refusal(status, problem, retry_after_s))
            case events.Lost(code, reason):
                self._leave(end_of_close(code, reason))
            case events.Forget(id):
                self._talk.forget(id)
            case _:
                self._talk.request(event)

    # --- to a connection ---

    def _ask(self) -> None:
        self.condition = Condition.ASKING
        self._until = self._now + self.options.token_timeout_s
        self._effects.append(events.AskToken(self._credential.refused))

    def _token_given(self, token: str) -> None:
        credential = self._credential
        if self.condition is Condition.LIVE and credential.renewal is Renewal.ASKING:
            self._renew(token)
        elif self.condition is Condition.ASKING and token == credential.refused:
            credential.refused = None  # held back once; after the wait it is as good as any
            self._wait(self._backoff.after_refused_token(self._chance))
        elif self.condition is Condition.ASKING:
            self._connect(token)

    def _token_failed(self, cause: BaseException) -> None:
        asking = self.condition is Condition.ASKING
        if not asking and self._credential.renewal is not Renewal.ASKING:
            return
        error = TokenUnavailable(f"The token provider failed: {cause or type(cause).__name__}")
        error.__cause__ = cause
        self._effects.append(events.Trouble(error))
        if asking:
            self._wait(self._backoff.after_no_token(cause, self._chance))
        else:
            self._credential.postpone(self._now)

    def _renew(self, token: str) -> None:
        if token == self._credential.token:
            self._credential.postpone(self._now)
            return
        request = self._talk.requests.own_id()
        self._credential.send(token, request, self._now)
        self._talk.send(wire.Auth(token=token, id=request))

    def _connect(self, token: str) -> None:
        self._credential.token = token
        self.condition = Condition.CONNECTING
        self._until = self._now + self.options.connect_timeout_s
        in_message = self.options.credential == "message"
        self._effects.append(events.Connect(*((None, ()) if in_message else (token, self._talk.entries(QUERY_BYTES)))))

    def _opened(self, subprotocol: str | None) -> None:
        if self.condition is not Condition.CONNECTING:
            return
        codec = wire.CODECS.get(subprotocol or "gateway.v1+json")
        if codec is None:
            self._leave(malformed(f"The gateway chose {subprotocol}, which was not offered."), PROTOCOL_ERROR)
            return
        self._talk.codec = codec
        self.condition = Condition.GREETING
        self._until = self._now + self.options.greeting_timeout_s

    # --- on a connection ---

    def _receive(self, frame: wire.Frame) -> None:
        if self.condition not in (Condition.GREETING, Condition.LIVE):
            return
        if self.condition is Condition.LIVE:
            self._pulse.check(self._now, self._chance)
        if not self._pulse.doubts(self._now):
            self._meter.heard(self._now)
        self._pulse.heard(self._now)
        try:
            message = self._talk.codec.decode(frame)
        except MalformedMessage as exc:
            self.malformed += 1
            self._leave(malformed(exc.message), PROTOCOL_ERROR)
            return
        if message is not None and self.condition is Condition.LIVE:
            self._receive_live(message)
        elif message is not None:
            self._receive_greeting(message)

    def _receive_greeting(self, message: wire.AnyServerMessage) -> None:
        match message:
            case wire.Hello():
                self._greeted(message)
            case wire.Ready():
                self._become_live(message)
            case wire.Ended():
                self._leave(end_of_message(message), NORMAL_CLOSURE)
            case wire.Error():
                self._talk.receive(message)

    def _receive_live(self, message: wire.AnyServerMessage) -> None:
        match message:
            case wire.Ready(session=session, expires_at=expires_at):
                self.id = session
                self._credential.accepted(expires_at)
            case wire.Ended():
                self._leave(end_of_message(message), NORMAL_CLOSURE)
            case wire.Expiring(expires_at=expires_at):
                if self.options.credential != "signature" and self._credential.expiring(self._now):
                    self._effects.append(events.AskToken())
            case wire.Status():
                self._receive_status(message)
            case wire.Error(id=id, code=code, message=text) if id is not None and id == self._credential.request:
                self._effects.append(events.Trouble(request_error(code, text)))
                self._credential.postpone(self._now)
            case _:
                if isinstance(message, wire.Pong):
                    self._pulse.answered(message.id)
                self._talk.receive(message)

    def _greeted(self, hello: wire.Hello) -> None:
        if hello.protocol != PROTOCOL:
            self._leave(malformed(f"The gateway speaks version {hello.protocol} of the protocol."), PROTOCOL_ERROR)
            return
        if self.epoch not in (None, hello.epoch):
            self._talk.new_epoch()
        self.epoch = hello.epoch
        self._pulse.greeted(hello.heartbeat_s)
        self._talk.max_frame_bytes = hello.max_frame_bytes
        if self.options.credential == "message" and self._credential.token is not None:
            self._talk.authenticate(self._credential.token, self.options.client, self._last_end)

    def _become_live(self, ready: wire.Ready) -> None:
        if self.principal not in (None, ready.principal):
            self._leave(somebody_else(), NORMAL_CLOSURE)
            return
        self.condition = Condition.LIVE
        self._until = NEVER
        self.id = ready.session
        self._live_since = self._now
        self._meter.connected()
        self._credential.accepted(ready.expires_at)
        self._pulse.begin(self._now, self._chance)
        self._talk.begin(ready.principal)

    def _receive_status(self, status: wire.Status) -> None:
        is_stale = status.store == "stale"
        if status.doc is None:
            self._meter.store(is_stale=is_stale)
        else:
            self._talk.replica.mark_stale(status.doc, is_stale=is_stale, known_at=self._now - max(0.0, status.age_s))
        if is_stale:
            self._meter.stale(status.age_s, self._now)

    # --- time ---

    def _tick(self) -> None:
        self._talk.spending.tick(self._now)
        if self._now < self._due_at:
            return
        match self.condition:
            case Condition.WAITING:
                self._ask()
            case Condition.ASKING:
                self._token_failed(TimeoutError("no answer in time"))
            case Condition.CONNECTING | Condition.GREETING:
                self._leave(silent(), GOING_AWAY)
            case Condition.LIVE:
                self._tick_live()

    def _tick_live(self) -> None:
        if self._pulse.is_silent(self._now):
            self._leave(silent(), GOING_AWAY)
            return
        self._pulse.tick(self._now, self._chance)
        if self._now >= self._credential.due_at and self._credential.renewal is Renewal.ASKING:
            self._token_failed(TimeoutError("no answer in time"))
        elif self._now >= self._credential.due_at:
            self._credential.ask(self._now)
            self._effects.append(events.AskToken())
        self._talk.tick()

    # --- away from a connection ---

    def _leave(self, end: End, close_code: int | None = None) -> None:
        if self.condition not in (Condition.CONNECTING, Condition.GREETING, Condition.LIVE):
            return
        lived_s = self._now - self._live_since if self.condition is Condition.LIVE else 0.0
        self._last_end = end.code
        if close_code is not None:
            self._hang_up(close_code, end.code)
        error = end.error()
        if end.reconnect is Reconnect.NEVER:
            self._stop(error)
            return
        self._talk.lose(end.lost(), self._meter.known_at)
        self._effects.append(events.Trouble(error))
        self._credential.settle()
        if end.reconnect is Reconnect.NEW_CREDENTIAL:
            self._credential.refuse()
        self._wait(self._backoff.after(end, lived_s, self._chance))

    def _hang_up(self, close_code: int, reason: str) -> None:
        if self.condition in (Condition.CONNECTING, Condition.GREETING, Condition.LIVE):
            self._effects.append(events.Close(close_code, reason))

    def _wait(self, seconds: float) -> None:
        self.condition = Condition.WAITING
        self._until = self._now + seconds
        self._pulse.stop()

    def _stop(self, error: ChannelError | None) -> None:
        self.condition = Condition.STOPPED
        self._until = NEVER
        self._fault = error
        self._talk.stop(error)
        self._report_freshness()
        self._effects.append(events.Stopped(error))
