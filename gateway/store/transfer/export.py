"""Reads everything that moves with the users, as it was at one moment, while others go on writing.

No transaction is held for long, which a server would cut off. Records are read page by page into a draft; then what the
change log says was changed meanwhile is read again, until so little is left that one short snapshot holds the rest: the
draft is then what the database was at that snapshot.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple, TypeAlias

import apsw
import msgspec

from gateway.core.clock import rfc3339
from gateway.errors import StoreError, StoreUnavailable
from gateway.store.changes import PAGE as CHANGES
from gateway.store.changes import Change, Position, read_changes, read_position
from gateway.store.database import Database, Reader, Statement
from gateway.store.transfer.checks import check_record
from gateway.store.transfer.file import write_lines
from gateway.store.transfer.reading import PAGE, Scans, Unreadable, read_ids, read_records, read_revocations
from gateway.store.transfer.records import (
    FORMAT,
    KIND_OF,
    KINDS,
    MAX_LINE_BYTES,
    RANK,
    REVOCATION,
    TABLES,
    USER,
    VERSION,
    Header,
    Kind,
    Record,
    RevocationRecord,
    line,
)

Advance: TypeAlias = Callable[[int], None]

LEFT_OUT, AS_STORED, REFUSED = "left out", "as stored", "refused"

FEW = 20
"""Changes left for the snapshot at the end; twice as many after each round, so that there is an end to it however busy
the database is."""

_NEWEST_ENTRY = "SELECT coalesce(max(id), 0) FROM quota_ledger"
_TAKERS = "SELECT DISTINCT CAST(substr(spender, 6) AS BLOB) FROM quota_ledger WHERE id > ? AND owner GLOB 'org:*'"
_MOVED = """
SELECT CAST(user_id AS BLOB) FROM member_usage
WHERE org_id IN (SELECT substr(owner, 5) FROM quota_ledger WHERE id > ?1 AND kind = 'sql')
  AND 'org:' || org_id IN (SELECT value FROM json_each(?2))"""
"""Members of the organizations whose rows went to another period, which is a change of the organization too."""

_DRAFT = """
PRAGMA journal_mode=OFF;
CREATE TABLE draft(
  rank INTEGER, id TEXT, owner TEXT, content BLOB, what TEXT, reason TEXT, PRIMARY KEY (rank, id)
) WITHOUT ROWID;
CREATE INDEX draft_by_owner ON draft(owner) WHERE owner IS NOT NULL;
BEGIN;
"""


class Remark(NamedTuple):
    """What an operator should know of one record.

    `what` is ``left out``: it can not be told, ``as stored``: an import takes it only when told to take values as they
    are stored, or ``refused``: no import takes it.
    """

    kind: str
    id: str
    what: str
    reason: str


class Exported(NamedTuple):
    """What is in the file: records by kind, and the moment of the database that it is."""

    counts: dict[str, int]
    epoch: str
    seq: int


class Draft:
    """The records read so far, in a private file of SQLite's own, which has no name and goes with the process."""

    def __init__(self) -> None:
        self._connection = apsw.Connection("")
        self._connection.execute(_DRAFT).fetchall()

    def put(self, record: Record) -> None:
        """Take a record in the place of what stood under its id."""
        content: bytes | None = line(record)
        what, reason = _remark(record)
        if len(content or b"") > MAX_LINE_BYTES:
            content, what, reason = None, LEFT_OUT, f"it has more than {MAX_LINE_BYTES} bytes"
        owner = record.user_id if isinstance(record, RevocationRecord) else None
        self._insert(KIND_OF[type(record)], record.id, owner, content, what, reason)

    def put_unreadable(self, kind: Kind, id: str, reason: str) -> None:
        """Remember what can not be told as a record."""
        self._insert(kind, id, None, None, LEFT_OUT, reason)

    def drop(self, kind: Kind, id: str) -> None:
        """Forget a record that is not there any more."""
        self._connection.execute("DELETE FROM draft WHERE rank = ? AND id = ?", (RANK[kind.name], id))

    def drop_owned(self, owner: str) -> None:
        """Forget the revocations of a user."""
        self._connection.execute("DELETE FROM draft WHERE owner = ?", (owner,))

    def lines(self) -> Iterator[tuple[str, bytes]]:
        """The file's lines between header and manifest."""
        query = "SELECT rank, content FROM draft WHERE content IS NOT NULL ORDER BY rank, id"
        for rank, content in self._connection.execute(query):
            yield KINDS[rank].name, content

    def remarks(self) -> Iterator[Remark]:
        """What is not as it should be."""
        query = "SELECT rank, id, what, reason FROM draft WHERE what IS NOT NULL ORDER BY rank, id"
        for rank, id, what, reason in self._connection.execute(query):
            yield Remark(KINDS[rank].name, id, what, reason)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _insert(self, kind: Kind, *row: str | bytes | None) -> None:
        self._connection.execute(
            "INSERT INTO draft(rank, id, owner, content, what, reason) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET owner = excluded.owner, content = excluded.content, what = excluded.what, reason = excluded.reason",
            (RANK[kind.name], *row),
        )


def _remark(record: Record) -> tuple[str | None, str | None]:
    try:
        check_record(record)
    except ValueError as error:
        try:
            check_record(record, as_stored=True)
        except ValueError as worse:
            return REFUSED, str(worse)
        return AS_STORED, str(error)
    return None, None


async def count_records(db: Database) -> int:
    """About how many records an export will have."""
    counts = await db.scan(
        *(Statement(f"SELECT count(DISTINCT {kind.columns[0]}) FROM {kind.table}") for kind in KINDS)  # noqa: S608
    )
    return sum(rows[0][0] for rows in counts)


async def read_everything(db: Database, draft: Draft, advance: Advance = lambda records: None) -> Position:
    """Fill the draft with all records as they are at one moment, and return that moment.

    `advance` is told how many records were read. Raises `StoreUnavailable` where the database is replaced meanwhile, or
    its log cut off.
    """
    scans = Scans(db)
    position = await read_position(scans)
    [[(booked,)]] = await scans.read(Statement(_NEWEST_ENTRY))
    for kind in KINDS:
        async for ids in _pages(scans, kind, draft):
            await _take(scans, draft, kind, ids)
            advance(len(ids))
    few = FEW
    while True:
        changes = await read_changes(scans, position.last)
        if len(changes) <= few and (end := await _finished(db, draft, position, booked, few)):
            return end
        await _follows(scans, position)
        booked = await _amend(scans, draft, changes, booked)
        if changes:
            position = position._replace(last=changes[-1].seq)
        few = min(2 * few, CHANGES)


async def _finished(db: Database, draft: Draft, position: Position, booked: int, few: int) -> Position | None:
    """Read what was changed after `position` in one snapshot, and return the moment of that; None when it is too much
    by now."""
    db.seen(position.last)
    try:
        async with db.snapshot() as snapshot:
            end = await _follows(snapshot, position)
            changes = await read_changes(snapshot, position.last)
            if len(changes) > few:
                return None
            await _amend(snapshot, draft, changes, booked)
            return end
    except StoreError as error:
        if type(error) is not StoreError:
            raise
        return None  # a server's answer would have been too large


async def write_export(db: Database, draft: Draft, position: Position, file: BinaryIO) -> Exported:
    """Write the draft, which is of the moment `position`, as a file."""
    [[(schema,)]] = await db.scan(Statement("SELECT max(number) FROM migrations"))
    header = Header(
        format=FORMAT,
        version=VERSION,
        exported_at=rfc3339(db.clock()),
        epoch=position.epoch,
        seq=position.last,
        schema=schema,
        tables=list(TABLES),
    )
    return Exported(write_lines(file, header, draft.lines()), position.epoch, position.last)


async def _follows(reader: Reader, position: Position) -> Position:
    """The log's position now, which must be reachable from `position` without a gap."""
    now = await read_position(reader)
    if now.epoch != position.epoch or now.first > position.last + 1 or now.last < position.last:
        raise StoreUnavailable("the database was replaced or its change log was cut off while it was read: try again")
    return now


async def _pages(reader: Reader, kind: Kind, draft: Draft) -> AsyncIterator[list[str]]:
    after = b""
    while found := await read_ids(reader, kind, after):
        ids = []
        for raw in found:
            try:
                ids.append(raw.decode())
            except UnicodeDecodeError:
                draft.put_unreadable(kind, repr(raw)[2:-1], "the id is not UTF-8")
        yield ids
        after = found[-1]


async def _take(reader: Reader, draft: Draft, kind: Kind, ids: Sequence[str]) -> None:
    """Put what stands under these ids into the draft."""
    found = await read_records(reader, kind, ids)
    for id in ids:
        record = found.get(id)
        if record is None:
            draft.drop(kind, id)
        elif isinstance(record, Unreadable):
            draft.put_unreadable(kind, id, record.reason)
        else:
            draft.put(record)


async def _amend(reader: Reader, draft: Draft, changes: Sequence[Change], booked: int) -> int:
    """Read again what the changes name, and who took of pools since the ledger's entry `booked`; returns the newest."""
    newest, takers = await _takers(reader, changes, booked)
    docs = {change.doc for change in changes}
    for kind in KINDS:
        ids = sorted(doc.removeprefix(kind.doc) for doc in docs if kind.doc and doc.startswith(kind.doc))
        for first in range(0, len(ids), PAGE):
            await _take(reader, draft, kind, ids[first : first + PAGE])
        if kind is USER:
            # Of what a member without a cap takes, the log names the organization alone.
            others = sorted(takers.difference(ids))
            for first in range(0, len(others), PAGE):
                await _take(reader, draft, kind, others[first : first + PAGE])
    users = sorted(doc.removeprefix(USER.doc) for doc in docs if doc.startswith(USER.doc))
    for user in users:
        draft.drop_owned(user)
    for first in range(0, len(users), PAGE):
        revoked = await read_revocations(reader, users[first : first + PAGE])
        await _take(reader, draft, REVOCATION, revoked)
    return newest


async def _takers(reader: Reader, changes: Iterable[Change], booked: int) -> tuple[int, set[str]]:
    """The newest entry of the ledger, and the users whose `member_usage` may have changed since the one given."""
    orgs = sorted({change.doc for change in changes if change.cause == "organization"})
    [(newest,)], *rows = await reader.read(
        Statement(_NEWEST_ENTRY),
        Statement(_TAKERS, (booked,)),
        Statement(_MOVED, (booked, msgspec.json.encode(orgs).decode())),
    )
    return newest, {user.decode(errors="replace") for found in rows for (user,) in found if user is not None}
