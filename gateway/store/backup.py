"""Copies of the database: a backup of a running one, and putting a backup back in place of a stopped one."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import apsw

from gateway.store.sqlite import BUSY_TIMEOUT_MS, open_reader


def copy_database(source: Path, target: Path, *, overwrite: bool) -> None:
    """Copy the database at `source`, which may be in use, to `target`: whole, consistent, synced, and not there before
    it is complete.

    In a single step: one that lets writers in between starts over with each of their commits and never ends. Raises
    `FileExistsError`, `OSError` and apsw's errors.
    """
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} is there already")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        _copy(source, temporary)
        if target.exists() and not overwrite:
            raise FileExistsError(f"{target} is there already")
        os.replace(temporary, target)
        _sync(target.parent)
    finally:
        for leftover in (temporary, Path(f"{temporary}-wal"), Path(f"{temporary}-shm"), Path(f"{temporary}-journal")):
            leftover.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    origin = open_reader(source, busy_timeout_ms=BUSY_TIMEOUT_MS)
    copy = apsw.Connection(str(target))
    try:
        with copy.backup("main", origin, "main") as running:
            running.step(-1)
        # One file that stands for itself: without a -wal beside it.
        copy.execute("PRAGMA synchronous=FULL").fetchall()
        copy.execute("PRAGMA journal_mode=DELETE").fetchall()
    finally:
        copy.close()
        origin.close()
    _sync(target)


def _sync(path: Path) -> None:
    """Make a file's content, or a directory's names, survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
