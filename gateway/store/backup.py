"""Putting a backup in place of a stopped local database. Backups are made by `Database.backup`, and put into a server's
database by `server_restore`."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path

import apsw

from gateway.errors import StoreError, StoreUnavailable
from gateway.store.copies import BESIDE, OWNER_ONLY, put_in_place, temporary_copy
from gateway.store.migrate import new_epoch
from gateway.store.sqlite import file_lock, store_error

_EPOCH = "SELECT value FROM meta WHERE key = 'epoch' AND (SELECT count(*) FROM migrations) > 0"


class DatabaseInUse(StoreError):
    """Some process has the database open: it must be stopped first."""


class NotABackup(StoreError):
    """The file is missing, damaged, or not a database of this program."""


async def restore(file: Path, into: Path, *, epoch: str | None = None) -> str:
    """Put the backup `file` in place of the database `into`, which no process may have open, and return its new epoch.

    `into` is replaced as a whole or stays as it was; it need not be there, nor be sound. The restored database may be
    older than the program: `migrate` it next. Raises `NotABackup`, `DatabaseInUse`, `StoreUnavailable`.
    """
    epoch = epoch or new_epoch()
    try:
        await asyncio.to_thread(_restore, file, into, epoch)
    except apsw.Error as error:
        raise store_error(error) from error
    except OSError as error:
        raise StoreUnavailable(str(error)) from error
    return epoch


def _restore(file: Path, into: Path, epoch: str) -> None:
    into = into.resolve()
    if not file.is_file():
        raise NotABackup(f"{file}: there is no such file")
    if into.exists() and file.samefile(into):
        raise NotABackup(f"{file} is the database itself")
    into.parent.mkdir(parents=True, exist_ok=True)
    # A gateway that starts now waits for this lock until the new file is in place.
    with file_lock(into):
        with _alone(into):
            pass  # refuses at once what would be refused after the copying
        with _adopted(file, into, epoch) as copy:
            _put_log_back(into)
            with _alone(into):
                for suffix in BESIDE:
                    Path(f"{into}{suffix}").unlink(missing_ok=True)
                put_in_place(copy, into)


@contextlib.contextmanager
def _adopted(file: Path, into: Path, epoch: str) -> Iterator[Path]:
    """A copy of the backup beside `into`, with the new epoch."""
    with contextlib.ExitStack() as stack:
        try:
            mode = stat.S_IMODE(into.stat().st_mode) if into.exists() else OWNER_ONLY
            copy = stack.enter_context(temporary_copy(file, into, mode=mode))
            connection = apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READWRITE)
            stack.callback(connection.close)
            epoch_of(connection, file)
        except (apsw.NotADBError, apsw.CorruptError) as error:
            raise NotABackup(f"{file} is damaged or not a database: {error}") from error
        connection.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", (epoch,))
        connection.close()
        yield copy


def epoch_of(connection: apsw.Connection, file: Path) -> str:
    """The epoch that the backup `file`, which is open, has now. Raises `NotABackup` for another program's database."""
    try:
        ours = connection.execute(_EPOCH).fetchall()
    except apsw.SQLError as error:
        raise NotABackup(f"{file} is not a database of this program: {error}") from error
    if not ours:
        raise NotABackup(f"{file} is not a database of this program: it has no epoch")
    return str(ours[0][0])


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the database against everybody; `DatabaseInUse` when somebody has it open.

    In WAL mode every connection keeps a shared lock on the file for as long as it is open. Taken through SQLite's own
    file layer, this finds also connections of this process, and asks nothing of what is in the file.
    """
    if not path.exists():
        yield
        return
    file = apsw.VFSFile("", str(path), [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READWRITE, 0])
    try:
        try:
            file.xLock(apsw.SQLITE_LOCK_SHARED)
            file.xLock(apsw.SQLITE_LOCK_EXCLUSIVE)
        except apsw.BusyError as error:
            raise DatabaseInUse(f"{path} is in use: stop every gateway and program that has it open") from error
        yield
    finally:
        file.xUnlock(apsw.SQLITE_LOCK_NONE)
        file.xClose()


def _put_log_back(path: Path) -> None:
    """Let a database that was not closed properly take its log in, so that it stays whole should the rename not
    come."""
    if not path.exists():
        return
    # What is damaged can not be kept whole: that is what the backup is for.
    with contextlib.suppress(apsw.Error):
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.close()
