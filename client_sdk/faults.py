"""A proxy in front of a gateway that does to a connection what networks do: lose, delay, repeat, stall and cut.

It tells the frames of a WebSocket apart (RFC 6455 §5.2) and does not look into them. It knows a gateway by its address
alone; `client_sdk.testing` puts one in front of the gateway that it runs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Direction = Literal["to_client", "to_gateway"]

CALL_TIMEOUT_S = 10.0
GOODBYE_S = 1.0
LIMIT_BYTES = 65_536
WAITING_FRAMES = 256
FIRST_CONTROL_OPCODE = 8  # RFC 6455 §11.8
ALL = float("inf")


class Frame(NamedTuple):
    """One frame as it stands on the wire, or a piece of an HTTP message."""

    content: bytes
    is_data: bool


@dataclass
class Rules:
    """What is done to one direction: how many data frames are still to be lost or repeated, how long everything takes,
    and whether the connection ends within the next data frame.
    """

    lost: float = 0
    repeated: float = 0
    delay_s: float = 0.0
    cut_within: bool = False

    def take_lost(self) -> bool:
        """Whether this data frame is lost."""
        lost, self.lost = self.lost > 0, max(0, self.lost - 1)
        return lost

    def take_repeated(self) -> bool:
        """Whether this data frame comes twice."""
        repeated, self.repeated = self.repeated > 0, max(0, self.repeated - 1)
        return repeated


@dataclass(eq=False)
class Link:
    """One connection through the proxy: the client's socket, the gateway's once there is one, and the tasks that serve
    them.
    """

    client: asyncio.StreamWriter
    gateway: asyncio.StreamWriter | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def sockets(self) -> Iterator[asyncio.StreamWriter]:
        """Those that are there."""
        yield self.client
        if self.gateway is not None:
            yield self.gateway

    def stop(self) -> None:
        """Pass on nothing more."""
        for task in self.tasks:
            task.cancel()

    def abort(self) -> None:
        """Reset both connections; what waits to be sent is lost."""
        for writer in self.sockets():
            writer.transport.abort()

    async def hang_up(self) -> None:
        """Close both sockets when they have taken what was sent, or after a moment all the same."""
        try:
            async with asyncio.timeout(GOODBYE_S):
                for writer in self.sockets():
                    writer.close()
                for writer in self.sockets():
                    await writer.wait_closed()
        except OSError:
            pass  # reset by the peer; a TimeoutError is one of these too
        finally:
            self.abort()


class FaultProxy:
    """The proxy. It does nothing but pass on until it is told to; `heal` ends every fault.

    Its methods may be called from any thread and have taken effect when they return. Rules hold for the connections
    that there are and for those to come. `counts` says what was done so far: ``accepted``, ``dropped``, ``duplicated``,
    ``cut``.
    """

    def __init__(self, host: str, port: int) -> None:
        self.counts: Counter[str] = Counter()
        self._target = (host, port)
        self._rules: dict[Direction, Rules] = {"to_client": Rules(), "to_gateway": Rules()}
        self._links: dict[Link, None] = {}
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._flowing = asyncio.Event()
        self._flowing.set()

    # --- life ---

    async def open(self) -> None:
        """Listen on a port of its own, in the event loop and the thread that run this."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=LIMIT_BYTES)

    async def close(self) -> None:
        """Cut what is connected and stop listening."""
        if self._server is None:
            return
        self._server.close()
        serving = [task for link in self._links for task in link.tasks]
        self._cut_all()
        await asyncio.gather(*serving, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """What a client connects to in place of the gateway's own address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections there are now."""
        return len(self._links)

    # --- faults ---

    def drop(self, direction: Direction, frames: int | None = None) -> None:
        """Swallow the next data frames of a direction; None: all of them."""
        self._change(lambda: setattr(self._rules[direction], "lost", ALL if frames is None else frames))

    def duplicate(self, direction: Direction, frames: int | None = None) -> None:
        """Pass on the next data frames of a direction twice; None: all of them."""
        self._change(lambda: setattr(self._rules[direction], "repeated", ALL if frames is None else frames))

    def delay(self, direction: Direction, seconds: float) -> None:
        """Let everything in a direction arrive that much later, in order."""
        self._change(lambda: setattr(self._rules[direction], "delay_s", seconds))

    def cut(self, *, within: Direction | None = None) -> None:
        """Reset every connection now; or end the one with the next data frame of a direction in the middle of it."""
        if within is None:
            self._change(self._cut_all)
        else:
            self._change(lambda: setattr(self._rules[within], "cut_within", True))

    def freeze(self) -> None:
        """Pass on nothing more. New connections are accepted, and hear nothing."""
        self._change(self._flowing.clear)

    def heal(self) -> None:
        """End every fault. What a freeze or a delay holds back goes on; what was swallowed is lost."""
        self._change(self._heal)

    def _heal(self) -> None:
        for direction in self._rules:
            self._rules[direction] = Rules()
        self._flowing.set()

    def _cut_all(self) -> None:
        for link in self._links:
            self.counts["cut"] += 1
            link.abort()
            link.stop()

    def _change(self, change: Callable[[], object]) -> None:
        if threading.get_ident() == self._thread:
            change()
            return
        done: concurrent.futures.Future[None] = concurrent.futures.Future()

        def run() -> None:
            change()
            done.set_result(None)

        assert self._loop is not None
        self._loop.call_soon_threadsafe(run)
        done.result(CALL_TIMEOUT_S)

    # --- connections ---

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        link = Link(writer, tasks=[task])
        self._links[link] = None
        self.counts["accepted"] += 1
        try:
            await self._pass_on(link, reader)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one side is gone or the connection was cut: so it is for both
        finally:
            try:
                await link.hang_up()
            finally:
                del self._links[link]

    async def _pass_on(self, link: Link, reader: asyncio.StreamReader) -> None:
        await self.flowing()
        gateway_reader, link.gateway = await asyncio.open_connection(*self._target, limit=LIMIT_BYTES)
        lanes = (
            Lane(self, link, "to_gateway", reader, link.gateway),
            Lane(self, link, "to_client", gateway_reader, link.client),
        )
        work = [asyncio.ensure_future(half) for lane in lanes for half in (lane.read(), lane.write())]
        try:
            await asyncio.gather(*work)
        finally:
            for half in work:
                half.cancel()
            await asyncio.wait(work)

    # --- what a lane asks ---

    async def flowing(self) -> None:
        """Wait until nothing is frozen."""
        await self._flowing.wait()

    def rules(self, direction: Direction) -> Rules:
        """What is done to a direction now."""
        return self._rules[direction]


class Lane:
    """One direction of one connection: `read` takes frames from one socket, `write` puts them into the other one when
    their time has come. One without content ends the stream.
    """

    def __init__(
        self,
        proxy: FaultProxy,
        link: Link,
        direction: Direction,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._link = link
        self._direction = direction
        self._reader = reader
        self._writer = writer
        self._waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(WAITING_FRAMES)
        self._is_cut = False

    async def read(self) -> None:
        """Until the stream ends, or the connection is to be cut within a frame."""
        async for content, is_data in self._frames():
            rules = self._proxy.rules(self._direction)
            due = asyncio.get_running_loop().time() + rules.delay_s
            if is_data and rules.cut_within:
                self._is_cut, rules.cut_within = True, False
                self._proxy.counts["cut"] += 1
                await self._waiting.put((due, content[: len(content) // 2]))
                break
            if is_data and rules.take_lost():
                self._proxy.counts["dropped"] += 1
                continue
            await self._waiting.put((due, content))
            if is_data and rules.take_repeated():
                self._proxy.counts["duplicated"] += 1
                await self._waiting.put((due, content))
        await self._waiting.put((0.0, b""))

    async def write(self) -> None:
        """Until everything that came was passed on."""
        while True:
            due, content = await self._waiting.get()
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            await self._proxy.flowing()
            if not content:
                break
            self._writer.write(content)
            await self._writer.drain()
        if self._is_cut:
            self._link.stop()
        else:
            self._writer.write_eof()

    async def _frames(self) -> AsyncIterator[Frame]:
        """The head of the handshake and then frames; or pieces of anything, when it is no WebSocket."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as end:
            head = end.partial
        if head:
            yield Frame(head, is_data=False)
        if _is_websocket(head):
            while frame := await _read_frame(self._reader):
                yield frame
        else:
            while content := await self._reader.read(LIMIT_BYTES):
                yield Frame(content, is_data=False)


def _is_websocket(head: bytes) -> bool:
    """Whether this head of a request or an answer (RFC 6455 §4.1 and §4.2.2) opens one."""
    return b"\r\nupgrade: websocket\r\n" in head.lower()


async def _read_frame(reader: asyncio.StreamReader) -> Frame | None:
    """The next frame; None at the end of the stream. Raises `asyncio.IncompleteReadError` for an end within a frame."""
    first = await reader.read(1)
    if not first:
        return None
    second = await reader.readexactly(1)
    length = second[0] & 0x7F
    extended = await reader.readexactly({126: 2, 127: 8}.get(length, 0))
    if extended:
        length = int.from_bytes(extended, "big")
    key_bytes = 4 if second[0] & 0x80 else 0
    content = await reader.readexactly(key_bytes + length)
    return Frame(first + second + extended + content, is_data=first[0] & 0x0F < FIRST_CONTROL_OPCODE)
