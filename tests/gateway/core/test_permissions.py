"""What a user may do, until when, and why."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.permissions import Grant, Reason, RoleGrant, effective, explain_permission

NOW = 1_795_288_200_000
PLAN = frozenset({"voice", "sms"})


def allow(permission: str, starts_at: int | None = None, expires_at: int | None = None) -> Grant:
    return Grant(permission, "allow", starts_at, expires_at)


def deny(permission: str, starts_at: int | None = None, expires_at: int | None = None) -> Grant:
    return Grant(permission, "deny", starts_at, expires_at)


def test_without_roles_and_grants_the_plans_own_set_is_returned() -> None:
    held, changes_at = effective(True, PLAN, (), (), NOW)
    assert held is PLAN
    assert changes_at is None


def test_a_user_who_is_not_active_may_do_nothing_and_no_date_changes_that() -> None:
    roles = [(RoleGrant("editor", NOW + 5), frozenset({"edit"}))]
    assert effective(False, PLAN, roles, [allow("x", NOW + 1)], NOW) == (frozenset(), None)


@pytest.mark.parametrize(
    ("grants", "held", "changes_at"),
    [
        ([allow("x")], {"voice", "sms", "x"}, None),
        ([deny("sms")], {"voice"}, None),
        ([deny("sms"), allow("sms")], {"voice"}, None),  # deny wins, in any order
        ([allow("x"), deny("x")], {"voice", "sms"}, None),
        ([deny("unknown")], {"voice", "sms"}, None),
        ([allow("x", NOW, NOW + 1)], {"voice", "sms", "x"}, NOW + 1),  # starts_at is included
        ([allow("x", NOW - 1, NOW)], {"voice", "sms"}, None),  # expires_at is not
        ([allow("x", NOW + 1, NOW + 2)], {"voice", "sms"}, NOW + 1),
        ([allow("x", NOW + 2, NOW + 1)], {"voice", "sms"}, None),  # never
        ([deny("sms", None, NOW + 9), allow("x", NOW + 3)], {"voice"}, NOW + 3),
        ([deny("sms", NOW - 9, NOW - 8)], {"voice", "sms"}, None),
    ],
)
def test_the_users_own_rows(grants: list[Grant], held: set[str], changes_at: int | None) -> None:
    for order in (grants, grants[::-1]):
        assert effective(True, PLAN, (), order, NOW) == (frozenset(held), changes_at)


def test_roles_add_until_they_expire_and_are_denied_like_a_plan() -> None:
    roles = [
        (RoleGrant("editor", NOW + 5), frozenset({"edit", "publish"})),
        (RoleGrant("ghost", NOW), frozenset({"haunt"})),
        (RoleGrant("reader", None), frozenset({"read"})),
    ]
    assert effective(True, PLAN, roles, [deny("publish")], NOW) == (PLAN | {"edit", "read"}, NOW + 5)
    assert effective(True, PLAN, roles, (), NOW + 5) == (PLAN | {"read"}, None)


def test_an_unknown_effect_is_refused_even_when_it_is_over() -> None:
    with pytest.raises(ValueError, match="allow or deny"):
        effective(True, PLAN, (), [Grant("x", "maybe", None, NOW - 1)], NOW)


near = st.integers(-5, 5)
dates = st.one_of(st.none(), near)
names = st.sampled_from("abc")
sets = st.frozensets(names)
role_lists = st.lists(st.tuples(st.builds(RoleGrant, st.just("r"), dates), sets), max_size=3)
grant_lists = st.lists(st.builds(Grant, names, st.sampled_from(["allow", "deny"]), dates, dates), max_size=4)


@given(st.booleans(), sets, role_lists, grant_lists, near)
@settings(max_examples=300)
def test_no_change_comes_unannounced(
    active: bool, plan: frozenset[str], roles: list[tuple[RoleGrant, frozenset[str]]], grants: list[Grant], now: int
) -> None:
    held, changes_at = effective(active, plan, roles, grants, now)
    assert changes_at is None or changes_at > now
    for later in range(now, 7 if changes_at is None else changes_at):
        assert effective(active, plan, roles, grants, later) == (held, changes_at)


@given(st.booleans(), sets, role_lists, grant_lists, near, names)
@settings(max_examples=500)
def test_the_reasons_that_count_are_the_answer(
    active: bool,
    plan: frozenset[str],
    roles: list[tuple[RoleGrant, frozenset[str]]],
    grants: list[Grant],
    now: int,
    permission: str,
) -> None:
    held, _ = effective(active, plan, roles, grants, now)
    reasons = explain_permission(
        permission, user="u", active=active, plan="p", plan_permissions=plan, roles=roles, grants=grants, now_ms=now
    )
    counting = {reason.effect for reason in reasons if reason.counts}
    assert (permission in held) == ("allow" in counting)
    assert len(counting) <= 1
    mentions = (permission in plan) + sum(permission in given for _, given in roles) + (not active)
    assert len(reasons) == mentions + sum(grant.permission == permission for grant in grants)


def test_every_row_about_a_permission_is_listed() -> None:
    reasons = explain_permission(
        "sms",
        user="u_1",
        active=True,
        plan="pro",
        plan_permissions=PLAN,
        roles=[(RoleGrant("editor", NOW + 5), frozenset({"sms"})), (RoleGrant("reader", None), frozenset({"read"}))],
        grants=[allow("sms", NOW - 5, None), deny("sms", NOW + 1, NOW + 2), deny("voice")],
        now_ms=NOW,
    )
    assert reasons == [
        Reason(
            source="plan",
            name="pro",
            effect="allow",
            counts=True,
            row={"table": "plan_permissions", "plan": "pro", "permission": "sms"},
        ),
        Reason(
            source="role",
            name="editor",
            effect="allow",
            counts=True,
            row={"table": "user_roles", "user_id": "u_1", "role": "editor"},
            expires_at=NOW + 5,
        ),
        Reason(
            source="allow",
            name="sms",
            effect="allow",
            counts=True,
            row={"table": "user_permissions", "user_id": "u_1", "permission": "sms", "effect": "allow"},
            starts_at=NOW - 5,
        ),
        Reason(
            source="deny",
            name="sms",
            effect="deny",
            counts=False,
            row={"table": "user_permissions", "user_id": "u_1", "permission": "sms", "effect": "deny"},
            starts_at=NOW + 1,
            expires_at=NOW + 2,
        ),
    ]
    assert msgspec.json.encode(reasons[0]) == (
        b'{"source":"plan","name":"pro","effect":"allow","counts":true,'
        b'"row":{"table":"plan_permissions","plan":"pro","permission":"sms"}}'
    )


def test_a_user_who_is_not_active_is_told_so_first() -> None:
    reasons = explain_permission(
        "sms", user="u_1", active=False, plan="pro", plan_permissions=PLAN, grants=[deny("sms")], now_ms=NOW
    )
    assert [(reason.source, reason.effect, reason.counts) for reason in reasons] == [
        ("status", "deny", True),
        ("plan", "allow", False),
        ("deny", "deny", False),
    ]
    assert reasons[0].row == {"table": "users", "id": "u_1"}


def test_a_permission_that_nothing_mentions_has_no_reasons() -> None:
    assert explain_permission("x", user="u", active=True, plan="p", plan_permissions=PLAN, now_ms=NOW) == []
