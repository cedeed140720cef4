"""What ``gateway init`` puts into a new database: plans and an administrator, and with ``--demo`` people to try
things with.
"""

from __future__ import annotations

from gateway.cli.audit import entry
from gateway.cli.organizations import told as told_of_organization
from gateway.cli.plans import told as told_of_plan
from gateway.cli.users import told as told_of_user
from gateway.core.spending import Order
from gateway.store.accounts import User, insert_user
from gateway.store.audit import Entry
from gateway.store.database import Database, Statement
from gateway.store.organizations import (
    MemberRole,
    Organization,
    insert_organization,
    member_statement,
    role_permission_statements,
)
from gateway.store.plans import Plan, PlanQuota, plan_statements
from gateway.store.quotas import Quotas

PLANS = (
    Plan(
        "free",
        "Free",
        frozenset({"can_use_email"}),
        {"voice_minutes": PlanQuota(10), "sms_messages": PlanQuota(20)},
    ),
    Plan(
        "pro",
        "Pro",
        frozenset({"can_use_email", "can_use_voice", "can_use_sms"}),
        {"voice_minutes": PlanQuota(500), "sms_messages": PlanQuota(1000, "month", hard=False)},
    ),
    Plan(
        "enterprise",
        "Enterprise",
        frozenset({"can_use_email", "can_use_voice", "can_use_sms", "can_provision_numbers"}),
        {"voice_minutes": PlanQuota(10_000), "sms_messages": PlanQuota()},
    ),
)

DEMO_USER = "u_ada"

DEMO_ORDERS = (
    Order("user:u_ada", "user:u_ada", "voice_minutes", 4, "demo-1"),
    Order("user:u_ada", "user:u_ada", "sms_messages", 3, "demo-2"),
    Order("user:u_grace", "user:u_grace", "voice_minutes", 8, "demo-3"),
    Order("user:u_alan", "org:o_acme", "voice_minutes", 25, "demo-4"),
    Order("user:u_ada", "org:o_acme", "voice_minutes", 12, "demo-5"),
    Order("user:u_ada", "user:u_ada", "voice_minutes", 2, "demo-6"),
)
"""What the demo's people have taken of quotas; Grace has little left."""


def _person(
    user_id: str, username: str, name: str, plan: str, number: int, persona: str, *, is_admin: bool = False
) -> User:
    """A user with every attribute that the identity of a voice client has."""
    return User(
        id=user_id,
        username=username,
        is_admin=is_admin,
        name=name,
        email=f"{username}@example.org",
        plan=plan,
        attributes={
            "user_phone": f"+1555010{number:04}",
            "xswarm_email": f"{username}@xswarm.example.org",
            "xswarm_phone": f"+1555020{number:04}",
            "persona": persona,
            "wake_word": f"hey {persona}",
        },
    )


DEMO_USERS = (
    _person(DEMO_USER, "ada", "Ada Lovelace", "pro", 1, "boss"),
    _person("u_grace", "grace", "Grace Hopper", "free", 2, "admiral"),
    _person("u_alan", "alan", "Alan Turing", "enterprise", 3, "hal"),
)
ACME = Organization(id="o_acme", name="Acme", plan="enterprise", attributes={"website": "https://acme.example.org"})
MEMBERS: dict[str, MemberRole] = {"u_alan": "owner", DEMO_USER: "admin", "u_grace": "member"}
ROLE_PERMISSIONS: dict[MemberRole, tuple[str, ...]] = {
    "owner": ("manage_members", "manage_billing"),
    "admin": ("manage_members",),
    "member": (),
}


def administrator(username: str, *, demo: bool) -> User:
    """The first administrator."""
    if demo:
        return _person("u_admin", username, "Administrator", "enterprise", 0, "chief", is_admin=True)
    return User(id="u_admin", username=username, name="Administrator", plan="enterprise", is_admin=True)


def initial_statements(admin: str, password_hash: str | None = None) -> list[Statement]:
    """The plans, what an organization's owners and administrators may do in it, and an administrator with this user
    name."""
    return [*_plans(), *_organization_roles(), insert_user(administrator(admin, demo=False), password_hash)]


def demo_statements(admin: str, password_hash: str | None = None) -> list[Statement]:
    """As `initial_statements`, and people on each plan, who can not sign in yet, and an organization: Ada is one of its
    administrators."""
    return [
        *_plans(),
        *_organization_roles(),
        insert_user(administrator(admin, demo=True), password_hash),
        *map(insert_user, DEMO_USERS),
        insert_organization(ACME),
        *(member_statement(ACME.id, user_id, role) for user_id, role in MEMBERS.items()),
    ]


async def spend_demo(db: Database) -> None:
    """Take what `DEMO_ORDERS` say, in this order. Raises what `Spender.consume` does."""
    spender = Quotas(db, db.clock).spender
    for order in DEMO_ORDERS:
        await spender.consume(order)


def initial_entries(admin: str) -> list[Entry]:
    """What the audit trail has of `initial_statements`."""
    return [*_plan_entries(), *_organization_role_entries(), _created(administrator(admin, demo=False))]


def demo_entries(admin: str) -> list[Entry]:
    """What the audit trail has of `demo_statements`."""
    acme = f"org:{ACME.id}"
    return [
        *_plan_entries(),
        *_organization_role_entries(),
        _created(administrator(admin, demo=True)),
        *map(_created, DEMO_USERS),
        entry("org.create", acme, after=told_of_organization(ACME)),
        *(entry("org.member", acme, after={"user_id": id, "role": role}) for id, role in MEMBERS.items()),
    ]


def _plan_entries() -> list[Entry]:
    return [entry("plan.write", f"plan:{plan.id}", after=told_of_plan(plan)) for plan in PLANS]


def _organization_role_entries() -> list[Entry]:
    return [
        entry("role.write", f"role:org.{role}", after={"permissions": names})
        for role, names in ROLE_PERMISSIONS.items()
        if names
    ]


def _created(user: User) -> Entry:
    return entry("user.create", f"user:{user.id}", after=told_of_user(user))


def _organization_roles() -> list[Statement]:
    return [row for role, names in ROLE_PERMISSIONS.items() for row in role_permission_statements(role, names)]


def _plans() -> list[Statement]:
    return [statement for plan in PLANS for statement in plan_statements(plan)]
