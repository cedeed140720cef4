"""Exports and imports in memory, and files made by hand with a manifest that fits."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from gateway.store.database import Database
from gateway.store.transfer.export import Draft, Remark, read_everything, write_export
from gateway.store.transfer.file import FileReader
from gateway.store.transfer.imports import Outcome, Rules, import_file
from gateway.store.transfer.records import RANK, TABLES

HEADER = {
    "kind": "header",
    "format": "gateway-export",
    "version": 1,
    "exported_at": "2026-11-21T19:10:00.000Z",
    "epoch": "0011223344556677",
    "seq": 7,
    "schema": 1,
    "tables": list(TABLES),
}


class Export(NamedTuple):
    content: bytes
    remarks: list[Remark]
    seq: int

    @property
    def records(self) -> list[bytes]:
        """The lines between header and manifest."""
        return self.content.splitlines()[1:-1]

    def of(self, kind: str) -> dict[str, Any]:
        """The records of one kind by id."""
        return {record["id"]: record for record in map(json.loads, self.records) if record["kind"] == kind}


async def export(database: Database) -> Export:
    file = io.BytesIO()
    with contextlib.closing(Draft()) as draft:
        position = await read_everything(database, draft)
        written = await write_export(database, draft, position, file)
        return Export(file.getvalue(), list(draft.remarks()), written.seq)


class Report(NamedTuple):
    counts: dict[str, tuple[int, int, int, int]]
    """By kind: added, changed, same, refused; kinds without records are left out."""
    told: list[Outcome]

    @property
    def reasons(self) -> dict[str, str]:
        """Why records were refused, by id."""
        return {outcome.id: outcome.reason for outcome in self.told if outcome.what == "refused"}

    def count(self, what: str) -> int:
        place = ("added", "changed", "same", "refused").index(what)
        return sum(count[place] for count in self.counts.values())


async def import_(database: Database, content: bytes, **rules: bool) -> Report:
    reader = FileReader(io.BytesIO(content), "FILE")
    reader.verify()
    told: list[Outcome] = []
    counts = await import_file(database, reader, Rules(**rules), told.append)
    by_kind = {count.kind: (count.added, count.changed, count.same, count.refused) for count in counts}
    return Report({kind: count for kind, count in by_kind.items() if any(count)}, told)


def line(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n"


def sealed(*records: Any, header: Any = HEADER, **counts: int) -> bytes:
    """A file of these records (objects, or lines as they are) in this order, whose manifest fits whatever they are."""
    kinds = [record["kind"] for record in records if isinstance(record, dict)]
    before = b"".join([line(header), *map(line, records)])
    counted = {kind: kinds.count(kind) for kind in kinds} | counts
    return before + line({"kind": "manifest", "counts": counted, "sha256": hashlib.sha256(before).hexdigest()})


def sorted_file(records: Iterable[dict[str, Any]]) -> bytes:
    """A file of these records in the order that files have."""
    return sealed(*sorted(records, key=lambda record: (RANK[record["kind"]], record["id"])))


def user(id: str, **fields: Any) -> dict[str, Any]:
    """A user's record; the user name is the id."""
    own = {"kind": "user", "id": id, "username": id, "plan": "free", "created_at": 1_000, "updated_at": 2_000}
    return own | fields


def token(id: str, **fields: Any) -> dict[str, Any]:
    """A row of a user's `tokens`."""
    return {"id": id, "token_hash": hashlib.sha256(id.encode()).hexdigest(), "created_at": 1_000} | fields


FREE = {"kind": "plan", "id": "free", "permissions": ["a", "b"], "quotas": [{"quota": "q", "limit_value": 5}]}
ACME = {"kind": "organization", "id": "o_acme", "plan": "free", "created_at": 1_000, "updated_at": 2_000}
