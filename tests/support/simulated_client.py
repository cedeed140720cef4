"""The SDK's pure session at the other end of a socket in memory: everything that happens to it is the test's decision.

Nothing arrives by itself. What was sent waits in the socket until `SimulatedClient.deliver` takes it on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import urlencode

import msgspec

from client_sdk import events
from client_sdk.options import make_options
from client_sdk.session import Condition, Session
from client_sdk.wire import Problem
from gateway.core.session import Condition as GatewayCondition
from gateway.live.clock import Clock
from gateway.live.connection import Connection
from gateway.web.websocket import EXTENSION
from tests.support.replica import Held, Replica
from tests.support.virtual_time import VirtualTimeLoop
from tests.support.watch_order import WatchOrder

Application = Callable[[Any, Any, Any], Any]
Message = dict[str, Any]
CAPACITY = 3
"""How many frames a socket takes that nobody reads, before it takes no more."""
DATA = frozenset(("snapshot", "update", "current"))


class Gone(Exception):
    """The client is not there any more, as a server tells an application that sends."""


class Arriving(NamedTuple):
    """What the gateway sent: a frame, a ping, or the close frame with its code."""

    kind: Literal["frame", "ping", "close"]
    payload: bytes = b""
    binary: bool = False
    code: int = 0


class MemorySocket:
    """A WebSocket between a gateway's `Connection` and a client; a `gateway.live.transport.Transport`.

    Frames that come after the end, or after the credential ended by its own date, fail the test.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.receiver: Connection | None = None
        self.arriving: deque[Arriving] = deque()
        self.leaving: deque[tuple[bytes, bool]] = deque()
        self.answer: tuple[int, Mapping[str, Any]] | None = None
        self.watches = WatchOrder()
        self.sent = self.heard = 0
        """Frames that the gateway sent, and that the client read."""
        self.is_gone = False
        self.is_ended = False
        self.is_dead = False
        """The gateway's process is no more; what is left of it here is not heard."""
        self._is_full = False

    # --- the gateway's side ---

    def take_over(self, receiver: Connection, send_buffer_bytes: int) -> None:
        self.receiver = receiver

    def send_message(self, payload: bytes, binary: bool) -> None:
        if self.is_dead:
            return
        assert not self.is_ended, "a frame after the end"
        assert not self.is_gone, "a frame for a client that has gone"
        self._check_expiry(payload, binary)
        self.sent += 1
        self.arriving.append(Arriving("frame", payload, binary))
        if len(self.arriving) > CAPACITY and not self._is_full and self.receiver is not None:
            self._is_full = True
            self.receiver.writing_paused()

    def ping(self) -> None:
        self.arriving.append(Arriving("ping"))

    def end(self, payload: bytes, binary: bool, code: int, reason: str, linger_s: float) -> None:
        self.send_message(payload, binary)
        self.arriving.append(Arriving("close", code=code))
        self.is_ended = True

    def unsent(self) -> int:
        return sum(len(item.payload) for item in list(self.arriving)[CAPACITY:])

    def _check_expiry(self, payload: bytes, binary: bool) -> None:
        receiver = self.receiver
        if receiver is None or receiver.session.condition is not GatewayCondition.LIVE:
            return
        if receiver.session.expired(self._clock.now().wall):
            assert decode(payload, binary)["op"] not in DATA, "data after the credential's end"

    # --- the client's side ---

    def read(self) -> Arriving:
        item = self.arriving.popleft()
        if item.kind == "ping" and self.receiver is not None:
            self.receiver.pong_received()
        if self._is_full and not self.arriving:
            self._is_full = False
            if self.receiver is not None and not self.is_ended:
                self.receiver.writing_resumed()
        return item

    def hang_up(self) -> None:
        """The client's end is closed, or the connection is cut: the gateway learns of it."""
        if not self.is_gone:
            self.is_gone = True
            if self.receiver is not None:
                self.receiver.closed()


def decode(payload: bytes, binary: bool) -> Message:
    message: Message = msgspec.msgpack.decode(payload) if binary else json.loads(payload)
    return message


class PausingReplica(Replica):
    """A replica of a client that may read slowly, and of documents that may not be readable.

    What it asked for again may not be sent yet when a pong comes; a document may be gone before it was ever sent.
    """

    def __init__(self, held: dict[str, Held] | None = None) -> None:
        super().__init__(held)
        self.asked: set[str] = set()

    def _gone(self, message: Message) -> None:
        doc = message["doc"]
        assert self.ready is not None
        own = doc == self.ready["principal"]
        self._require(doc in self.asked or (own and "self" in self.asked), message, "gone, but never asked for")
        self.documents.pop(doc, None)
        self.confirmed.discard(doc)

    def _pong(self, message: Message) -> None:
        held = {doc: self.documents[doc].rev for doc in self.confirmed}
        self._require(message["revs"].items() <= held.items(), message, f"revs are not what was sent: {held}")


class SimulatedClient:
    """One client of `user`. `token` is what its provider gives, `tokens` are all that it gave; `on_message` sees each
    message before the session does.

    Each connection is watched over by a `Replica`, which knows the promises of the protocol.
    """

    def __init__(
        self,
        user: str,
        token: str,
        clock: Clock,
        on_message: Callable[[SimulatedClient, Message], None],
        **options: Any,
    ) -> None:
        self.user = user
        self.token = token
        self.tokens = [token]
        self.watching: set[str | None] = {None}
        """The ids of requests to watch; at connecting there is none."""
        self.session = Session(make_options({"backoff_base_s": 0.01, "backoff_cap_s": 0.05, **options}))
        self.socket: MemorySocket | None = None
        self.replica = PausingReplica()
        self.error: BaseException | None = None
        self.results: dict[str, object] = {}
        self.application: Application | None = None
        self.loop: VirtualTimeLoop | None = None
        self._clock = clock
        self._on_message = on_message
        self._unwatching: dict[str, list[str]] = {}
        self._requests = 0
        self._opening: asyncio.Task[None] | None = None

    # --- what the test decides ---

    def begin(self, loop: VirtualTimeLoop, application: Application) -> None:
        """Open the channel. It connects to `application`, now and later."""
        self.loop, self.application = loop, application
        self._feed(events.Start())

    def ask(self, make: Callable[[str], events.Request]) -> str:
        """The application asks for something; the id under which its answer will stand in `results`."""
        self._requests += 1
        self._feed(make(str(self._requests)))
        return str(self._requests)

    def give(self, token: str) -> None:
        """The provider gives another token from now on."""
        self.token = token
        self.tokens.append(token)

    def tick(self) -> None:
        """Time has passed."""
        while self.session.deadline <= self._clock.now().mono:
            self._feed(events.Tick())

    def deliver(self, count: int = 10**6) -> bool:
        """Take on at most so many of the frames under way, of each direction; whether there were any."""
        assert self.loop is not None
        return self.loop.inside(lambda: self._deliver(count))

    def _deliver(self, count: int) -> bool:
        moved = False
        for _ in range(count):
            if not (self._deliver_one_out() | self._deliver_one_in()):
                break
            moved = True
        return moved

    def cut(self) -> None:
        """The connection is lost, and what was under way with it."""
        socket = self._let_go()
        if socket is not None:
            socket.hang_up()
            self._feed(events.Lost(None, ""))

    def forsake(self) -> None:
        """As `cut`, but there is no gateway any more that could learn of it."""
        socket = self._let_go()
        if socket is not None:
            socket.is_gone = socket.is_dead = True
            self._feed(events.Lost(None, ""))

    @property
    def is_stopped(self) -> bool:
        return self.session.condition is Condition.STOPPED

    @property
    def is_live(self) -> bool:
        return self.session.condition is Condition.LIVE

    @property
    def doc(self) -> str:
        return f"user:{self.user}"

    # --- the connection ---

    def _connect(self, request: events.Connect) -> None:
        assert self.socket is None, "two connections at once"
        assert self.loop is not None
        self.socket = MemorySocket(self._clock)
        held = {
            doc: Held(dict(copy.data), copy.rev, copy.seq)
            for doc in self.session.replica
            if (copy := self.session.replica.get(doc)) is not None and copy.rev is not None
        }
        self.replica = PausingReplica(held)
        self._unwatching.clear()
        self.watching = {None}
        self._note_watch(request.watch)
        self._opening = self.loop.create_task(self._open(self.socket, request))

    def _note_watch(self, entries: Iterable[str]) -> None:
        self.replica.asked.update(entry.partition("@")[0] for entry in entries)

    async def _open(self, socket: MemorySocket, request: events.Connect) -> None:
        assert self.application is not None
        headers = [(b"host", b"gateway.test")]
        if request.token is not None:
            headers.append((b"authorization", b"Bearer " + request.token.encode()))
        scope = {
            "type": "websocket",
            "scheme": "ws",
            "path": "/ws",
            "headers": headers,
            "query_string": urlencode([("watch", entry) for entry in request.watch]).encode(),
            "subprotocols": [self.session.options.subprotocol],
            "client": ("192.0.2.1", 1),
            "extensions": {EXTENSION: socket, "websocket.http.response": {}},
        }
        status = 0

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        async def send(message: Message) -> None:
            nonlocal status
            if socket.is_gone:
                raise Gone
            match message["type"]:
                case "websocket.accept":
                    socket.answer = (101, {"subprotocol": message["subprotocol"]})
                case "websocket.http.response.start":
                    status = message["status"]
                case "websocket.http.response.body":
                    socket.answer = (status, json.loads(message["body"]))

        with contextlib.suppress(Gone):
            await self.application(scope, receive, send)

    def _let_go(self) -> MemorySocket | None:
        socket, self.socket = self.socket, None
        return socket

    # --- the session ---

    def _feed(self, event: events.Event) -> None:
        for effect in self.session.handle(event, self._clock.now().mono, 0.5):
            match effect:
                case events.AskToken():
                    self._feed(events.TokenGiven(self.token))
                case events.Connect():
                    self._connect(effect)
                case events.Send(frame):
                    self._send(frame)
                case events.Close():
                    socket = self._let_go()
                    if socket is not None:
                        socket.hang_up()
                case events.Resolve(id, value):
                    self.results[id] = value
                case events.Reject(id, error):
                    self.results[id] = error
                case events.Stopped(error):
                    self.error = error

    def _send(self, frame: str | bytes) -> None:
        assert self.socket is not None
        payload = frame.encode() if isinstance(frame, str) else frame
        message = decode(payload, isinstance(frame, bytes))
        if message["op"] == "unwatch":
            self._unwatching[message["id"]] = message["docs"]
        elif message["op"] == "watch":
            self.watching.add(message["id"])
        self._note_watch(message.get("docs", ()) if message["op"] == "watch" else message.get("watch", ()))
        self.socket.leaving.append((payload, isinstance(frame, str)))

    def _deliver_one_out(self) -> bool:
        socket = self.socket
        if socket is None or socket.receiver is None or not socket.leaving:
            return False
        payload, is_text = socket.leaving.popleft()
        if not socket.is_ended:
            socket.watches.said(decode(payload, not is_text), socket.sent)
            socket.receiver.frame_received(payload, is_text)
        return True

    def _deliver_one_in(self) -> bool:
        socket = self.socket
        if socket is None:
            return False
        if socket.answer is not None:
            (status, body), socket.answer = socket.answer, None
            if status == 101:
                self._feed(events.Opened(body["subprotocol"]))
            else:
                self._let_go()
                self._feed(events.Refused(status, msgspec.convert(body, Problem), None))
            return True
        if not socket.arriving:
            return False
        item = socket.read()
        if item.kind == "frame":
            self._receive(socket, item)
        elif item.kind == "close":
            self.replica.closed(item.code)
            self._let_go()
            socket.hang_up()
            self._feed(events.Lost(item.code, ""))
        return True

    def _receive(self, socket: MemorySocket, item: Arriving) -> None:
        message = decode(item.payload, item.binary)
        socket.watches.heard(message, socket.heard)
        socket.heard += 1
        self.replica.take(message)
        for doc in self._unwatching.pop(message.get("id", ""), ()):
            self.replica.documents.pop(doc, None)
            self.replica.confirmed.discard(doc)
        self._on_message(self, message)
        binary = self.session.options.subprotocol.endswith("msgpack")
        assert item.binary is binary, "a frame of the wrong kind"
        self._feed(events.Received(item.payload if binary else item.payload.decode()))
