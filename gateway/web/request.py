"""uvicorn's HTTP protocol with bounds on the head of a request, for which uvicorn itself waits without end."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 65_536
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)([^#]*)")


class RequestProtocol(HttpToolsProtocol):
    """One HTTP connection, until it is closed or becomes a WebSocket.

    `head_timeout_s`: seconds from the connection, or from the first byte after an answer, to the end of a head.
    """

    def __init__(self, *arguments: Any, head_timeout_s: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_timeout_s = head_timeout_s
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The clock for the first request runs."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request, of a body, or of what is none of both."""
        if self._head_timer is None and self.cycle is not None and self.cycle.response_complete:
            self._await_head()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._head_came()
        self._take_target()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more will come."""
        self._head_came()
        super().connection_lost(exc)

    def _take_target(self) -> None:
        """A target in absolute form says which host is asked, and what ``Host`` says does not count (RFC 9112 §3.2.2).
        So nothing is decided, and no signature verified, by another host than the one that was asked.
        """
        absolute = _ABSOLUTE.match(self.url)
        if absolute is None:
            return
        host, path = absolute.groups()
        self.url = path if path.startswith(b"/") else b"/" + path
        self.headers[:] = [(b"host", host), *(field for field in self.headers if field[0] != b"host")]

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self._head_timeout_s, self._head_is_late)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        if self._head_bytes:
            self._refuse(b"408 Request Timeout")
        else:
            self._head_came()
            self.transport.close()

    def _refuse(self, status: bytes) -> None:
        self._head_came()
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self.transport.close()
