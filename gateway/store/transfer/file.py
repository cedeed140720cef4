"""The file of an export: written beside its place and then put there, read with its hash, its counts and its order.

JSON Lines in UTF-8: a header, the records in the order of their kinds and ids, and a manifest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import msgspec

from gateway.errors import BadRequest
from gateway.store.copies import TargetNotReplaceable, belongs_to, create_private, put_in_place
from gateway.store.transfer.records import (
    FORMAT,
    KIND_OF,
    MAX_LINE_BYTES,
    RANK,
    TABLES,
    VERSION,
    Header,
    Manifest,
    OrganizationRecord,
    OrganizationRoleRecord,
    PlanRecord,
    Record,
    RevocationRecord,
    RoleRecord,
    UserRecord,
    line,
)

_SHOWN = 200
"""Characters of a reason: it may quote what stands in the line."""

Advance: TypeAlias = Callable[[int], None]


class _Start(msgspec.Struct):
    """What every version of the header has."""

    kind: str
    format: str
    version: int


class Numbered(NamedTuple):
    """A record, the number of its line, the first being 1, and how many bytes that has."""

    number: int
    record: Record
    size: int


_start = msgspec.json.Decoder(_Start)
_header = msgspec.json.Decoder(Header)
_line = msgspec.json.Decoder(
    RoleRecord | PlanRecord | OrganizationRoleRecord | OrganizationRecord | UserRecord | RevocationRecord | Manifest
)


@contextlib.contextmanager
def new_file(target: Path, *, overwrite: bool, database: Path | None) -> Iterator[BinaryIO]:
    """A file that its owner alone can read, in the place of `target` once the block has ended well.

    Raises `FileExistsError` where `target` is there and `overwrite` is false, `TargetNotReplaceable` where it is no
    file or belongs to `database`, `OSError`.
    """
    if database is not None and belongs_to(target, database):
        raise TargetNotReplaceable(f"{target} belongs to the database")
    if target.exists() and not target.is_file():
        raise TargetNotReplaceable(f"{target} is not a file")
    _refuse_overwriting(target, overwrite)
    path = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        create_private(path)
        with path.open("wb") as file:
            yield file
        _refuse_overwriting(target, overwrite)
        put_in_place(path, target)
    finally:
        path.unlink(missing_ok=True)


def _refuse_overwriting(target: Path, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} is there already")


def write_lines(file: BinaryIO, header: Header, lines: Iterable[tuple[str, bytes]]) -> dict[str, int]:
    """Write a whole file, `lines` being kinds and records as bytes, in order; returns how many of each kind."""
    digest, counts = hashlib.sha256(), Counter[str]()
    first = line(header)
    file.write(first)
    digest.update(first)
    for kind, content in lines:
        file.write(content)
        digest.update(content)
        counts[kind] += 1
    file.write(line(Manifest(counts=dict(counts), sha256=digest.hexdigest())))
    return dict(counts)


class FileReader:
    """Reads one file of an export, as often as wanted, and believes nothing: raises BadRequest, with the line's number,
    where it is damaged, cut off, altered, or of another make. `advance` is told of the bytes read."""

    def __init__(self, file: BinaryIO, name: str, advance: Advance = lambda size: None) -> None:
        self._file = file
        self._name = name
        self._advance = advance
        self._number = 0

    def verify(self) -> Header:
        """Read everything to the end, and return the header."""
        for _ in self.records():
            pass
        return self.header()

    def header(self) -> Header:
        """The first line."""
        self._file.seek(0)
        self._number = 0
        return self._decoded_header(self._next())

    def records(self) -> Iterator[Numbered]:
        """All records in order. What came before an error is as it was written; whether it is all of it is only known
        at the end: `verify` first."""
        digest, counts = hashlib.sha256(), Counter[str]()
        self._file.seek(0)
        self._number = 0
        content = self._next()
        self._decoded_header(content)
        before = (-1, "")
        while True:
            digest.update(content)
            content = self._next()
            read = self._decoded(_line, content)
            if isinstance(read, Manifest):
                break
            kind = KIND_OF[type(read)].name
            place = (RANK[kind], read.id)
            if place <= before:
                raise self._refusal("the records are not in the order of their kinds and ids, each once")
            before = place
            counts[kind] += 1
            yield Numbered(self._number, read, len(content))
        if read.sha256 != digest.hexdigest() or Counter(read.counts) != counts:
            raise self._refusal("the file was altered or is damaged: it does not fit its manifest")
        if self._file.read(1):
            raise self._refusal("something follows the manifest")

    def _next(self) -> bytes:
        self._number += 1
        content = self._file.readline(MAX_LINE_BYTES + 1)
        if len(content) > MAX_LINE_BYTES:
            raise self._refusal(f"it is longer than {MAX_LINE_BYTES} bytes")
        if not content.endswith(b"\n"):
            raise self._refusal("the file ends here, without its manifest: it was cut off")
        self._advance(len(content))
        return content

    def _decoded_header(self, content: bytes) -> Header:
        try:
            start = _start.decode(content)
            if (start.kind, start.format) != ("header", FORMAT):
                raise ValueError("another format")
        except (ValueError, RecursionError):
            raise self._refusal("this is not the beginning of an export") from None
        if start.version != VERSION:
            raise self._refusal(f"the format's version is {start.version}, this program reads {VERSION}")
        header: Header = self._decoded(_header, content)
        if unknown := sorted(set(header.tables) - set(TABLES)):
            raise self._refusal(f"tables that this program does not know: {', '.join(unknown)[:_SHOWN]}")
        return header

    def _decoded(self, decoder: msgspec.json.Decoder[Any], content: bytes) -> Any:
        try:
            value = decoder.decode(content)
            json.loads(content, object_pairs_hook=_no_key_twice)
        except RecursionError:
            raise self._refusal("it is nested too deeply") from None
        except ValueError as error:
            raise self._refusal(str(error)[:_SHOWN]) from None
        return value

    def _refusal(self, reason: str) -> BadRequest:
        return BadRequest(f"{self._name}: line {self._number}: {reason}")


def _no_key_twice(members: list[tuple[str, Any]]) -> None:
    if len(dict(members)) < len(members):
        raise ValueError("a field occurs twice in one object")
