"""Runs one `Session` over one transport: performs its effects, sends what the hub publishes, and keeps the rule that
data flows only while it may.

A connection owns no task and no timer. The transport calls it when something comes, the hub when something changed,
the node's ticker when its deadline is due.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

from msgspec import UNSET

from gateway.core.clock import rfc3339
from gateway.core.effects import (
    Authenticate,
    Close,
    DocumentRequest,
    Effect,
    Report,
    Resend,
    Send,
    SendPing,
    Spend,
    Subscribe,
    Unsubscribe,
    UseLease,
)
from gateway.core.instant import Instant
from gateway.core.principal import Principal
from gateway.core.publication import Publication
from gateway.core.session import NEVER, Condition, Session
from gateway.core.wire import Gone, Reply, ServerMessage, Status
from gateway.errors import Ending, GatewayError, NotFound
from gateway.live.transport import Transport
from gateway.live.watcher import Pending, Watcher

if TYPE_CHECKING:
    from gateway.live.node import Node

log = logging.getLogger("gateway.session")

REVOKED_LINGER_S = 1.0
LINGER_S = 5.0
NO_DOCUMENT = "No such document."
REPORTED = 1_000
"""Documents whose revisions stand in one answer to a ping."""


class Connection:
    """One accepted WebSocket, from `greet` until the transport says `closed`.

    `opened_at` and `opened_wall` are one moment: in seconds of the monotonic clock, and in milliseconds since 1970
    UTC. The node's are `number`, which rises with each that it opens, and `scheduled_at`: when it looks at the
    connection next, in seconds of the monotonic clock.
    """

    __slots__ = (
        "_behind",
        "_node",
        "_paused_at",
        "_taken",
        "_written",
        "address",
        "ending",
        "number",
        "opened_at",
        "opened_wall",
        "scheduled_at",
        "session",
        "transport",
        "watchers",
    )

    def __init__(self, node: Node, session: Session, transport: Transport, address: str) -> None:
        self._node = node
        self.session = session
        self.transport = transport
        self.address = address
        self.watchers: dict[str, Watcher] = {}
        self.ending: Ending | None = None
        self.opened_at, self.opened_wall = node.clock.now()
        self.number = 0
        self.scheduled_at = NEVER
        self._behind: dict[Watcher, None] | None = None
        self._paused_at: float | None = None
        self._taken = 0
        self._written = 0

    # --- beginning ---

    def greet(self, principal: Principal | None, watch: list[str]) -> None:
        """Say hello, and ready too if the handshake brought a credential."""
        self._node.opened(self)
        self._act(lambda at: self.session.greet(self._node.name, self._node.hub.epoch, at))
        if principal is not None:
            self._act(lambda at: self.session.begin(principal, watch, at))
            if principal.expires_at is not None:
                self._node.schedule(self)
        else:
            self._node.strangers.add(self)

    def authenticated(self, principal: Principal) -> None:
        """The token that the client sent is good."""
        self._act(lambda at: self.session.authenticated(principal, at))
        if self.session.condition is Condition.LIVE:
            self._node.strangers.discard(self)
            self._node.hub.recheck(self)
            self._node.hub.watching.check_access(self)

    def rejected(self, error: GatewayError) -> None:
        """The token that the client sent is not good, or can not be checked now."""
        self._act(lambda at: self.session.rejected(error, at))

    def amend(self, principal: Principal) -> None:
        """The credential in use was changed in the database."""
        self._act(lambda at: self.session.amend(principal, at))
        self._node.schedule(self)
        self._node.hub.watching.check_access(self)

    # --- from the transport ---

    def frame_received(self, frame: bytes, text: bool) -> None:
        self._act(lambda at: self.session.receive(frame, text, at))

    def control_received(self) -> None:
        self._act(self.session.control)

    def pong_received(self) -> None:
        self.session.ponged(self._node.clock.now())

    def frame_too_large(self) -> None:
        self.end(Ending.TOO_LARGE)

    def frame_refused(self) -> None:
        self.end(Ending.BAD_FRAME)

    def writing_paused(self) -> None:
        self._paused_at = self._node.clock.now().mono
        self._taken = self._written - self.transport.unsent()
        self._node.schedule(self)

    def writing_resumed(self) -> None:
        self._paused_at = None
        behind, self._behind = self._behind, None
        for watcher in behind or ():
            publication = watcher.entry.publication_for(watcher)
            if publication is not None and self.watchers.get(watcher.entry.doc) is watcher:
                self.deliver(watcher, publication)

    def closed(self) -> None:
        self.session.leave()
        self._node.closed(self)
        principal = self.session.principal
        log.info(
            "session ended",
            extra={
                "session": self.session.id,
                "principal": principal.document if principal else "",
                "reason": self.ending.code if self.ending else "client",
                "seconds": round(self._node.clock.now().mono - self.opened_at, 3),
                "address": self.address,
            },
        )

    def stop(self) -> None:
        self.end(Ending.GOING_AWAY)

    # --- from the hub ---

    def deliver(self, watcher: Watcher, publication: Publication, *, shared: bool = False) -> bool:
        """Send what leads to the publication, or remember to do so as soon as the socket takes more; a request that
        asked for it has it then. True when a frame went out.
        """
        session = self.session
        if session.condition is not Condition.LIVE:
            return False
        if self._paused_at is not None:
            watcher.skip(publication.causes)
            if self._behind is None:
                self._behind = {}
            self._behind[watcher] = None
            self._node.hub.counters.conflated += 1
            return False
        if not watcher.own and self._node.hub.watching.holds(watcher, publication):
            return False
        principal = session.principal
        if principal is not None and principal.expires_at is not None and session.expired(self._node.clock.now().wall):
            self._act(session.tick)
            return False
        codec = session.codec
        try:
            frame = watcher.next_frame(publication, codec, shared=shared)
        except Exception:
            self.failed()
            return False
        if frame is not None:
            outbox = self._node.hub.outbox
            if outbox.open:
                outbox.frames.append((self, frame))
            else:
                self.send_frame(frame)
        if watcher.pending:
            self.decided(watcher, accepted=True)
        return frame is not None

    def send_frame(self, payload: bytes) -> None:
        """Hand one message to the socket."""
        self._written += len(payload)
        self.transport.send_message(payload, self.session.codec.binary)

    def refuse(self, watcher: Watcher, reason: str) -> None:
        """The document does not exist, or the principal may not know that it does; `reason` is for who was shown it."""
        self.watchers.pop(watcher.entry.doc, None)
        for request_id in [pending.request_id for pending in watcher.pending] or [None]:
            self.fail(NotFound(NO_DOCUMENT), request_id, watcher.entry.doc)
        self.decided(watcher, accepted=False)
        if watcher.asked_again:
            self.tell(Gone(watcher.entry.doc, reason))

    def drop(self, watcher: Watcher, reason: str) -> None:
        """The document is no longer watched."""
        self.watchers.pop(watcher.entry.doc, None)
        self.tell(Gone(watcher.entry.doc, reason))

    def decided(self, watcher: Watcher, *, accepted: bool) -> None:
        """One document of `watch` requests is settled; the last one of a request brings its reply."""
        requests, watcher.pending = watcher.pending, []
        for pending in requests:
            self.settle(pending, watcher.entry.doc if accepted else None)

    def settle(self, pending: Pending, accepted: str | None) -> None:
        """Count one document of a request as decided, and reply after the last if any was accepted."""
        pending.undecided -= 1
        if accepted is not None:
            pending.accepted.append(accepted)
        if pending.undecided == 0 and pending.accepted and pending.request_id is not None:
            self.tell(Reply(pending.request_id, docs=pending.accepted))

    def tell(self, message: ServerMessage) -> None:
        """Send a message that carries no document, if the session is live."""
        if self.session.condition is Condition.LIVE:
            self._perform([self.session.send(message)])

    def tell_status(self, store: str, since: int, doc: str | None = None) -> None:
        """Say that what the client holds may be old, or is true again; `since` in milliseconds since 1970 UTC."""
        age_s = max(0, self._node.clock.now().wall - since) / 1000
        self.tell(Status(store, rfc3339(since), age_s, UNSET if doc is None else doc))

    def fail(self, error: GatewayError, request_id: str | None, doc: str | None = None) -> None:
        """Answer a request that failed."""
        if self.session.condition is Condition.LIVE:
            self._perform([self.session.error(error, request_id, doc)])

    def answer(self, outcome: ServerMessage | GatewayError, request_id: str) -> None:
        """The outcome of a request that took its time; the session may be over."""
        self._act(lambda at: self.session.answer(outcome, request_id, at))

    def end(self, ending: Ending, *, retry_after_s: float | None = None, message: str = "") -> None:
        """End the session; whatever waits to be sent is not waited for."""
        self._perform(self.session.end(ending, retry_after_s=retry_after_s, message=message))

    # --- time ---

    def deadline(self) -> float:
        """When `tick` has something to do, in seconds of the monotonic clock."""
        deadline = self.session.deadline(self._node.clock.now())
        if self._paused_at is not None:
            return min(deadline, self._paused_at + self._node.send_timeout_s)
        return deadline

    def tick(self) -> None:
        """Do what is due."""
        at = self._node.clock.now()
        if self._paused_at is not None and at.mono >= self._paused_at + self._node.send_timeout_s:
            taken = self._written - self.transport.unsent()
            if taken <= self._taken:
                self.end(Ending.TOO_SLOW)
                return
            self._paused_at, self._taken = at.mono, taken
        self._act(self.session.tick)

    # --- effects ---

    def _act(self, step: Callable[[Instant], list[Effect]]) -> None:
        """The one way to touch the machine: perform what it asks for, and end the session if that fails."""
        try:
            self._perform(step(self._node.clock.now()))
        except Exception:
            self.failed()

    def failed(self) -> None:
        """A fault of ours: it ends this session and no other. To be called while the exception is handled."""
        log.exception("the session failed", extra={"session": self.session.id})
        self._perform(self.session.end(Ending.INTERNAL))

    def _perform(self, effects: list[Effect]) -> None:
        self._node.hub.outbox.flush()
        for effect in effects:
            match effect:
                case Send(payload):
                    self.send_frame(payload)
                case Spend(order, request_id):
                    self._node.spending.consume(self, order, request_id)
                case Subscribe(documents, request_id):
                    self._subscribe(documents, request_id)
                case Report(ping):
                    self.send_frame(self.session.pong(ping, self._revisions(), self._node.clock.now()).payload)
                case SendPing():
                    self.transport.ping()
                case Authenticate(token):
                    self._node.authenticate(self, token)
                case UseLease(spender, request):
                    self._node.spending.use_lease(self, spender, request)
                case Close(payload, ending):
                    self._close(payload, ending)
                case Unsubscribe(names, request_id):
                    docs = self._node.hub.watching.unwatch(self, names)
                    self.tell(Reply(request_id, docs=docs))
                case Resend(name, request_id):
                    self._resend(name, request_id)

    def _revisions(self) -> dict[str, str]:
        """What a ping is answered with: the revisions that were sent last. Of more documents than `REPORTED` the next
        ones each time: what is told goes to the end of the line, where new ones come too.
        """
        line = self.watchers
        told = tuple(islice(line, REPORTED))
        if len(line) > REPORTED:
            for doc in told:
                line[doc] = line.pop(doc)
        sent = ((doc, line[doc].sent) for doc in told)
        return {doc: document.rev for doc, document in sent if document is not None}

    def _subscribe(self, documents: tuple[DocumentRequest, ...], request_id: str | None) -> None:
        hub = self._node.hub
        if hub.entry_of(self) is None:
            hub.join(self)
            if self._node.stale_since is not None:
                self.tell_status("stale", self._node.stale_since)
        hub.watching.watch(self, documents, request_id)

    def _resend(self, name: str, request_id: str) -> None:
        principal = self.session.principal
        doc = principal.document if name == "self" and principal is not None else name
        watcher = self.watchers.get(doc)
        if watcher is None:
            self.fail(NotFound("This document is not watched."), request_id, name)
            return
        self.tell(Reply(request_id, doc=doc))
        watcher.reset()
        self._node.hub.hurry(watcher.entry)
        self._node.hub.confirm(watcher.entry)
        publication = watcher.entry.publication_for(watcher)
        if publication is not None:
            self.deliver(watcher, publication)
        if watcher.entry.fault is not None:
            self.tell_status("stale", watcher.entry.fault_since, doc)

    def _close(self, payload: bytes, ending: Ending) -> None:
        self.ending = ending
        linger_s = REVOKED_LINGER_S if ending is Ending.REVOKED else LINGER_S
        self.transport.end(payload, self.session.codec.binary, ending.close, ending.code, linger_s)
        self._node.ended(self, ending)
        self.watchers.clear()
        self._behind = None
