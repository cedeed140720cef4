"""A small company in the database: what fills every page of the dashboard with something to see."""

from __future__ import annotations

from typing import NamedTuple

from gateway.core.quotas import period_bounds
from tests.support.dashboard import admin_routes, own_routes, somebody
from tests.support.seed import Person, Seed, now_ms

PERMISSIONS = ("can_use_voice", "can_use_sms", "can_use_email")
QUOTAS = {
    "voice_minutes": (500, "month"),
    "sms_messages": (1000, "month"),
    "ai_tokens": (100_000, "day"),
    "storage_mb": (2048, "never"),
    "searches": (None, "month"),
}
USED = {"voice_minutes": 121, "sms_messages": 860, "ai_tokens": 96_500, "storage_mb": 2048, "searches": 4210}
"""Of every level one: ok, low, critical, exhausted; and one without a limit."""


class Company(NamedTuple):
    """Who and what there is."""

    person: Person
    admin: Person
    plan: str
    role: str
    organization: str
    others: list[Person]

    @property
    def own_pages(self) -> tuple[str, ...]:
        return own_routes(self.organization)

    @property
    def admin_pages(self) -> tuple[str, ...]:
        return admin_routes(self.person.id, self.plan, self.role, self.organization)


def period_start(period: str) -> int:
    """When the present period began, by the calendar of UTC."""
    return period_bounds(period, None, "UTC", now_ms())[0]


def use(seed: Seed, owner: str, quota: str, period: str, used: int) -> int:
    """A balance of this period; when it began."""
    start = period_start(period)
    seed.insert("quota_usage", owner=owner, quota=quota, period_start=start, used=used)
    return start


def set_used(seed: Seed, owner: str, quota: str, used: int) -> int:
    """Change a balance as another program would; when the change was logged, in milliseconds since 1970."""
    seed.foreign.execute("UPDATE quota_usage SET used = ? WHERE owner = ? AND quota = ?", used, owner, quota)
    return int(seed.foreign.execute("SELECT at FROM change_log WHERE doc = ? ORDER BY seq DESC LIMIT 1", owner)[0][0])


def furnished(seed: Seed) -> Company:
    """One person with all kinds of quotas, an administrator, an organization with a pool, and colleagues."""
    plan = seed.plan(PERMISSIONS, QUOTAS)
    role = seed.role(["reports.read"])
    person = somebody(
        seed, plan, name="Ada Lovelace", email=f"ada.{plan}@example.org", attributes='{"persona": "boss"}'
    )
    admin = somebody(seed, plan, name="Grace Hopper", is_admin=1)
    others = seed.people(12, plan)
    pool = seed.plan((), {"voice_minutes": (10_000, "month")})
    members = {person.id: "admin", admin.id: "owner"} | {other.id: "member" for other in others[:4]}
    organization = seed.organization(pool, members)
    with seed.transaction():
        for quota, (_, period) in QUOTAS.items():
            use(seed, person.doc, quota, period, USED[quota])
        use(seed, f"org:{organization}", "voice_minutes", "month", 4100)
        seed.insert("user_roles", user_id=person.id, role=role)
        seed.insert("user_permissions", user_id=person.id, permission="can_use_fax", effect="deny")
        seed.token(person.id)
    return Company(person, admin, plan, role, organization, others)
