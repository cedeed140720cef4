"""Who may hand out what, and whom members may make members."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.administration import (
    OWN_PERMISSIONS,
    Standing,
    check_account,
    check_handing_out,
    check_membership,
    check_membership_roles,
    differing,
)
from gateway.errors import Forbidden

PERMISSIONS = st.frozensets(st.sampled_from([*sorted(OWN_PERMISSIONS), "can_fly", "can_dance", "users.reads"]))


@given(st.booleans(), PERMISSIONS, PERMISSIONS)
def test_only_administrators_change_who_has_the_gateways_own(
    is_admin: bool, before: frozenset[str], after: frozenset[str]
) -> None:
    same = before & OWN_PERMISSIONS == after & OWN_PERMISSIONS
    with contextlib.nullcontext() if is_admin or same else pytest.raises(Forbidden):
        check_handing_out(is_admin, before, after)


@pytest.mark.parametrize(("is_admin", "target", "allowed"), [(0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 0)])
def test_administrators_are_touched_by_administrators(is_admin: int, target: int, allowed: int) -> None:
    with contextlib.nullcontext() if allowed else pytest.raises(Forbidden):
        check_account(bool(is_admin), bool(target))


@pytest.mark.parametrize(
    ("before", "after", "forbidden"),
    [
        ([], ["manage_members"], True),
        (["manage_members", "a"], ["a"], True),
        (["manage_members"], ["manage_members", "b"], False),
    ],
)
def test_who_manages_members_is_decided_by_administrators(before: list[str], after: list[str], forbidden: bool) -> None:
    check_membership_roles(True, before, after)
    with pytest.raises(Forbidden) if forbidden else contextlib.nullcontext():
        check_membership_roles(False, before, after)


@given(st.sampled_from(Standing), *[st.sampled_from([None, "owner", "admin", "member"])] * 2)
def test_managers_manage_and_owners_make_owners(standing: Standing, before: str | None, after: str | None) -> None:
    least = Standing.OWNER if "owner" in (before, after) else Standing.MANAGER
    with contextlib.nullcontext() if standing >= least else pytest.raises(Forbidden):
        check_membership(standing, before, after)


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ({}, {}, set()),
        ({"a": 1}, {"a": True}, {"a"}),
        ({"a": {"b": 0, "c": [1]}}, {"a": {"c": [1], "b": False}}, {"a"}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}, set()),
        ({"a": 1, "b": None}, {"c": 2}, {"a", "c"}),
    ],
)
def test_what_differs_differs_as_json(before: dict[str, Any], after: dict[str, Any], names: set[str]) -> None:
    assert differing(before, after) == names
