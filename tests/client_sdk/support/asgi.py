"""Requests to an ASGI application in process, and sockets of it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec


class Answer:
    """Status, header fields in lower case, body."""

    def __init__(self, start: Any, body: bytes) -> None:
        self.status = start["status"]
        self.headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        self.body = body

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


def fields(token: str | None, more: dict[str, str]) -> list[tuple[bytes, bytes]]:
    given = dict(more) if token is None else {"Authorization": f"Bearer {token}", **more}
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in given.items()]


async def request(app: Any, token: str | None = None, path: str = "/", **headers: str) -> Answer:
    """One GET."""
    named = {name.replace("__", "-"): value for name, value in headers.items()}
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": fields(token, named)}
    return await request_of(app, scope)


async def request_of(app: Any, scope: dict[str, Any]) -> Answer:
    """The request with this scope."""
    messages: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        messages.append(message)

    await app(scope, receive, send)
    return Answer(messages[0], b"".join(message.get("body", b"") for message in messages[1:]))


class Socket:
    """A client's end: `say`, `hear`, and `closed` with the code."""

    def __init__(self, app: Any, token: str | None, path: str = "/", extensions: dict[str, Any] | None = None) -> None:
        scope = {
            "type": "websocket",
            "path": path,
            "query_string": b"",
            "headers": fields(token, {}),
            "extensions": extensions or {},
        }
        self._in: asyncio.Queue[Any] = asyncio.Queue()
        self._out: asyncio.Queue[Any] = asyncio.Queue()
        self._in.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.ensure_future(app(scope, self._in.get, self._out.put))

    def say(self, text: str) -> None:
        self._in.put_nowait({"type": "websocket.receive", "text": text})

    async def message(self, timeout_s: float = 5.0) -> Any:
        async with asyncio.timeout(timeout_s):
            return await self._out.get()

    async def hear(self) -> str:
        while (message := await self.message())["type"] != "websocket.send":
            assert message["type"] == "websocket.accept", message
        return str(message["text"])

    async def closed(self, timeout_s: float = 5.0) -> int:
        """The code with which the application's side closed it, when the application has ended."""
        return (await self.close_frame(timeout_s))[0]

    async def close_frame(self, timeout_s: float = 5.0) -> tuple[int, str]:
        """The same, with the reason."""
        while (message := await self.message(timeout_s))["type"] != "websocket.close":
            pass
        await self.task
        return int(message["code"]), str(message.get("reason", ""))

    async def leave(self) -> None:
        self._in.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await self.task
