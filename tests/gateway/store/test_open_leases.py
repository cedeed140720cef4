from __future__ import annotations

import pytest

from gateway.core.clock import parse_rfc3339
from gateway.store.accounts import User, add_user
from gateway.store.database import Database
from gateway.store.open_leases import OpenLease, list_open_leases
from gateway.store.organizations import Organization, add_organization
from gateway.store.plans import Plan, PlanQuota, apply_plans
from gateway.store.quotas import Quotas

NOON = parse_rfc3339("2026-11-21T12:00:00.000Z")
MIDNIGHT = parse_rfc3339("2026-11-21T00:00:00.000Z")
ADA, POOL = "user:u_ada", "org:o_acme"


@pytest.fixture
async def quotas(database: Database) -> Quotas:
    limits = {"voice": PlanQuota(100, "day"), "sms": PlanQuota(100, "day")}
    await apply_plans(database, [Plan("pro", quotas=limits)])
    await add_user(database, User(id="u_ada", username="ada", plan="pro"))
    await add_organization(database, Organization(id="o_acme", plan="pro"), "u_ada")
    return Quotas(database, lambda: NOON)


async def test_what_is_open_is_listed_by_its_end(database: Database, quotas: Quotas) -> None:
    for name, owner, quota, ttl_s in (
        ("late", ADA, "voice", 90.0),
        ("soon", ADA, "voice", 30.0),
        ("text", ADA, "sms", 60.0),
        ("pool", POOL, "voice", 60.0),
        ("gone", ADA, "voice", 60.0),
        ("done", ADA, "voice", 60.0),
    ):
        await quotas.leases.reserve(ADA, owner, quota, 2, name, ttl_s)
    await quotas.leases.release(ADA, "gone")
    await quotas.leases.commit(ADA, "done", 1)
    listed = await list_open_leases(database, ADA)
    assert [lease.id for lease in listed] == ["soon", "text", "late"]
    assert listed[0] == OpenLease("voice", "soon", ADA, 2, MIDNIGHT, NOON, NOON + 30_000)
    assert await list_open_leases(database, ADA, quota="sms") == listed[1:2]
    assert await list_open_leases(database, ADA, limit=1) == listed[:1]
    assert [lease.id for lease in await list_open_leases(database, POOL)] == ["pool"]
    assert await list_open_leases(database, "user:u_eve") == []
