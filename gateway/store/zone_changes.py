"""What was taken of quotas counts in every period of another time zone that the period it was taken in overlaps.

Else moving about would begin a period anew, or have the next one begin ever sooner. A balance counts the rows that
begin in its period, so at a change of zone rows go to where that says what it has to:

* the row of a period that is over goes to the last millisecond of it, which lies in whatever period overlaps it;
* what the present period has goes to the millisecond after the new one's start (what is reserved to the start itself,
  where leases are extended), and a row of nothing to the last millisecond that it counts in: the mark. Periods that
  begin before the mark are debited with all of it, reserved units as used ones.

The next change takes the debits back and does the same by the mark. So there and back is as if nothing had been, and
nothing is debited for longer because of a debit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from gateway.core.quotas import LONGEST_MS
from gateway.core.spending import Basis
from gateway.store.driver import Reader, Statement

_KINDS = """
WITH own AS (
  SELECT quota, period FROM user_quotas
  WHERE user_id = ?2 AND coalesce(starts_at <= ?3, 1) AND coalesce(expires_at > ?3, 1)
)
SELECT quota, period FROM own
UNION ALL SELECT quota, period FROM plan_quotas
WHERE plan = ?1 AND quota NOT IN (SELECT quota FROM own)"""
_ROWS = """
SELECT quota, period_start, used + reserved FROM quota_usage
WHERE owner = ? AND quota IN (SELECT value FROM json_each(?))"""
# ?1: the owner; ?2: quotas, with starts of rows as in `Move` or as in a pair.
_LISTED = """(
SELECT value ->> 0 AS quota, value ->> 1 AS origin, value ->> 2 AS target, value ->> 3 AS held, value ->> 4 AS ending
FROM json_each(?2)) AS m"""
_TAKEN_BACK = f"""
UPDATE {{table}} AS q SET used = max(0, q.used - t.used) FROM {_LISTED} CROSS JOIN {{table}} AS t
WHERE t.{{owned}} AND t.quota = m.quota AND t.period_start = m.origin
  AND q.{{owned}} AND q.quota = m.quota AND q.period_start = m.target AND {{same}}"""  # noqa: S608 - no input in any of these
_AMONG = f"(quota, period_start) IN (SELECT quota, origin FROM {_LISTED})"  # noqa: S608
_DROPPED = f"UPDATE {{table}} SET used = 0 WHERE {{owned}} AND used > 0 AND {_AMONG}"  # noqa: S608
_EMPTIED = f"DELETE FROM {{table}} WHERE {{owned}} AND (used, reserved) = (0, 0) AND {_AMONG}"  # noqa: S608
_DEBITED = f"""
INSERT INTO {{table}}({{columns}}, quota, period_start, used)
SELECT {{columns}}, m.quota, m.target, sum(used + reserved) FROM {_LISTED} CROSS JOIN {{table}} AS t
WHERE t.{{owned}} AND t.quota = m.quota AND t.period_start = m.origin
GROUP BY {{columns}}, m.quota, m.target HAVING sum(used + reserved) > 0
ON CONFLICT DO UPDATE SET used = used + excluded.used"""  # noqa: S608
_ADDED = f"""
INSERT INTO {{table}}({{columns}}, quota, period_start, {{amount}})
SELECT {{columns}}, m.quota, m.{{target}}, sum({{amount}}) FROM {_LISTED} CROSS JOIN {{table}} AS t
WHERE t.{{owned}} AND t.quota = m.quota AND t.period_start = m.origin AND m.origin <> m.{{target}}
GROUP BY {{columns}}, m.quota, m.{{target}} HAVING sum({{amount}}) > 0
ON CONFLICT DO UPDATE SET {{amount}} = {{amount}} + excluded.{{amount}}"""  # noqa: S608
_TAKEN = f"""
UPDATE {{table}} SET {{amount}} = 0 WHERE {{owned}} AND {{amount}} > 0
  AND (quota, period_start) IN (SELECT quota, origin FROM {_LISTED} WHERE origin <> {{target}})"""  # noqa: S608
_LEASES = f"""
UPDATE leases SET period_start = m.held, period_end = m.ending FROM {_LISTED}
WHERE owner = ?1 AND state = 'open' AND leases.quota = m.quota AND period_start = m.origin"""  # noqa: S608
_MARKED = f"""
INSERT INTO quota_usage(owner, quota, period_start) SELECT ?1, m.quota, m.target FROM {_LISTED}
WHERE EXISTS (SELECT 1 FROM quota_usage AS q
  WHERE q.owner = ?1 AND q.quota = m.quota AND q.period_start = m.origin AND used + reserved > 0)
ON CONFLICT DO NOTHING"""  # noqa: S608

_OWN = {"table": "quota_usage", "owned": "owner = ?1", "columns": "owner", "same": "1"}
_MEMBERS = {
    **{"table": "member_usage", "owned": "org_id = substr(?1, 5)", "columns": "org_id, user_id"},
    "same": "q.user_id = t.user_id",
}


class Placed(Protocol):
    """Who has quotas by a plan, in a time zone."""

    @property
    def plan(self) -> str:
        """The plan's id."""

    @property
    def timezone(self) -> str:
        """The IANA name."""

    @property
    def anchor_at(self) -> int | None:
        """In milliseconds since 1970 UTC."""


class Move(NamedTuple):
    """What is used goes from the row at `origin` to the one at `target`; what is reserved, with the leases that hold
    it, to `held`, whose period ends at `ending`.
    """

    origin: int
    target: int
    held: int
    ending: int


class Moves(NamedTuple):
    """What a change of zone does to the rows of one quota, in this order; rows by their starts. `taken_back`: what is
    used in the first goes from the second; `dropped`: all that is used goes; `marks`: if the first has anything, there
    is a second; `debits`: what the first has is added to the second.
    """

    taken_back: list[tuple[int, int]]
    dropped: list[int]
    marks: list[tuple[int, int]]
    debits: list[tuple[int, int]]
    moves: list[Move]


def plan_moves(before: Basis, after: Basis, rows: Mapping[int, int], now: int) -> Moves:
    """What is done when the basis of a quota with calendar periods, and with these `rows` (how much is used and
    reserved, by start), changes at `now`. Raises ValueError as `period_bounds` does.
    """
    (start, end), (later, ending) = _bounds(before, now), _bounds(after, now)
    longest = LONGEST_MS[before.period]
    recent = {row for row in rows if now - 2 * longest < row <= now}
    tag, until = _carried(before, rows, recent, now)
    plan = Moves([], [], [], [], [])
    live = {start}
    for row in sorted(recent):
        over = until if row == tag else _bounds(before, row)[1]
        if over > now:
            if row == tag or not _is_last(before, row):
                live.add(row)
        elif over > now - longest and not _is_last(before, row):
            plan.moves.append(Move(row, over - 1, over - 1, over))
    if (start, end) == (later, ending):
        return plan._replace(moves=[move for move in plan.moves if move.origin != tag])
    for debited in _starts(before, end if tag is None else _bounds(before, tag)[1], until):
        if debited > now:
            plan.dropped.append(debited)
        elif tag is not None:
            plan.taken_back.append((tag, debited))
    if until > now:
        plan.dropped.append(until - 1)
    for row in sorted(live):
        last = until if row == tag else max(until, end)
        plan.debits.extend((row, debited) for debited in _starts(after, ending, last))
        plan.marks.append((row, last - 1))
        plan.moves.append(Move(row, min(later + 1, now), later, ending))
    return plan


def _carried(before: Basis, rows: Mapping[int, int], recent: Collection[int], now: int) -> tuple[int | None, int]:
    """The row that an earlier change carried along, and until when what it carried counts (0: there was none)."""
    near = now + LONGEST_MS[before.period]
    marks = (row + 1 for row, amount in rows.items() if amount == 0 and _is_last(before, row) and row < near)
    until = max(marks, default=0)
    tags = (row for row in recent if row < until and _bounds(before, row)[0] == row - 1)
    tag = max(tags, default=None)
    return tag, until if tag is not None or until > now else 0


def _is_last(basis: Basis, row: int) -> bool:
    """Whether a row is at the last millisecond of a period, in whatever zone: all begin so long after a full second."""
    return (row + 1 - (basis.anchor_at or 0)) % 1000 == 0


def _bounds(basis: Basis, moment: int) -> tuple[int, int]:
    start, end = basis.bounds(moment)
    if end is None:
        raise ValueError("the period has no end")
    return start, end


def _starts(basis: Basis, start: int, until: int) -> Iterator[int]:
    """The starts of the periods from the one at `start` on, before `until`."""
    while start < until:
        yield start
        start = _bounds(basis, start)[1]


async def zone_moves(db: Reader, owner: str, before: Placed, after: Placed, now: int) -> list[Statement]:
    """What belongs into the write by which `before` becomes `after`, whose balances are those of `owner` (``user:ID``
    or ``org:ID``), at `now` (milliseconds since 1970 UTC). Another anchor is meant to begin periods anew.
    """
    if before.timezone == after.timezone or before.anchor_at != after.anchor_at:
        return []
    kind, _, id = owner.partition(":")
    [kinds] = await db.read(Statement(_KINDS, (after.plan, id if kind == "user" else "", now)))
    periods = {str(quota): str(period) for quota, period in kinds if period in LONGEST_MS}
    [found] = await db.read(Statement(_ROWS, (owner, _told(list(periods)))))
    plans = {}
    for quota, period in periods.items():
        old, new = (Basis(who.timezone, who.anchor_at, period) for who in (before, after))
        try:
            plans[quota] = plan_moves(old, new, {row: amount for name, row, amount in found if name == quota}, now)
        except ValueError:
            continue  # a zone from SQL, by which nothing could be taken
    return _statements(owner, plans)


def _statements(owner: str, plans: Mapping[str, Moves]) -> list[Statement]:
    """The plans by quota, for `owner`."""
    back = [(quota, *pair) for quota, plan in plans.items() for pair in plan.taken_back]
    dropped = [(quota, row) for quota, plan in plans.items() for row in plan.dropped]
    debits = [(quota, *pair) for quota, plan in plans.items() for pair in plan.debits]
    moves = [(quota, *move) for quota, plan in plans.items() for move in plan.moves]
    marks = [(quota, *pair) for quota, plan in plans.items() for pair in plan.marks]
    tables = (_OWN, _MEMBERS) if owner.startswith("org:") else (_OWN,)
    done: list[tuple[str, Sequence[object]]]
    first = ((_TAKEN_BACK, back), (_DROPPED, dropped), (_EMPTIED, dropped))
    done = [(sql.format(**names), told) for sql, told in first for names in tables]
    done.append((_MARKED, marks))
    for names in tables:
        done.append((_DEBITED.format(**names), debits))
        for amount, target in (("used", "target"), ("reserved", "held")):
            done += [(sql.format(**names, amount=amount, target=target), moves) for sql in (_ADDED, _TAKEN)]
        done.append((_EMPTIED.format(**names), moves))
    done.append((_LEASES, moves))
    return [Statement(sql, (owner, _told(told))) for sql, told in done if told]


def _told(value: object) -> str:
    return msgspec.json.encode(value).decode()
