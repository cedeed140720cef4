"""The file in which ``gateway init`` keeps an API token: one line ``GATEWAY_AUTH_TOKEN=...``, for its owner alone."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from gateway.errors import Conflict
from gateway.store.copies import belongs_to, create_private

VARIABLE = "GATEWAY_AUTH_TOKEN"
_LONGEST = 4096
"""Bytes; what is longer is no token file."""


def check_place(file: Path, database: Path | None) -> None:
    """Refuse a place where no token may be kept, before anything is done.

    Raises Conflict for the files of a local `database` and for what `kept_token` refuses, `FileNotFoundError` for a
    directory that is not there, unless such a database's own, which is made with it.
    """
    if database is not None and belongs_to(file, database):
        raise Conflict(f"{file} belongs to the database.")
    kept_token(file)
    directory = file.parent.resolve()
    if not directory.is_dir() and (database is None or directory != database.resolve().parent):
        raise FileNotFoundError(f"{file.parent}: there is no such directory")


def kept_token(file: Path) -> str | None:
    """The token that the file holds; None when there is no file. Conflict for a file that holds anything else: it is
    not to be replaced."""
    try:
        found = file.lstat()
    except FileNotFoundError:
        return None
    refusal = Conflict(f"{file} is not replaced: it is not a file with nothing but a line {VARIABLE}=...")
    if not stat.S_ISREG(found.st_mode):
        raise refusal
    with file.open("rb") as stream:
        content = stream.read(_LONGEST + 1)
    name, equals, token = content.removesuffix(b"\n").partition(b"=")
    if len(content) > _LONGEST or (name, equals) != (VARIABLE.encode(), b"=") or not _is_plain(token):
        raise refusal
    return token.decode()


@contextlib.contextmanager
def keeping(file: Path, token: str) -> Iterator[None]:
    """Write the token under another name before the block, and give it the file's name after it; when the block fails
    the file stays as it was."""
    new = file.with_name(f".{file.name}.{secrets.token_hex(8)}.tmp")
    try:
        create_private(new)
        new.write_text(f"{VARIABLE}={token}\n", encoding="utf-8")
        yield
        os.replace(new, file)
    finally:
        new.unlink(missing_ok=True)


def _is_plain(token: bytes) -> bool:
    """One word of printable ASCII, or nothing."""
    return all(0x20 < byte < 0x7F for byte in token)
