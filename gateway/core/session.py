"""One connection's session: what a client may say when, what it is told, and when it ends.

The machine is pure. Every method takes an `Instant` and returns effects for the connection to perform; `deadline`
says when `tick` has to be called next. It knows neither sockets nor the database.

    GREETING ──authenticated──▶ LIVE ──┐
        │                              ├──end──▶ ENDED
        └──auth_timeout, bad message, bad credential──┘

In GREETING only one `auth` is understood. LIVE accepts requests, renews credentials and watches the heartbeat. In
ENDED nothing is accepted and nothing is sent any more.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple

from msgspec import UNSET

from gateway.core import requests
from gateway.core.allowance import Allowance
from gateway.core.clock import rfc3339
from gateway.core.effects import (
    SELF,
    Authenticate,
    Close,
    DocumentRequest,
    Effect,
    Send,
    SendPing,
    Subscribe,
    parse_document_names,
)
from gateway.core.instant import Instant
from gateway.core.principal import Principal, PrincipalKind
from gateway.core.wire import (
    FEATURES,
    PROTOCOL_VERSION,
    Auth,
    BadFrame,
    ClientInfo,
    ClientMessage,
    Codec,
    Consume,
    Ended,
    Expiring,
    Hello,
    LeaseMessage,
    Ping,
    Pong,
    Ready,
    RequestRefused,
    ServerMessage,
    Sync,
    Unwatch,
    Watch,
    error_message,
)
from gateway.errors import AuthFailed, Ending, GatewayError, RateLimited

NEVER = float("inf")
INSTANCE_MESSAGES = 100  # an instance may send so many times as many: it watches the documents of many users


class SessionLimits(NamedTuple):
    """The settings of ``[channel]`` that a session obeys; times in seconds."""

    heartbeat_s: float
    pong_timeout_s: float
    auth_timeout_s: float
    expiring_s: float
    max_frame_bytes: int
    messages_per_minute: int


class Condition(enum.Enum):
    """Where a session stands; see the diagram above."""

    GREETING = enum.auto()
    LIVE = enum.auto()
    ENDED = enum.auto()


class Session:
    """The state of one connection. `jitter` in [0, 1) spreads the heartbeats of sessions that began together by ±10
    %. `client` is what it said of itself with its credential.
    """

    __slots__ = (
        "_allowance",
        "_authenticating",
        "_expiring_sent",
        "_heartbeat_s",
        "_limits",
        "_ping_at",
        "_ping_unanswered",
        "_timeout_at",
        "client",
        "codec",
        "condition",
        "id",
        "principal",
    )

    def __init__(self, session_id: str, codec: Codec, limits: SessionLimits, at: Instant, *, jitter: float) -> None:
        self.id = session_id
        self.codec = codec
        self.condition = Condition.GREETING
        self.principal: Principal | None = None
        self.client: ClientInfo | None = None
        self._limits = limits
        self._heartbeat_s = limits.heartbeat_s * (0.9 + 0.2 * jitter)
        self._ping_at = at.mono + self._heartbeat_s
        self._ping_unanswered = False
        self._timeout_at = at.mono + limits.auth_timeout_s
        self._authenticating: Auth | None = None
        self._expiring_sent = False
        self._allowance = Allowance(limits.messages_per_minute, at.mono)

    # --- beginning ---

    def greet(self, node: str, epoch: str, at: Instant) -> list[Effect]:
        """The first message, sent at once after the upgrade."""
        limits = self._limits
        hello = Hello(
            protocol=PROTOCOL_VERSION,
            node=node,
            epoch=epoch,
            server_time=rfc3339(at.wall),
            heartbeat_s=limits.heartbeat_s,
            auth_timeout_s=limits.auth_timeout_s,
            max_frame_bytes=limits.max_frame_bytes,
            features=FEATURES,
        )
        return [self.send(hello)]

    def begin(self, principal: Principal, watch: Sequence[str], at: Instant) -> list[Effect]:
        """Open a session whose credential came with the handshake; `watch` is that of the query string."""
        return self._open(principal, parse_document_names(watch) if watch else SELF, None, at)

    def authenticated(self, principal: Principal, at: Instant) -> list[Effect]:
        """The credential of the `auth` under way is good: opens the session, or renews it without sending documents
        again.
        """
        message, self._authenticating = self._authenticating, None
        if message is None or self.condition is Condition.ENDED:
            return []
        if self.condition is Condition.GREETING:
            watch = parse_document_names(message.watch) if message.watch is not None else SELF
            return self._open(principal, watch, message.id, at)
        assert self.principal is not None
        if principal.document != self.principal.document:
            return self.end(Ending.PRINCIPAL_CHANGED)
        return self._renew(principal, message, at)

    def rejected(self, error: GatewayError, at: Instant) -> list[Effect]:
        """The credential of the `auth` under way is not good: ends a greeting, leaves a live session its old
        credential.
        """
        message, self._authenticating = self._authenticating, None
        if message is None or self.condition is Condition.ENDED:
            return []
        if self.condition is Condition.GREETING:
            if isinstance(error, AuthFailed):
                return self.end(Ending.AUTH_FAILED)
            return self.end(Ending.OVERLOADED, retry_after_s=error.retry_after_s)
        return [self.error(error, message.id)]

    def _open(
        self, principal: Principal, watch: tuple[DocumentRequest, ...], request_id: str | None, at: Instant
    ) -> list[Effect]:
        self.condition = Condition.LIVE
        if principal.kind is PrincipalKind.INSTANCE:
            self._allowance = Allowance(self._limits.messages_per_minute * INSTANCE_MESSAGES, at.mono)
        self._take_credential(principal, at)
        effects: list[Effect] = [self._ready(request_id)]
        effects += self._check_credential(at)
        if self.condition is Condition.LIVE:
            effects.append(Subscribe(watch, None))
        return effects

    def _renew(self, principal: Principal, message: Auth, at: Instant) -> list[Effect]:
        self._take_credential(principal, at)
        effects: list[Effect] = [self._ready(message.id)]
        effects += self._check_credential(at)
        if message.watch and self.condition is Condition.LIVE:
            effects.append(Subscribe(parse_document_names(message.watch), None))
        return effects

    def _take_credential(self, principal: Principal, at: Instant) -> None:
        self.principal = principal
        self._expiring_sent = False

    def amend(self, principal: Principal, at: Instant) -> list[Effect]:
        """The same credential was changed where it is stored (its end, its scopes): it counts from now on, without a
        word if nothing is due.
        """
        self._take_credential(principal, at)
        return self._check_credential(at)

    def _ready(self, request_id: str | None) -> Send:
        principal = self.principal
        assert principal is not None
        expires_at = UNSET if principal.expires_at is None else rfc3339(principal.expires_at)
        return self.send(Ready(self.id, principal.document, expires_at, UNSET if request_id is None else request_id))

    # --- messages of the client ---

    def receive(self, frame: bytes, text: bool, at: Instant) -> list[Effect]:
        """A data frame came. `text` says which kind it was."""
        if self.condition is Condition.ENDED:
            return []
        self.heard()
        if len(frame) > self._limits.max_frame_bytes:
            return self.end(Ending.TOO_LARGE)
        if text is self.codec.binary:
            return self.end(Ending.BAD_FRAME)
        over = self._allowance.charge(at.mono)
        if over and self._allowance.spent_in_a_row:
            return self._end_rate_limited(at)
        try:
            message = self.codec.decode(frame)
        except BadFrame:
            return self.end(Ending.BAD_FRAME)
        except RequestRefused as refusal:
            if self.condition is Condition.GREETING:
                return self.end(Ending.NOT_AUTHENTICATED, message=refusal.error.message if refusal.op == "auth" else "")
            return [self.error(self._rate_limited(at) if over else refusal.error, refusal.id)]
        if over:
            return [self.error(self._rate_limited(at), message.id)]
        if self.condition is Condition.GREETING:
            return self._receive_greeting(message)
        return self._receive_live(message, at)

    def control(self, at: Instant) -> list[Effect]:
        """A control frame came: it counts as a message, but has no answer of ours."""
        if self.condition is Condition.ENDED:
            return []
        self.heard()
        over = self._allowance.charge(at.mono)
        return self._end_rate_limited(at) if over and self._allowance.spent_in_a_row else []

    def _end_rate_limited(self, at: Instant) -> list[Effect]:
        return self.end(Ending.RATE_LIMITED, retry_after_s=self._allowance.renewed_in_s(at.mono))

    def _rate_limited(self, at: Instant) -> RateLimited:
        return RateLimited("Too many messages.", retry_after_s=self._allowance.renewed_in_s(at.mono))

    def _receive_greeting(self, message: ClientMessage) -> list[Effect]:
        if not isinstance(message, Auth):
            return self.end(Ending.NOT_AUTHENTICATED)
        if self._authenticating is not None:
            return self.end(Ending.NOT_AUTHENTICATED, message="Another message came before auth was answered.")
        if message.token is None:
            return self.end(Ending.AUTH_FAILED)
        self._authenticating, self.client = message, message.client
        return [Authenticate(message.token)]

    def _receive_live(self, message: ClientMessage, at: Instant) -> list[Effect]:
        match message:
            case Ping() | Watch() | Unwatch() | Sync():
                return [requests.look(message)]
            case Auth():
                return self._receive_renewal(message, at)
            case _:
                return self._receive_spending(message, at)

    def _receive_spending(self, message: Consume | LeaseMessage, at: Instant) -> list[Effect]:
        assert self.principal is not None
        if self.expired(at.wall):
            return self.tick(at)
        try:
            return [requests.ask(self.principal, message)]
        except GatewayError as refusal:
            return [self.error(refusal, message.id)]

    def _receive_renewal(self, message: Auth, at: Instant) -> list[Effect]:
        assert self.principal is not None
        if self._authenticating is not None:
            return [self.error(RateLimited("A renewal is under way.", retry_after_s=1.0), message.id)]
        if message.token is None:
            return self._renew(self.principal, message, at)
        self._authenticating = message
        return [Authenticate(message.token)]

    def heard(self) -> None:
        """Something came from the client: it is alive."""
        self._ping_unanswered = False

    # --- time ---

    def deadline(self, at: Instant) -> float:
        """When `tick` has something to do, in seconds of the monotonic clock; never later than that moment."""
        if self.condition is Condition.ENDED:
            return NEVER
        if self.condition is Condition.GREETING:
            return min(self._timeout_at, self._ping_at)
        principal = self.principal
        assert principal is not None
        if principal.expires_at is None:
            return self._ping_at
        ahead_s = (principal.expires_at - at.wall) / 1000
        if not self._expiring_sent:
            ahead_s -= self._limits.expiring_s
        return min(self._ping_at, at.mono + ahead_s)

    def tick(self, at: Instant) -> list[Effect]:
        """Do what is due: `expiring`, the end of the credential, the heartbeat, the time-out of the greeting."""
        if self.condition is Condition.ENDED:
            return []
        if self.condition is Condition.GREETING and at.mono >= self._timeout_at:
            return self.end(Ending.AUTH_TIMEOUT)
        effects = self._check_credential(at) if self.condition is Condition.LIVE else []
        if at.mono >= self._ping_at:
            effects += self._heartbeat(at)
        return effects

    def expired(self, wall: int) -> bool:
        """Whether the credential has ended, so that no data may be sent any more."""
        principal = self.principal
        return principal is not None and principal.expires_at is not None and wall >= principal.expires_at

    def _heartbeat(self, at: Instant) -> list[Effect]:
        if self.condition is Condition.ENDED:
            return []
        if self._ping_unanswered:
            return self.end(Ending.TIMEOUT)
        self._ping_unanswered = True
        self._ping_at = at.mono + self._limits.pong_timeout_s
        return [SendPing()]

    def ponged(self, at: Instant) -> None:
        """The answer to a ping came: the next one is a heartbeat away."""
        self._ping_unanswered = False
        self._ping_at = at.mono + self._heartbeat_s

    def _check_credential(self, at: Instant) -> list[Effect]:
        principal = self.principal
        if principal is None or principal.expires_at is None:
            return []
        left_ms = principal.expires_at - at.wall
        if left_ms <= 0:
            return self.end(Ending.TOKEN_EXPIRED)
        if left_ms <= self._limits.expiring_s * 1000 and not self._expiring_sent:
            self._expiring_sent = True
            return [self.send(Expiring(rfc3339(principal.expires_at)))]
        return []

    # --- what is sent ---

    def pong(self, ping: Ping, revs: dict[str, str], at: Instant) -> Send:
        """The answer to a ping; `revs` are the revisions sent last."""
        return self.send(
            Pong(rfc3339(at.wall), revs, UNSET if ping.id is None else ping.id, UNSET if ping.t is None else ping.t)
        )

    def error(self, error: GatewayError, request_id: str | None, doc: str | None = None) -> Send:
        """The answer to a request that failed."""
        return self.send(error_message(error, request_id, doc))

    def answer(self, outcome: ServerMessage | GatewayError, request_id: str, at: Instant) -> list[Effect]:
        """The outcome of a request that took its time: for nobody once the session or its credential is over."""
        if self.condition is not Condition.LIVE:
            return []
        if self.expired(at.wall):
            return self.tick(at)
        if isinstance(outcome, GatewayError):
            return [self.error(outcome, request_id)]
        return [self.send(outcome)]

    def end(self, ending: Ending, *, retry_after_s: float | None = None, message: str = "") -> list[Effect]:
        """End the session; later calls do nothing. A `message` stands for the ending's own."""
        if self.condition is Condition.ENDED:
            return []
        self.condition = Condition.ENDED
        after_s = UNSET if retry_after_s is None else retry_after_s
        ended = Ended(ending.code, message or ending.value.message, ending.reconnect.value, after_s)
        return [Close(self.codec.encode(ended), ending)]

    def leave(self) -> None:
        """The client went away by itself."""
        self.condition = Condition.ENDED

    def send(self, message: ServerMessage) -> Send:
        """Any message that carries no document."""
        return Send(self.codec.encode(message))
