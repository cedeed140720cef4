"""The services of a node together: what its housekeeping deletes, and how often."""

from __future__ import annotations

from gateway.auth.services import AUDIT_PRUNED_EVERY_S
from gateway.core.instant import Instant
from gateway.store.audit import Entry, list_audit, prune_audit, record
from gateway.store.database import Database
from tests.support.node_rig import ManualClock
from tests.support.services import accounts

DAY = 86_400_000


async def test_the_audit_trail_is_pruned_by_a_day_once_in_an_hour(database: Database) -> None:
    clock = ManualClock()
    keep_ms = 30 * DAY
    services = accounts(database, clock, audit_keep_s=keep_ms // 1000)
    for age in (32, 31, 0):
        await database.write(record(Entry("gateway", "user.update", str(age)), clock.wall - age * DAY - 1))
    await prune_audit(database, keep_ms + 3 * DAY, clock.wall)

    async def left_after(seconds: float) -> list[str]:
        clock.advance(seconds)
        await services.keep_house(Instant(clock.mono, clock.wall))
        return [row.target for row in await list_audit(database)]

    assert await left_after(0) == ["0", "31", "32"]
    assert await left_after(AUDIT_PRUNED_EVERY_S - 1) == ["0", "31", "32"]
    assert await left_after(1) == ["0", "31"]
    assert await left_after(1) == ["0", "31"]
    assert await left_after(AUDIT_PRUNED_EVERY_S) == ["0"]
    services.close()
