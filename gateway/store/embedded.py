"""The driver of a local file: short reads on the event loop, writes and long reads on a thread each, every one with
its own connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import apsw

from gateway.errors import StoreCorrupt, StoreUnavailable
from gateway.store.copies import copy_database, create_private
from gateway.store.driver import Row, Statement, Written
from gateway.store.readers import FileSnapshot, Readers
from gateway.store.scanner import Scanner
from gateway.store.sqlite import file_lock, open_writer, require_sqlite, store_error
from gateway.store.wakeup import Wakeup
from gateway.store.writer import Writer


class EmbeddedDriver:
    """A SQLite file that any number of processes share."""

    lags = False

    def __init__(
        self, path: Path, readers: Readers, *, poll_ms: int, connect: Callable[[Path], apsw.Connection]
    ) -> None:
        self._path = path
        self._readers = readers
        self._scanner = Scanner(path)
        self._wakeup = Wakeup(path, readers.version, readers.follow_file, poll_s=poll_ms / 1000)
        self._writer = Writer(path, self._wakeup.committed, connect=connect)
        self.counts = self._writer.counts
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        poll_ms: int = 25,
        create: bool = True,
        connect: Callable[[Path], apsw.Connection] = open_writer,
    ) -> EmbeddedDriver:
        """Open the file at `path`, which is made with its directory when `create` is true; `connect` makes the writing
        connection.

        Raises `StoreUnavailable`, `StoreCorrupt`.
        """
        require_sqlite(apsw.sqlite_lib_version())
        try:
            readers = await asyncio.to_thread(_open_readers, path, create)
        except (apsw.Error, OSError) as error:
            raise _failure(path, error) from error
        return cls(readers.path, readers, poll_ms=poll_ms, connect=connect)

    async def read(self, statements: tuple[Statement, ...]) -> list[list[Row]]:
        """On the event loop."""
        return await self._readers.read(statements)

    read_near = read

    def seen(self, seq: int) -> None:
        """Nothing to do: every read of a file sees every commit before it."""

    def snapshot(self) -> FileSnapshot:
        """On the event loop."""
        return self._readers.snapshot()

    async def scan(self, statements: tuple[Statement, ...]) -> list[list[Row]]:
        """On the scanner's thread."""
        return await self._scanner.scan(statements)

    async def write(self, statements: tuple[Statement, ...]) -> Written:
        """With the writer's next group."""
        return await self._writer.submit(statements)

    async def script(self, sql: str, statements: tuple[Statement, ...]) -> None:
        """With the writer's next group."""
        await self._writer.submit(statements, sql)

    def calm_s(self) -> float:
        """A file tells of each commit."""
        return 0.0

    async def wait_for_change(self) -> None:
        """Until this process or another one committed."""
        self._check_open()
        await self._wakeup.wait()

    async def backup(self, path: Path, *, overwrite: bool) -> None:
        """On a thread and a connection of its own; reads and writes go on."""
        self._check_open()
        try:
            await asyncio.to_thread(copy_database, self._path, path, overwrite=overwrite)
        except (apsw.Error, OSError) as error:
            if isinstance(error, FileExistsError):
                raise
            raise _failure(path, error) from error

    async def close(self) -> None:
        """The writer goes last: the connection that closes last puts the log back into the database, which a read-
        only one can not."""
        if self._closed:
            return
        self._closed = True
        self._wakeup.close()
        await self._scanner.close()
        self._readers.close()
        await self._writer.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the database is closed")


def _open_readers(path: Path, create: bool) -> Readers:
    path = path.resolve()  # the log lies beside the file itself, not beside a link to it
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_private(path)
    elif not path.exists():
        raise FileNotFoundError("there is no such file (gateway init and gateway migrate make one)")
    # Makes the file a WAL database, which a reader can not.
    writer = open_writer(path, create=create)
    try:
        return Readers(path)
    finally:
        writer.close()


def _make_private(path: Path) -> None:
    """Make a file that is not there, for its owner alone; SQLite gives its log the same permissions.

    Under the lock: nobody in this process may have opened the file before it is closed here, or their locks on it
    would be gone.
    """
    if path.exists():
        return
    with file_lock(path), contextlib.suppress(FileExistsError):
        create_private(path)


def _failure(path: Path, error: Exception) -> Exception:
    failure = store_error(error)
    kind = StoreCorrupt if isinstance(failure, StoreCorrupt) else StoreUnavailable
    # An operating system's error would name a file that was only ever a step on the way.
    return kind(f"{path}: {(isinstance(error, OSError) and error.strerror) or error}")
