"""What a connection needs of its WebSocket, whoever serves it, and the plain ASGI way to have it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Transport(Protocol):
    """The sending side of an accepted WebSocket. Nothing here waits."""

    def send_message(self, payload: bytes, binary: bool) -> None:
        """Send one message."""

    def ping(self) -> None:
        """Send a WebSocket ping, where the server lets us."""

    def end(self, payload: bytes, binary: bool, code: int, reason: str, linger_s: float) -> None:
        """Send a last message and the close frame; cut the connection if the peer has not closed its side after
        `linger_s` seconds.
        """

    def unsent(self) -> int:
        """How many bytes the socket has not taken yet."""


class Receiver(Protocol):
    """The receiving side: what a transport tells the connection. None of it may raise."""

    def frame_received(self, frame: bytes, text: bool) -> None:
        """A whole data message came."""

    def control_received(self) -> None:
        """The peer sent a ping."""

    def pong_received(self) -> None:
        """The peer answered our ping."""

    def frame_too_large(self) -> None:
        """The peer began a message that is larger than it may be."""

    def frame_refused(self) -> None:
        """The peer sent what can never be a message."""

    def writing_paused(self) -> None:
        """The socket takes nothing more for now."""

    def writing_resumed(self) -> None:
        """The socket takes more again."""

    def closed(self) -> None:
        """The connection is gone; nothing follows."""

    def stop(self) -> None:
        """The server stops and will cut the connection."""


class AsgiTransport:
    """A transport over ASGI's ``receive`` and ``send``, for any server and for Starlette's test client.

    ASGI has no pings and no way to cut a peer that does not read; both are left to the server. A writer task lives
    only while something waits to be sent.
    """

    def __init__(self, receive: Receive, send: Send, buffer_bytes: int) -> None:
        self._receive = receive
        self._send = send
        self._buffer_bytes = buffer_bytes
        self._outgoing: deque[Message] = deque()
        self._unsent = 0
        self._paused = False
        self._writer: asyncio.Task[None] | None = None
        self._cut = asyncio.Event()
        self._receiver: Receiver | None = None

    async def run(self, receiver: Receiver) -> None:
        """Hand what comes to the receiver until the peer is gone or was cut."""
        self._receiver = receiver
        reading = asyncio.create_task(self._read(receiver))
        cutting = asyncio.create_task(self._cut.wait())
        try:
            await asyncio.wait((reading, cutting), return_when=asyncio.FIRST_COMPLETED)
        finally:
            receiver.closed()
            for task in (reading, cutting, self._writer):
                if task is not None:
                    task.cancel()
        if reading.done():
            reading.result()

    async def _read(self, receiver: Receiver) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            if text is not None:
                receiver.frame_received(text.encode("utf-8", "surrogatepass"), True)
            else:
                receiver.frame_received(message["bytes"], False)

    def send_message(self, payload: bytes, binary: bool) -> None:
        if binary:
            self._queue({"type": "websocket.send", "bytes": payload}, len(payload))
        else:
            self._queue({"type": "websocket.send", "text": payload.decode()}, len(payload))

    def ping(self) -> None:
        """Left to the server, which notices by itself when no answer comes: as far as we know, it came."""
        if self._receiver is not None:
            self._receiver.pong_received()

    def end(self, payload: bytes, binary: bool, code: int, reason: str, linger_s: float) -> None:
        self.send_message(payload, binary)
        self._queue({"type": "websocket.close", "code": code, "reason": reason}, 0)
        asyncio.get_running_loop().call_later(linger_s, self._cut.set)

    def unsent(self) -> int:
        return self._unsent

    def _queue(self, message: Message, size: int) -> None:
        self._outgoing.append(message)
        self._unsent += size
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        if self._unsent > self._buffer_bytes and not self._paused and self._receiver is not None:
            self._paused = True
            self._receiver.writing_paused()

    async def _write(self) -> None:
        try:
            while self._outgoing:
                message = self._outgoing[0]
                await self._send(message)
                self._outgoing.popleft()
                self._unsent -= len(message.get("bytes") or message.get("text", "").encode())
                if message["type"] == "websocket.close":
                    return
                if self._paused and not self._outgoing and self._receiver is not None:
                    self._paused = False
                    self._receiver.writing_resumed()
        except Exception:
            # The server found the peer gone: ASGI servers raise here, each its own type.
            self._outgoing.clear()
            self._unsent = 0
            self._cut.set()
        finally:
            self._writer = None
