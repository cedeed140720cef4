from __future__ import annotations

import itertools

import pytest

from gateway.core.access import Access, access_to_organization, access_to_user, allowed
from gateway.core.facts import Catalog, Membership, OrganizationFacts, UserFacts
from gateway.core.principal import CredentialKind, Principal, PrincipalKind

NOTHING = frozenset[str]()


def principal(user: str = "ada", *scopes: str, scoped: bool = False) -> Principal:
    permissions = frozenset(scopes) if scoped or scopes else None
    return Principal(PrincipalKind.USER, user, CredentialKind.API_TOKEN, "t_1", None, permissions)


def facts(*memberships: tuple[str, str], active: bool = True, is_admin: bool = False) -> UserFacts:
    return UserFacts("free", active, is_admin, "UTC", None, memberships=tuple(Membership(*m) for m in memberships))


def catalog(*, active: bool = True) -> Catalog:
    made = Catalog()
    made.organizations["acme"] = OrganizationFacts("Acme", "pro", active, "UTC", None, b"{}")
    made.organization_roles = {"owner": frozenset(("manage_members", "x")), "admin": frozenset(("x",))}
    return made


@pytest.mark.parametrize(
    ("active", "is_admin", "held", "scopes"),
    list(itertools.product((True, False), (True, False), (True, False), (None, (), ("p",), ("q",), ("p", "q")))),
)
def test_a_permission_counts_while_active_and_within_the_scopes(
    active: bool, is_admin: bool, held: bool, scopes: tuple[str, ...] | None
) -> None:
    who = principal("ada", *(scopes or ()), scoped=scopes is not None)
    expected = active and (is_admin or held) and (scopes is None or "p" in scopes)
    assert allowed(who, facts(active=active, is_admin=is_admin), frozenset(("p",) if held else ()), "p") is expected


def test_everybody_sees_the_own_document_whatever_the_scopes() -> None:
    assert access_to_user(principal("ada", scoped=True), facts(active=False), NOTHING, "ada") is Access.FULL


@pytest.mark.parametrize("other", ["bob", "ADA", "ada ", "", "ad"])
def test_another_document_needs_the_permission(other: str) -> None:
    readers = frozenset(("users.read",))
    assert access_to_user(principal(), facts(), NOTHING, other) is Access.NONE
    assert access_to_user(principal(), facts(), frozenset(("orgs.read",)), other) is Access.NONE
    assert access_to_user(principal(), facts(), readers, other) is Access.FULL
    assert access_to_user(principal(), facts(is_admin=True), NOTHING, other) is Access.FULL
    assert access_to_user(principal("ada", scoped=True), facts(is_admin=True), readers, other) is Access.NONE
    assert access_to_user(principal(), facts(active=False), readers, other) is Access.NONE


@pytest.mark.parametrize(
    ("role", "access"),
    [("owner", Access.FULL), ("admin", Access.PARTIAL), ("member", Access.PARTIAL), ("unheard_of", Access.PARTIAL)],
)
def test_a_member_sees_the_members_only_who_may_manage_them(role: str, access: Access) -> None:
    mine = facts(("other", "owner"), ("acme", role))
    assert access_to_organization(principal(), mine, NOTHING, "acme", catalog()) is access


def test_an_organization_is_hidden_from_strangers() -> None:
    for mine in (facts(), facts(("other", "owner")), facts(("acme ", "owner"))):
        assert access_to_organization(principal(), mine, NOTHING, "acme", catalog()) is Access.NONE
    assert access_to_organization(principal(), facts(("gone", "owner")), NOTHING, "gone", catalog()) is Access.NONE


def test_who_is_not_active_or_belongs_to_what_is_not_active_sees_nothing() -> None:
    member = facts(("acme", "owner"))
    assert access_to_organization(principal(), member, NOTHING, "acme", catalog(active=False)) is Access.NONE
    disabled = facts(("acme", "owner"), active=False)
    assert access_to_organization(principal(), disabled, NOTHING, "acme", catalog()) is Access.NONE


def test_the_permission_for_all_organizations_needs_no_membership() -> None:
    readers = frozenset(("orgs.read",))
    for known in (catalog(), catalog(active=False), Catalog()):
        assert access_to_organization(principal(), facts(), readers, "acme", known) is Access.FULL
        assert access_to_organization(principal(), facts(is_admin=True), NOTHING, "acme", known) is Access.FULL
    narrowed = principal("ada", "users.read")
    assert access_to_organization(narrowed, facts(), readers, "acme", catalog()) is Access.NONE
    assert access_to_organization(narrowed, facts(("acme", "admin")), readers, "acme", catalog()) is Access.PARTIAL
