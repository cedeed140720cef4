"""What was taken of quotas stays taken when somebody moves to another time zone.

The present period may begin later there than the row to which its units were added. Such rows become the row of the
period of the new zone, with the leases that hold units in them: else moving about would begin a period anew each time.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from gateway.core.quotas import period_bounds
from gateway.store.driver import Reader, Statement

_KINDS = """
WITH own AS (
  SELECT quota, period FROM user_quotas
  WHERE user_id = ?2 AND coalesce(starts_at <= ?3, 1) AND coalesce(expires_at > ?3, 1)
)
SELECT quota, period FROM own
UNION ALL SELECT quota, period FROM plan_quotas WHERE plan = ?1 AND quota NOT IN (SELECT quota FROM own)"""
# ?1: the owner; ?2: by quota, from which start on and before which rows are moved, to there, and that period's end.
_RANGE = "quota = m.value ->> 0 AND period_start >= m.value ->> 1 AND period_start < m.value ->> 2"
_GONE = f"EXISTS (SELECT 1 FROM json_each(?2) AS m WHERE {_RANGE})"  # noqa: S608
_ADDED = "ON CONFLICT DO UPDATE SET used = used + excluded.used, reserved = reserved + excluded.reserved"
_MOVES = (
    f"""
INSERT INTO quota_usage(owner, quota, period_start, used, reserved)
SELECT owner, quota, m.value ->> 2, sum(used), sum(reserved)
FROM json_each(?2) AS m CROSS JOIN quota_usage ON owner = ?1 AND {_RANGE}
WHERE 1 GROUP BY m.key {_ADDED}""",  # noqa: S608 - no input in it
    f"DELETE FROM quota_usage WHERE owner = ?1 AND {_GONE}",  # noqa: S608
    f"""
UPDATE leases SET period_start = m.value ->> 2, period_end = m.value ->> 3
FROM json_each(?2) AS m WHERE owner = ?1 AND state = 'open' AND {_RANGE}""",  # noqa: S608
)
_MEMBERS_MOVES = (
    f"""
INSERT INTO member_usage(org_id, user_id, quota, period_start, used, reserved)
SELECT org_id, user_id, quota, m.value ->> 2, sum(used), sum(reserved)
FROM json_each(?2) AS m CROSS JOIN member_usage ON 'org:' || org_id = ?1 AND {_RANGE}
WHERE 1 GROUP BY m.key, user_id {_ADDED}""",  # noqa: S608
    f"DELETE FROM member_usage WHERE org_id = substr(?1, 5) AND {_GONE}",  # noqa: S608
)


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


async def zone_moves(db: Reader, owner: str, before: Placed, after: Placed, now: int) -> list[Statement]:
    """What belongs into the write by which `before` becomes `after`, whose balances are those of `owner` (``user:ID``
    or ``org:ID``), at `now` (milliseconds since 1970 UTC). Another anchor is meant to begin periods anew.
    """
    if before.timezone == after.timezone or before.anchor_at != after.anchor_at:
        return []
    kind, _, id = owner.partition(":")
    [kinds] = await db.read(Statement(_KINDS, (after.plan, id if kind == "user" else "", now)))
    moves = []
    for quota, period in kinds:
        try:
            start, _ = period_bounds(str(period), before.anchor_at, before.timezone, now)
            later, end = period_bounds(str(period), after.anchor_at, after.timezone, now)
        except ValueError:
            continue  # a zone from SQL, by which nothing could be taken
        if start < later:
            moves.append((quota, start, later, end))
    if not moves:
        return []
    statements = _MOVES if kind == "user" else _MOVES + _MEMBERS_MOVES
    told = msgspec.json.encode(moves).decode()
    return [Statement(sql, (owner, told)) for sql in statements]
