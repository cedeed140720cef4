"""What ``gateway init`` puts into a new database: plans and an administrator, and with ``--demo`` people to try
things with.
"""

from __future__ import annotations

from gateway.store.accounts import User, insert_user
from gateway.store.database import Statement
from gateway.store.organizations import (
    Organization,
    insert_organization,
    member_statement,
    role_permission_statements,
)
from gateway.store.plans import Plan, PlanQuota, plan_statements

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
ROLE_PERMISSIONS = {
    "owner": ("manage_members", "manage_billing"),
    "admin": ("manage_members",),
    "member": (),
}


def initial_statements(admin: str) -> list[Statement]:
    """The plans, and an administrator with this user name."""
    user = User(id="u_admin", username=admin, name="Administrator", plan="enterprise", is_admin=True)
    return [*_plans(), insert_user(user)]


def demo_statements(admin: str) -> list[Statement]:
    """As `initial_statements`, and people on each plan, and an organization: Ada is one of its administrators."""
    return [
        *_plans(),
        insert_user(_person("u_admin", admin, "Administrator", "enterprise", 0, "chief", is_admin=True)),
        *map(insert_user, DEMO_USERS),
        insert_organization(ACME),
        member_statement(ACME.id, "u_alan", "owner"),
        member_statement(ACME.id, DEMO_USER, "admin"),
        member_statement(ACME.id, "u_grace", "member"),
        *role_permission_statements("owner", ROLE_PERMISSIONS["owner"]),
        *role_permission_statements("admin", ROLE_PERMISSIONS["admin"]),
    ]


def _plans() -> list[Statement]:
    return [statement for plan in PLANS for statement in plan_statements(plan)]
