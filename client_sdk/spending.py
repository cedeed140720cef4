"""Requests to spend: each is sent until it is answered, over any number of connections.

Each carries what makes it one request however often it is sent, a key or the name of a lease: so nothing is charged
twice, and nobody has to guess. Without input or output, like the `Session` that it is part of.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import partial

from client_sdk import events, wire
from client_sdk.errors import ChannelError, Disconnected, RequestTimeout
from client_sdk.events import Effect
from client_sdk.priority_queue import PriorityQueue

# Not carried out: asking again helps.
REFUSED_FOR_NOW = frozenset(("unavailable", "rate_limited"))
# Nobody knows; asking again tells.
UNDECIDED = frozenset(("uncertain", "internal"))
# The key or the lease stands for something else, for good: no attempt was carried out, and none will be. A refusal such
# as `quota_exceeded` says only that none was so far. One that went out on a connection that is lost may wait on another
# node yet, and be carried out when units become free.
FINAL = frozenset(("conflict",))
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
    """One request. `number`: which one of all; the older one goes first. `unknown`: how many times it was sent of which
    nobody said what became of it.
    """

    message: wire.SpendingMessage
    number: int
    deadline: float
    unknown: int = 0
    trouble: ChannelError | None = None


def key_of(message: wire.SpendingMessage) -> str:
    """What to ask again with: the key, or the name of the lease."""
    match message:
        case wire.Consume(key=key) | wire.Extend(key=str(key)):
            return key
        case lease:
            return lease.lease


class Spending:
    """The requests to spend of a session.

    `under_way` are the ids of those that were sent on this connection and not answered, by when each is sent once more.
    `send` sends a message on the present connection; `silence_s` is how long an answer may take before the request is
    sent once more on the same connection.

    Every request is in `_deadlines`, and in one of `under_way`, `_postponed` (by when it may be sent again) and
    `_ready` (by its number).
    """

    def __init__(self, effects: list[Effect], send: Callable[[wire.ClientMessage], None], silence_s: float) -> None:
        self._effects = effects
        self._send = send
        self._silence_s = silence_s
        self._asked: dict[str, _Asked] = {}
        self._count = 0
        self.under_way = PriorityQueue()
        self._postponed = PriorityQueue()
        self._ready = PriorityQueue()
        self._deadlines = PriorityQueue()
        self._live = False
        self._held_until = 0.0  # the gateway wants nothing before that
        self._held_by: ChannelError | None = None

    # --- what the application asks ---

    def ask(self, request: events.Spend, now: float) -> None:
        """Ask now, or as soon as there is a connection."""
        self._count += 1
        self._asked[request.id] = _Asked(request.message, self._count, now + request.timeout_s)
        self._deadlines.put(request.id, now + request.timeout_s)
        self._ready.put(request.id, self._count)
        self._pump(now)

    def forget(self, id: str, now: float) -> None:
        """Nobody waits for this request any more; it is not sent again."""
        if self._take(id) is not None:
            self._pump(now)

    def _take(self, id: str) -> _Asked | None:
        """The request, which is one no more."""
        asked = self._asked.pop(id, None)
        if asked is not None:
            for queue in (self.under_way, self._postponed, self._ready, self._deadlines):
                queue.remove(id)
        return asked

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
            self._ready.put(id, self._asked[id].number)
        self.under_way.clear()

    def stop(self, error: ChannelError) -> None:
        """No connection will come any more."""
        for id in list(self._asked):
            self._reject(id, copy(error))

    # --- what the gateway says ---

    def reply(self, message: wire.Reply, now: float) -> bool:
        """A request succeeded; whether it was one of these."""
        if self._take(message.id) is None:
            return False
        self._effects.append(events.Resolve(message.id, message))
        self._pump(now)
        return True

    def error(self, message: wire.Error, now: float, chance: float) -> bool:
        """A request failed, for good or for now; whether it was one of these. `chance` is a random number in [0, 1)."""
        asked = self._asked.get(message.id or "")
        if asked is None or message.id is None:
            return False
        error = wire.error_of(message)
        if self.under_way.remove(message.id) and message.code not in UNDECIDED:
            asked.unknown -= 1
        if message.code in REFUSED_FOR_NOW or message.code in UNDECIDED:
            wait_s = max(LEAST_RETRY_S, error.retry_after_s or RETRY_S)
            self._postpone(message.id, asked, error, now + wait_s + chance * SPREAD_S)
        else:
            if message.code in FINAL:
                asked.unknown = 0
            self._reject(message.id, error)
        self._pump(now)
        return True

    def _postpone(self, id: str, asked: _Asked, error: ChannelError, again_at: float) -> None:
        asked.trouble = error
        self._ready.remove(id)
        self._postponed.put(id, again_at)
        if error.code == "rate_limited":
            self._held_until = max(self._held_until, again_at)
            self._held_by = error
        if again_at >= asked.deadline and not asked.unknown:
            self._reject(id, error)

    # --- time ---

    def deadline(self) -> float:
        """When `tick` has something to do."""
        deadline = self._deadlines.first()
        if not self._live:
            return deadline
        due = self.under_way.first()
        if len(self.under_way) < AT_A_TIME:
            due = min(due, self._held_until if self._ready else self._postponed.first())
        return min(deadline, max(due, self._held_until))

    def tick(self, now: float) -> None:
        """Give up on what took too long, and send again what is due."""
        while (id := self._deadlines.take(now)) is not None:
            asked = self._asked[id]
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
        for silent in list(iter(partial(self.under_way.take, now), None)):
            self._send_now(silent, now)
        while (id := self._postponed.take(now)) is not None:
            self._ready.put(id, self._asked[id].number)
        while len(self.under_way) < AT_A_TIME and (id := self._ready.take()) is not None:
            self._send_now(id, now)

    def _send_now(self, id: str, now: float) -> None:
        asked = self._asked[id]
        asked.unknown += 1
        self.under_way.put(id, now + self._silence_s)
        self._send(asked.message)

    def _reject(self, id: str, error: ChannelError) -> None:
        asked = self._take(id)
        assert asked is not None
        if asked.unknown:
            error.key = key_of(asked.message)
        self._effects.append(events.Reject(id, error))
