"""Requests to spend: each is sent until it is answered, over any number of connections.

Each carries what makes it one request however often it is sent, a key or the name of a lease: so nothing is charged
twice, and nobody has to guess. Without input or output, like the `Session` that it is part of.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass

from client_sdk import events, wire
from client_sdk.errors import ChannelError, Disconnected, RequestTimeout
from client_sdk.events import Effect

NEVER = float("inf")
# Not carried out: asking again helps.
REFUSED_FOR_NOW = frozenset(("unavailable", "rate_limited"))
# Nobody knows; asking again tells.
UNDECIDED = frozenset(("uncertain", "internal"))
# The database looked for the key: it was not carried out, at no time.
DECIDED = frozenset(("quota_exceeded", "conflict", "lease_not_found", "lease_expired"))
# How long to wait where the gateway does not say, and whatever it says; and by how much those who wait are spread, so
# that they do not all come back at once.
RETRY_S = 1.0
LEAST_RETRY_S = 0.1
SPREAD_S = 0.5
# Unanswered at a time. A gateway ends a connection that sends twice its allowance (120 a minute, unless it is set
# otherwise): with so few under way the refusals come before that.
AT_A_TIME = 64


@dataclass(slots=True)
class _Asked:
    """One request. `again_at`: when to send it (again). `unknown`: how many times it was sent of which nobody said what
    became of it.
    """

    message: wire.SpendingMessage
    deadline: float
    again_at: float
    unknown: int = 0
    trouble: ChannelError | None = None

    @property
    def key(self) -> str:
        """What to ask again with."""
        match self.message:
            case wire.Consume(key=key) | wire.Extend(key=str(key)):
                return key
            case message:
                return message.lease


class Spending:
    """The requests to spend of a session.

    `under_way` are the ids of those that were sent on this connection and not answered.
    `send` sends a message on the present connection; `silence_s` is how long an answer may take before the request is
    sent once more on the same connection.
    """

    def __init__(self, effects: list[Effect], send: Callable[[wire.ClientMessage], None], silence_s: float) -> None:
        self._effects = effects
        self._send = send
        self._silence_s = silence_s
        self._asked: dict[str, _Asked] = {}
        self.under_way: set[str] = set()
        self._live = False
        self._held_until = 0.0  # the gateway wants nothing before that
        self._held_by: ChannelError | None = None

    # --- what the application asks ---

    def ask(self, request: events.Spend, now: float) -> None:
        """Ask now, or as soon as there is a connection."""
        self._asked[request.id] = _Asked(request.message, now + request.timeout_s, now)
        self._pump(now)

    def forget(self, id: str, now: float) -> None:
        """Nobody waits for this request any more; it is not sent again."""
        if self._asked.pop(id, None) is not None:
            self.under_way.discard(id)
            self._pump(now)

    # --- connections come and go ---

    def begin(self, now: float) -> None:
        """The session is live: what was not answered before is asked again."""
        self._live = True
        self._pump(now)

    def lose(self) -> None:
        """The connection is gone, and every answer with it."""
        self._live = False
        self._held_until, self._held_by = 0.0, None
        for id in self.under_way:
            self._asked[id].again_at = 0.0
        self.under_way.clear()

    def stop(self, error: ChannelError) -> None:
        """No connection will come any more."""
        for id in list(self._asked):
            self._reject(id, copy(error))

    # --- what the gateway says ---

    def reply(self, message: wire.Reply, now: float) -> bool:
        """A request succeeded; whether it was one of these."""
        if self._asked.pop(message.id, None) is None:
            return False
        self.under_way.discard(message.id)
        self._effects.append(events.Resolve(message.id, message))
        self._pump(now)
        return True

    def error(self, message: wire.Error, now: float, chance: float) -> bool:
        """A request failed, for good or for now; whether it was one of these. `chance` is a random number in [0, 1)."""
        asked = self._asked.get(message.id or "")
        if asked is None or message.id is None:
            return False
        error = wire.error_of(message)
        if message.id in self.under_way and message.code not in UNDECIDED:
            asked.unknown -= 1
        self.under_way.discard(message.id)
        if message.code in REFUSED_FOR_NOW or message.code in UNDECIDED:
            wait_s = max(LEAST_RETRY_S, error.retry_after_s or RETRY_S)
            self._postpone(message.id, asked, error, now + wait_s + chance * SPREAD_S)
        else:
            if message.code in DECIDED:
                asked.unknown = 0
            self._reject(message.id, error)
        self._pump(now)
        return True

    def _postpone(self, id: str, asked: _Asked, error: ChannelError, again_at: float) -> None:
        asked.trouble, asked.again_at = error, again_at
        if error.code == "rate_limited":
            self._held_until = max(self._held_until, again_at)
            self._held_by = error
        if again_at >= asked.deadline and not asked.unknown:
            self._reject(id, error)

    # --- time ---

    def deadline(self) -> float:
        """When `tick` has something to do."""
        return min((self._due(asked) for asked in self._asked.values()), default=NEVER)

    def _due(self, asked: _Asked) -> float:
        if not self._live or (len(self.under_way) >= AT_A_TIME and asked.message.id not in self.under_way):
            return asked.deadline
        return min(asked.deadline, max(asked.again_at, self._held_until))

    def tick(self, now: float) -> None:
        """Give up on what took too long, and send again what is due."""
        for id, asked in list(self._asked.items()):
            if asked.deadline > now:
                continue
            error = asked.trouble or copy(self._held_by) or Disconnected("There was no connection in time.")
            if asked.unknown:
                error = RequestTimeout("The gateway did not say in time whether this was carried out.")
                error.__cause__ = asked.trouble
            self._reject(id, error)
        self._pump(now)

    def _pump(self, now: float) -> None:
        """Send what is due."""
        if not self._live or now < self._held_until:
            return
        for id, asked in self._asked.items():
            if asked.again_at <= now and (len(self.under_way) < AT_A_TIME or id in self.under_way):
                self.under_way.add(id)
                asked.unknown += 1
                asked.again_at = now + self._silence_s
                self._send(asked.message)

    def _reject(self, id: str, error: ChannelError) -> None:
        asked = self._asked.pop(id)
        self.under_way.discard(id)
        if asked.unknown:
            error.key = asked.key
        self._effects.append(events.Reject(id, error))
