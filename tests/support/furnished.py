"""A small company in the database: what fills every page of the dashboard with something to see."""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway.core.quotas import period_bounds
from tests.support.dashboard import admin_routes, own_routes
from tests.support.seed import Person, Seed, now_ms
from tests.support.signed_in import cheap_hash

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
    instance: str
    others: list[Person]

    @property
    def own_pages(self) -> tuple[str, ...]:
        return own_routes(self.organization)

    @property
    def admin_pages(self) -> tuple[str, ...]:
        return admin_routes(self.person.id, self.plan, self.role, self.organization, self.instance)


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


DAY_MS = 86_400_000
COLLEAGUES = {
    "alan": "Alan Turing",
    "barbara": "Barbara Liskov",
    "donald": "Donald Knuth",
    "edsger": "Edsger Dijkstra",
    "frances": "Frances Allen",
    "john": "John Backus",
    "katherine": "Katherine Johnson",
    "margaret": "Margaret Hamilton",
    "radia": "Radia Perlman",
}


def furnished(seed: Seed) -> Company:
    """One person with all kinds of quotas, an administrator, an organization with a pool, and colleagues: once in a
    database, because everybody has the name that the documents show."""
    with seed.transaction():
        for plan, name in (("pro", "Pro"), ("free", "Free"), ("team", "Team")):
            seed.insert("plans", id=plan, name=name)
        for quota, (limit, period) in QUOTAS.items():
            seed.insert("plan_quotas", plan="pro", quota=quota, limit_value=limit, period=period)
        for permission in PERMISSIONS:
            seed.insert("plan_permissions", plan="pro", permission=permission)
        seed.insert("plan_permissions", plan="free", permission="can_use_email")
        seed.insert("plan_quotas", plan="free", quota="voice_minutes", limit_value=30, period="month")
        seed.insert("plan_quotas", plan="team", quota="voice_minutes", limit_value=10_000, period="month")
        seed.insert("roles", id="analyst", name="Analyst")
        seed.insert("role_permissions", role="analyst", permission="reports.read")
        ada = _member(seed, "ada", "Ada Lovelace", attributes='{"persona": "boss", "wake_word": "hey boss"}')
        grace = _member(seed, "grace", "Grace Hopper", is_admin=1)
        others = [_member(seed, id, name) for id, name in COLLEAGUES.items()]
        seed.foreign.execute("UPDATE users SET plan = 'free' WHERE id > 'f' AND id <> 'grace'")
        seed.insert("organizations", id="acme", name="Acme", plan="team")
        for user in (ada, grace, *others[:4]):
            role = {"ada": "admin", "grace": "owner"}.get(user.id, "member")
            seed.insert("memberships", org_id="acme", user_id=user.id, role=role)
        for quota, (_, period) in QUOTAS.items():
            use(seed, ada.doc, quota, period, USED[quota])
        use(seed, "org:acme", "voice_minutes", "month", 4100)
        _instances(seed)
        seed.insert("user_roles", user_id="ada", role="analyst")
        seed.insert("user_permissions", user_id="ada", permission="can_use_fax", effect="deny")
        seed.foreign.execute("UPDATE api_tokens SET name = 'Kitchen speaker' WHERE user_id = 'ada'")
        spare = seed.token("ada")
        seed.foreign.execute("UPDATE api_tokens SET name = 'Car' WHERE id = ?", spare.id)
    return Company(ada, grace, "pro", "analyst", "acme", "i_shop", others)


def _instances(seed: Seed) -> None:
    """Of each kind one: with two keys, the older of which ends; not let in at all; as it was made."""
    shop = {"networks": '["10.20.0.0/16", "2001:db8:20::/48"]', "requests_per_minute": 12_000}
    seed.insert("instances", id="i_shop", name="Web shop", **shop)
    seed.insert("instances", id="i_kiosk", name="Kiosk", status="disabled", networks='["192.0.2.7"]')
    seed.insert("instances", id="i_calls", name="Call center")
    now = now_ms()
    made = {"k_7f3q2m9xva4t": (now - 90 * DAY_MS, now + 20 * 3_600_000), "k_b61w8r5zkd0h": (now - 4 * 3_600_000, None)}
    for kid, times in made.items():
        instance_key(seed, kid, "i_shop", *times)


def instance_key(seed: Seed, kid: str, instance: str, created_at: int, expires_at: int | None = None) -> None:
    """A key that nobody signs with: no master key opens its secret."""
    columns = "id, instance_id, secret, created_at, expires_at"
    sql = f"INSERT INTO instance_keys({columns}) VALUES (?, ?, zeroblob(60), ?, ?)"
    seed.foreign.execute(sql, kid, instance, created_at, expires_at)


def _member(seed: Seed, user: str, name: str, **columns: Any) -> Person:
    """A user called `user` on the plan pro, who can sign in and has a token."""
    email = f"{user}@example.org"
    own = {"username": user, "name": name, "email": email, "plan": "pro", "password_hash": cheap_hash()}
    seed.insert("users", id=user, **own, **columns)
    token = seed.token(user)
    return Person(user, "pro", token.id, token.text)
