"""Leases: units of a quota that are held for work whose cost is not known yet.

Each operation is one write, which also ends the lease if its time is over: two nodes whose clocks differ agree on
whatever was committed first. How a lease ends (committed, released, expired) moves the balance by a trigger of the
table, in the same commit; what was reserved in a period counts in that period, whenever it is committed.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from gateway.core.quotas import Limit
from gateway.core.spending import Balance, Basis
from gateway.errors import (
    BadRequest,
    Conflict,
    GatewayError,
    LeaseExpired,
    LeaseNotFound,
    NotFound,
    StoreConflict,
    StoreError,
    StoreUncertain,
    Unavailable,
    Uncertain,
)
from gateway.store.bases import Bases, period_of
from gateway.store.database import Database, Reader, Row, Statement, Written
from gateway.store.pruning import PRUNE_GROUP, in_groups
from gateway.store.spending import ATTEMPTS, RETRY_AFTER_S
from gateway.store.standings import COLUMNS, OPEN, TABLES, Standing, read_standing, refusal
from gateway.store.stuck_leases import Name, StuckLeases

log = logging.getLogger(__name__)

REMEMBERED = 16_384
"""Leases whose owner and quota are remembered, so that units can be added to them in one write."""
END_GROUP = 500
"""Leases that end in one commit, at the most."""

_KNOWN = "SELECT 1 FROM leases WHERE spender = ?1 AND id = ?2"
_END = """
UPDATE leases SET state = 'expired', ended_at = ?3
WHERE spender = ?1 AND id = ?2 AND state = 'open' AND expires_at <= ?3"""
_RESERVE = """
INSERT INTO spending(at, kind, spender, owner, quota, timezone, anchor_at, period, period_start, period_end, used,
  reserved, lease, expires_at)
VALUES (?3, 'reserve', ?1, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, ?11, ?2, ?12)"""
_ADD = """
INSERT INTO spending(at, kind, spender, owner, quota, timezone, anchor_at, period, period_start, period_end, used,
  reserved, key, lease, expires_at)
SELECT ?3, 'extend', spender, owner, quota, ?4, ?5, ?6, ?7, ?8, 0, ?9, ?10, id, ?11
FROM leases WHERE spender = ?1 AND id = ?2"""
_ENTRY = "SELECT kind, lease, reserved FROM quota_ledger WHERE key = ?2 AND spender = ?1"
# A lease is kept for who may still take from the quota; units that were added under this key need not be added again.
_RENEW = f"""
UPDATE leases SET expires_at = max(expires_at, ?4)
WHERE spender = ?1 AND id = ?2 AND state = 'open' AND expires_at > ?3
  AND (?5 = 0 OR EXISTS (SELECT 1 FROM quota_ledger WHERE key = ?6 AND spender = ?1 AND kind = 'extend' AND lease = ?2
    AND reserved = ?5))
  AND EXISTS (
    SELECT 1 FROM (SELECT leases.spender, leases.owner, leases.quota, ?3 AS at) AS w {TABLES}
    WHERE coalesce(q.period, p.period) IS NOT NULL
      AND {OPEN})
RETURNING 1"""  # noqa: S608 - no input in it
_SETTLE = """
UPDATE leases SET ended_at = ?3, state = iif(expires_at > ?3, ?4, 'expired'), committed = iif(expires_at > ?3, ?5, 0)
WHERE spender = ?1 AND id = ?2 AND state = 'open' AND (expires_at <= ?3 OR held >= ?5)"""
_LEASE = f"""
SELECT w.spender, w.id, w.owner, w.quota, w.period, w.period_start, w.period_end, w.held, w.committed, w.state,
  w.created_at, w.expires_at, w.ended_at, w.amount, {COLUMNS}
FROM (
  SELECT *, min(?3, coalesce(period_end - 1, ?3)) AS at FROM leases WHERE spender = ?1 AND id = ?2
) AS w {TABLES}"""  # noqa: S608 - no input in it
_SEQ = "SELECT seq FROM sqlite_sequence WHERE name = 'change_log'"
_OTHERS = "(spender, id) NOT IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))"
_NEXT_END = f"""
SELECT expires_at FROM leases WHERE state = 'open' AND {_OTHERS} ORDER BY expires_at LIMIT 1"""  # noqa: S608
_DUE = f"""
SELECT spender, id FROM leases WHERE state = 'open' AND expires_at <= ?2 AND {_OTHERS} ORDER BY expires_at LIMIT ?3"""  # noqa: S608
_END_DUE = f"""
UPDATE leases SET state = 'expired', ended_at = ?2 WHERE state = 'open' AND (spender, id) IN ({_DUE})
RETURNING 1"""  # noqa: S608

_PRUNE = """
DELETE FROM leases
WHERE (spender, id) IN (SELECT spender, id FROM leases WHERE state <> 'open' AND ended_at < ? LIMIT ?)
RETURNING 1"""

_PERIOD_OVER = "The lease is not of the present period: commit it and reserve anew."


class Lease(NamedTuple):
    """Units of `owner`'s quota that are held for `spender`, who named it `id`.

    `held` units are reserved in the period from `period_start` to `period_end` (None: it never ends) of the kind
    `period`, until `expires_at`. `state`: ``open``, ``committed`` (`committed` of them were used), ``released`` or
    ``expired``, since `ended_at`. Moments are milliseconds since 1970 UTC.
    """

    spender: str
    id: str
    owner: str
    quota: str
    period: str
    period_start: int
    period_end: int | None
    held: int
    committed: int
    state: str
    created_at: int
    expires_at: int
    ended_at: int | None


class Held(NamedTuple):
    """A lease as an operation left it, how its quota stands in the lease's period, and the position of the change log
    that shows it. `new`: it was made by this very request.
    """

    lease: Lease
    balance: Balance
    seq: int
    new: bool = False


class _Found(NamedTuple):
    """A lease in the database, with what was asked for when it was made, and its quota."""

    lease: Lease
    amount: int
    standing: Standing

    @classmethod
    def of(cls, row: Row) -> _Found:
        """Of the columns of `_LEASE`."""
        return cls(Lease(*row[:13]), row[13], Standing.of(row[14:]))

    def held(self, seq: int, *, new: bool = False) -> Held:
        """As it is answered. Of a quota that is nobody's any more, what was taken is told without a limit; of a pool
        that the spender may not take from any more, the lease's own units alone.
        """
        lease, standing = self.lease, self.standing
        if lease.owner.startswith("org:") and not standing.open:
            own = Balance(Limit(None, lease.period, False), lease.committed, 0, lease.period_end)
            return Held(lease, own, seq, new)
        balance = standing.balance(lease.period_end)
        limit = balance.limit._replace(period=lease.period) if standing.period else Limit(None, lease.period, False)
        return Held(lease, balance._replace(limit=limit), seq, new)


class Leases:
    """The leases of one database. `wall`: milliseconds since 1970 UTC.

    All operations raise `Unavailable` (nothing was done by this sending; what an earlier one did it does not say) and
    `Uncertain` (it is not known: ask again, the same request is carried out once).
    """

    def __init__(self, database: Database, bases: Bases, wall: Callable[[], int]) -> None:
        self._database = database
        self._bases = bases
        self._wall = wall
        self._quotas: OrderedDict[tuple[str, str], tuple[str, str]] = OrderedDict()
        self._stuck = StuckLeases()

    async def reserve(self, spender: str, owner: str, quota: str, amount: int, lease: str, ttl_s: float) -> Held:
        """Hold `amount` units for `ttl_s` seconds under the spender's name `lease`.

        A lease of that name that is open and was made by the same request is the answer again. Raises `QuotaExceeded`,
        `NotFound` for a quota that is not there for the spender, `LeaseExpired` for a name whose lease is over, and
        `Conflict` for one that was settled or is of another request.
        """
        for _ in range(ATTEMPTS):
            now = self._wall()
            basis, start, end = self._period(owner, quota, now)
            row = (spender, lease, now, owner, quota, *basis, start, end, amount, _end_of(now, ttl_s))
            written = await self._write(
                Statement(_KNOWN, (spender, lease)),
                Statement(_END, (spender, lease, now)),
                Statement(_RESERVE, row),
                Statement(_LEASE, (spender, lease, now)),
                read_standing(spender, owner, quota, start, now),
            )
            known, _, _, rows, standings = written.rows
            if rows:
                self._remember(spender, lease, owner, quota)
                return _reserved(_Found.of(rows[0]), (owner, quota, amount), written.seq, new=not known)
            standing = Standing.of(standings[0])
            found = standing.basis()
            if found is None or found == basis:
                break
            self._bases.remember(owner, quota, found, now)
        raise refusal(standing, quota, amount, end)

    async def extend(self, spender: str, lease: str, ttl_s: float, *, amount: int = 0, key: str | None = None) -> Held:
        """Hold the lease for `ttl_s` seconds from now at least, and `amount` units more under the spender's `key`, or
        nothing of both.

        Raises `LeaseNotFound`, `LeaseExpired`, `Conflict` for a lease that was settled, for units in a period that is
        over and for a key that was used otherwise, `QuotaExceeded`, `BadRequest` for units without a key, `NotFound`
        when the quota is not there for the spender any more.
        """
        if amount and key is None:
            raise BadRequest("Units are added to a lease with a key.")
        for _ in range(ATTEMPTS):
            now = self._wall()
            owner, quota = self._quotas.get((spender, lease), ("", ""))
            basis, start, end = self._period(owner, quota, now)
            expires_at = _end_of(now, ttl_s)
            place = (spender, lease, now)
            statements = [
                Statement(_END, place),
                Statement(_RENEW, (*place, expires_at, amount, key)),
                Statement(_LEASE, place),
            ]
            if amount:
                add = Statement(_ADD, (*place, *basis, start, end, amount, key, expires_at))
                statements = [add, *statements, Statement(_ENTRY, (spender, key))]
            written = await self._write(*statements)
            *_, renewed, rows = written.rows[: len(statements) - bool(amount)]
            entry = written.rows[-1] if amount else []
            found = _only(rows)
            if entry and entry[0] != ("extend", lease, amount):
                raise Conflict("The key was used for another request.")
            _check_open(found.lease)
            if renewed:
                return found.held(written.seq)
            self._remember(spender, lease, found.lease.owner, found.lease.quota)
            present = found.standing.basis()
            if not amount or present is None or not found.standing.open or present == basis:
                break
            self._bases.remember(found.lease.owner, found.lease.quota, present, now)
        raise _not_added(found, start, amount)

    async def commit(self, spender: str, lease: str, amount: int) -> Held:
        """Use `amount` of the units that are held and give back the rest; the lease ends.

        Raises `LeaseNotFound`, `BadRequest` for more than is held, `LeaseExpired` when its time was over, `Conflict`
        when it was released, or committed with another amount.
        """
        found, seq = await self._settle(spender, lease, "committed", amount)
        if found.lease.state == "open":
            raise BadRequest(f"The lease holds {found.lease.held}.")
        if found.lease.state != "committed":
            _check_open(found.lease)
        if found.lease.committed != amount:
            raise Conflict(f"The lease was committed with {found.lease.committed}.")
        return found.held(seq)

    async def release(self, spender: str, lease: str) -> Held:
        """Give back all units that are held; the lease ends. So does one whose time was over.

        Raises `LeaseNotFound`, and `Conflict` when it was committed.
        """
        found, seq = await self._settle(spender, lease, "released", 0)
        if found.lease.state == "committed":
            raise Conflict("The lease was committed.")
        return found.held(seq)

    async def find(self, spender: str, lease: str) -> Held:
        """The lease as it is now. Raises `LeaseNotFound`."""
        now = self._wall()
        place = (spender, lease, now)
        try:
            rows, seqs = await self._database.read(Statement(_LEASE, place), Statement(_SEQ))
        except StoreError as error:
            raise _unavailable() from error
        found, seq = _only(rows), int(seqs[0][0]) if seqs else 0
        if found.lease.state == "open" and found.lease.expires_at <= now:
            written = await self._write(Statement(_END, place), Statement(_LEASE, place))
            found, seq = _only(written.rows[1]), written.seq
        return found.held(seq)

    async def next_end(self) -> int | None:
        """When the next of all open leases is to be ended; None: there is none. Raises `StoreError`."""
        moments = [self._stuck.next_trial(), await self._next_of_others(self._database.near)]
        return min((moment for moment in moments if moment is not None), default=None)

    async def _next_of_others(self, reader: Reader) -> int | None:
        """When the next one ends that is not stuck."""
        [rows] = await reader.read(Statement(_NEXT_END, (self._stuck.names(),)))
        return int(rows[0][0]) if rows else None

    async def end_due(self, limit: int = END_GROUP) -> int:
        """End the leases whose time is over, the oldest first, at most `limit`, and try those again that could not be
        ended; how many ended. Raises `StoreError`."""
        now = self._wall()
        again = await self._end_each(self._stuck.due(now)[:limit], now)
        # Not a near read: from a replica that lags behind, what others ended would be due, and nothing be written.
        next_end = await self._next_of_others(self._database)
        if next_end is None or next_end > now:
            return again
        due = (self._stuck.names(), now, limit)
        try:
            return again + len((await self._database.write(Statement(_END_DUE, due))).rows[0])
        except StoreConflict:
            [names] = await self._database.read(Statement(_DUE, due))
            return again + await self._end_each([(spender, lease) for spender, lease in names], now)

    async def _end_each(self, names: Iterable[Name], now: int) -> int:
        """One that can not be ended must not keep the others open."""
        ended = 0
        for name in names:
            try:
                ended += len((await self._database.write(Statement(f"{_END} RETURNING 1", (*name, now)))).rows[0])
            except StoreConflict as error:
                if self._stuck.failed(name, now):
                    log.error("a lease can not be ended: %s", error, extra={"spender": name[0], "lease": name[1]})
            else:
                self._stuck.ended(name)
        return ended

    async def _settle(self, spender: str, lease: str, state: str, amount: int) -> tuple[_Found, int]:
        now = self._wall()
        place = (spender, lease, now)
        written = await self._write(Statement(_SETTLE, (*place, state, amount)), Statement(_LEASE, place))
        return _only(written.rows[1]), written.seq

    async def _write(self, *statements: Statement) -> Written:
        try:
            return await self._database.write(*statements)
        except StoreUncertain as error:
            raise Uncertain("It is not known whether this was done: ask again in the same words.") from error
        except StoreError as error:
            raise _unavailable() from error

    def _period(self, owner: str, quota: str, now: int) -> tuple[Basis, int, int | None]:
        basis = self._bases.of(owner, quota)
        return (basis, *period_of(basis, now))

    def _remember(self, spender: str, lease: str, owner: str, quota: str) -> None:
        if (spender, lease) not in self._quotas and len(self._quotas) >= REMEMBERED:
            self._quotas.popitem(last=False)
        self._quotas[spender, lease] = (owner, quota)


async def prune_leases(db: Database, before: int, *, groups: int) -> bool:
    """Delete the leases that ended before this moment (milliseconds since 1970 UTC), at most so many groups; whether
    none is left. Raises `StoreError`."""
    prune = Statement(_PRUNE, (before, PRUNE_GROUP))
    return await in_groups(db, PRUNE_GROUP, prune, groups=groups) < groups * PRUNE_GROUP


def _end_of(now: int, ttl_s: float) -> int:
    return now + max(1, round(ttl_s * 1000))


def _only(rows: list[Row]) -> _Found:
    if not rows:
        raise LeaseNotFound("No such lease.")
    return _Found.of(rows[0])


def _check_open(lease: Lease) -> None:
    if lease.state == "expired":
        raise LeaseExpired("The lease's time is over.")
    if lease.state != "open":
        raise Conflict(f"The lease was {lease.state}.")


def _reserved(found: _Found, asked: tuple[str, str, int], seq: int, *, new: bool) -> Held:
    """The answer about a lease that is there now, made by this request or before."""
    if (found.lease.owner, found.lease.quota, found.amount) != asked:
        raise Conflict("The lease's name was used for another request.")
    _check_open(found.lease)
    return found.held(seq, new=new)


def _not_added(found: _Found, start: int, amount: int) -> GatewayError:
    """Why a lease that is open was not extended."""
    lease, standing = found.lease, found.standing
    if not amount or standing.basis() is None or not standing.open:
        return NotFound("No such quota.")
    if lease.period_start != start:
        return Conflict(_PERIOD_OVER)
    return refusal(standing, lease.quota, amount, lease.period_end)


def _unavailable(**details: Any) -> Unavailable:
    return Unavailable("Leases can not be changed now.", retry_after_s=RETRY_AFTER_S, **details)
