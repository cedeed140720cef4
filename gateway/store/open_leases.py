"""Which leases hold units of somebody's quotas: for looking at."""

from __future__ import annotations

import msgspec

from gateway.core.spending import split_name
from gateway.store.audit import Store
from gateway.store.database import Statement
from gateway.store.foreign_text import read_shown


class OpenLease(msgspec.Struct, frozen=True):
    """Units that are held: by whom (`spender`, ``user:ID``), under which name (`id`), and until when; `instance`
    asked for it, None: the spender did.

    They are held of the period that began at `period_start`. Times are in milliseconds since 1970 UTC. One whose end
    has passed holds its units until a gateway ends it.
    """

    quota: str
    id: str
    spender: str
    held: int
    period_start: int
    created_at: int
    expires_at: int
    instance: str | None = None


async def list_open_leases(db: Store, owner: str, *, quota: str | None = None, limit: int = 1000) -> list[OpenLease]:
    """At most `limit` open leases on the quotas of `owner` (``user:ID`` or ``org:ID``), or on one of them: what ends
    first comes first."""
    which, args = ("", ()) if quota is None else ("AND quota = ? ", (quota,))
    sql = (
        "SELECT quota, id, spender, held, period_start, created_at, expires_at FROM leases"  # noqa: S608
        f" WHERE owner = ? AND state = 'open' {which}ORDER BY expires_at, spender, id LIMIT ?"
    )
    [rows] = await read_shown(db.scan, Statement(sql, (owner, *args, limit)))
    return [_open_lease(OpenLease(*row)) for row in rows]


def _open_lease(row: OpenLease) -> OpenLease:
    """With the name that was given, and the instance that gave it."""
    instance, name = split_name(row.id)
    return msgspec.structs.replace(row, id=name, instance=instance)
