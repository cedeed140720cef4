"""Whoever moves to another time zone has what was taken along, be it units of one's own or of a pool."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from random import Random
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import msgspec
import pytest

from gateway.core.clock import parse_rfc3339
from gateway.core.facts import OrganizationFacts
from gateway.core.quotas import period_bounds
from gateway.core.sections import organizations_section, quotas_section
from gateway.core.spending import Basis, Order
from gateway.errors import LeaseExpired, QuotaExceeded
from gateway.store import accounts, organizations
from gateway.store.catalog import load_catalog
from gateway.store.database import Database, Statement
from gateway.store.documents import LoadedUser, Part, load_organizations, load_users
from gateway.store.ledger import unbalanced
from gateway.store.quotas import Quotas
from gateway.store.zone_changes import plan_moves
from tests.support.people import add_plan, add_user, insert
from tests.support.zone_traveller import carry_out

NOW = parse_rfc3339("2026-11-15T12:00:00.000Z")
HOUR = 3_600_000
PERIODS = ["hour", "day", "week", "month", "year"]


class Clock:
    """Set by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


@pytest.fixture
async def clock(database: Database) -> Clock:
    made = Clock()
    database.clock = made
    await database.write(
        *add_plan("free"),
        *(insert("plan_quotas", plan="free", quota=period, limit_value=10, period=period) for period in PERIODS),
        add_user("ada"),
        insert("organizations", id="acme", name="Acme", plan="free"),
        insert("memberships", org_id="acme", user_id="ada"),
        *(insert("member_caps", org_id="acme", user_id="ada", quota=period, limit_value=8) for period in PERIODS),
    )
    return made


def eastward(period: str, now: int) -> list[str]:
    """A zone for each moment at which the present period may have begun, those in which it began later after others;
    without those in which it is another one already: on the 15th of November, at noon, the 16th has begun in the east.
    """
    starts = {period_bounds(period, None, zone, now)[0]: zone for zone in available_timezones() - {"localtime"}}
    zones = [starts[start] for start in sorted(starts)]
    if period == "hour":
        return zones
    names = [datetime.fromtimestamp(period_bounds(period, None, zone, now)[0] / 1000, ZoneInfo(zone)) for zone in zones]
    return [zone for zone, name in zip(zones, names, strict=True) if name.date() == names[0].date()]


async def move(db: Database, zone: str, **more: Any) -> None:
    before = await accounts.find_user(db, "ada")
    await accounts.replace_user(db, before, msgspec.structs.replace(before, timezone=zone, **more))


async def move_organization(db: Database, zone: str) -> None:
    before = await organizations.find_organization(db, "acme")
    await organizations.replace_organization(db, before, msgspec.structs.replace(before, timezone=zone))


async def shown(db: Database, now: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The user's own quotas, and those of the pool, as the user's document has them."""
    async with db.snapshot() as snapshot:
        catalog = await load_catalog(snapshot)
        user = (await load_users(snapshot, {"ada": (Part.ALL, None)}, catalog, now))["ada"]
        pool = (await load_organizations(snapshot, {"acme": False}, catalog, now))["acme"]
    assert isinstance(user, LoadedUser)
    assert isinstance(pool, OrganizationFacts)
    catalog.organizations["acme"] = pool
    own, all_pools = quotas_section(user.facts, catalog, now), organizations_section(user.facts, catalog, now)
    return msgspec.json.decode(own.content), msgspec.json.decode(all_pools.content)["acme"]["quotas"]


def order(quota: str, amount: int, key: str, owner: str = "user:ada") -> Order:
    return Order("user:ada", owner, quota, amount, key)


@pytest.mark.parametrize("period", PERIODS)
async def test_moving_east_begins_no_period_anew(database: Database, clock: Clock, period: str) -> None:
    quotas = Quotas(database, clock)
    zones = eastward(period, NOW)
    await move(database, zones[0])
    await quotas.spender.consume(order(period, 10, "all"))
    for zone in zones[1:]:
        await move(database, zone)
        with pytest.raises(QuotaExceeded):
            await quotas.spender.consume(order(period, 1, zone))
        assert (await shown(database, NOW))[0][period]["used"] == 10
    await move(database, zones[0])
    assert (await shown(database, NOW))[0][period]["used"] == 10
    clock.now = period_bounds(period, None, zones[-1], NOW)[1] or 0
    await move(database, zones[-1])
    await quotas.spender.consume(order(period, 10, "next"))
    assert await unbalanced(database) == []


async def test_a_pool_goes_along_with_what_each_member_took(database: Database, clock: Clock) -> None:
    quotas = Quotas(database, clock)
    zones = eastward("month", NOW)
    await move_organization(database, zones[0])
    await quotas.spender.consume(order("month", 5, "k", "org:acme"))
    lease = await quotas.leases.reserve("user:ada", "org:acme", "month", 3, "call", 60)
    assert lease.lease.held == 3
    for zone in zones[1:]:
        await move_organization(database, zone)
        entry = (await shown(database, NOW))[1]["month"]
        assert (entry["used"], entry["reserved"], entry["cap_remaining"]) == (5, 3, 0)
        with pytest.raises(QuotaExceeded):
            await quotas.spender.consume(order("month", 1, zone, "org:acme"))
    committed = await quotas.leases.commit("user:ada", "call", 1)
    assert (committed.balance.used, committed.balance.reserved) == (6, 0)
    entry = (await shown(database, NOW))[1]["month"]
    assert (entry["used"], entry["reserved"], entry["cap_remaining"]) == (6, 0, 2)
    assert await unbalanced(database) == []


async def test_what_was_held_is_settled_where_it_went(database: Database, clock: Clock) -> None:
    quotas = Quotas(database, clock)
    zones = eastward("day", NOW)
    await move(database, zones[0])
    await quotas.leases.reserve("user:ada", "user:ada", "day", 9, "call", 60)
    await move(database, zones[-1])
    await quotas.leases.extend("user:ada", "call", 60, amount=1, key="more")
    assert (await shown(database, NOW))[0]["day"]["reserved"] == 10
    await quotas.leases.commit("user:ada", "call", 10)
    assert (await shown(database, NOW))[0]["day"]["used"] == 10
    assert await unbalanced(database) == []


async def test_what_was_taken_in_periods_before_stays_theirs(database: Database, clock: Clock) -> None:
    october = parse_rfc3339("2026-10-01T00:00:00.000Z")
    row = {"owner": "user:ada", "quota": "month", "period_start": october, "used": 7}
    await database.write(insert("quota_usage", **row))
    for zone in ("Pacific/Pago_Pago", "Pacific/Kiritimati", "UTC"):
        await move(database, zone)
        assert (await shown(database, NOW))[0]["month"]["used"] == 0
    [rows] = await database.read(Statement("SELECT period_start, used FROM quota_usage"))
    assert rows == [(october, 7)]


async def test_just_after_a_turn_of_the_month_nobody_pays_for_the_last_one(database: Database, clock: Clock) -> None:
    """In November's last hours in the west, December has begun in the east: a unit is of the month it was taken in."""
    quotas = Quotas(database, clock)
    clock.now = parse_rfc3339("2026-12-01T01:00:00.000Z")
    await move(database, "America/Los_Angeles")
    await quotas.spender.consume(order("month", 10, "november"))
    await move(database, "Europe/Berlin")
    assert (await shown(database, clock.now))[0]["month"]["used"] == 0
    await quotas.spender.consume(order("month", 4, "december"))
    await move(database, "America/Los_Angeles")
    assert (await shown(database, clock.now))[0]["month"]["used"] == 10
    clock.now = parse_rfc3339("2026-12-01T08:00:00.000Z")
    assert (await shown(database, clock.now))[0]["month"]["used"] == 4
    assert await unbalanced(database) == []


async def test_two_rows_become_one_and_an_override_says_which(database: Database, clock: Clock) -> None:
    """The plan's months do not count while an override says days; the kinds of others stay as they are."""
    midnight = parse_rfc3339("2026-11-15T00:00:00.000Z")
    rows = {midnight: 3, midnight + HOUR: 2, midnight - 24 * HOUR: 9}
    await database.write(
        insert("user_quotas", user_id="ada", quota="month", limit_value=10, period="day"),
        *(insert("quota_usage", owner="user:ada", quota="month", period_start=at, used=n) for at, n in rows.items()),
    )
    await move(database, "America/New_York")
    assert (await shown(database, NOW))[0]["month"]["used"] == 5
    [found] = await database.read(Statement("SELECT period_start, used FROM quota_usage ORDER BY 1"))
    assert found == [(midnight - 19 * HOUR, 9), (midnight + 5 * HOUR, 5)]


async def test_who_follows_midnight_has_no_more_than_the_dates_on_earth(database: Database, clock: Clock) -> None:
    """Each hour another zone's day begins: a date has its limit once, and there are three in a day and an hour."""
    quotas = Quotas(database, clock)
    taken = 0
    for by in range(25):
        clock.now = NOW + by * HOUR
        await move(database, f"Etc/GMT{(by + 11) % 24 - 11:+d}")
        with suppress(QuotaExceeded):
            await quotas.spender.consume(order("day", 10, f"at{by}"))
            taken += 10
    assert 20 <= taken <= 30
    assert await unbalanced(database) == []


ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Kiritimati", "Pacific/Pago_Pago"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("owner", ["user:ada", "org:acme"])
async def test_the_database_does_what_is_planned(database: Database, clock: Clock, owner: str, seed: int) -> None:
    """Somebody who goes about, takes and holds: the rows are those that a dictionary has after the same."""
    chance, quotas, goes = Random(seed), Quotas(database, clock), move if owner == "user:ada" else move_organization
    basis = Basis("UTC", None, "day")
    held: list[str] = []
    await database.write(
        Statement("DELETE FROM plan_quotas WHERE quota <> 'day'"), Statement("DELETE FROM member_caps")
    )
    for step in range(30):
        what = chance.choice(["move", "move", "take", "take", "hold", "settle", "pass"])
        try:
            if what == "take":
                await quotas.spender.consume(order("day", chance.randint(1, 4), f"k{step}", owner))
            elif what == "hold":
                await quotas.leases.reserve("user:ada", owner, "day", chance.randint(1, 4), f"l{step}", 3600)
                held.append(f"l{step}")
            elif what == "settle" and held:
                await quotas.leases.commit("user:ada", held.pop(), 1)
        except (QuotaExceeded, LeaseExpired):
            continue
        if what == "pass":
            _, end = basis._replace(timezone=chance.choice(ZONES)).bounds(clock.now)
            clock.now = chance.choice([clock.now + chance.randint(1, 8) * HOUR, end or 0])
        elif what == "move":
            after = basis._replace(timezone=chance.choice(ZONES))
            rows = await usage(database)
            if after != basis:
                carry_out(plan_moves(basis, after, rows, clock.now), rows)
            await goes(database, after.timezone)
            basis = after
            assert await usage(database) == rows
        assert await unbalanced(database) == []
        [apart] = await database.read(Statement(_APART))
        assert owner == "user:ada" or apart == []


_APART = """
SELECT q.period_start FROM quota_usage AS q FULL JOIN member_usage AS m ON m.period_start = q.period_start
WHERE (coalesce(q.used, 0), coalesce(q.reserved, 0)) <> (coalesce(m.used, 0), coalesce(m.reserved, 0))"""


async def usage(db: Database) -> dict[int, list[int]]:
    """The rows of the only quota there is: what is used, and reserved, by start."""
    [rows] = await db.read(Statement("SELECT period_start, used, reserved FROM quota_usage"))
    return {start: [used, reserved] for start, used, reserved in rows}


async def test_an_anchor_that_is_set_begins_periods_anew(database: Database, clock: Clock) -> None:
    await Quotas(database, clock).spender.consume(order("month", 10, "k"))
    await move(database, "Asia/Tokyo", anchor_at=NOW)
    assert (await shown(database, NOW))[0]["month"]["used"] == 0
