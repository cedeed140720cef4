"""Requests to the gateway over a few connections that stay open: no more than the benchmark needs of HTTP/1.1 (RFC
9112), so that the client's part of the CPU time is small.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

HOST = "127.0.0.1"
SOURCES = 8
"""Loopback addresses that connections come from, in turn: the gateway counts by address."""
OK = 200
UNAVAILABLE = 503
ANSWER_S = 30.0
PATIENCE_S = 120.0
"""How long a request that is refused is tried again, in seconds."""
LEAST_WAIT_S = 0.1

_sources = itertools.count()


class Answer(NamedTuple):
    """What a request came to; `retry_after_s` is 0 without such a field."""

    status: int
    retry_after_s: float
    body: bytes

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class HttpClient:
    """`connections` connections to the nodes at `ports`, in turn; a request that finds none free waits for one."""

    def __init__(self, ports: Sequence[int], connections: int) -> None:
        self._all = [_Connection(ports[place % len(ports)]) for place in range(connections)]
        self._free: asyncio.Queue[_Connection] = asyncio.Queue()
        for connection in self._all:
            self._free.put_nowait(connection)

    async def post(self, path: str, body: Mapping[str, Any], token: str = "") -> Answer:
        """Send `body` as JSON. Raises OSError and EOFError when the gateway can not be reached, TimeoutError."""
        content = json.dumps(body).encode()
        fields = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        return await self._ask(_head("POST", path, token, fields) + content)

    async def get(self, path: str, token: str = "") -> Answer:
        """Ask for something. Raises what `post` raises."""
        return await self._ask(_head("GET", path, token))

    async def _ask(self, request: bytes) -> Answer:
        connection = await self._free.get()
        try:
            async with asyncio.timeout(ANSWER_S):
                return await connection.ask(request)
        except BaseException:
            connection.drop()  # an answer that comes later must not be taken for the next one's
            raise
        finally:
            self._free.put_nowait(connection)

    async def served(self, path: str, body: Mapping[str, Any]) -> tuple[Answer, int]:
        """Send `body` as often as the gateway answers 503, waiting each time as long as it says; the last answer, and
        how many were refusals. After `PATIENCE_S` a refusal is the answer.
        """
        deadline = time.monotonic() + PATIENCE_S
        answer, refused = await self.post(path, body), 0
        while answer.status == UNAVAILABLE and time.monotonic() + answer.retry_after_s < deadline:
            await asyncio.sleep(max(LEAST_WAIT_S, answer.retry_after_s))
            answer, refused = await self.post(path, body), refused + 1
        return answer, refused

    def close(self) -> None:
        """Close all connections."""
        for connection in self._all:
            connection.drop()


def _head(method: str, path: str, token: str, fields: str = "") -> bytes:
    shown = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{shown}{fields}\r\n".encode()


class _Connection:
    """One connection, made when it is needed: a server closes those that rest."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._source = f"127.0.0.{2 + next(_sources) % SOURCES}"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> Answer:
        if self._streams is not None and not self._streams[0].at_eof():
            # It may have been closed just now: then nothing was answered, and the request is sent once more.
            with suppress(ConnectionError, EOFError):
                return await self._exchange(*self._streams, request)
        self.drop()
        self._streams = await asyncio.open_connection(HOST, self._port, local_addr=(self._source, 0))
        return await self._exchange(*self._streams, request)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Answer:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(fields["content-length"]))
        if fields.get("connection", "").lower() == "close":
            self.drop()
        return Answer(int(status.split(" ")[1]), float(fields.get("retry-after", 0)), body)

    def drop(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None
