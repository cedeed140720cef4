"""Streams to a libSQL server over WebSocket: Hrana 3, all of them on one socket.

Of the package libsql-client its connection alone is used (`libsql_client.hrana.conn.HranaConn`: handshake, framing, and
which answer belongs to which request). Its `Client` has no time limits, no conditions but its own, and other values and
errors than the other transport. The package is archived and this is its last version, so what lies inside it does not
move. Where its connection is not enough:

* it offers ``hrana2``, and a server closes a Hrana 2 socket that asks ``is_autocommit``; ``hrana3`` has the same
  messages and that condition too;
* it takes replies of 4 MiB, and dies of a longer one;
* a refused token counts as a connection until the socket is closed;
* it follows redirects, and would tell the token to wherever they lead;
* a future of its that was cancelled makes it fail: none is, they are waited for from outside.

The package imports `sqlite3` and opens nothing with it here; it is imported for addresses that need it alone.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
from collections.abc import Sequence
from typing import Any

import aiohttp
from libsql_client import LibsqlError
from libsql_client.hrana.conn import HranaConn

from gateway.errors import StoreError, StoreUnavailable
from gateway.store.hrana import Request, decoded_outcomes, refusal
from gateway.store.http_streams import HttpServer
from gateway.store.stream import Outcome, Step, TimedOut, Unanswered

CONNECT_TIMEOUT_S = 3.0
CLOSE_TIMEOUT_S = 2.0
HEARTBEAT_S = 20.0
"""A wire that is cut in silence is noticed after one and a half of it."""

REPLY_LIMIT = 64 * 1024 * 1024
"""Bytes. A server sends 10 MB of values at the most, each character of which may be six of JSON."""

REQUEST_LIMIT = 16 * 1024 * 1024 - 1024
"""Bytes. A server closes the socket of a longer message that comes in one frame, and aiohttp sends it so."""

_LONGEST_ESCAPE = 12
"""Bytes of JSON for one character."""

_PROTOCOL = "hrana3"


class WsServer:
    """A libSQL server by WebSocket. `url` is ``ws(s)://…``.

    There is one socket, made when a stream needs it. One on which a call was not answered in time gets no new streams,
    and is closed as soon as nothing waits on it; so is one on which a ping, every `heartbeat_s` seconds of silence, is
    not answered within half of that.

    A server closes the socket without a word when it can not encode an answer. With `only_reads`, who was asking then
    asks by HTTP why: what reads may be asked twice.
    """

    def __init__(
        self, url: str, token: str | None, *, only_reads: bool = False, heartbeat_s: float = HEARTBEAT_S
    ) -> None:
        self.url = url
        self.only_reads = only_reads
        self.heartbeat_s = heartbeat_s
        self.read_only = _is_read_only(token)
        """A server closes the socket when a token that may only read asks to write; so it is not asked."""
        self._token = token
        self._line: _Line | None = None
        self._lines: set[_Line] = set()
        self._http: HttpServer | None = None
        self._closed = False

    def stream(self) -> WsStream:
        """A new stream."""
        return WsStream(self)

    async def line(self, timeout_s: float) -> _Line:
        """The socket for new streams, connected. Raises `StoreUnavailable`: nothing was asked then."""
        if self._closed:
            raise StoreUnavailable("the database is closed")
        if self._line is None or not self._line.usable:
            if self._line is not None:
                self._line.retire()
            self._line = _Line(self, self._token, self._lines)
        line = self._line
        await line.connected(min(CONNECT_TIMEOUT_S, timeout_s))
        return line

    async def once(self, steps: Sequence[Step], *, timeout_s: float) -> list[Outcome]:
        """See `Server.once`."""
        stream = self.stream()
        try:
            return await stream.batch(steps, timeout_s=timeout_s)
        finally:
            stream.broken = True  # says good-bye, and waits for no answer

    async def explain(self, steps: Sequence[Step], timeout_s: float) -> None:
        """Raise `UnicodeDecodeError` if that is why these steps, which only read, got no answer."""
        if self._closed:
            return
        if self._http is None:
            self._http = HttpServer("http" + self.url.removeprefix("ws"), self._token)
        stream = self._http.stream()
        try:
            with contextlib.suppress(StoreError, TimeoutError):
                async with asyncio.timeout(timeout_s):
                    if steps[0].sql != "BEGIN":
                        await stream.batch([Step("BEGIN")], timeout_s=timeout_s)
                    await stream.batch(steps, timeout_s=timeout_s)
        finally:
            await stream.close()

    async def close(self) -> None:
        """Close every socket."""
        self._closed = True
        if self._http is not None:
            await self._http.close()
        await asyncio.gather(*(line.close() for line in list(self._lines)))


class WsStream:
    """One stream: its first batch opens it."""

    def __init__(self, server: WsServer) -> None:
        self._server = server
        self._line: _Line | None = None
        self._id: int | None = None
        self._broken = False

    @property
    def broken(self) -> bool:
        """Whether another stream has to be used."""
        return self._broken or (self._line is not None and not self._line.usable)

    @broken.setter
    def broken(self, value: bool) -> None:
        self._broken = value
        if value:
            self._end()

    @property
    def expired(self) -> bool:
        """Never by idleness: a stream lives as long as its socket."""
        return self.broken

    async def batch(self, steps: Sequence[Step], *, timeout_s: float) -> list[Outcome]:
        """See `Stream.batch`."""
        if self._server.read_only and steps and steps[0].sql == "BEGIN IMMEDIATE":
            raise StoreUnavailable(f"{self._server.url}: the token does not allow it")
        request = Request.batch(steps)
        _check_length(steps, request)
        left_s = await self._open(timeout_s)
        try:
            response = await self._ask(request, left_s)
            return decoded_outcomes(response.get("result"), len(steps))
        except StoreError as error:
            self.broken = True
            if isinstance(error, Unanswered) and not isinstance(error, TimedOut) and self._server.only_reads:
                await self._server.explain(steps, left_s)
            if isinstance(error, StoreUnavailable) and not isinstance(error, Unanswered):
                raise Unanswered(str(error)) from error
            raise

    async def close(self) -> None:
        """See `Stream.close`."""
        self._broken = True
        closing = self._end()
        if closing is not None:
            await asyncio.wait([closing], timeout=CLOSE_TIMEOUT_S)

    async def _open(self, timeout_s: float) -> float:
        """Open the stream if it is new; how many of the seconds are left. Raises `StoreUnavailable`."""
        if self.broken:
            raise StoreUnavailable(f"{self._server.url}: the stream has ended")
        if self._line is not None:
            return timeout_s
        now = asyncio.get_running_loop().time
        deadline = now() + timeout_s
        line = await self._server.line(timeout_s)
        # Waited for: a batch on a stream that the server would not open ends the socket of all.
        self._id = await line.opened(deadline - now())
        self._line = line
        return deadline - now()

    async def _ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        assert self._line is not None
        try:
            return await self._line.ask({**request, "stream_id": self._id}, timeout_s)
        except (Unanswered, asyncio.CancelledError):  # nobody knows what the server did
            self.broken = True
            raise

    def _end(self) -> asyncio.Future[Any] | None:
        """Ask for the stream's end, once; its answer."""
        line, stream = self._line, self._id
        self._id = None
        return line.send({"type": "close_stream", "stream_id": stream}) if line and stream is not None else None


class _Line:
    """One socket, in `lines` until it is closed."""

    def __init__(self, server: WsServer, token: str | None, lines: set[_Line]) -> None:
        self._url = server.url
        self._lines = lines
        lines.add(self)
        self._session = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_without_redirects,),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        )
        self._connection = _Connection(self._session, server.url, token)
        self._connection.heartbeat_s = server.heartbeat_s
        self._ids = itertools.count()
        self._waiting = 0
        self._retired = False
        self._closing: asyncio.Task[None] | None = None

    @property
    def usable(self) -> bool:
        """Whether a stream on it may go on, and new ones may be opened."""
        return not self._retired and self._connection.exception is None

    async def connected(self, timeout_s: float) -> None:
        """Until the server accepted the token. Raises `StoreUnavailable`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._connection.wait_connected()
        except TimeoutError:
            self.retire()
            raise StoreUnavailable(f"{self._url} can not be reached: no answer within {timeout_s:.1f} s") from None
        except (LibsqlError, aiohttp.ClientError, OSError, ValueError) as error:
            self.retire()
            raise StoreUnavailable(_unreachable(self._url, error)) from error

    async def opened(self, timeout_s: float) -> int:
        """A new stream's id. Raises `StoreUnavailable`: nothing was done then."""
        stream = next(self._ids)
        try:
            await self.ask({"type": "open_stream", "stream_id": stream}, timeout_s)
        except StoreError as error:
            raise StoreUnavailable(str(error)) from error
        except asyncio.CancelledError:
            self.send({"type": "close_stream", "stream_id": stream})
            raise
        return stream

    async def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The response to a request. Raises `TimedOut`, `Unanswered`, or the server's refusal."""
        future = self.send(request)
        self._waiting += 1
        try:
            await asyncio.wait([future], timeout=max(0.0, timeout_s))
        finally:
            self._waiting -= 1
            if self._retired:
                self.retire()
        if not future.done():
            self.retire()
            raise TimedOut(f"{self._url} did not answer within {timeout_s:.1f} s")
        error = future.exception()
        if error is None:
            response: dict[str, Any] = future.result()
            return response
        if error is not self._connection.exception and isinstance(error, LibsqlError):
            raise refusal(error.code, error.explanation)
        self.retire()
        raise Unanswered(f"{self._url} did not answer: {_said(error)}") from error

    def send(self, request: dict[str, Any]) -> asyncio.Future[dict[str, Any]]:
        """Send a request; its response, which must not be cancelled."""
        future: asyncio.Future[dict[str, Any]] = self._connection.send_request(request)
        future.add_done_callback(_heard)
        return future

    def retire(self) -> None:
        """Open no more streams; close it when nobody waits for an answer."""
        self._retired = True
        if self._closing is None and not (self._waiting and self._connection.exception is None):
            self._closing = asyncio.create_task(self._close())

    async def close(self) -> None:
        """Close it now."""
        self._retired = True
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._connection.close()
        await self._session.close()
        await self._connection.ended()
        self._lines.discard(self)


class _Connection(HranaConn):  # type: ignore[misc]  # the package has no types
    """The package's connection, with Hrana 3, long replies and an eye for its failures."""

    heartbeat_s = HEARTBEAT_S

    async def _do_connect(self, session: aiohttp.ClientSession, url: str) -> aiohttp.ClientWebSocketResponse:
        socket = await session.ws_connect(
            url,
            protocols=[_PROTOCOL],
            autoclose=False,
            heartbeat=self.heartbeat_s,
            max_msg_size=REPLY_LIMIT,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
        )
        if socket.protocol != _PROTOCOL:
            await socket.close()
            raise LibsqlError(f"the server does not speak {_PROTOCOL}", "PROTOCOL_NOT_SUPPORTED")
        return socket

    def _receive(self, text: str) -> None:
        try:
            super()._receive(text)
        except Exception as error:  # who waits for the handshake is told now, not when the socket is closed
            self._set_exception(error)
            raise

    async def ended(self) -> None:
        """Until its tasks have ended, when it is closed."""
        tasks = (self._connect_task, self._receive_task, self._send_task)
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)


async def _without_redirects(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    response = await handler(request)
    if 300 <= response.status < 400:
        response.close()
        raise aiohttp.ClientConnectionError(f"it answers {response.status}")
    return response


def _heard(future: asyncio.Future[Any]) -> None:
    """Whoever asked may have gone: a failure that nobody waits for is not to be reported."""
    if not future.cancelled():
        future.exception()


def _check_length(steps: Sequence[Step], request: dict[str, Any]) -> None:
    """Raise `StoreError` for what would end the socket of all."""
    rough = sum(len(value) for step in steps for value in (step.sql, *step.args) if isinstance(value, (str, bytes)))
    # The structure around the values is short; measuring is not, and hardly ever needed.
    if rough > REQUEST_LIMIT // _LONGEST_ESCAPE // 2 and len(json.dumps(request)) > REQUEST_LIMIT:
        raise StoreError(f"one request by WebSocket may have {REQUEST_LIMIT:,} bytes, and this one has more")


def _is_read_only(token: str | None) -> bool:
    """Whether a token (a JWT, RFC 7519) says of itself that it may only read (claim ``a``: ``ro``)."""
    try:
        payload = (token or "").split(".")[1]
        return bool(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))).get("a") == "ro")
    except (IndexError, ValueError, AttributeError):
        return False


def _unreachable(url: str, error: BaseException) -> str:
    if isinstance(error, LibsqlError) and str(error.code).startswith("AUTH_"):
        return f"{url}: the token is missing, bad or expired ({error.explanation})"
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return f"{url} answers {error.status} where a WebSocket should be"
    return f"{url} can not be reached: {_said(error)}"


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
