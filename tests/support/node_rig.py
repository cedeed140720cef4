"""A node in process, on a real database, with a clock moved by hand and sockets that are lists of frames."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.config import ChangesConfig, ChannelConfig
from gateway.core.document import apply, canonical, revision
from gateway.core.instant import Instant
from gateway.core.principal import Principal
from gateway.core.wire import JSON, Codec
from gateway.live.connection import Connection
from gateway.live.node import Node
from gateway.live.pacing import EVERY_S
from gateway.live.resting import REST_MS
from gateway.metrics import Metrics
from gateway.store.changes import last_seq
from gateway.store.database import Database, Statement
from gateway.store.quotas import Quotas
from tests.support.flaky_store import FlakyStore
from tests.support.people import run
from tests.support.services import accounts
from tests.support.waiting import eventually
from tests.support.watch_order import WatchOrder

START_MS = 1_795_288_200_000  # 2026-11-21T19:10:00Z


class ManualClock:
    """Both clocks, which move together unless the wall clock is set, and the processor's, which stands still."""

    def __init__(self) -> None:
        self.mono = 1_000.0
        self.wall = START_MS
        self.cpu = 0.0

    def now(self) -> Instant:
        return Instant(self.mono, self.wall)

    def cpu_s(self) -> float:
        return self.cpu

    def advance(self, seconds: float) -> None:
        self.mono += seconds
        self.wall += round(seconds * 1000)

    def set_wall(self, by_ms: int) -> None:
        self.wall += by_ms


class FrameList:
    """A transport that keeps what it is given. `waiting` is what it has not sent yet; `ended_as` rises with each that
    ends, from 1.
    """

    _ends = itertools.count(1)

    def __init__(self) -> None:
        self.ended_as = 0
        self.frames: list[bytes] = []
        self.closed_with: tuple[int, str, float] | None = None
        self.pings = 0
        self.waiting = 0

    def send_message(self, payload: bytes, binary: bool) -> None:
        assert self.closed_with is None, "a frame after the end"
        self.frames.append(payload)

    def ping(self) -> None:
        self.pings += 1

    def end(self, payload: bytes, binary: bool, code: int, reason: str, linger_s: float) -> None:
        self.send_message(payload, binary)
        self.closed_with = (code, reason, linger_s)
        self.ended_as = next(self._ends)

    def unsent(self) -> int:
        return self.waiting


class Peer:
    """The client at the other end: applies what it is sent and checks the promises of the protocol on every frame."""

    def __init__(self, connection: Connection, transport: FrameList, codec: Codec) -> None:
        self.connection = connection
        self.transport = transport
        self.codec = codec
        self.documents: dict[str, dict[str, Any]] = {}
        self.revs: dict[str, str] = {}
        self.seqs: dict[str, int] = {}
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.watches = WatchOrder()
        self._read = 0

    def take(self) -> list[dict[str, Any]]:
        """The messages that came since the last call."""
        first, self._read = self._read, len(self.transport.frames)
        return [self._apply(frame, first + n) for n, frame in enumerate(self.transport.frames[first:])]

    def ops(self) -> list[str]:
        """What kinds of messages came since the last call."""
        return [message["op"] for message in self.take()]

    def one(self, op: str) -> dict[str, Any]:
        """The only message that came since the last call."""
        [message] = self.take()
        assert message["op"] == op, message
        return message

    def say(self, **message: Any) -> None:
        """Send a message."""
        self.watches.said(message, len(self.transport.frames))
        frame = msgspec.msgpack.encode(message) if self.codec.binary else json.dumps(message).encode()
        self.connection.frame_received(frame, not self.codec.binary)

    def hang_up(self) -> None:
        self.connection.closed()

    def pause(self, unsent: int = 1) -> None:
        """The socket takes nothing more."""
        self.transport.waiting = unsent
        self.connection.writing_paused()

    def resume(self) -> None:
        self.transport.waiting = 0
        self.connection.writing_resumed()

    @property
    def ended(self) -> str | None:
        """The code of the end, if it came."""
        return None if self.transport.closed_with is None else self.transport.closed_with[1]

    def _apply(self, frame: bytes, number: int) -> dict[str, Any]:
        message: dict[str, Any] = msgspec.msgpack.decode(frame) if self.codec.binary else json.loads(frame)
        self.watches.heard(message, number)
        op, doc = message["op"], message.get("doc", "")
        if op == "gone":
            del self.documents[doc], self.revs[doc]
            self.seqs.pop(doc)
        if op not in ("snapshot", "update", "current"):
            return message
        assert message["seq"] >= self.seqs.get(doc, 0), "back in time"
        self.seqs[doc] = message["seq"]
        if op == "update":
            assert message["from"] == self.revs[doc], "an update from elsewhere"
            assert message["patch"]
            assert message["causes"]
            if doc in self.documents:  # who resumed here holds it elsewhere
                self.documents[doc] = apply(self.documents[doc], message["patch"])
        elif op == "snapshot":
            self.documents[doc] = message["data"]
        self.revs[doc] = message["rev"]
        assert doc not in self.documents or revision(canonical(self.documents[doc])) == message["rev"]
        if doc in self.documents:
            self.history.setdefault(doc, []).append(self.documents[doc])
        return message


class Rig:
    """One node. Use as ``async with Rig(database) as rig``; `limits` are fields of ``[channel]``."""

    def __init__(
        self,
        database: Database,
        *,
        name: str = "n1",
        changes: ChangesConfig | None = None,
        show_every_s: float = EVERY_S,
        **limits: Any,
    ) -> None:
        self.database = database
        self.store = FlakyStore(database)
        self.clock = ManualClock()
        channel = ChannelConfig(**limits)
        changes = changes or ChangesConfig()
        self.accounts = accounts(self.store, self.clock)
        self.node = Node(
            name,
            self.store,  # type: ignore[arg-type]
            self.accounts.authenticator,
            self.clock,
            channel,
            changes,
            Metrics(),
            self.accounts.keep_house,
            Quotas(self.store, lambda: self.clock.wall),  # type: ignore[arg-type]
            show_every_s=show_every_s,
        )
        self.hub, self.feed = self.node.hub, self.node.feed
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Rig:
        await self.feed.start()
        self._tasks = [asyncio.create_task(self.feed.run())]
        return self

    async def __aexit__(self, *exception: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def tick(self) -> None:
        """Run the node's timer beside the feed, from now on. It looks at the clock ten times a second."""
        self._tasks.append(asyncio.create_task(self.node.tick()))
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        """Let time pass, and tell the feed."""
        self.clock.advance(seconds)
        self.feed.clock_moved(self.clock.wall)

    def let_rested_go(self) -> None:
        """Let so much time pass that no document is kept for who may come back."""
        for _ in range(3):
            self.advance(REST_MS / 1000)

    async def connect(
        self,
        token: str | None = None,
        *,
        watch: list[str] | None = None,
        codec: Codec = JSON,
        settle: bool = True,
        principal: Principal | None = None,
    ) -> Peer:
        """A client that shows a token on the handshake, or none; `principal` is one that shows something else."""
        if token is not None:
            principal = await self.node.authenticator.authenticate(token)
        transport = FrameList()
        connection = self.node.connection(codec, transport, "192.0.2.1")
        connection.greet(principal, watch or [])
        if settle:
            await self.settle()
        return Peer(connection, transport, codec)

    async def run(self, sql: str, *args: Any) -> None:
        """Commit one statement and wait until it is published."""
        await run(self.database, sql, *args)
        await self.settle()

    async def write(self, *statements: Statement) -> None:
        """Commit several statements together and wait until they are published."""
        await self.database.write(*statements)
        await self.settle()

    async def settle(self, also: Callable[[], object] = lambda: True) -> None:
        """Wait until the feed has published everything that is committed."""
        await eventually(lambda: not self.node.spending.open, every_s=0.001)
        seq = await last_seq(self.database)
        await eventually(lambda: self._is_quiet(seq) and also(), every_s=0.001)

    def _is_quiet(self, seq: int) -> bool:
        """Whether nothing is left to do, nor being done."""
        node = self.node
        busy = self.hub.work or self.hub.work.pacing or node._tasks or node.spending.open or self.store.open
        return self.feed.position >= seq and not busy
