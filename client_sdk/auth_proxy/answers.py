"""What an `AuthProxy` answers itself, over HTTP and on a socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from client_sdk.auth_proxy.decision import Decision, Reason

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Problem = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, header fields and body of a refusal."""

# Those of the gateway's own channel, so that one table serves the clients of both.
CLOSE_CODES = {Reason.REVOKED: 4500, Reason.EXPIRED: 4100, Reason.INVALID: 4102, Reason.NO_TOKEN: 4102}
TRY_AGAIN = 1013
FORBIDDEN = 4505
CLOSE_REASONS = {4500: "revoked", 4100: "token_expired", 4102: "auth_failed", FORBIDDEN: "forbidden"}
"""What a socket is closed with besides, as by the channel: the code of the end."""
RETRY_AFTER_S = 1

_DETAILS = {
    Reason.NO_TOKEN: "A token is needed.",
    Reason.INVALID: "The token is not valid.",
    Reason.EXPIRED: "The token is not valid.",
    Reason.REVOKED: "The token is not valid.",
    Reason.UNAVAILABLE: "Who you are can not be found out now.",
}


def close_code(decision: Decision) -> int:
    """The code with which a socket is closed that this decision would not let in."""
    return TRY_AGAIN if decision.reason is None else CLOSE_CODES.get(decision.reason, TRY_AGAIN)


def close_reason(decision: Decision) -> str:
    """The word that goes with that code."""
    return CLOSE_REASONS.get(close_code(decision), "unavailable")


def problem(status: int, code: str, title: str, detail: str) -> Problem:
    """Status, header fields and body of a refusal (RFC 9457)."""
    body = msgspec.json.encode(
        {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    )
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    return status, headers, body


def refusal(decision: Decision) -> Problem:
    """How a request is refused: 401, or 503 when the gateway would have to be asked. Why a token is not good is
    nobody's business.
    """
    assert decision.reason is not None
    detail = _DETAILS[decision.reason]
    if decision.status == 503:
        status, headers, body = problem(503, "unavailable", "Service Unavailable", detail)
        return status, [*headers, (b"retry-after", str(RETRY_AFTER_S).encode())], body
    status, headers, body = problem(401, "auth_failed", "Unauthorized", detail)
    # RFC 6750 §3: without a token no error is named.
    challenge = b"Bearer" if decision.reason is Reason.NO_TOKEN else b'Bearer error="invalid_token"'
    return status, [*headers, (b"www-authenticate", challenge)], body


def forbidden(detail: str) -> Problem:
    """How a request of somebody who is known, or need not be, is refused."""
    return problem(403, "forbidden", "Forbidden", detail)


async def answer_http(send: Send, answer: Problem) -> None:
    """Answer a request."""
    status, headers, body = answer
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def refuse_socket(scope: Scope, send: Send, answer: Problem, code: int) -> None:
    """Refuse a handshake: with an HTTP answer where the server can, else by closing."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": code})
        return
    status, headers, body = answer
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


class Ended(OSError):
    """The socket was closed because its user's token is not good any more; an application may send nothing on it."""


class GuardedSocket:
    """The `receive` and `send` of a socket that may be closed from outside, at any moment."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._ending: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._reading: asyncio.Future[Message] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._closed = False

    def end(self, code: int, reason: str) -> None:
        """Close it now; the application is told that it was disconnected."""
        if not self._ending.done():
            self._ending.set_result((code, reason))
            self._closing = asyncio.ensure_future(self._close(code, reason))

    async def _close(self, code: int, reason: str) -> None:
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError, RuntimeError):  # it closed by itself meanwhile
            await self._send({"type": "websocket.close", "code": code, "reason": reason})

    async def receive(self) -> Message:
        """As the server's, or that the socket was closed."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._receive())
        if not self._ending.done():
            await asyncio.wait((self._reading, self._ending), return_when=asyncio.FIRST_COMPLETED)
        if self._ending.done():
            code, reason = self._ending.result()
            return {"type": "websocket.disconnect", "code": code, "reason": reason}
        reading, self._reading = self._reading, None
        return reading.result()

    async def send(self, message: Message) -> None:
        """As the server's; `Ended` once the socket was closed from outside."""
        if self._ending.done():
            if message["type"] == "websocket.close":
                return
            raise Ended("The socket was closed: its user's token is not good any more.")
        if message["type"] == "websocket.close":
            self._closed = True
        await self._send(message)

    async def finish(self) -> None:
        """The application is done with it."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait((self._reading,))
        if self._closing is not None:
            await self._closing
