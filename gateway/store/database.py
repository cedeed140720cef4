"""The one way to the data: reads, atomic writes and the wake-up of those who follow the change log.

`Database` is a thin face over a `Driver`. Errors are the `StoreError` family of `gateway.errors`, whatever the driver.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from gateway.config import Config
from gateway.errors import ConfigError
from gateway.store.address import Address, FileAddress, ServerAddress, parse_address
from gateway.store.driver import Driver, Reader, Row, Snapshot, Statement, StoreCounts, Value, Written
from gateway.store.embedded import EmbeddedDriver

__all__ = [
    "Database",
    "Reader",
    "Row",
    "Snapshot",
    "Statement",
    "StoreCounts",
    "Value",
    "Written",
    "wall_clock",
]


def wall_clock() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


class Near:
    """The face of reads that may lag: see `Database.near`."""

    __slots__ = ("_driver",)

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def read(self, *statements: Statement) -> list[list[Row]]:
        """The rows of each statement, all of one moment."""
        return await self._driver.read_near(statements)


class Database:
    """An open database, bound to the event loop that opened it. Close it with `close` or leave an ``async with``
    block."""

    def __init__(self, driver: Driver, clock: Callable[[], int] = wall_clock) -> None:
        self._driver = driver
        self.near: Reader = Near(driver)
        """Reads for what happens often: on a server they come from the replica beside this process and may lag by some
        milliseconds. They never go back in time, nor behind this process's own writes."""
        self.clock = clock
        """Milliseconds since 1970 UTC, for the times that the store itself records."""

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        auth_token: str | None = None,
        replica: str | None = None,
        clock: Callable[[], int] = wall_clock,
        poll_ms: int = 25,
        create: bool = True,
    ) -> Database:
        """Open the database at `url` (see `parse_address`), making a file and its directory when `create` allows; its
        tables are `migrate`'s work.

        `auth_token` and `replica`, the address of a read replica near this process, are for servers. `poll_ms` is how
        long, at the most, another process's commit stays unnoticed when no faster signal arrives. Raises `ConfigError`,
        `StoreUnavailable`, `StoreCorrupt`.
        """
        address = parse_address(url)
        near = parse_address(replica, "database.replica") if replica else None
        if isinstance(address, ServerAddress):
            return cls(await _open_server(address, near, auth_token, poll_ms, clock), clock)
        if near is not None:
            raise ConfigError("database.replica: only a server has replicas, and database.url is a file")
        return cls(await EmbeddedDriver.open(address.path, poll_ms=poll_ms, create=create), clock)

    @classmethod
    async def configured(cls, config: Config, *, create: bool = True) -> Database:
        """Open the database of the configuration; otherwise as `open`."""
        settings = config.database
        return await cls.open(
            settings.url,
            auth_token=settings.auth_token or None,
            replica=settings.replica or None,
            poll_ms=config.changes.poll_ms,
            create=create,
        )

    async def __aenter__(self) -> Database:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    @property
    def counts(self) -> StoreCounts:
        """What was written so far, for metrics; it goes on counting."""
        return self._driver.counts

    async def read(self, *statements: Statement) -> list[list[Row]]:
        """The rows of each statement, all of one moment, with every commit made before. For indexed, short reads: a
        local file is read on the event loop, a server by one request."""
        return await self._driver.read(statements)

    @property
    def lags(self) -> bool:
        """Whether `near` may show less than `read`."""
        return self._driver.lags

    def seen(self, seq: int) -> None:
        """What this process knows is of this position of the change log: near reads and snapshots show nothing
        older from now on."""
        self._driver.seen(seq)

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """``async with db.snapshot() as s: rows = await s.read(...)``: several reads of the moment of the first one,
        which is as near as `near`.

        Hold it for as long as reading takes and no longer: an open snapshot keeps the database from shrinking its log,
        and a server ends it after some seconds of silence. Each `read` asks a server once: put statements together.
        """
        return self._driver.snapshot()

    async def scan(self, *statements: Statement) -> list[list[Row]]:
        """As `read`, for lists and searches of any length: the event loop is never blocked. Scans run one after the
        other."""
        return await self._driver.scan(statements)

    async def write(self, *statements: Statement) -> Written:
        """Commit all of the statements or none; durable when it returns. Writes that wait together commit together.

        Raises `StoreConflict`, `NoRowChanged`, `StoreUnavailable` (nothing was written), `StoreUncertain` (a server
        did not say), `StoreCorrupt`. A cancelled caller does not know whether its write was committed.
        """
        return await self._driver.write(statements)

    async def script(self, sql: str, *statements: Statement) -> None:
        """Run a script of the program's own (never built from input) and then `statements` in one transaction: a
        migration and its record."""
        await self._driver.script(sql, statements)

    def calm_s(self) -> float:
        """Seconds since it was last known that nothing had been committed but what `wait_for_change` told of: 0 for a
        file, and more than a second only where a server can not be reached."""
        return self._driver.calm_s()

    async def wait_for_change(self) -> None:
        """Return at once if something may have been committed since the last return, else as soon as it may have been.

        A doorbell, not data: read the change log afterwards, and be ready to find nothing new. Made for one follower:
        all who wait at that moment wake up, but only one call that comes later returns at once. Does not raise when the
        database can not be reached.
        """
        await self._driver.wait_for_change()

    async def backup(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Copy the running database, consistent and whole, to `path`, which appears complete or not at all.

        Raises `FileExistsError` when `path` is there and `overwrite` is false, `TargetNotReplaceable` when it belongs
        to this database or is no file, `StoreUnavailable` when it can not be written.
        """
        await self._driver.backup(Path(path), overwrite=overwrite)

    async def close(self) -> None:
        """Finish the writes that were accepted, let go of the database; later calls raise `StoreUnavailable`. May be
        called twice."""
        await self._driver.close()


async def _open_server(
    address: ServerAddress, near: Address | None, auth_token: str | None, poll_ms: int, clock: Callable[[], int]
) -> Driver:
    if isinstance(near, FileAddress):
        raise ConfigError("database.replica: it names a file; a replica is a server too")
    try:
        from gateway.store.server import ServerDriver
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"database.url: a server needs {error.name}; install session-gateway with the extra 'server'"
        ) from None
    return await ServerDriver.open(address, replica=near, auth_token=auth_token, poll_ms=poll_ms, clock=clock)
