"""The ledger of all quotas: whatever moved a balance, when, and how the balance adds up from it.

It has no index by owner on purpose, for each entry would be written twice: who reads it walks it from its end, in
steps that block nobody.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import msgspec

from gateway.core.clock import DAY_MS, HOUR_MS
from gateway.core.spending import split_name
from gateway.store.audit import Store
from gateway.store.driver import Statement, Value
from gateway.store.foreign_text import read_shown
from gateway.store.pruning import PRUNE_GROUP, in_groups

STEP = 50_000
"""Entries looked at by one statement."""
FEW = 100
"""Differences told at once, of each kind."""
PRUNE_PAGE = 5_000
"""Entries looked at, at once, for old ones."""
PRUNE_STEP_MS = DAY_MS
"""How much younger than at the call before the entries may be that a call deletes."""

CLOCKS_APART_MS = HOUR_MS
"""How far the clocks of nodes are taken to be apart at the most."""

_PRUNED_BEFORE = "ledger_pruned_before"
_COLUMNS = (
    "id, at, kind, owner, quota, period, period_start, period_end, used, reserved, used_after, reserved_after,"
    " spender, key, lease, reason, instance"
)


_LATEST = "SELECT max(at) FROM quota_ledger WHERE id < ? AND id >= ?"


class LedgerEntry(NamedTuple):
    """What moved a row of `quota_usage`: by `used` and `reserved`, to `used_after` and `reserved_after`.

    `kind`: ``consume``, ``reserve``, ``extend``, ``commit``, ``release``, ``expire``, ``adjust``, ``sql`` (a write that
    was not the gateway's) or ``opening`` (what stood when the ledger began); the last two have neither `spender` nor
    `period`. `instance` asked for it, for the `spender`; None: the spender. Moments are milliseconds since 1970 UTC.
    """

    id: int
    at: int
    kind: str
    owner: str
    quota: str
    period: str | None
    period_start: int
    period_end: int | None
    used: int
    reserved: int
    used_after: int
    reserved_after: int
    spender: str | None
    key: str | None
    lease: str | None
    reason: str | None
    instance: str | None


def _entry(row: LedgerEntry) -> LedgerEntry:
    """With the names that were given."""
    key, lease = (None if name is None else split_name(name)[1] for name in (row.key, row.lease))
    return row._replace(key=key, lease=lease)


class Difference(NamedTuple):
    """A row of `quota_usage`, or of what a member took of a pool, that is not what it has to be.

    `what`: ``used`` or ``reserved`` (the ledger says `expected`), ``held`` (open leases hold `expected`, and no SQL
    explains the rest), or ``member`` (likewise, of the member `spender`).
    """

    what: str
    owner: str
    quota: str
    period_start: int
    found: int
    expected: int
    spender: str | None = None


async def list_ledger(
    db: Store,
    owner: str,
    *,
    quota: str | None = None,
    before: int | None = None,
    since: int | None = None,
    limit: int = 100,
) -> list[LedgerEntry]:
    """At most `limit` entries of `owner` (``user:ID`` or ``org:ID``), the newest first: those with an id below
    `before`, of `quota`, not older than `since` (milliseconds since 1970 UTC)."""
    conditions, values = ["owner = ?"], list[Value]([owner])
    if quota is not None:
        conditions.append("quota = ?")
        values.append(quota)
    if since is not None:
        conditions.append("at >= ?")
        values.append(since)
    sql = f"SELECT {_COLUMNS} FROM quota_ledger WHERE id < ? AND id >= ? AND {' AND '.join(conditions)}"  # noqa: S608
    [[(oldest, newest)]] = await db.scan(Statement("SELECT min(id), max(id) FROM quota_ledger"))
    end = 0 if newest is None else newest + 1 if before is None else min(before, newest + 1)
    entries: list[LedgerEntry] = []
    while end > (oldest or 0) and len(entries) < limit:
        page = Statement(f"{sql} ORDER BY id DESC LIMIT ?", (end, end - STEP, *values, limit - len(entries)))
        [rows] = await read_shown(db.scan, page)
        entries += [_entry(LedgerEntry(*row)) for row in rows]
        if since is not None:
            [[(youngest,)]] = await db.scan(Statement(_LATEST, (end, end - STEP)))
            # The clocks of several nodes do not agree, so an entry with a lower id may be a little younger.
            if youngest is not None and youngest < since - CLOCKS_APART_MS:
                break
        end -= STEP
    return entries


# Of a row that is older than what was pruned the newest entry has to do, if it is not one that may have been followed
# by another that was.
_UNBALANCED = """
WITH booked AS (
  SELECT owner, quota, period_start, sum(used) AS used, sum(reserved) AS reserved, max(id) AS last
  FROM quota_ledger GROUP BY owner, quota, period_start
)
SELECT coalesce(b.owner, u.owner), coalesce(b.quota, u.quota), coalesce(b.period_start, u.period_start),
  coalesce(u.used, 0), coalesce(u.reserved, 0), coalesce(b.used, 0), coalesce(b.reserved, 0)
FROM booked AS b FULL JOIN quota_usage AS u
  ON u.owner = b.owner AND u.quota = b.quota AND u.period_start = b.period_start
LEFT JOIN quota_ledger AS l ON l.id = b.last
WHERE (coalesce(u.used, 0), coalesce(u.reserved, 0)) <> (coalesce(b.used, 0), coalesce(b.reserved, 0))
  AND (coalesce(b.period_start, u.period_start) >= ?1 OR l.at >= ?1 + ?2
    AND (l.used_after, l.reserved_after) <> (coalesce(u.used, 0), coalesce(u.reserved, 0)))
LIMIT ?3"""
_UNHELD = """
WITH held AS (
  SELECT owner, quota, period_start, sum(held) AS held FROM leases WHERE state = 'open'
  GROUP BY owner, quota, period_start
)
SELECT coalesce(h.owner, u.owner), coalesce(h.quota, u.quota), coalesce(h.period_start, u.period_start),
  coalesce(u.reserved, 0), coalesce(h.held, 0)
FROM held AS h FULL JOIN quota_usage AS u
  ON u.owner = h.owner AND u.quota = h.quota AND u.period_start = h.period_start
WHERE coalesce(u.reserved, 0) <> coalesce(h.held, 0)
LIMIT ?"""
_SQL_RESERVED = """
SELECT DISTINCT owner, quota, period_start FROM quota_ledger
WHERE kind IN ('sql', 'opening') AND reserved <> 0 AND owner IN (SELECT value FROM json_each(?))"""
_MEMBERS = """
WITH held AS (
  SELECT owner, spender, quota, period_start, sum(held) AS held FROM leases
  WHERE state = 'open' AND owner GLOB 'org:*' GROUP BY owner, spender, quota, period_start
)
SELECT coalesce(h.owner, 'org:' || m.org_id), coalesce(h.quota, m.quota), coalesce(h.period_start, m.period_start),
  coalesce(m.reserved, 0), coalesce(h.held, 0), coalesce(h.spender, 'user:' || m.user_id)
FROM held AS h FULL JOIN member_usage AS m ON 'org:' || m.org_id = h.owner AND 'user:' || m.user_id = h.spender
  AND m.quota = h.quota AND m.period_start = h.period_start
WHERE coalesce(m.reserved, 0) <> coalesce(h.held, 0)
LIMIT ?"""


async def unbalanced(db: Store) -> list[Difference]:
    """Where the ledger, the balances and the open leases do not agree; some of each kind, if there are many."""
    mark = await _pruned_before(db)
    lowest = -(2**63) if mark is None else mark
    rows, unheld, members = await db.scan(
        Statement(_UNBALANCED, (lowest, 0 if mark is None else CLOCKS_APART_MS, FEW)),
        Statement(_UNHELD, (FEW,)),
        Statement(_MEMBERS, (FEW,)),
    )
    found = []
    for owner, quota, period_start, used, reserved, booked_used, booked_reserved in rows:
        if used != booked_used:
            found.append(Difference("used", owner, quota, period_start, used, booked_used))
        if reserved != booked_reserved:
            found.append(Difference("reserved", owner, quota, period_start, reserved, booked_reserved))
    # Somebody else may hold units too, and says so in `reserved`: that is in the ledger as SQL.
    owners = msgspec.json.encode([row[0] for row in unheld if row[3] > row[4]]).decode()
    [explained] = await db.scan(Statement(_SQL_RESERVED, (owners,)))
    found += [Difference("held", *row) for row in unheld if row[3] < row[4] or row[:3] not in explained]
    found += [Difference("member", *row) for row in members]
    return found


class Pruned(NamedTuple):
    """How many entries were deleted, the id up to which all were looked at, the moment up to which what is old may go
    (None: the ledger is empty), and whether nothing of that is left.
    """

    entries: int
    position: int
    before: int | None
    done: bool = True


async def prune_ledger(
    db: Store, keep_ms: int, now: int, *, position: int = 0, before: int | None = None, pages: int | None = None
) -> Pruned:
    """Delete the entries older than `keep_ms` milliseconds at `now` (milliseconds since 1970 UTC), but those of
    periods that never end or that began since; `position` is what the call before returned. At most `pages` of the
    ledger are looked at; who goes on says `before` as it was returned.

    A clock that is wrong must not cost the ledger: see `prune_audit`, which goes by the same rule.
    """
    [rows] = await db.read(Statement(_NEWEST))
    if not rows:
        return Pruned(0, 0, None)
    [(newest, last)] = rows
    if before is None:
        mark = await _pruned_before(db)
        before = min(now, newest) - keep_ms
        if mark is not None:
            before = min(before, mark + PRUNE_STEP_MS)
    deleted = 0
    for _ in itertools.count() if pages is None else range(pages):
        [[(end, at, old)]] = await db.scan(Statement(_PAGE, (before, last, position, PRUNE_PAGE)))
        if old:
            reached = Statement(_REACHED, (_PRUNED_BEFORE, str(before)))
            delete = Statement(_DELETE, (before, last, position, end, PRUNE_GROUP))
            deleted += await in_groups(db, PRUNE_GROUP, reached, delete)
        elif end is None or at >= before:
            return Pruned(deleted, position, before)
        position = end
    return Pruned(deleted, position, before, done=False)


_OLD = "at < ?1 AND period_start < ?1 AND period IS NOT 'never' AND id < ?2"
_NEWEST = "SELECT at, id FROM quota_ledger ORDER BY id DESC LIMIT 1"
# `at` is that of the row with the highest id: SQLite takes bare columns from the row of the one max().
_PAGE = f"""
SELECT max(id), at, count(*) FILTER (WHERE {_OLD})
FROM (SELECT * FROM quota_ledger WHERE id > ?3 ORDER BY id LIMIT ?4)"""  # noqa: S608 - no input in it
_DELETE = f"""
DELETE FROM quota_ledger WHERE id IN (
  SELECT id FROM quota_ledger WHERE id > ?3 AND id <= ?4 AND {_OLD} ORDER BY id LIMIT ?5)
RETURNING 1"""  # noqa: S608
_REACHED = """
INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value
WHERE CAST(value AS INTEGER) < CAST(excluded.value AS INTEGER)"""


async def _pruned_before(db: Store) -> int | None:
    """Entries at and about periods from before this moment may be gone; None: none is."""
    [rows] = await db.read(Statement("SELECT CAST(value AS INTEGER) FROM meta WHERE key = ?", (_PRUNED_BEFORE,)))
    return int(rows[0][0]) if rows else None
