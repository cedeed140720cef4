"""The services of a node together: what its housekeeping deletes, and how often."""

from __future__ import annotations

from gateway.auth.instances import NONCE_LIFE_MS, SURE_S
from gateway.auth.services import AUDIT_PRUNED_EVERY_S
from gateway.core.instant import Instant
from gateway.store.audit import Entry, list_audit, prune_audit, record
from gateway.store.database import Database, Statement
from gateway.store.instances import Instance, add_instance, list_instance_keys
from gateway.store.nonces import Nonce, use_nonce
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


async def test_nonces_are_forgotten_by_what_the_clock_said_for_a_minute(database: Database) -> None:
    """Not by a time that it had for a moment."""
    clock = ManualClock()
    services = accounts(database, clock)
    await add_instance(database, Instance(id="i"), services.instances.new_key().sealed)
    [key] = await list_instance_keys(database, "i")
    for made in (clock.wall, clock.wall + NONCE_LIFE_MS + 60_000):
        await use_nonce(database, Nonce(key.id, f"n{made}", made + NONCE_LIFE_MS), "i", clock.wall)

    async def left_after(seconds: float, ahead_ms: int = 0) -> int:
        clock.advance(seconds)
        await services.instances.keep_house(Instant(clock.mono, clock.wall + ahead_ms))
        return int((await database.read(Statement("SELECT count(*) FROM nonces")))[0][0][0])

    assert await left_after(0) == 2
    assert await left_after(60, ahead_ms=NONCE_LIFE_MS) == 2
    assert await left_after(60) == 2
    assert await left_after(NONCE_LIFE_MS / 1000 - 119) == 2, "they ended a second ago"
    assert await left_after(SURE_S + 1) == 1
    services.close()
