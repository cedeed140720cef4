"""People with quotas on a real database, and a clock that is moved by hand."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.clock import parse_rfc3339
from gateway.store.accounts import User, add_user
from gateway.store.database import Database, Row, Statement
from gateway.store.plans import Plan, PlanQuota, apply_plans
from gateway.store.quotas import Quotas

NOON = parse_rfc3339("2026-11-21T12:00:00.000Z")


class Spenders:
    """Ada and Ben on the plan ``pro``, both in the organization Acme, which is on the plan ``team``; quotas of all
    kinds. `now` is the time, in milliseconds since 1970 UTC.
    """

    ADA, BEN, EVE, ACME = "user:u_ada", "user:u_ben", "user:u_eve", "org:o_acme"
    NOON = NOON

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = NOON
        self.quotas = Quotas(database, lambda: self.now)

    async def settle_in(self) -> None:
        """Make them."""
        limits = {"voice": PlanQuota(10, "day"), "sms": PlanQuota(10, "day", hard=False), "mail": PlanQuota(None)}
        limits["seats"] = PlanQuota(5, "never")
        pool = {"voice": PlanQuota(20, "day"), "sms": PlanQuota(10, "day", hard=False), "mail": PlanQuota(None)}
        await apply_plans(self.database, [Plan("pro", quotas=limits), Plan("team", quotas=pool)])
        for name in ("ada", "ben", "eve"):
            await add_user(self.database, User(id=f"u_{name}", username=name, plan="pro"))
        await self.sql("INSERT INTO organizations(id, name, plan) VALUES ('o_acme', 'Acme', 'team')")
        await self.sql(
            "INSERT INTO memberships(org_id, user_id, role) VALUES ('o_acme', 'u_ada', 'owner'), ('o_acme', 'u_ben',"
            " 'member')"
        )
        await self.sql(
            "INSERT INTO member_caps(org_id, user_id, quota, limit_value) VALUES ('o_acme', 'u_ben', 'voice', 4),"
            " ('o_acme', 'u_ben', 'mail', 3)"
        )

    async def sql(self, sql: str, *args: Any) -> list[Row]:
        """Somebody's SQL; the rows that it returns."""
        return (await self.database.write(Statement(sql, args))).rows[0]

    async def usage(self, owner: str, quota: str) -> list[Row]:
        """The rows of a balance: period_start, used, reserved."""
        sql = "SELECT period_start, used, reserved FROM quota_usage WHERE owner = ? AND quota = ? ORDER BY 1"
        return (await self.database.read(Statement(sql, (owner, quota))))[0]


@pytest.fixture
async def spenders(database: Database) -> Spenders:
    found = Spenders(database)
    await found.settle_in()
    return found
