"""Streams to a libSQL server over HTTP: Hrana 3 pipelines, one request for each batch, kept together by a baton."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from gateway.errors import StoreError, StoreUnavailable
from gateway.store.hrana import Answer, Request, decode_answer, encode_pipeline, outcomes
from gateway.store.stream import Outcome, Step, TimedOut, Unanswered, not_text

CONNECTIONS = 16
"""Requests at once: a server answers a few hundred at the most and holds 128 streams."""

LONG_BODY = 2**20
"""Bytes; aiohttp sends longer ones in pieces, and complains of them when they come as one."""

CONNECT_TIMEOUT_S = 3.0
CLOSE_TIMEOUT_S = 2.0
BATON_LIFE_S = 8.0
"""A server forgets a stream that was idle for 10 s."""

SILENCE_S = 40.0
"""The stream of changes says something every 15 s, if only a comment."""

_REFUSALS = {
    401: "the token is missing, bad or expired",
    403: "the token does not allow it",
    404: "there is no such database",
}


class NotOffered(StoreError):
    """The server has no stream of changes, or not for this token."""


class HttpServer:
    """A libSQL server by HTTP. `url` is ``http(s)://…`` without a slash at its end; `clock` gives seconds."""

    def __init__(self, url: str, token: str | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.url = url
        self.clock = clock
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # Cookies would only ever be a stranger's way to mark a node.
        self._session = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(limit=CONNECTIONS + 1),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
        )

    def stream(self) -> HttpStream:
        """A new stream."""
        return HttpStream(self)

    async def once(self, steps: Sequence[Step], *, timeout_s: float) -> list[Outcome]:
        """See `Server.once`: one request."""
        requests = [Request.batch(steps), Request.CLOSE]
        results = (await self.pipeline(self.url, None, requests, timeout_s)).results
        if not results:
            raise Unanswered("the server did not answer every request")
        return outcomes(results[0], len(steps))

    async def pipeline(
        self, url: str, baton: str | None, requests: Sequence[dict[str, Any]], timeout_s: float
    ) -> Answer:
        """One pipeline. Raises as `Stream.batch` does."""
        if self._session.closed:
            raise StoreUnavailable("the database is closed")
        body = encode_pipeline(baton, requests)
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(CONNECT_TIMEOUT_S, timeout_s))
        try:
            async with self._session.post(
                f"{url}/v3/pipeline",
                data=io.BytesIO(body) if len(body) > LONG_BODY else body,
                headers={"Content-Type": "application/json"},
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                content = await response.read()
                status = response.status
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise StoreUnavailable(f"{self.url} can not be reached: {_said(error)}") from error
        except TimeoutError as error:
            raise TimedOut(f"{self.url} did not answer within {timeout_s} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unanswered(f"{self.url} did not answer: {_said(error)}") from error
        if status == 500 and b"invalid utf-8" in content:
            raise not_text()
        if status != 200:
            raise self._refused(status, content)
        return decode_answer(content)

    @contextlib.asynccontextmanager
    async def changes(self, table: str) -> AsyncIterator[AsyncIterator[None]]:
        """The server's stream of commits that inserted into `table`: one item for each that was noticed.

        A doorbell: events may be lost or come twice. Raises `NotOffered`, and `StoreUnavailable` when the server can
        not be reached or the stream ends.
        """
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_S)
        query = {"table": table, "action": "insert"}
        try:
            async with self._session.get(
                f"{self.url}/beta/listen", params=query, timeout=timeout, allow_redirects=False
            ) as response:
                kind = response.headers.get("Content-Type", "")
                if response.status >= 500:
                    raise StoreUnavailable(f"{self.url}: the stream of changes answers {response.status}")
                if response.status in (307, 308):
                    raise NotOffered(f"{self.url} is a read replica ({response.status}): name its primary instead")
                if response.status != 200 or not kind.startswith("text/event-stream"):
                    raise NotOffered(f"{self.url} offers no stream of changes ({response.status})")
                yield _events(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise StoreUnavailable(f"{self.url}: the stream of changes broke off: {_said(error)}") from error

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    def _refused(self, status: int, content: bytes) -> StoreError:
        said = content[:200].decode(errors="replace").strip()
        if status in _REFUSALS:
            return StoreUnavailable(f"{self.url}: {_REFUSALS[status]} ({status})")
        # Behind a 5xx stands a server that may go on with what it was asked, or a proxy that knows nothing of it.
        kind = Unanswered if status >= 500 else StoreUnavailable
        return kind(f"{self.url} answers {status}: {said}")


class HttpStream:
    """One stream: its first batch opens it, each answer carries the baton for the next."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._baton: str | None = None
        self._url = server.url
        self._used_at = 0.0
        self.broken = False

    @property
    def expired(self) -> bool:
        """Whether the server may have forgotten the stream: it was idle for too long."""
        return self._baton is not None and self._server.clock() - self._used_at > BATON_LIFE_S

    async def batch(self, steps: Sequence[Step], *, timeout_s: float) -> list[Outcome]:
        """See `Stream.batch`."""
        [result] = (await self._run([Request.batch(steps)], timeout_s)).results
        try:
            return outcomes(result, len(steps))
        except StoreError as error:
            await self.close()  # a batch that was refused may have begun a transaction
            if isinstance(error, StoreUnavailable):
                raise Unanswered(str(error)) from error
            raise

    async def close(self) -> None:
        """See `Stream.close`."""
        baton, self._baton, self.broken = self._baton, None, True
        if baton is not None:
            with contextlib.suppress(StoreError):
                await self._server.pipeline(self._url, baton, [Request.CLOSE], CLOSE_TIMEOUT_S)

    async def _run(self, requests: list[dict[str, Any]], timeout_s: float) -> Answer:
        if self.broken:
            raise StoreUnavailable(f"{self._server.url}: the stream has ended")
        try:
            answer = await self._server.pipeline(self._url, self._baton, requests, timeout_s)
            if len(answer.results) != len(requests):
                raise Unanswered("the server did not answer every request")
        except BaseException:  # cancelled: nobody knows what the server did
            self.broken = True
            raise
        self._baton = answer.baton
        self.broken = answer.baton is None
        if answer.base_url and _same_host(answer.base_url, self._server.url):
            self._url = answer.base_url.rstrip("/")
        self._used_at = self._server.clock()
        return answer


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[None]:
    """One item for whatever came together, comments apart (server-sent events, WHATWG HTML §9.2)."""
    async for piece in response.content.iter_any():
        if not piece.startswith(b":") or b"data:" in piece:
            yield None


def _same_host(moved: str, own: str) -> bool:
    """Whether an address to which the server sends us may be told the token."""
    there, here = urlsplit(moved), urlsplit(own)
    return (there.scheme, there.hostname) == (here.scheme, here.hostname)


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
