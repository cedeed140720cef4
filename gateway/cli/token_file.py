"""The file in which ``gateway init`` keeps what opens an account, for its owner alone: a line
``GATEWAY_AUTH_TOKEN=...``, and with ``--demo`` a line ``DEMO_PASSWORD=...``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gateway.errors import Conflict
from gateway.store.copies import belongs_to, create_private

VARIABLE = "GATEWAY_AUTH_TOKEN"
PASSWORD_VARIABLE = "DEMO_PASSWORD"  # noqa: S105
_NAMES = (VARIABLE, PASSWORD_VARIABLE)
_LONGEST = 4096
"""Bytes; what is longer is no token file."""


class Kept(NamedTuple):
    """What the file holds."""

    token: str
    password: str | None = None


def check_place(file: Path, database: Path | None) -> None:
    """Refuse a place where no token may be kept, before anything is done.

    Raises Conflict for the files of a local `database` and for what `read_kept` refuses, `FileNotFoundError` for a
    directory that is not there, unless such a database's own, which is made with it.
    """
    if database is not None and belongs_to(file, database):
        raise Conflict(f"{file} belongs to the database.")
    read_kept(file)
    directory = file.parent.resolve()
    if not directory.is_dir() and (database is None or directory != database.resolve().parent):
        raise FileNotFoundError(f"{file.parent}: there is no such directory")


def read_kept(file: Path) -> Kept | None:
    """What the file holds; None when there is no file. Conflict for a file that holds anything else: it is not to be
    replaced."""
    try:
        found = file.lstat()
    except FileNotFoundError:
        return None
    refusal = Conflict(f"{file} is not replaced: it is not a file with nothing but a line {VARIABLE}=...")
    if not stat.S_ISREG(found.st_mode):
        raise refusal
    with file.open("rb") as stream:
        content = stream.read(_LONGEST + 1)
    lines = [line.partition(b"=") for line in content.removesuffix(b"\n").split(b"\n")]
    values = [value for _, equals, value in lines if equals and _is_plain(value)]
    names = tuple(name.decode(errors="replace") for name, _, _ in lines)
    if len(content) > _LONGEST or names != _NAMES[: len(names)] or len(values) != len(names):
        raise refusal
    return Kept(*(value.decode() for value in values))


@contextlib.contextmanager
def keeping(file: Path, kept: Kept) -> Iterator[None]:
    """Write what is to be kept under another name before the block, and give it the file's name after it; when the
    block fails the file stays as it was."""
    new = file.with_name(f".{file.name}.{secrets.token_hex(8)}.tmp")
    lines = [f"{name}={value}\n" for name, value in zip(_NAMES, kept, strict=True) if value is not None]
    try:
        create_private(new)
        new.write_text("".join(lines), encoding="utf-8")
        yield
        os.replace(new, file)
    finally:
        new.unlink(missing_ok=True)


def _is_plain(value: bytes) -> bool:
    """One word of printable ASCII, or nothing."""
    return all(0x20 < byte < 0x7F for byte in value)
