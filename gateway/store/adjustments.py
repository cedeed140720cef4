"""Corrections of a balance by whoever may make them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gateway.core.document import MAX_INTEGER
from gateway.core.quotas import Limit
from gateway.core.spending import Balance, Basis, Spent
from gateway.errors import Conflict, GatewayError, NoRowChanged, NotFound, Unavailable
from gateway.store.audit import Entry, Lookup, Store, record
from gateway.store.bases import Bases, period_of
from gateway.store.driver import Row, Statement, Value
from gateway.store.spending import ATTEMPTS, RETRY_AFTER_S
from gateway.store.standings import Standing, exceeded, read_standing, uncountable

_ROWS = """
SELECT period_start, used FROM quota_usage WHERE owner = ? AND quota = ? AND period_start BETWEEN ? AND ?
ORDER BY period_start DESC"""
_ENTRY_COLUMNS = """
kind, owner, quota, reason, asked, used_after, carried_used, reserved_after + carried_reserved, limit_value, period,
hard, period_end, seq"""
_ENTRY = f"SELECT {_ENTRY_COLUMNS} FROM quota_ledger WHERE key = ? AND spender = ?"  # noqa: S608
# Changes nothing: a server tells what a statement changed, not what it found.
_MADE = f"UPDATE quota_ledger SET key = key WHERE key = ? AND spender = ? RETURNING {_ENTRY_COLUMNS}"  # noqa: S608
_UNTOLD = "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM quota_ledger WHERE key = ? AND spender = ?)"
_BEFORE = """
SELECT json_object('used', coalesce(sum(used), 0)) FROM quota_usage
WHERE owner = ? AND quota = ? AND period_start BETWEEN ? AND ?"""
_ADJUST = """
INSERT INTO spending(at, kind, spender, owner, quota, timezone, anchor_at, period, period_start, period_end, used,
  reserved, key, absolute, reason, asked)
VALUES (?, 'adjust', ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?)"""
# The newest entry says what the row holds next, so the row is not booked once more.
_TAKE = """
INSERT INTO quota_ledger(at, kind, owner, quota, period_start, used, reserved, used_after, reserved_after, spender,
  reason)
SELECT ?1, 'adjust', owner, quota, period_start, -?5, 0, used - ?5, reserved, ?6, ?7
FROM quota_usage
WHERE owner = ?2 AND quota = ?3 AND period_start = ?4 AND used >= ?5
  AND NOT EXISTS (SELECT 1 FROM quota_ledger WHERE key = ?8 AND spender = ?6)"""
_TAKEN = "UPDATE quota_usage SET used = used - ? WHERE owner = ? AND quota = ? AND period_start = ? AND used >= ?"


class Adjustment(NamedTuple):
    """What `actor` (``user:ID``, or who the audit trail says) makes of the present balance of `owner`'s quota.

    `amount` units are added or, below zero, taken away; `absolute`: they are the new total. `key` is the actor's name
    for this request: shown again, it is this one.
    """

    actor: str
    owner: str
    quota: str
    amount: int
    absolute: bool
    reason: str
    key: str | None = None


async def adjust(db: Store, adjustment: Adjustment, *, now: int, bases: Bases, entry: Entry | None = None) -> Spent:
    """Carry it out at `now` (milliseconds since 1970 UTC), once under one key, with `entry` in the audit trail.

    Where `entry` has none, its `before` and `after` are filled in. Raises `QuotaExceeded` for what would pass a hard
    limit, `Conflict` for more than can be taken away and for a key that was used otherwise, `NotFound` for a quota that
    the owner does not have, `BadRequest`, `Unavailable`, `StoreError`.
    """
    actor, owner, quota = adjustment.actor, adjustment.owner, adjustment.quota
    key = adjustment.key or secrets.token_hex(16)
    for _ in range(ATTEMPTS):
        basis = bases.of(owner, quota)
        start, end = period_of(basis, now)
        entries, standings, rows = await db.read(
            Statement(_ENTRY, (key, actor)),
            read_standing("", owner, quota, start, now),
            Statement(_ROWS, (owner, quota, start, now)),
        )
        if entries:
            return _answer(adjustment, entries[0])
        standing = Standing.of(standings[0])
        found = standing.basis()
        if found is None:
            raise NotFound("No such quota.")
        if found != basis:
            bases.remember(owner, quota, found, now)
            continue
        if refused := _refusal(adjustment, standing, end):
            raise refused
        orders = list(_orders(adjustment, key, now, basis, _taken(adjustment, standing, start, rows)))
        if entry is not None:
            told = _told(adjustment, entry, Lookup(_BEFORE, (owner, quota, start, now)))
            orders.insert(0, record(told, now, Lookup(_UNTOLD, (key, actor))))
        try:
            written = await db.write(*orders, Statement(_MADE, (key, actor), must_change=True))
        except NoRowChanged:
            continue
        return _answer(adjustment, written.rows[-1][0])
    raise Unavailable("The quota is changing; try again.", retry_after_s=RETRY_AFTER_S)


def _delta(adjustment: Adjustment, used: int) -> int:
    return adjustment.amount - used if adjustment.absolute else adjustment.amount


def _refusal(adjustment: Adjustment, standing: Standing, period_end: int | None) -> GatewayError | None:
    delta = _delta(adjustment, standing.used)
    if standing.used + delta < 0:
        return Conflict(f"No more than {standing.used} can be taken away.")
    balance = standing.balance(period_end)
    left = balance.leaves()
    if delta > 0 and left is not None and delta > left:
        return exceeded(balance, adjustment.quota, delta)
    if standing.used + standing.reserved + delta > MAX_INTEGER:
        return uncountable()
    return None


def _taken(adjustment: Adjustment, standing: Standing, start: int, rows: Sequence[Row]) -> list[tuple[int, int]]:
    """What has to be taken from rows that count in this period and began later than it, because the period's own row
    does not have as much: `period_start` and units."""
    own = sum(used for period_start, used in rows if period_start == start)
    missing = -_delta(adjustment, standing.used) - own
    taken = []
    for period_start, used in rows:
        if period_start != start and used and missing > 0:
            taken.append((period_start, min(used, missing)))
            missing -= used
    return taken


def _orders(
    adjustment: Adjustment, key: str, now: int, basis: Basis, taken: Sequence[tuple[int, int]]
) -> Iterator[Statement]:
    actor, owner, quota, amount, absolute, reason, _ = adjustment
    for period_start, units in taken:
        yield Statement(_TAKE, (now, owner, quota, period_start, units, actor, reason, key), must_change=True)
        yield Statement(_TAKEN, (units, owner, quota, period_start, units), must_change=True)
    start, end = basis.bounds(now)
    used = amount if absolute else amount + sum(units for _, units in taken)
    values: tuple[Value, ...] = (
        now,
        actor,
        owner,
        quota,
        *basis,
        start,
        end,
        used,
        key,
        int(absolute),
        reason,
        _asked(adjustment),
    )
    yield Statement(_ADJUST, values)


def _asked(adjustment: Adjustment) -> str:
    """As the ledger has it."""
    return f"={adjustment.amount}" if adjustment.absolute else f"{adjustment.amount:+}"


def _told(adjustment: Adjustment, entry: Entry, before: Lookup) -> Entry:
    amount = {"used" if adjustment.absolute else "amount": adjustment.amount}
    after = {"quota": adjustment.quota, **amount, "reason": adjustment.reason}
    return entry._replace(before=entry.before or before, after=after if entry.after is None else entry.after)


def _answer(adjustment: Adjustment, entry: Row) -> Spent:
    """What the ledger has under the key, be it of now or of an earlier time."""
    *told, after, carried, reserved, limit, period, hard, period_end, seq = entry
    if told != ["adjust", adjustment.owner, adjustment.quota, adjustment.reason, _asked(adjustment)]:
        raise Conflict("The key was used for another request.")
    return Spent(Balance(Limit(limit, period, bool(hard)), after + carried, reserved, period_end), seq)
