"""One WebSocket, from the handshake to its end: what happens on it becomes events."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import deque
from collections.abc import Callable, Coroutine
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.http11 import Response
from websockets.typing import Subprotocol

from client_sdk.events import Close, Connect, Event, Lost, Opened, Received, Refused
from client_sdk.reconnect import CLOCK_OFF
from client_sdk.wire import Frame, parse_problem, wait_of

T = TypeVar("T")

# At level DEBUG the library logs every header of the handshake: the token among them.
_silenced = logging.getLogger("client_sdk.websocket")
_silenced.setLevel(logging.INFO)


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where to connect and how. `proxy`: True means what the environment says. `max_message_bytes` bounds what one
    message from the gateway may take, `close_timeout_s` how long a goodbye may. `sign` gives the header fields that
    sign one handshake: of a key's id, and the address that is asked for. `clock_off` says, of the Date of a refusal,
    how the clock here is off where that may be why.
    """

    url: str
    subprotocol: str
    ssl: ssl.SSLContext | None = None
    proxy: str | Literal[True] | None = True
    user_agent: str
    max_message_bytes: int
    close_timeout_s: float
    sign: Callable[[str, str], dict[str, str]] | None = None
    clock_off: Callable[[str | None], str | None] = lambda date: None


class Connection:
    """One socket. `run` feeds what happens into `feed`; `send` and `close` never wait."""

    def __init__(self, endpoint: Endpoint, feed: Callable[[Connection, Event], None]) -> None:
        self._endpoint = endpoint
        self._feed = feed
        self._outbox: deque[Frame] = deque()
        self._filled = asyncio.Event()
        self._goodbye: asyncio.Future[Close] = asyncio.get_running_loop().create_future()

    def send(self, frame: Frame) -> None:
        """Send a frame when the socket can take it."""
        self._outbox.append(frame)
        self._filled.set()

    def close(self, close: Close) -> None:
        """Close the socket, or stop making one; `run` returns soon."""
        if not self._goodbye.done():
            self._goodbye.set_result(close)

    async def run(self, request: Connect) -> None:
        """Connect, read until the end, and close."""
        try:
            socket = await self._unless_closed(self._dial(request))
        except InvalidStatus as exc:
            self._feed(self, _refusal(exc.response, self._endpoint.clock_off))
            return
        except (OSError, WebSocketException, ValueError) as exc:
            self._feed(self, Lost(None, f"{type(exc).__name__}: {exc}"))
            return
        if socket is None:
            return
        writer = asyncio.ensure_future(self._write(socket))
        try:
            self._feed(self, Opened(socket.subprotocol))
            await self._unless_closed(self._read(socket))
        finally:
            writer.cancel()
            await self._say_goodbye(socket)

    async def _unless_closed(self, work: Coroutine[Any, Any, T]) -> T | None:
        """The result of `work`, or None when `close` was called first."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, self._goodbye), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))
        return None if task.cancelled() else task.result()

    async def _dial(self, request: Connect) -> ClientConnection:
        endpoint = self._endpoint
        url = endpoint.url
        if request.watch:
            query = urlencode([("watch", entry) for entry in request.watch], safe=":@", quote_via=quote)
            url += ("&" if "?" in url else "?") + query
        return await connect(
            url,
            subprotocols=[Subprotocol(endpoint.subprotocol)],
            additional_headers=self._credential(request.token, url),
            user_agent_header=endpoint.user_agent,
            compression=None,  # the gateway never negotiates it
            proxy=endpoint.proxy,
            open_timeout=None,  # the session watches the time
            ping_interval=None,  # likewise
            close_timeout=endpoint.close_timeout_s,
            max_size=endpoint.max_message_bytes,
            logger=_silenced,
            ssl=endpoint.ssl or (True if url.startswith("wss:") else None),
        )

    def _credential(self, token: str | None, url: str) -> dict[str, str]:
        if token is None:
            return {}
        return {"Authorization": f"Bearer {token}"} if self._endpoint.sign is None else self._endpoint.sign(token, url)

    async def _read(self, socket: ClientConnection) -> None:
        try:
            while not self._goodbye.done():
                self._feed(self, Received(await socket.recv()))
        except ConnectionClosed as exc:
            close = exc.rcvd
            self._feed(self, Lost(None, "") if close is None else Lost(close.code, close.reason))

    async def _write(self, socket: ClientConnection) -> None:
        try:
            while True:
                while self._outbox:
                    await socket.send(self._outbox.popleft())
                self._filled.clear()
                await self._filled.wait()
        except ConnectionClosed:
            pass  # the reader finds out too, and says so

    async def _say_goodbye(self, socket: ClientConnection) -> None:
        close = self._goodbye.result() if self._goodbye.done() else Close(1000, "")
        try:
            async with asyncio.timeout(self._endpoint.close_timeout_s):
                await socket.close(close.code, close.reason)
        except TimeoutError:
            socket.transport.abort()


def _refusal(response: Response, clock_off: Callable[[str | None], str | None]) -> Refused:
    problem = parse_problem(bytes(response.body or b""))
    if response.status_code == 401 and (why := clock_off(response.headers.get("Date"))) is not None:
        problem = msgspec.structs.replace(problem, code=CLOCK_OFF, detail=f"{problem.detail} {why}".strip())
    wait_s = wait_of(problem, parse_retry_after(response.headers.get("Retry-After")))
    return Refused(response.status_code, problem, wait_s)


def parse_retry_after(text: str | None, now: Callable[[], float] = time.time) -> float | None:
    """Seconds of a Retry-After field (RFC 9110 §10.2.3): a number, or a date as seen from `now` (Unix time)."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now())
    except ValueError:
        return None
