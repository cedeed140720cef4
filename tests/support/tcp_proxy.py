"""A wire that can be cut: a TCP proxy between a program and a server, with its own thread and event loop.

The methods may be called from any thread; what they do is done when they return::

    with TcpProxy(server.port) as wire:
        program.connect(wire.port)
        wire.cut(silent=True)
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.support.gateway_process import free_port

T = TypeVar("T")
_CHUNK = 65_536
_QUEUE = 16
"""Chunks under way in one direction: beyond them, who sends has to wait."""


class TcpProxy:
    """Listens on `port`, a free one of 127.0.0.1, and connects each connection with 127.0.0.1:`target`.

    A connection whose target refuses is reset.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = free_port()
        self.accepted = 0
        """Connections that were made so far."""
        self.asked = 0
        """Bytes that were handed on to the target so far."""
        self._wires: set[_Wire] = set()
        self._silent = False
        self._delay_s = 0.0
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._do(self._listen())

    def __enter__(self) -> TcpProxy:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._wires)

    def cut(self, *, silent: bool = False) -> None:
        """Reset every connection and refuse new ones; or, `silent`: accept, close nothing, and let every byte vanish,
        both ways."""
        self._do(self._cut(silent))

    def restore(self) -> None:
        """The wire works again. A connection that lost bytes in the silence stays silent: no stream gets a hole."""
        self._do(self._restore())

    def delay(self, seconds: float) -> None:
        """From now on, every byte comes this much later, each way."""
        self._do(self._set_delay(seconds))

    def close(self) -> None:
        """Reset every connection and end."""
        if self._loop.is_closed():
            return
        self._do(self._cut(False))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _cut(self, silent: bool) -> None:
        self._silent = silent
        if silent:
            return
        if self._server is not None:
            # Who has just been accepted becomes a wire first: a server that is closed under them forgets them, open.
            for plug in self._server.sockets:
                self._loop.remove_reader(plug.fileno())
            for _ in range(5):
                await asyncio.sleep(0)
            self._server.close()
            self._server = None
        wires = list(self._wires)
        for wire in wires:
            wire.reset()
            wire.task.cancel()
        await asyncio.gather(*(wire.task for wire in wires), return_exceptions=True)

    async def _restore(self) -> None:
        self._silent = False
        if self._server is None:
            await self._listen()

    async def _set_delay(self, seconds: float) -> None:
        self._delay_s = seconds

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        wire = _Wire(writer, task)
        self._wires.add(wire)
        try:
            if self._silent:
                wire.lost = True
                await self._pump(wire, reader, writer)
            else:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
                wire.writers.append(far_writer)
                await asyncio.gather(self._pump(wire, reader, far_writer), self._pump(wire, far_reader, writer))
            await wire.close()
        except OSError:
            wire.reset()
        except asyncio.CancelledError:
            pass
        finally:
            self._wires.discard(wire)

    async def _pump(self, wire: _Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction, until its end; an end of one direction leaves the other open."""
        chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUE)
        delivery = asyncio.create_task(self._deliver(wire, chunks, writer))
        try:
            data = b"start"
            while data:
                data = await reader.read(_CHUNK)
                await chunks.put((self._loop.time() + self._delay_s, data))
            await delivery
        finally:
            delivery.cancel()

    async def _deliver(
        self, wire: _Wire, chunks: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        while True:
            due, data = await chunks.get()
            if due > self._loop.time():
                await asyncio.sleep(due - self._loop.time())
            wire.lost = wire.lost or self._silent
            if wire.lost and data:
                continue
            if not data:
                return None if wire.lost else writer.write_eof()
            writer.write(data)
            if writer is not wire.writers[0]:
                self.asked += len(data)
            await writer.drain()


class _Wire:
    """One connection: its two ends, and whether bytes of it were lost."""

    def __init__(self, writer: asyncio.StreamWriter, task: asyncio.Task[Any]) -> None:
        self.writers = [writer]
        self.task = task
        self.lost = False

    def reset(self) -> None:
        """Both ends learn of the end at once (RST)."""
        for writer in self.writers:
            plug: socket.socket = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def close(self) -> None:
        """Both ends get what is under way, and then the end."""
        for writer in self.writers:
            writer.close()
        for writer in self.writers:
            await writer.wait_closed()
