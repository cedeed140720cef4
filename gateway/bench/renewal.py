"""Sessions whose access tokens are renewed while they live: the load generator's part of ``gateway bench renew``."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from picows import WSMsgType, WSTransport

from gateway.bench.client import Client, Recording
from gateway.bench.http_client import OK, HttpClient
from gateway.bench.obey import progress
from gateway.bench.population import read_tokens

REFRESH = "/auth/refresh"
CONNECTIONS = 16
"""Connections that refresh tokens are exchanged on, for each load generator."""
READY_S = 30.0
"""How long the answer to a renewal may take, in seconds."""

_READY = b'{"op":"ready"'
_ERROR = b'{"op":"error"'
_SESSION = b'"session":"'
_EXPIRES_AT = b'"expires_at":"'


class RenewableClient(Client):
    """A session that can be given a new access token; `renewed_at` is monotonic ns of the last renewal's `ready`."""

    renewed_at = 0
    _session = _expires_at = b""
    _waiter: asyncio.Future[None] | None = None

    async def renew(self, token: str) -> bool:
        """Show a new access token on the live connection. False, with a fault noted, when the session was not renewed
        by it.
        """
        if self.transport is None or self.closed_at:
            return False  # the loss was noted when it happened
        before = self.renewed_at
        self._waiter = asyncio.get_running_loop().create_future()
        self.transport.send(WSMsgType.TEXT, msgspec.json.encode({"op": "auth", "token": token}))
        try:
            await asyncio.wait_for(self._waiter, READY_S)
        except TimeoutError:
            self.recording.fault("renewals were not answered")
        finally:
            self._waiter = None
        return self.renewed_at > before

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Note that the connection is closed."""
        super().on_ws_disconnected(transport)
        self._answered()

    def _on_text(self, payload: bytes, now: int) -> None:
        super()._on_text(payload, now)
        if payload.startswith(_READY):
            self._on_ready(payload, now)
        elif payload.startswith(_ERROR):
            self._answered()

    def _on_ready(self, payload: bytes, now: int) -> None:
        session, expires_at = _text_after(_SESSION, payload), _text_after(_EXPIRES_AT, payload)
        if self._waiter is None:
            self._session = session
        elif session != self._session:
            self.recording.fault("renewals made another session")
        elif expires_at <= self._expires_at:  # RFC 3339, UTC: in the order of time
            self.recording.fault("renewals did not move the session's end")
        else:
            self.renewed_at = now
        self._expires_at = expires_at
        self._answered()

    def _answered(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Renewals:
    """The refresh tokens of some users and what they are exchanged for. `recording` takes the faults."""

    def __init__(self, ports: Sequence[int], refresh_tokens: Path, recording: Recording) -> None:
        self._http = HttpClient(ports, CONNECTIONS)
        self._refresh_tokens = read_tokens(refresh_tokens)
        self._recording = recording
        self._exchanged = 0
        self.refused = 0
        """Exchanges that were answered 503, and made later."""

    async def exchange(self, indexes: Sequence[int], keep: Callable[[int, str], None]) -> None:
        """Exchange the refresh token of each user once, as fast as may be, and `keep` the access tokens. Raises
        RuntimeError where there is none.
        """
        waiting = iter(indexes)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(CONNECTIONS, len(indexes))):
                group.create_task(self._exchange_each(waiting, keep))

    async def spread(
        self, clients: Mapping[int, RenewableClient], indexes: Sequence[int], seconds: float
    ) -> list[array[int]]:
        """Renew the session of each user once, evenly spread over `seconds`. The columns of the renewals that came to
        pass: ns from when one was due to its access token, and to the session's `ready`.
        """
        columns = [array("q"), array("q")]
        started = time.monotonic_ns()
        async with asyncio.TaskGroup() as group:
            for position, index in enumerate(indexes):
                due = started + round(position * seconds * 1e9 / len(indexes))
                await asyncio.sleep(max(0.0, (due - time.monotonic_ns()) / 1e9))
                group.create_task(self._renew(clients[index], due, columns))
                if position % 100 == 0:
                    progress(position)
        return columns

    async def _exchange_each(self, waiting: Iterator[int], keep: Callable[[int, str], None]) -> None:
        for index in waiting:
            token, status = await self._access_token(index)
            if not token:
                raise RuntimeError(f"the refresh token of user {index} was answered {status}")
            keep(index, token)
            self._exchanged += 1
            if self._exchanged % 100 == 0:
                progress(self._exchanged)

    async def _renew(self, client: RenewableClient, due: int, columns: list[array[int]]) -> None:
        token, status = await self._access_token(client.index)
        refreshed = time.monotonic_ns()
        if not token:
            self._recording.fault(f"refresh tokens were answered {status}")
        elif await client.renew(token):
            for column, moment in zip(columns, (refreshed, client.renewed_at), strict=True):
                column.append(moment - due)

    async def _access_token(self, index: int) -> tuple[str, int]:
        """A new access token, or none; and the status of the answer."""
        answer, refused = await self._http.served(REFRESH, {"refresh_token": self._refresh_tokens[index]})
        self.refused += refused
        if answer.status != OK:
            return "", answer.status
        tokens: dict[str, Any] = answer.json()
        self._refresh_tokens[index] = tokens["refresh_token"]
        return tokens["access_token"], answer.status


def _text_after(key: bytes, payload: bytes) -> bytes:
    at = payload.find(key)
    return payload[at + len(key) : payload.find(b'"', at + len(key))] if at >= 0 else b""
