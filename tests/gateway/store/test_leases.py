from __future__ import annotations

import pytest

from gateway.core.clock import parse_rfc3339
from gateway.errors import (
    BadRequest,
    Conflict,
    LeaseNotFound,
    QuotaExceeded,
)
from gateway.store.accounts import User, add_user
from gateway.store.database import Database
from gateway.store.plans import Plan, PlanQuota, apply_plans
from gateway.store.quotas import Quotas

NOON = parse_rfc3339("2026-11-21T12:00:00.000Z")
ADA, BEN = "user:u_ada", "user:u_ben"


class Clock:
    """A wall clock that stands still until it is moved; milliseconds since 1970 UTC."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def quotas(database: Database, clock: Clock) -> Quotas:
    await apply_plans(database, [Plan("pro", quotas={"voice": PlanQuota(10, "day")})])
    await add_user(database, User(id="u_ada", username="ada", plan="pro"))
    await add_user(database, User(id="u_ben", username="ben", plan="pro"))
    return Quotas(database, clock)


async def test_a_lease_is_reserved_extended_and_committed(quotas: Quotas, clock: Clock) -> None:
    held = await quotas.leases.reserve(ADA, ADA, "voice", 5, "call", 60)
    assert (held.lease.held, held.lease.expires_at, held.new) == (5, NOON + 60_000, True)
    assert held.balance.entry()["remaining"] == 5
    again = await quotas.leases.reserve(ADA, ADA, "voice", 5, "call", 30)
    assert (again.lease, again.new) == (held.lease, False)
    clock.now += 30_000
    held = await quotas.leases.extend(ADA, "call", 60)
    assert held.lease.expires_at == NOON + 90_000
    held = await quotas.leases.extend(ADA, "call", 10, amount=2, key="more")
    assert (held.lease.held, held.lease.expires_at, held.balance.reserved) == (7, NOON + 90_000, 7)
    assert (await quotas.leases.extend(ADA, "call", 10, amount=2, key="more")).lease == held.lease
    with pytest.raises(QuotaExceeded):
        await quotas.leases.extend(ADA, "call", 10, amount=4, key="most")
    with pytest.raises(BadRequest):
        await quotas.leases.commit(ADA, "call", 8)
    done = await quotas.leases.commit(ADA, "call", 3)
    assert (done.lease.state, done.lease.committed, done.balance.used, done.balance.reserved) == ("committed", 3, 3, 0)
    assert (await quotas.leases.commit(ADA, "call", 3)).lease == done.lease
    with pytest.raises(Conflict):
        await quotas.leases.commit(ADA, "call", 2)
    with pytest.raises(Conflict):
        await quotas.leases.release(ADA, "call")
    with pytest.raises(LeaseNotFound):
        await quotas.leases.commit(BEN, "call", 3)
