"""A database that can be made to fail or to wait, which the gateway's objects use in place of the real one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from gateway.errors import StoreUnavailable
from gateway.store.database import Database, Row, Snapshot, Statement, Written


class FlakyStore:
    """`broken` makes what every access raises, None to work; every access waits for `gate`; `reads` counts them. `open`
    is how many snapshots are open."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.broken: Callable[[], Exception] | None = None
        self.gate: Callable[[], Any] | None = None
        self.reads = 0
        self.open = 0

    def fail(self) -> None:
        """Be away from now on."""
        self.broken = lambda: StoreUnavailable("the disk is on fire")

    def recover(self) -> None:
        """Be there again."""
        self.broken = None

    @property
    def near(self) -> FlakyStore:
        return self

    async def read(self, *statements: Statement) -> list[list[Row]]:
        await self._access()
        return await self._database.read(*statements)

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        return self._snapshot()

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[Snapshot]:
        self.open += 1
        try:
            await self._access()
            async with self._database.snapshot() as snapshot:
                yield _FlakySnapshot(self, snapshot)
        finally:
            self.open -= 1

    async def write(self, *statements: Statement) -> Written:
        await self._access()
        return await self._database.write(*statements)

    async def wait_for_change(self) -> None:
        await self._database.wait_for_change()

    def __getattr__(self, name: str) -> Any:
        """Whatever else a database has."""
        return getattr(self._database, name)

    async def _access(self) -> None:
        self.reads += 1
        if self.gate is not None:
            await self.gate()
        if self.broken is not None:
            raise self.broken()


class _FlakySnapshot:
    def __init__(self, store: FlakyStore, snapshot: Snapshot) -> None:
        self._store = store
        self._snapshot = snapshot

    async def read(self, *statements: Statement) -> list[list[Row]]:
        await self._store._access()
        return await self._snapshot.read(*statements)
