"""Whole copies of a local database, which may be in use: made under another name, checked, and then put in place."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import apsw

from gateway.errors import StoreError
from gateway.store.sqlite import BUSY_TIMEOUT_MS, open_reader

BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite puts beside a database, by the ends of the names."""

OWNER_ONLY = 0o600
"""The permissions of every new file that holds what the database holds."""

_WORDS: tuple[tuple[type[apsw.Error], str], ...] = (
    (apsw.FullError, "database or disk is full"),
    (apsw.NotADBError, "file is not a database"),
    (apsw.CorruptError, "database disk image is malformed"),
    (apsw.BusyError, "database is locked"),
    (apsw.IOError, "disk I/O error"),
)


class TargetNotReplaceable(StoreError):
    """A copy would take the place of the database itself, of a file that belongs to it, or of what is no file."""


def belongs_to(path: Path, database: Path) -> bool:
    """Whether `path`, by any of its names, is the database or a file that stands beside it for it. Raises `OSError`."""
    named = {os.path.realpath(path), os.path.join(os.path.realpath(path.parent), path.name)}
    for suffix in ("", *BESIDE, "-lock", ".key"):
        own = os.path.realpath(database) + suffix
        if own in named:
            return True
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if path.samefile(own):
                return True
    return False


def create_private(path: Path, mode: int = OWNER_ONLY) -> None:
    """Make an empty file with exactly these permissions, whatever the umask. Raises `FileExistsError`, `OSError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    try:
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def copy_database(source: Path, target: Path, *, overwrite: bool) -> None:
    """Copy the database at `source` to `target`, which is not to be seen before it is complete; its owner alone can
    read it.

    Raises `TargetNotReplaceable`, `FileExistsError` where `target` is there and `overwrite` is false, `OSError`, and
    apsw's errors.
    """
    if belongs_to(target, source):
        raise TargetNotReplaceable(f"{target} belongs to the database that is to be copied")
    refuse_target(target, overwrite)
    with temporary_copy(source, target, mode=OWNER_ONLY) as copy:
        refuse_target(target, overwrite)
        put_in_place(copy, target)


@contextlib.contextmanager
def temporary_copy(source: Path, target: Path, *, mode: int) -> Iterator[Path]:
    """A sound, synced copy of `source` under a name beside `target`, with the permissions `mode`; gone afterwards
    unless it was put in place. Raises `OSError` and apsw's errors, `apsw.CorruptError` where the copy is not sound."""
    path = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        create_private(path, mode)
        _copy(source, path)
        yield path
    finally:
        for suffix in ("", *BESIDE):
            Path(f"{path}{suffix}").unlink(missing_ok=True)


def put_in_place(copy: Path, target: Path) -> None:
    """Rename the copy to `target` so that either the old file or the new one is there, also after a power failure."""
    sync(copy)
    os.replace(copy, target)
    sync(target.parent)


def _copy(source: Path, target: Path) -> None:
    origin = open_reader(source, busy_timeout_ms=BUSY_TIMEOUT_MS)
    copy = apsw.Connection(str(target))
    try:
        # In a single step: one that lets writers in between starts over with each of their commits and never ends.
        try:
            with copy.backup("main", origin, "main") as running:
                running.step(-1)
        except apsw.Error as error:
            raise _with_words(error) from error
        # One file that stands for itself: without a log beside it.
        copy.execute("PRAGMA journal_mode=DELETE").fetchall()
        if (fault := copy.execute("PRAGMA integrity_check(1)").get) != "ok":
            raise apsw.CorruptError(str(fault).splitlines()[-1])
    finally:
        copy.close()
        origin.close()


def _with_words(error: apsw.Error) -> apsw.Error:
    """A backup's errors carry the message of a connection on which nothing failed."""
    if str(error) != "not an error":
        return error
    return type(error)(next((words for kind, words in _WORDS if isinstance(error, kind)), "it can not be copied"))


def refuse_target(target: Path, overwrite: bool) -> None:
    """Raise `TargetNotReplaceable` for what is no file, and `FileExistsError` for one that is not to be replaced."""
    if target.exists() and not target.is_file():
        raise TargetNotReplaceable(f"{target} is not a file")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} is there already")


def sync(path: Path) -> None:
    """Make a file's content, or a directory's names, survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
