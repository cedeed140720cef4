"""A connection that keeps many requests in flight, by hand: a library would be slower than the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from tests.support.gateway_process import GatewayProcess
from tests.support.raw_websocket import TEXT, frame, handshake

Message = dict[str, Any]


class Pusher(asyncio.Protocol):
    """Asks for what `requests` gives, `window` of them at a time; `answered` is told of each answer.

    What was asked and not answered is in `open`, by id. `lost` is done when the connection is.
    """

    def __init__(self, requests: Iterator[Message], answered: Callable[[Message, Message], None], window: int) -> None:
        loop = asyncio.get_running_loop()
        self.open: dict[str, Message] = {}
        self.ready: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.others: list[Message] = []
        """What came beside answers."""
        self._requests = requests
        self._answered = answered
        self._window = window
        self._unread = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if self._unread.startswith(b"HTTP/1.1 101"):
            _, mark, rest = self._unread.partition(b"\r\n\r\n")
            if not mark:
                return
            self._unread = rest
        place, data = 0, self._unread
        while len(data) >= place + 4:
            size, start = data[place + 1], place + 2
            if size == 126:
                size, start = int.from_bytes(data[start : start + 2], "big"), start + 2
            elif size == 127:
                size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
            if len(data) < start + size:
                break
            if data[place] == 0x80 | TEXT:
                self._took(msgspec.json.decode(data[start : start + size]))
            place = start + size
        self._unread = data[place:]
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ready.done():
            self.ready.cancel()
        self.lost.set_result(None)

    async def until_answered(self) -> None:
        """Wait until all that was asked is answered, when there is nothing more to ask."""
        async with asyncio.timeout(20):
            while self.open:
                assert not self.lost.done(), "the connection is lost"
                await asyncio.sleep(0.002)

    def _took(self, message: Message) -> None:
        if message["op"] in ("reply", "error") and message.get("id") in self.open:
            self._answered(self.open.pop(message["id"]), message)
            return
        self.others.append(message)
        if message["op"] == "ready":
            self.ready.set_result(None)

    def _ask(self) -> None:
        if not self.ready.done():
            return
        sent = []
        while len(self.open) < self._window and (message := next(self._requests, None)) is not None:
            self.open[message["id"]] = message
            sent.append(frame(TEXT, msgspec.json.encode(message)))
        if sent:
            self._transport.write(b"".join(sent))


@asynccontextmanager
async def pushing(
    gateway: GatewayProcess,
    token: str,
    requests: Iterator[Message],
    answered: Callable[[Message, Message], None],
    *,
    window: int = 500,
) -> AsyncIterator[Pusher]:
    """A connection for as long as the block; requests go out as soon as the session is ready."""
    loop = asyncio.get_running_loop()
    transport, pusher = await loop.create_connection(
        lambda: Pusher(requests, answered, window), "127.0.0.1", gateway.port
    )
    try:
        transport.write(handshake(gateway, headers=f"Authorization: Bearer {token}\r\n"))
        async with asyncio.timeout(10):
            await pusher.ready
        yield pusher
    finally:
        transport.abort()
        await pusher.lost
