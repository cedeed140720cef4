"""The nonces of signed requests: each row is one that works no more, for every node and after every restart.

They are forgotten by their age alone, and that is counted from the newest one where the clock is ahead of it: a clock
that was set wrong forgets nothing too early.
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
_USE = f"""
INSERT INTO nonces(kid, nonce, expires_at) SELECT ?1, ?4, ?5 WHERE EXISTS ({_KEY}) AND {_REMEMBERED} < ?6
ON CONFLICT(kid, nonce) DO NOTHING RETURNING 1"""
_WHY = f"SELECT EXISTS ({_KEY}), {_REMEMBERED}"


async def use_nonce(db: Store, nonce: Nonce, instance_id: str, now: int, *, most: int = MAX_NONCES) -> Use:
    """Use a nonce up, if its key is in force at `now` (milliseconds since 1970 UTC), is this instance's, and has fewer
    than `most` that are remembered. Durable when it returns."""
    place = (nonce.kid, instance_id, now)
    used = Statement(_USE, (*place, nonce.text, nonce.expires_at, most))
    first, [(in_force, remembered)] = (await db.write(used, Statement(_WHY, place))).rows
    if first:
        return Use.FIRST
    if not in_force:
        return Use.NO_KEY
    return Use.FULL if remembered >= most else Use.AGAIN


async def prune_nonces(db: Store, now: int, life_ms: int) -> int:
    """Forget the nonces whose end has passed at `now` (milliseconds since 1970 UTC), and passed before the newest one
    was made, which lives for `life_ms`; answers how many."""
    [[(newest,)]] = await db.read(Statement("SELECT max(expires_at) FROM nonces"))
    if newest is None:
        return 0
    end = min(now, newest - life_ms)
    if not (await db.read(Statement("SELECT 1 FROM nonces WHERE expires_at < ? LIMIT 1", (end,))))[0]:
        return 0
    ended = "SELECT kid, nonce FROM nonces WHERE expires_at < ? LIMIT ?"
    delete = f"DELETE FROM nonces WHERE (kid, nonce) IN ({ended}) RETURNING 1"  # noqa: S608 - no input in it
    return await in_groups(db, PRUNE_GROUP, Statement(delete, (end, PRUNE_GROUP)))
