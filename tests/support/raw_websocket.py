"""A WebSocket client by hand (RFC 6455), for what well-behaved libraries do not do: never read, never pong, small
buffers, broken frames."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import select
import socket
import struct
from typing import Any, NamedTuple

from tests.support.gateway_process import GatewayProcess
from tests.support.replica import Replica

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


class Frame(NamedTuple):
    """One frame from the server; those are never fragmented."""

    opcode: int
    payload: bytes


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True, rsv: int = 0) -> bytes:
    """A frame as clients send it; the masking key is zero, which leaves the payload as it is."""
    first = (0x80 if fin else 0) | rsv | opcode
    mark = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, mark | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, mark | 126, size)
    else:
        head = struct.pack("!BBQ", first, mark | 127, size)
    return head + (bytes(4) if masked else b"") + payload


class RawWebSocket:
    """One connection; nothing is read unless the test says so. `replica` judges what was read."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.replica = Replica()
        self.head = b""
        self.unread = b""
        self.eof = False

    @classmethod
    async def connect(
        cls,
        gateway: GatewayProcess,
        token: str | None = None,
        *,
        path: str = "/ws",
        receive_buffer: int | None = None,
        headers: str = "",
        host: str | None = None,
    ) -> RawWebSocket:
        """Connect and shake hands. `receive_buffer` (bytes) is the kernel's. Raises ConnectionError when refused."""
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        raw = cls(sock)
        try:
            await loop.sock_connect(sock, ("127.0.0.1", gateway.port))
            if token is not None:
                headers += f"Authorization: Bearer {token}\r\n"
            await raw.send(handshake(gateway, path, headers, host=host))
            raw.head = await raw.read_until(b"\r\n\r\n")
            if b" 101 " not in raw.head.partition(b"\r\n")[0]:
                raise ConnectionError(raw.head.decode("latin-1"))
            raw._took(b"")
        except BaseException:
            sock.close()
            raise
        return raw

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def send_message(self, **message: Any) -> None:
        await self.send(frame(TEXT, json.dumps(message).encode()))

    async def read_some(self, most: int = 65536, timeout_s: float = 10.0) -> int:
        """Read what is there and show whole messages to the replica; how many bytes, 0 at the end."""
        return self._took(await self._receive(most, timeout_s))

    def read_now(self, most: int = 65536) -> int:
        """As `read_some`, but only what is there already."""
        try:
            data = self.sock.recv(most)
        except BlockingIOError:
            return 0
        self.eof = not data
        return self._took(data)

    async def read_to_end(self, timeout_s: float = 10.0) -> None:
        """Read until the server has closed or cut the connection."""
        async with asyncio.timeout(timeout_s):
            while await self.read_some():
                pass

    async def read_frame(self, timeout_s: float = 10.0) -> Frame | None:
        """The next frame; None at the end of the stream."""
        while (found := self._take_frame()) is None:
            data = await self._receive(65536, timeout_s)
            if not data:
                return None
            self.unread += data
        self._show(found)
        return found

    async def read_until(self, mark: bytes, timeout_s: float = 10.0) -> bytes:
        while mark not in self.unread:
            data = await self._receive(65536, timeout_s)
            if not data:
                raise ConnectionError(f"the server closed: {self.unread!r}")
            self.unread += data
        head, self.unread = self.unread.split(mark, 1)
        return head

    def was_cut(self) -> bool:
        """Whether the server has ended the connection, seen without reading."""
        poll = select.poll()
        poll.register(self.sock, select.POLLRDHUP)
        return bool(poll.poll(0))

    def close(self) -> None:
        self.sock.close()

    async def _receive(self, most: int, timeout_s: float) -> bytes:
        if self.eof:
            return b""
        try:
            async with asyncio.timeout(timeout_s):
                data = await asyncio.get_running_loop().sock_recv(self.sock, most)
        except ConnectionResetError:
            data = b""
        self.eof = not data
        return data

    def _took(self, data: bytes) -> int:
        self.unread += data
        while (found := self._take_frame()) is not None:
            self._show(found)
        return len(data)

    def _take_frame(self) -> Frame | None:
        data = self.unread
        if len(data) < 2:
            return None
        assert data[0] & 0x70 == 0, "reserved bits"
        assert not data[1] & 0x80, "a mask from the server"
        size, start = data[1], 2
        if size == 126:
            if len(data) < 4:
                return None
            (size,), start = struct.unpack("!H", data[2:4]), 4
        elif size == 127:
            if len(data) < 10:
                return None
            (size,), start = struct.unpack("!Q", data[2:10]), 10
        if len(data) < start + size:
            return None
        self.unread = data[start + size :]
        return Frame(data[0] & 0x0F, data[start : start + size])

    def _show(self, found: Frame) -> None:
        if found.opcode == TEXT:
            self.replica.take(json.loads(found.payload))
        elif found.opcode == CLOSE:
            self.replica.closed(struct.unpack("!H", found.payload[:2])[0])


def handshake(gateway: GatewayProcess, path: str = "/ws", headers: str = "", *, host: str | None = None) -> bytes:
    """The request of a WebSocket handshake (RFC 6455 §4.1); `host` in place of the gateway's address."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host or gateway.address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    ).encode("latin-1")


def handshake_answer(gateway: GatewayProcess, headers: str, path: str = "/ws") -> int:
    """The status that a handshake is answered with."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as opened:
        opened.sendall(handshake(gateway, path, headers))
        return int(opened.recv(65_536).split(b" ", 2)[1])
