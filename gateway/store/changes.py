"""The change log: what changed, in commit order, written by the triggers of ``schema.sql`` alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from gateway.errors import StoreError
from gateway.store.database import Database, Reader, Row, Statement
from gateway.store.pruning import PRUNE_GROUP, in_groups

PAGE = 1_000
"""Rows read at once."""


class Change(NamedTuple):
    """One row: `doc` covers what changed (``user:ID``, ``org:ID``, ``plan:ID``, ``role:ID``, ``revocations``),
    `cause` is a word of the protocol's vocabulary or, for nodes alone, `sessions` or `use`. `at` is the writer's clock
    in milliseconds since 1970 UTC.
    """

    seq: int
    doc: str
    cause: str
    at: int


class Position(NamedTuple):
    """Where the log stands: `first` and `last` are its oldest and newest `seq`.

    `last` is 0 when nothing was ever logged; `first` is ``last + 1`` when no row is left. A follower that has read up
    to `n` missed something if `epoch` is another one than before, if ``first > n + 1`` or if ``last < n``.
    """

    epoch: str
    first: int
    last: int


_POSITION = Statement(
    "SELECT (SELECT value FROM meta WHERE key = 'epoch'),"
    " coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'change_log'), 0),"
    " (SELECT seq FROM change_log ORDER BY seq LIMIT 1)"
)
_PAGE = "SELECT seq, doc, cause, at FROM change_log WHERE seq > ? ORDER BY seq LIMIT ?"
_BEFORE_NEWEST = "SELECT min(seq) - 1 FROM (SELECT seq FROM change_log ORDER BY seq DESC LIMIT ?)"
_RAW_PAGE = _PAGE.replace("doc, cause", "CAST(doc AS BLOB), CAST(cause AS BLOB)")


async def read_position(reader: Reader) -> Position:
    """The log's epoch and ends, of one moment. Raises `StoreError` where there is no epoch: it was never migrated."""
    [position] = await reader.read(_POSITION)
    return _position(position[0])


async def read_news(reader: Reader, after: int, limit: int = PAGE) -> tuple[Position, list[Change]]:
    """Where the log stands and the first rows of what it has after `after`, of one moment and in one read."""
    try:
        position, rows = await reader.read(_POSITION, Statement(_PAGE, (after, limit)))
    except UnicodeDecodeError:
        [position], rows = await reader.read(_POSITION), await _raw_rows(reader, after, limit)
    return _position(position[0]), list(map(Change._make, rows))


def _position(row: Row) -> Position:
    epoch, last, first = row
    if epoch is None:
        raise StoreError("the database has no epoch")
    return Position(epoch, last + 1 if first is None else first, last)


async def last_seq(reader: Reader) -> int:
    """The newest `seq` ever given, 0 before the first."""
    rows = await reader.read(Statement("SELECT seq FROM sqlite_sequence WHERE name = 'change_log'"))
    return int(rows[0][0][0]) if rows[0] else 0


async def read_changes(reader: Reader, after: int, limit: int = PAGE) -> list[Change]:
    """The oldest rows with a `seq` greater than `after`, at most `limit`, in order."""
    try:
        [rows] = await reader.read(Statement(_PAGE, (after, limit)))
    except UnicodeDecodeError:
        rows = await _raw_rows(reader, after, limit)
    return list(map(Change._make, rows))


async def read_newest(reader: Reader, limit: int) -> tuple[Position, list[Change]]:
    """Where the log stands and its newest rows, at most `limit`, oldest first."""
    [[(place,)]] = await reader.read(Statement(_BEFORE_NEWEST, (limit,)))
    return await read_news(reader, place or 0, limit)


async def _raw_rows(reader: Reader, after: int, limit: int) -> list[Row]:
    """A page with an id that is not UTF-8: nobody whom a client could name, and it must not stop the log."""
    [raw] = await reader.read(Statement(_RAW_PAGE, (after, limit)))
    return [(seq, doc.decode(errors="replace"), cause.decode(errors="replace"), at) for seq, doc, cause, at in raw]


async def read_pages(reader: Reader, after: int) -> AsyncIterator[list[Change]]:
    """Everything after `after` up to the end, in pages of 1,000 rows; with a snapshot, up to that snapshot's end."""
    while page := await read_changes(reader, after):
        yield page
        if len(page) < PAGE:
            return
        after = page[-1].seq


async def prune(db: Database, keep_ms: int, now_ms: int) -> int:
    """Delete the log's rows older than `keep_ms` milliseconds and return how many; the newest row always stays.

    Only ever the oldest ones, up to the first that is younger: a gap in the middle would hide from a follower that it
    missed something. Revocations of credentials that ended that long ago anyway go with them.
    """
    ended = Statement(
        "DELETE FROM revocations WHERE id IN (SELECT id FROM revocations WHERE expires_at < ? LIMIT ?) RETURNING 1",
        (now_ms - keep_ms, PRUNE_GROUP),
    )
    old = Statement(
        "WITH oldest AS (SELECT seq, at FROM change_log ORDER BY seq LIMIT ?)"
        " DELETE FROM change_log WHERE seq < coalesce("
        "(SELECT min(seq) FROM oldest WHERE at >= ?), (SELECT max(seq) FROM oldest)) RETURNING 1",
        (PRUNE_GROUP + 1, now_ms - keep_ms),
    )
    await in_groups(db, PRUNE_GROUP, ended)
    return await in_groups(db, PRUNE_GROUP, old)
