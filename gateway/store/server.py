"""The driver of a libSQL server: everything over the network, writes to the primary, near reads to a replica."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from gateway.errors import ConfigError, StoreUnavailable
from gateway.store.address import ServerAddress
from gateway.store.driver import Row, Statement, StoreCounts, Written
from gateway.store.http_streams import HttpServer
from gateway.store.server_copies import copy_server
from gateway.store.server_readers import Near, ServerSnapshot
from gateway.store.server_streams import READ_TIMEOUT_S, Streams
from gateway.store.server_wakeup import ServerWakeup
from gateway.store.server_writer import ServerWriter
from gateway.store.stream import Server


class Primary(NamedTuple):
    """The ways to one server. By WebSocket, what breaks the connection of one kind spares the other; the stream of
    changes and whole copies exist by HTTP alone, at the same host and port."""

    reads: Server
    writes: Server
    http: HttpServer

    @classmethod
    def at(cls, address: ServerAddress, token: str | None) -> Primary:
        """Nothing is connected yet."""
        if address.transport == "http":
            # Apart, so that no number of slow reads keeps a write or the stream of changes waiting for a connection.
            return cls(*(HttpServer(address.url, token) for _ in cls._fields))
        reads, writes = _server(address, token), _server(address, token, only_reads=False)
        return cls(reads, writes, HttpServer(address.http_url, token))


def _server(address: ServerAddress, token: str | None, *, only_reads: bool = True) -> Server:
    if address.transport == "http":
        return HttpServer(address.url, token)
    try:
        from gateway.store.ws_streams import WsServer  # brings along what nobody else needs
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"database.url: ws:// needs {error.name}; install session-gateway with the extra 'server'"
        ) from None
    return WsServer(address.url, token, only_reads=only_reads)


SCAN_TIMEOUT_S = 60.0


class ServerDriver:
    """A libSQL server, and the replica beside this process if there is one."""

    def __init__(self, primary: Primary, replica: Server | None, *, poll_ms: int, clock: Callable[[], int]) -> None:
        self._http = primary.http
        self._servers: set[Server] = {*primary, *([replica] if replica else [])}
        self._primary = Streams(primary.reads)
        self._replica = Streams(replica) if replica else None
        self._scanning = asyncio.Lock()
        self.counts = StoreCounts()
        self._near = Near(self._primary, self._replica, counts=self.counts)
        self._wakeup = ServerWakeup(
            lambda: primary.http.changes("change_log"), self._near.confirm, poll_s=poll_ms / 1000
        )
        self._writer = ServerWriter(primary.writes.stream, self._committed, clock=clock, counts=self.counts)
        self.lags = replica is not None
        self._closed = False

    @classmethod
    async def open(
        cls,
        address: ServerAddress,
        *,
        replica: ServerAddress | None,
        auth_token: str | None,
        poll_ms: int,
        clock: Callable[[], int],
    ) -> ServerDriver:
        """Open the server at `address`. Raises `StoreUnavailable` when it can not be reached or refuses the token."""
        primary = Primary.at(address, address.token or auth_token)
        near = _server(replica, replica.token or address.token or auth_token) if replica else None
        streams = Streams(primary.reads)
        try:
            await streams.read([Statement("SELECT 1")], READ_TIMEOUT_S)
        except BaseException:
            for server in {*primary, *([near] if near else [])}:
                await server.close()
            raise
        finally:
            await streams.close()
        return cls(primary, near, poll_ms=poll_ms, clock=clock)

    async def read(self, statements: tuple[Statement, ...]) -> list[list[Row]]:
        """From the primary."""
        self._check_open()
        return await self._primary.read(statements, READ_TIMEOUT_S)

    async def read_near(self, statements: tuple[Statement, ...]) -> list[list[Row]]:
        """From the replica."""
        self._check_open()
        return await self._near.read(statements)

    def snapshot(self) -> ServerSnapshot:
        """From the replica; each read is a request."""
        self._check_open()
        return self._near.snapshot()

    def seen(self, seq: int) -> None:
        """See `Database.seen`."""
        self._near.floor = max(self._near.floor, seq)

    async def scan(self, statements: tuple[Statement, ...]) -> list[list[Row]]:
        """From the primary, with more patience."""
        self._check_open()
        async with self._scanning:
            return await self._primary.read(statements, SCAN_TIMEOUT_S)

    async def write(self, statements: tuple[Statement, ...]) -> Written:
        """With the writer's next group."""
        return await self._writer.submit(statements)

    async def script(self, sql: str, statements: tuple[Statement, ...]) -> None:
        """In a transaction of its own."""
        await self._writer.script(sql, statements)

    def calm_s(self) -> float:
        """By the polls."""
        return self._wakeup.calm_s()

    async def wait_for_change(self) -> None:
        """Until somebody committed."""
        self._check_open()
        await self._wakeup.wait()

    async def backup(self, path: Path, *, overwrite: bool) -> None:
        """All of the primary, read in one transaction."""
        self._check_open()
        await copy_server(self._http, path, overwrite=overwrite)

    async def close(self) -> None:
        """The writer first: what it accepted is still to be committed."""
        if self._closed:
            return
        self._closed = True
        await self._writer.close()
        await self._wakeup.close()
        for streams in (self._primary, self._replica):
            if streams is not None:
                await streams.close()
        for server in self._servers:
            await server.close()

    def _committed(self, seq: int) -> None:
        self.seen(seq)
        self._wakeup.committed()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the database is closed")
