"""Tickets that were redeemed: each row is one that works no more."""

from __future__ import annotations

from gateway.store.database import Database, Row, Statement
from gateway.store.pruning import PRUNE_GROUP, in_groups

KEPT_MS = 3_600_000
"""So long after its end a redeemed ticket is remembered, in milliseconds: nodes' clocks are not the same."""


async def redeem_ticket(db: Database, ticket_id: str, expires_at: int, credential: Statement) -> list[Row] | None:
    """Use up a ticket, which ends at `expires_at` (milliseconds since 1970 UTC), and read what it stands for, in one
    commit: the rows of `credential`; None when it was used before.
    """
    used = Statement(
        "INSERT INTO used_tickets(id, expires_at) VALUES (?, ?) ON CONFLICT(id) DO NOTHING RETURNING 1",
        (ticket_id, expires_at),
    )
    first, rows = (await db.write(used, credential)).rows
    return rows if first else None


async def prune_tickets(db: Database, now: int) -> int:
    """Forget tickets that ended more than an hour before `now` (milliseconds since 1970 UTC); answers how many."""
    end = now - KEPT_MS
    if not (await db.read(Statement("SELECT 1 FROM used_tickets WHERE expires_at < ? LIMIT 1", (end,))))[0]:
        return 0
    ended = "SELECT id FROM used_tickets WHERE expires_at < ? LIMIT ?"
    delete = f"DELETE FROM used_tickets WHERE id IN ({ended}) RETURNING 1"  # noqa: S608 - no input in it
    return await in_groups(db, PRUNE_GROUP, Statement(delete, (end, PRUNE_GROUP)))
