"""Replays the client's side of a golden transcript against a gateway in process, and checks every word of its answers.

The node is a real one, on a real database file and real sockets; its clock is the transcript's. After every line the
gateway is given the time to say all that it has to, so that nothing it says besides goes unnoticed.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import uvicorn
from uvicorn.server import ServerState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from gateway.config import ChannelConfig, Config
from gateway.core.clock import parse_rfc3339
from gateway.core.instant import Instant
from gateway.live.node import Node
from gateway.metrics import Metrics
from gateway.store.changes import last_seq
from gateway.store.database import Database, Statement
from gateway.store.quotas import Quotas
from gateway.web.routes import channel
from gateway.web.websocket import ChannelProtocol
from tests.support.flaky_store import FlakyStore
from tests.support.people import add_token, token_text
from tests.support.services import accounts
from tests.support.waiting import eventually

DIRECTORY = Path(__file__).parents[1] / "transcripts"
PLACEHOLDER = re.compile(r"<(text|time|number|seq|token|any)(?::([a-z0-9_]+))?>")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
TIMEOUT_S = 10.0
ON_SIDE_OF_THE_CLIENT = frozenset(("provider", "holds", "stopped"))

Message = dict[str, Any]


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The first line and all others."""
    first, *lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return first, lines


class TranscriptClock:
    """Stands still between two lines, and tells when the node's timer has looked at it."""

    def __init__(self, wall: int) -> None:
        self._beginning = Instant(1_000.0, wall)
        self._passed_ms = 0
        self.timer: asyncio.Task[None] | None = None
        self.looks = 0

    def now(self) -> Instant:
        if asyncio.current_task() is self.timer:
            self.looks += 1
        return Instant(self._beginning.mono + self._passed_ms / 1000, self._beginning.wall + self._passed_ms)

    def cpu_s(self) -> float:
        return 0.0

    def move_to(self, ms: int) -> bool:
        """To so many milliseconds after the beginning; whether that is another time."""
        moved, self._passed_ms = ms != self._passed_ms, ms
        return moved


class Bindings:
    """What placeholders stand for in one replay."""

    def __init__(self) -> None:
        self._bound: dict[str, Any] = {}
        self._positions: dict[str, list[tuple[int, int]]] = {}

    def concrete(self, value: Any) -> Any:
        """What a client sends where a placeholder is written."""
        if isinstance(value, dict):
            return {name: self.concrete(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.concrete(inner) for inner in value]
        if not isinstance(value, str) or (placeholder := PLACEHOLDER.fullmatch(value)) is None:
            return value
        kind, name = placeholder.groups()
        assert kind in ("token", "text"), f"no client sends {value}"
        return token_text(name) if kind == "token" else self._bound.setdefault(value, f"some-{name}")

    def matches(self, expected: Any, actual: Any, doc: str = "") -> bool:
        """Whether the gateway may send `actual` where `expected` is written; binds placeholders when it may."""
        trial = Bindings()
        trial._bound, trial._positions = dict(self._bound), {name: [*seqs] for name, seqs in self._positions.items()}
        if not trial._match(expected, actual, doc):
            return False
        self._bound, self._positions = trial._bound, trial._positions
        return True

    def _match(self, expected: Any, actual: Any, doc: str) -> bool:
        if isinstance(expected, dict):
            return (
                isinstance(actual, dict)
                and expected.keys() == actual.keys()
                and all(self._match(value, actual[name], doc) for name, value in expected.items())
            )
        if isinstance(expected, list):
            return (
                isinstance(actual, list)
                and len(expected) == len(actual)
                and all(self._match(one, other, doc) for one, other in zip(expected, actual, strict=True))
            )
        if isinstance(expected, str) and (placeholder := PLACEHOLDER.fullmatch(expected)) is not None:
            return self._match_placeholder(expected, *placeholder.groups(), actual, doc)
        return isinstance(expected, bool) == isinstance(actual, bool) and bool(expected == actual)

    def _match_placeholder(self, text: str, kind: str, name: str | None, actual: Any, doc: str) -> bool:
        number = isinstance(actual, int | float) and not isinstance(actual, bool) and actual >= 0
        match kind:
            case "any":
                return True
            case "time":
                return isinstance(actual, str) and TIME.fullmatch(actual) is not None
            case "seq":
                assert name is not None
                seqs = self._positions.setdefault(doc, [])
                seqs.append((int(name), actual))
                return number and all(seq <= actual if n <= int(name) else seq >= actual for n, seq in seqs)
            case "text":
                fits = isinstance(actual, str) and actual != ""
            case "number":
                fits = number
            case _:
                return False
        return fits and (name is None or self._bound.setdefault(text, actual) == actual)


class Socket:
    """One connection, as its client sees it."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._binary = connection.subprotocol == "gateway.v1+msgpack"
        self.received: list[Message] = []
        self._reader = asyncio.create_task(self._read())

    @property
    def is_closed(self) -> bool:
        return self._reader.done()

    @property
    def close_code(self) -> int | None:
        return self._connection.close_code

    async def send(self, message: Message) -> None:
        if self._binary:
            await self._connection.send(msgspec.msgpack.encode(message))
        else:
            await self._connection.send(msgspec.json.encode(message).decode())

    async def barrier(self) -> None:
        """What the gateway has sent was received, and what this side has sent (pongs too) was read."""
        for _ in range(2):
            if not self.is_closed:
                try:
                    await (await self._connection.ping())
                except ConnectionClosed:
                    await self._reader

    async def closed(self) -> None:
        """The gateway closed it."""
        async with asyncio.timeout(TIMEOUT_S):
            await asyncio.shield(self._reader)

    def cut(self) -> None:
        self._connection.transport.abort()

    async def close(self) -> None:
        await self._connection.close()
        await self._reader

    async def _read(self) -> None:
        try:
            while True:
                frame = await self._connection.recv()
                assert isinstance(frame, bytes) == self._binary, "a frame of the wrong kind"
                decode = msgspec.msgpack.decode if self._binary else msgspec.json.decode
                self.received.append(decode(frame))
        except ConnectionClosed:
            pass


class GatewayReplay:
    """One transcript and one gateway. Use as ``async with``; then `run`."""

    def __init__(self, database: Database, header: dict[str, Any], lines: list[dict[str, Any]]) -> None:
        self.database = database
        self.store = FlakyStore(database)
        # The pings of `barrier` count as messages.
        self.config = Config(channel=ChannelConfig(messages_per_minute=10_000))
        self.clock = TranscriptClock(parse_rfc3339(header["clock"]))
        self.tokens = header["tokens"]
        self.lines = lines
        self.bindings = Bindings()
        self.socket: Socket | None = None
        self.refusal: InvalidStatus | None = None
        self.reachable = True
        self.replayed = 0
        self._tasks: list[asyncio.Task[None]] = []

    # --- the gateway ---

    async def __aenter__(self) -> GatewayReplay:
        await self.database.script((DIRECTORY / "rows.sql").read_text(encoding="utf-8"))
        for name, token in self.tokens.items():
            if "user" in token:
                ends = token.get("expires_at")
                expires_at = None if ends is None else parse_rfc3339(ends)
                await self.database.write(
                    add_token(token["user"], token_text(name), id=f"t_{name}", expires_at=expires_at)
                )
        await self._start_node("n1")
        settings = uvicorn.Config(
            self._serve,
            interface="asgi3",
            http="httptools",
            ws=ChannelProtocol,
            ws_ping_interval=None,
            lifespan="off",
            log_config=None,
        )
        settings.load()
        state = ServerState()
        self._server = await asyncio.get_running_loop().create_server(
            lambda: settings.http_protocol_class(config=settings, server_state=state, app_state={}), "127.0.0.1", 0
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self.socket is not None:
            await self.socket.close()
        self._server.close()
        await self._server.wait_closed()
        await self._stop_node()

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        await channel(self.node, self.services, self.config)(scope, receive, send)

    async def _start_node(self, name: str) -> None:
        self.services = services = accounts(self.store, self.clock)
        self.node = Node(
            name,
            self.store,
            services.authenticator,
            self.clock,
            self.config.channel,
            self.config.changes,
            Metrics(),
            services.keep_house,
            Quotas(self.store, lambda: self.clock.now().wall),
        )  # type: ignore[arg-type]
        await self.node.feed.start()
        timer = asyncio.create_task(self.node.tick())
        self.clock.timer = timer
        self._tasks = [asyncio.create_task(self.node.feed.run()), timer]

    async def _stop_node(self) -> None:
        self.node.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- the replay ---

    async def run(self) -> None:
        """Replay all lines; `replayed` counts those in which the gateway has a part."""
        lines = [line for line in self.lines if line.get("do") not in ON_SIDE_OF_THE_CLIENT]
        expected: list[Message] = []
        for line, following in zip(lines, [*lines[1:], {}], strict=True):
            is_answer = line.get("from") == "server"
            if self.clock.move_to(line["at"]):
                await self._let_time_pass()
                if not is_answer:
                    await self._compare([])
            if is_answer:
                expected.append(line["message"])
            elif line.get("from") == "client":
                assert self.socket is not None
                await self.socket.send(self.bindings.concrete(line["message"]))
            else:
                await self._direct(line)
            self.replayed += 1
            if following.get("from") != "server" or following["at"] != line["at"]:
                await self._compare(expected)
                expected = []

    async def _let_time_pass(self) -> None:
        self._make_reachable()
        looks = self.clock.looks
        await eventually(lambda: self.clock.looks > looks)
        if self.store.broken is None:
            await self.node.reaper.step()

    def _make_reachable(self) -> None:
        """Nobody notices at once that the database went away or came back: it counts from the next moment on."""
        if self.reachable and self.store.broken is not None:
            self.store.recover()
        elif not self.reachable and self.store.broken is None:
            self.store.fail()
            self.node.hub.work.wake()  # as the doorbell does, which finds out by itself

    def _is_quiet(self, seq: int) -> bool:
        """Whether the gateway has done all that it has to at this moment; `seq` is the last position of the log."""
        node, feed = self.node, self.node.feed
        if self.store.broken is not None:
            return feed.stale and not (node._tasks or node.spending.open)
        busy = node.hub.work or node.hub.work.pacing or node._tasks or node.spending.open or self.store.open
        return feed.position >= seq and not (feed.stale or busy)

    async def _settle(self) -> None:
        """The gateway has read all that was sent, done all that it has to, and its frames were received."""
        if self.socket is not None:
            await self.socket.barrier()
        await eventually(lambda: not self.node.spending.open)
        seq = await last_seq(self.database)
        await eventually(lambda: self._is_quiet(seq))
        if self.socket is not None:
            await self.socket.barrier()

    async def _compare(self, expected: list[Message]) -> None:
        """What the gateway sends until it is quiet is what is expected, in an order that is allowed."""
        await self._settle()
        received: list[Message] = []
        if self.socket is not None:
            received, self.socket.received = self.socket.received, []
        left = list(expected)
        for message in received:
            places = (
                place for place, one in enumerate(left) if self.bindings.matches(one, message, message.get("doc", ""))
            )
            place = next(places, None)
            assert place is not None, f"not expected: {message}\nexpected: {left}"
            for other, one in enumerate(left):
                assert not _must_precede(one, left[place], written_so=other < place), f"{message} came before {one}"
            del left[place]
        assert left == [], f"not sent: {left}"

    async def _direct(self, line: dict[str, Any]) -> None:
        match line["do"]:
            case "connect":
                await self._connect(line)
            case "refuse":
                assert self.refusal is not None
                assert self.refusal.response.status_code == line["status"]
                problem = json.loads(self.refusal.response.body or b"")
                assert line["problem"].items() <= problem.items()
                self.refusal = None
            case "close":
                assert self.socket is not None
                await self.socket.closed()
                assert self.socket.close_code == line["code"]
                self.socket = None
            case "lose":
                await self._leave(Socket.cut)
            case "bye":
                await self._leave(Socket.close)
            case "write":
                await self.database.write(*map(Statement, line["sql"]))
            case "store":
                self.reachable = line["reachable"]
            case "drain":
                await self.node.drain(self.config.server.drain_s)
            case other:
                raise AssertionError(f"unknown line: {other}")

    async def _connect(self, line: dict[str, Any]) -> None:
        assert self.socket is None
        assert self.refusal is None
        if self.node.draining:
            await self._stop_node()
            await self._start_node("n2")
        headers = {}
        if "authorization" in line:
            headers["Authorization"] = f"Bearer {self.bindings.concrete(line['authorization'])}"
        query = urlencode([("watch", entry) for entry in line["watch"]])
        port = self._server.sockets[0].getsockname()[1]
        try:
            self.socket = Socket(
                await connect(
                    f"ws://127.0.0.1:{port}/ws" + (f"?{query}" if query else ""),
                    subprotocols=[Subprotocol(line["subprotocol"])],
                    additional_headers=headers,
                    compression=None,
                    proxy=None,
                    ping_interval=None,
                )
            )
        except InvalidStatus as refusal:
            self.refusal = refusal

    async def _leave(self, how: Callable[[Socket], Any]) -> None:
        socket, self.socket = self.socket, None
        assert socket is not None
        if (leaving := how(socket)) is not None:
            await leaving
        await socket.closed()
        assert socket.received == []
        await eventually(lambda: not self.node.sessions)


def _must_precede(one: Message, other: Message, *, written_so: bool) -> bool:
    """Whether the README lets `one` come before `other` only."""
    beginning = ("hello", "ready")
    if one is other or other["op"] in beginning[:1]:
        return False
    if one["op"] in beginning:
        return one["op"] == "hello" or other["op"] != "ready"
    if other["op"] == "reply" and "docs" in other:
        return one.get("doc") in other["docs"] or one.get("id") == other["id"]
    return other["op"] == "ended" or (written_so and one.get("doc", "") == other.get("doc"))
