"""A request as a server hands it to the application: for clients that leave in the middle."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

Json = dict[str, Any]


class LeavingClient:
    """Makes one request of an ASGI application, and leaves when it is told to.

    `path` with its query; `body` is sent as JSON (None: none).
    """

    def __init__(self, app: Any, method: str, path: str, headers: dict[str, str], body: Any = None) -> None:
        self._app = app
        self._messages: asyncio.Queue[Json] = asyncio.Queue()
        self.sent: list[Json] = []
        content = b"" if body is None else msgspec.json.encode(body)
        self._messages.put_nowait({"type": "http.request", "body": content, "more_body": False})
        plain, _, query = path.partition("?")
        given = {
            "host": "testserver",
            "content-type": "application/json",
            "content-length": str(len(content)),
            **headers,
        }
        self._scope = {
            **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http"},
            **{"path": plain, "raw_path": plain.encode(), "query_string": query.encode(), "root_path": ""},
            "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
            **{"client": ("127.0.0.1", 50_000), "server": ("testserver", 80)},
        }

    async def ask(self) -> None:
        """Until the application has done with it."""
        await self._app(self._scope, self._messages.get, self._send)

    def leave(self) -> None:
        """The connection is gone."""
        self._messages.put_nowait({"type": "http.disconnect"})

    @property
    def status(self) -> int:
        """Of the answer, whether or not anybody is there to read it."""
        status: int = self.sent[0]["status"]
        return status

    async def _send(self, message: Json) -> None:
        self.sent.append(message)
