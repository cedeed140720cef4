"""The nonces of signed requests: each row is one that works no more, for every node and after every restart.

They are forgotten by their age alone, and that is counted from the newest one of their key where the clock is ahead of
it. How far a key's were forgotten is written down, and nothing of then is taken again: a clock that was set back opens
nothing.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from gateway.store.audit import Store
from gateway.store.database import Statement
from gateway.store.pruning import PRUNE_GROUP, in_groups

MAX_NONCES = 100_000
"""Of one key, all nodes together: a few minutes at several hundred requests a second."""


class Use(enum.Enum):
    """What came of a nonce that was to be used."""

    FIRST = enum.auto()
    AGAIN = enum.auto()
    FULL = enum.auto()
    TOO_OLD = enum.auto()
    """One of then may have been used, and been forgotten."""
    NO_KEY = enum.auto()


class Nonce(NamedTuple):
    """A nonce of a key, to be remembered until `expires_at` (milliseconds since 1970 UTC)."""

    kid: str
    text: str
    expires_at: int


# A key in force: what a request was let in by may have ended since.
_KEY = """
SELECT 1 FROM instance_keys AS k JOIN instances AS i ON i.id = k.instance_id
WHERE k.id = ?1 AND k.instance_id = ?2 AND i.status = 'active' AND coalesce(k.expires_at > ?3, 1)"""
_REMEMBERED = "coalesce((SELECT remembered FROM nonce_counts WHERE kid = ?1), 0)"
_FORGOTTEN = "coalesce((SELECT forgotten FROM nonce_counts WHERE kid = ?1), 0)"
_USE = f"""
INSERT INTO nonces(kid, nonce, expires_at) SELECT ?1, ?4, ?5 WHERE EXISTS ({_KEY})
  AND {_REMEMBERED} < ?6 AND {_FORGOTTEN} < ?5
ON CONFLICT(kid, nonce) DO NOTHING RETURNING 1"""
# Also one that finds no room says what time it is, or nothing would ever make room where there is one key alone.
_SEEN = f"""
UPDATE nonce_counts SET newest = ?4 WHERE kid = ?1 AND newest < ?4 AND remembered >= ?5 AND EXISTS ({_KEY})"""  # noqa: S608 - no input in it
_WHY = f"SELECT EXISTS ({_KEY}), {_REMEMBERED}, {_FORGOTTEN} >= ?4"


async def use_nonce(db: Store, nonce: Nonce, instance_id: str, now: int, *, most: int = MAX_NONCES) -> Use:
    """Use a nonce up, if its key is in force at `now` (milliseconds since 1970 UTC), is this instance's, and has fewer
    than `most` that are remembered. Durable when it returns."""
    place, end = (nonce.kid, instance_id, now), nonce.expires_at
    used = Statement(_USE, (*place, nonce.text, end, most))
    seen, why = Statement(_SEEN, (*place, end, most)), Statement(_WHY, (*place, end))
    first, _, [(in_force, remembered, forgotten)] = (await db.write(used, seen, why)).rows
    if first:
        return Use.FIRST
    if not in_force:
        return Use.NO_KEY
    if forgotten:
        return Use.TOO_OLD
    return Use.FULL if remembered >= most else Use.AGAIN


# What a key that is gone signed is nobody's to take: its own clock is not waited for.
_END = "iif(EXISTS (SELECT 1 FROM instance_keys WHERE id = c.kid), min(?1, c.newest - ?2), ?1)"
_ENDED = f"""
SELECT CAST(c.kid AS BLOB), {_END} FROM nonce_counts AS c
WHERE EXISTS (SELECT 1 FROM nonces WHERE kid = c.kid AND expires_at < {_END})"""  # noqa: S608 - no input in it
_DELETE = """
DELETE FROM nonces WHERE (kid, nonce) IN (SELECT kid, nonce FROM nonces WHERE kid = CAST(? AS TEXT) AND expires_at < ?
  ORDER BY expires_at LIMIT ?) RETURNING 1"""
_GONE = "remembered <= 0 AND NOT EXISTS (SELECT 1 FROM instance_keys WHERE id = kid)"


async def prune_nonces(db: Store, now: int, life_ms: int) -> int:
    """Forget the nonces whose end has passed at `now` (milliseconds since 1970 UTC), and passed before the newest one
    of their key was made, which lives for `life_ms`; answers how many."""
    ended, gone = await db.read(
        Statement(_ENDED, (now, life_ms)),
        Statement(f"SELECT 1 FROM nonce_counts WHERE {_GONE} LIMIT 1"),  # noqa: S608 - no input in it
    )
    forgotten = sum([await in_groups(db, PRUNE_GROUP, Statement(_DELETE, (*each, PRUNE_GROUP))) for each in ended])
    if gone:
        await db.write(Statement(f"DELETE FROM nonce_counts WHERE {_GONE}"))  # noqa: S608 - no input in it
    return forgotten
