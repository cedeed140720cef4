"""The driver of a libSQL server: everything over the network, writes to the primary, near reads to a replica."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateway.errors import StoreUnavailable
from gateway.store.address import ServerAddress
from gateway.store.driver import Row, Statement, Written
from gateway.store.http_streams import HttpServer
from gateway.store.server_copies import copy_server
from gateway.store.server_readers import POSITION, READ_TIMEOUT_S, SCAN_TIMEOUT_S, Near, ServerSnapshot, Streams
from gateway.store.server_wakeup import ServerWakeup
from gateway.store.server_writer import ServerWriter


class ServerDriver:
    """A libSQL server, and the replica beside this process if there is one."""

    def __init__(
        self, primary: HttpServer, replica: HttpServer | None, *, poll_ms: int, clock: Callable[[], int]
    ) -> None:
        self._servers = [server for server in (primary, replica) if server is not None]
        self._primary = Streams(primary)
        self._near = Near(self._primary, Streams(replica) if replica else None)
        self._wakeup = ServerWakeup(lambda: primary.changes("change_log"), self._position, poll_s=poll_ms / 1000)
        self._writer = ServerWriter(primary.stream, self._committed, clock=clock)
        self.counts = self._writer.counts
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
        primary = HttpServer(address.url, address.token or auth_token)
        near = HttpServer(replica.url, replica.token or auth_token) if replica else None
        streams = Streams(primary)
        try:
            await streams.read([Statement("SELECT 1")], READ_TIMEOUT_S)
        except BaseException:
            await primary.close()
            if near is not None:
                await near.close()
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
        return await self._primary.read(statements, SCAN_TIMEOUT_S)

    async def write(self, statements: tuple[Statement, ...]) -> Written:
        """With the writer's next group."""
        return await self._writer.submit(statements)

    async def script(self, sql: str, statements: tuple[Statement, ...]) -> None:
        """In a transaction of its own."""
        await self._writer.script(sql, statements)

    async def wait_for_change(self) -> None:
        """Until somebody committed."""
        self._check_open()
        await self._wakeup.wait()

    async def backup(self, path: Path, *, overwrite: bool) -> None:
        """From the primary's dump."""
        self._check_open()
        await copy_server(self._servers[0], path, overwrite=overwrite)

    async def close(self) -> None:
        """The writer first: what it accepted is still to be committed."""
        if self._closed:
            return
        self._closed = True
        await self._writer.close()
        await self._wakeup.close()
        for server in self._servers:
            await server.close()

    def _committed(self, seq: int) -> None:
        self.seen(seq)
        self._wakeup.committed()

    async def _position(self) -> int:
        [[(position,)]] = await self._near.read([POSITION])
        return int(position)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the database is closed")
