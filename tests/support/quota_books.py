"""The books of spent quotas, held to what they say of themselves by plain SQL."""

from __future__ import annotations

from tests.support.foreign_writer import ForeignWriter

UNBALANCED = """
SELECT owner, quota, period_start, sum(used), sum(reserved) FROM (
  SELECT owner, quota, period_start, used, reserved FROM quota_ledger
  UNION ALL SELECT owner, quota, period_start, -used, -reserved FROM quota_usage
) GROUP BY 1, 2, 3 HAVING sum(used) <> 0 OR sum(reserved) <> 0"""
"""The ledger's sum is not the balance."""
MISHELD = """
SELECT owner, quota, period_start FROM (
  SELECT owner, quota, period_start, held FROM leases WHERE state = 'open'
  UNION ALL SELECT owner, quota, period_start, -reserved FROM quota_usage
) GROUP BY 1, 2, 3 HAVING sum(held) <> 0"""
"""What is reserved is not what open leases hold."""
OVER = """
SELECT owner, quota, kind FROM quota_ledger WHERE kind IN ('consume', 'reserve', 'extend') AND (
  hard AND used_after + carried_used + reserved_after + carried_reserved > limit_value OR member_taken > cap)"""
"""More was taken than a hard limit or a cap lets."""
TWICE = "SELECT spender, key FROM quota_ledger WHERE key IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1"
"""Charged twice."""
UNSHOWN = """
SELECT * FROM quota_ledger AS l WHERE seq IS NOT NULL AND (used, reserved) <> (0, 0) AND NOT EXISTS (
  SELECT 1 FROM change_log AS c WHERE c.seq = l.seq AND c.cause = 'quota_usage' AND c.doc IN (l.owner, l.spender))"""
"""The position of the change log that an entry names is about something else."""


def check_books(writer: ForeignWriter) -> None:
    """What must be so at any moment, however many spend."""
    for sql in (UNBALANCED, MISHELD, OVER, TWICE, UNSHOWN):
        assert writer.execute(sql) == [], sql


def charges(writer: ForeignWriter, owner: str, quota: str) -> dict[str, int]:
    """What was consumed under each key."""
    rows = writer.execute(
        "SELECT key, used FROM quota_ledger WHERE owner = ? AND quota = ? AND kind = 'consume'", owner, quota
    )
    assert len(dict(rows)) == len(rows), "charged twice"
    return {str(key): int(used) for key, used in rows}


def taken(writer: ForeignWriter, owner: str, quota: str) -> tuple[int, int]:
    """What is used and reserved, in all periods together."""
    [row] = writer.execute(
        "SELECT coalesce(sum(used), 0), coalesce(sum(reserved), 0) FROM quota_usage WHERE owner = ? AND quota = ?",
        *(owner, quota),
    )
    return int(row[0]), int(row[1])
