"""What is said about documents: which ones the application wants, what it holds of them, and the requests under way.

The pure half of a `Session` that does not care how connections come and go.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate, islice
from typing import Any

import msgspec

from client_sdk import events, wire
from client_sdk.errors import (
    ChannelError,
    Disconnected,
    EpochChanged,
    NotFound,
    RequestTimeout,
    TooLarge,
)
from client_sdk.events import Effect, Watched
from client_sdk.replica import Outcome, Replica
from client_sdk.requests import Kind, Pending, Requests
from client_sdk.spending import Spending
from client_sdk.waiters import NUDGE_S, Waiters

NEVER = float("inf")
SELF = "self"
# Until the gateway's hello says how large a frame may be.
DEFAULT_FRAME_BYTES = 16_384
# What a watch entry takes in a frame besides its characters; in a query, the name of the parameter.
ENTRY_OVERHEAD = 8
# What a message takes besides its entries.
ENVELOPE_BYTES = 256
# What an auth message takes besides its token and its watch entries.
AUTH_BYTES = 512
# Errors that say nothing of the document: asking again helps.
PASSING = frozenset(("unavailable", "rate_limited", "internal"))


class Conversation:
    """Wishes, copies and requests. Effects go into the list that it was made with."""

    def __init__(self, watch: Iterable[str], effects: list[Effect], *, verify: bool, request_timeout_s: float) -> None:
        self.replica = Replica(verify=verify)
        self.requests = Requests(request_timeout_s)
        self.principal: str | None = None
        self.codec = wire.CODECS["gateway.v1+json"]
        self.max_frame_bytes = DEFAULT_FRAME_BYTES
        self.live = False
        self.now = 0.0
        self.chance = 0.0
        self.spending = Spending(effects, self.send, request_timeout_s)
        self._wishes: dict[str, None] = dict.fromkeys(watch)
        self._asked: tuple[str, ...] = ()
        self._waiters = Waiters()
        self._effects = effects

    # --- connections come and go ---

    def entries(self, budget: int) -> tuple[str, ...]:
        """What to watch at connecting, ``DOC`` or ``DOC@REV``, in at most `budget` bytes; the rest is asked for when
        live.
        """
        entries = list(map(self._entry, islice(self._wishes, max(0, budget) // ENTRY_OVERHEAD)))
        taken = _take(entries, budget)
        self._asked = tuple(self._wishes)[:taken]
        return tuple(entries[:taken])

    def authenticate(self, token: str, client: wire.ClientInfo | None, last_end: str | None) -> None:
        """Show the token in the first message, with what to watch: as much of it as a frame takes."""
        watch = self.entries(self.max_frame_bytes - len(token) - AUTH_BYTES)
        absent = msgspec.UNSET
        self.send(wire.Auth(token=token, watch=watch, client=client or absent, last_end=last_end or absent))

    def begin(self, principal: str) -> None:
        """The session is live."""
        self.principal = principal
        self.live = True
        self._wishes = dict.fromkeys(map(self.resolve, self._wishes))
        asked = set(map(self.resolve, self._asked))
        for doc in self._wishes:
            self.replica.expect(doc)
        if unwanted := asked.difference(self._wishes):
            self.send(wire.Unwatch(self.requests.own_id(), sorted(unwanted)))
        self._ask_watches([doc for doc in self._wishes if doc not in asked])
        self._waiters.begin(self.now)
        self.spending.begin(self.now)

    def lose(self, error: ChannelError, known_at: float | None = None) -> None:
        """The connection is gone: requests fail, except that what is not wanted any more will not be asked for."""
        self.live = False
        self.replica.disconnect(known_at)
        self.spending.lose()
        for pending in self.requests.clear():
            if pending.own:
                continue
            if pending.kind is Kind.UNWATCH:
                self._effects.append(events.Resolve(pending.id, None))
            else:
                self._effects.append(events.Reject(pending.id, error))

    def stop(self, error: ChannelError | None) -> None:
        """No connection will come any more. After an error nothing is held either: nobody may act on it."""
        closed = error or Disconnected("The channel is closed.", code="closed")
        self.lose(closed)
        self.spending.stop(closed)
        for id in self._waiters.take():
            self._effects.append(events.Reject(id, closed))
        if error is not None:
            for doc in list(self.replica):
                self._forget(doc)

    def new_epoch(self) -> None:
        """Positions in the change log begin anew: nobody can wait for an old one."""
        for id in self._waiters.take():
            self._effects.append(events.Reject(id, EpochChanged("The gateway's database was restored.")))

    def resolve(self, name: str) -> str:
        """The canonical name of a document; ``self`` is an alias."""
        return self.principal if name == SELF and self.principal is not None else name

    def own_seq(self) -> int:
        """The position in the change log up to which the own document is exact; 0 before it came."""
        held = self.replica.get(self.resolve(SELF))
        return 0 if held is None else held.seq

    # --- what the application asks ---

    def request(self, request: events.Request) -> None:
        """Carry out a request of the application."""
        match request:
            case events.WatchDocuments(id, docs):
                self._watch(id, docs)
            case events.UnwatchDocuments(id, docs):
                self._unwatch(id, docs)
            case events.AwaitSeq(id, seq):
                self._wait(id, seq)
            case events.Spend():
                self.spending.ask(request, self.now)
            case _ if not self.live:
                self._effects.append(events.Reject(request.id, Disconnected("There is no connection.")))
            case events.SyncDocument(id, doc):
                doc = self.resolve(doc)
                self.requests.add(id, Kind.SYNC, self.now, [doc])
                self.send(wire.Sync(id, doc))
            case events.MeasurePing(id):
                self.requests.add(id, Kind.PING, self.now)
                self.send(wire.Ping(id))

    def forget(self, id: str) -> None:
        """Nobody waits for this request any more."""
        self.requests.remove(id)
        self.spending.forget(id, self.now)
        self._waiters.remove(id)

    def send(self, message: wire.ClientMessage) -> None:
        """Send a message."""
        self._effects.append(events.Send(self.codec.encode(message)))

    def ping(self) -> str:
        """Ask for a sign of life; the id of the ping."""
        id = self.requests.own_id()
        self.send(wire.Ping(id))
        return id

    def _watch(self, id: str, docs: tuple[str, ...]) -> None:
        names = list(dict.fromkeys(map(self.resolve, docs)))
        entries = list(map(self._entry, names))
        if _take(entries, self.max_frame_bytes - ENVELOPE_BYTES) < len(entries):
            error: ChannelError = TooLarge("These are too many documents for one request; watch them in several.")
            self._effects.append(events.Reject(id, error))
            return
        self._wishes.update(dict.fromkeys(names))
        if not self.live:
            error = Disconnected("There is no connection; the documents are asked for when there is one.")
            self._effects.append(events.Reject(id, error))
            return
        for doc in names:
            self.replica.expect(doc)
        self.requests.add(id, Kind.WATCH, self.now, names)
        self.send(wire.Watch(id, entries))

    def _ask_watches(self, docs: list[str]) -> None:
        """Ask for documents without anybody waiting, in as many messages as it takes."""
        entries = list(map(self._entry, docs))
        while docs:
            taken = max(1, _take(entries, self.max_frame_bytes - ENVELOPE_BYTES))
            id = self.requests.own_id()
            self.requests.add(id, Kind.WATCH, self.now, docs[:taken], own=True)
            self.send(wire.Watch(id, entries[:taken]))
            docs, entries = docs[taken:], entries[taken:]

    def _wait(self, id: str, seq: int) -> None:
        if self.resolve(SELF) not in self._wishes:
            self._effects.append(events.Reject(id, NotFound("The own document is not watched.")))
            return
        self._waiters.add(id, seq, self.now)
        self._check_waiters()

    def _unwatch(self, id: str, docs: tuple[str, ...]) -> None:
        names = list(dict.fromkeys(map(self.resolve, docs)))
        for doc in names:
            self._forget(doc)
        if self.live:
            self.requests.add(id, Kind.UNWATCH, self.now, names)
            self.send(wire.Unwatch(id, names))
        else:
            self._effects.append(events.Resolve(id, None))

    # --- what the gateway says ---

    def receive(self, message: wire.AnyServerMessage) -> None:
        """A message about documents or requests."""
        match message:
            case wire.Snapshot():
                self._apply(message.doc, self.replica.snapshot(message))
            case wire.Update():
                self._apply(message.doc, self.replica.update(message))
            case wire.Current():
                self._apply(message.doc, self.replica.current(message))
            case wire.Gone():
                self._forget(message.doc)
            case wire.Reply():
                if not self.spending.reply(message, self.now):
                    self._reply(message)
            case wire.Error():
                if not self.spending.error(message, self.now, self.chance):
                    self._error(message)
            case wire.Pong():
                self._pong(message)
            case _:
                return
        self._finish_watches()
        self._check_waiters()

    def _apply(self, doc: str, outcome: Outcome) -> None:
        if outcome.change is not None:
            self._effects.append(outcome.change)
        if outcome.answered:
            for pending in self.requests:
                if pending.kind is Kind.SYNC and pending.answered and doc in pending.docs:
                    self._resolve(pending, None)
        if outcome.sync:
            self._sync(doc)

    def _sync(self, doc: str) -> None:
        if self.replica.suspect(doc):
            self._send_sync(doc)

    def _send_sync(self, doc: str) -> None:
        id = self.requests.own_id()
        self.requests.add(id, Kind.SYNC, self.now, [doc], own=True)
        self.send(wire.Sync(id, doc))

    def _reply(self, message: wire.Reply) -> None:
        pending = self.requests.get(message.id)
        if pending is None:
            return
        if pending.kind is Kind.WATCH:
            pending.answered = True
            pending.accept(message.docs)
        elif pending.kind is Kind.SYNC:
            pending.answered = True
            for doc in pending.docs:
                self.replica.expect_answer(doc)
        else:
            self._resolve(pending, None)

    def _error(self, message: wire.Error) -> None:
        error = wire.error_of(message)
        pending = self.requests.get(message.id) if message.id is not None else None
        again_at = self.now + max(message.retry_after_s or 0.0, NUDGE_S)
        if pending is None and message.id is not None:
            return  # nobody waits for it any more
        if pending is None:
            self._error_at_connecting(message, error, again_at)
        elif pending.own and message.code in PASSING:
            pending.deadline = again_at
        elif pending.kind is Kind.WATCH:
            self._refuse(pending, message, error)
        else:
            if pending.kind is Kind.SYNC and message.code == "not_found":
                for doc in pending.docs:
                    self._forget(doc)
            self._reject(pending, error)

    def _error_at_connecting(self, message: wire.Error, error: ChannelError, again_at: float) -> None:
        """Documents that are named at connecting are refused without an id."""
        if message.doc is not None:
            doc = self.resolve(message.doc)
            if message.code in PASSING:
                again = self.requests.add(self.requests.own_id(), Kind.WATCH, self.now, [doc], own=True)
                again.deadline = again_at
            else:
                self._forget(doc)
        self._effects.append(events.Trouble(error))

    def _refuse(self, pending: Pending, message: wire.Error, error: ChannelError) -> None:
        if message.doc is not None:
            doc = self.resolve(message.doc)
            pending.refuse(doc, error)
            self._forget(doc)
            return
        for doc in list(pending.docs):  # the whole request is refused: what was watched before is watched still
            pending.refuse(doc, error)
            if self.replica.awaited([doc]):
                self._forget(doc)

    def _pong(self, message: wire.Pong) -> None:
        for doc in self.replica.compare(message.revs):
            self._sync(doc)
        if missing := set(self.replica.missing(message.revs)):
            asked = {doc for pending in self.requests if pending.kind is Kind.WATCH for doc in pending.docs}
            lost = sorted(missing - asked)
            self.replica.expect_again(lost)
            self._ask_watches(lost)
        pending = self.requests.get(message.id) if message.id is not None else None
        if pending is not None:
            self._resolve(pending, self.now - pending.sent_at)

    def _forget(self, doc: str) -> None:
        self._wishes.pop(doc, None)
        change = self.replica.forget(doc)
        if change is not None:
            self._effects.append(change)

    def _finish_watches(self) -> None:
        for pending in self.requests:
            if pending.kind is not Kind.WATCH or pending.docs or self.replica.awaited(pending.accepted):
                continue
            if pending.accepted:
                self._resolve(pending, Watched(tuple(pending.accepted), pending.refused))
            else:
                self._reject(pending, next(iter(pending.refused.values())))

    def _check_waiters(self) -> None:
        reached = self.own_seq()
        for id in self._waiters.take(reached):
            self._effects.append(events.Resolve(id, reached))

    def _resolve(self, pending: Pending, value: Any) -> None:
        self.requests.remove(pending.id)
        if not pending.own:
            self._effects.append(events.Resolve(pending.id, value))

    def _reject(self, pending: Pending, error: ChannelError) -> None:
        self.requests.remove(pending.id)
        self._effects.append(events.Trouble(error) if pending.own else events.Reject(pending.id, error))

    # --- time ---

    def deadline(self) -> float:
        """When `tick` has something to do."""
        if not self.live:
            return NEVER
        return min(self.requests.deadline(), self._waiters.deadline())

    def tick(self) -> None:
        """Give up on requests that nobody answers, ask again for documents that are not exact, nudge for those who
        wait.
        """
        for pending in self.requests.overdue(self.now):
            if not pending.own:
                self._effects.append(events.Reject(pending.id, RequestTimeout("The gateway did not answer in time.")))
            elif pending.kind is Kind.SYNC:
                for doc in filter(self.replica.suspected, pending.docs):
                    self._send_sync(doc)
            else:
                self._ask_watches([doc for doc in sorted(pending.docs) if self.replica.awaited([doc])])
        if self._waiters.deadline() <= self.now:
            own = self.resolve(SELF)
            if not any(pending.kind is Kind.SYNC and own in pending.docs for pending in self.requests):
                self._send_sync(own)
            self._waiters.nudged(self.now)

    # --- names ---

    def _entry(self, name: str) -> str:
        doc = self.resolve(name)
        held = self.replica.get(doc)
        alias = SELF if doc == self.principal else doc
        return alias if held is None or held.rev is None else f"{alias}@{held.rev}"


def _take(entries: list[str], budget: int) -> int:
    """How many of the entries fit."""
    for count, size in enumerate(accumulate(len(entry.encode()) + ENTRY_OVERHEAD for entry in entries)):
        if size > budget:
            return count
    return len(entries)
