from __future__ import annotations

import asyncio

import msgspec
import pytest

from gateway.errors import BadRequest, Conflict, NotFound, PreconditionFailed
from gateway.store import organizations
from gateway.store.accounts import User, add_user
from gateway.store.changes import last_seq, read_changes
from gateway.store.database import Database, Statement
from gateway.store.guarded import Guarded
from gateway.store.organizations import MEMBER_ROLES, Member, MemberCap, MemberRole, Organization, RolePermissions
from gateway.store.plans import Plan, apply_plans

ACME = Organization(id="o_acme", name="Acme", plan="enterprise", attributes={"city": "Basel"}, timezone="Europe/Zurich")


@pytest.fixture(autouse=True)
async def acme(database: Database) -> None:
    await apply_plans(database, [Plan("enterprise"), Plan("free")])
    await add_user(database, User(id="u_ada", username="ada", plan="free"))
    await add_user(database, User(id="u_bob", username="Bob", plan="free"))
    await organizations.add_organization(database, ACME)


async def set_member(database: Database, organization: str, user: str, role: MemberRole) -> int:
    """As the store does, where nobody else changes it meanwhile."""
    before = await organizations.find_member_role(database, organization, user)
    return await organizations.set_member(database, organization, user, role, before=before)


async def remove_member(database: Database, organization: str, user: str) -> int:
    before = await organizations.find_member_role(database, organization, user)
    return await organizations.remove_member(database, organization, user, before=before)


async def logged_since(database: Database, seq: int) -> list[tuple[str, str]]:
    return [(change.doc, change.cause) for change in await read_changes(database, seq, 100)]


async def test_an_organization_is_found(database: Database) -> None:
    found = await organizations.find_organization(database, "o_acme")
    assert (found.name, found.plan, found.attributes, found.timezone) == (
        "Acme",
        "enterprise",
        {"city": "Basel"},
        "Europe/Zurich",
    )
    assert (found.status, found.anchor_at) == ("active", None)
    assert found.created_at > 1_500_000_000_000
    with pytest.raises(NotFound, match="no organization o_x"):
        await organizations.find_organization(database, "o_x")


async def test_what_is_taken_or_missing_is_said(database: Database) -> None:
    with pytest.raises(Conflict):
        await organizations.add_organization(database, ACME)
    with pytest.raises(NotFound, match="no plan gold"):
        await organizations.add_organization(database, Organization(id="o_2", plan="gold"))
    for attempt in (
        organizations.set_organization_plan(database, "o_acme", "gold"),
        organizations.set_organization_plan(database, "o_x", "free"),
        organizations.set_organization_status(database, "o_x", "disabled"),
        organizations.delete_organization(database, "o_x"),
        set_member(database, "o_x", "u_ada", "member"),
        set_member(database, "o_acme", "u_x", "member"),
        remove_member(database, "o_acme", "u_ada"),
        organizations.set_cap(database, "o_acme", MemberCap("u_x", "voice_minutes", 1)),
        organizations.remove_cap(database, "o_acme", "u_ada", "voice_minutes"),
    ):
        with pytest.raises(NotFound):
            await attempt


async def test_organizations_are_listed_in_pages(database: Database) -> None:
    for name in ("o_c", "o_b"):
        await organizations.add_organization(database, Organization(id=name, plan="free"))
    assert [found.id for found in await organizations.list_organizations(database)] == ["o_acme", "o_b", "o_c"]
    assert [found.id for found in await organizations.list_organizations(database, after="o_acme", limit=1)] == ["o_b"]


async def test_plan_and_status_change(database: Database) -> None:
    before = await last_seq(database)
    seq = await organizations.set_organization_plan(database, "o_acme", "free")
    assert {("org:o_acme", "plan"), ("org:o_acme", "organization")} == set(await logged_since(database, before))
    assert await organizations.set_organization_plan(database, "o_acme", "free") == seq
    await organizations.set_organization_status(database, "o_acme", "disabled")
    found = await organizations.find_organization(database, "o_acme")
    assert (found.plan, found.status) == ("free", "disabled")


async def test_members_come_change_and_go(database: Database) -> None:
    before = await last_seq(database)
    await set_member(database, "o_acme", "u_bob", "member")
    assert await logged_since(database, before) == [("user:u_bob", "organization"), ("org:o_acme", "organization")]
    await set_member(database, "o_acme", "u_ada", "admin")
    seq = await set_member(database, "o_acme", "u_bob", "owner")
    assert await set_member(database, "o_acme", "u_bob", "owner") == seq
    ada, bob = await organizations.list_members(database, "o_acme")
    assert (ada, bob) == (Member("u_ada", "ada", "admin", ada.since), Member("u_bob", "Bob", "owner", bob.since))
    await database.write(Statement("DELETE FROM users WHERE id = 'u_ada'"))
    assert [member.user_id for member in await organizations.list_members(database, "o_acme")] == ["u_bob"]


async def test_the_last_owner_stays_one(database: Database) -> None:
    await set_member(database, "o_acme", "u_ada", "owner")
    for attempt in (
        remove_member(database, "o_acme", "u_ada"),
        set_member(database, "o_acme", "u_ada", "admin"),
    ):
        with pytest.raises(Conflict, match="last owner"):
            await attempt
    await set_member(database, "o_acme", "u_bob", "owner")
    await set_member(database, "o_acme", "u_ada", "member")
    await remove_member(database, "o_acme", "u_ada")
    with pytest.raises(Conflict):
        await remove_member(database, "o_acme", "u_bob")
    assert await organizations.find_member_role(database, "o_acme", "u_bob") == "owner"
    assert await organizations.find_member_role(database, "o_acme", "u_ada") is None


@pytest.mark.parametrize("role", [None, *MEMBER_ROLES])
@pytest.mark.parametrize("before", [None, *MEMBER_ROLES])
async def test_a_member_is_changed_only_as_it_was_seen(
    database: Database, role: MemberRole | None, before: MemberRole | None
) -> None:
    await set_member(database, "o_acme", "u_ada", "owner")
    if role is not None:
        await set_member(database, "o_acme", "u_bob", role)
    if role != before:
        for attempt in (
            organizations.set_member(database, "o_acme", "u_bob", "owner", before=before),
            organizations.set_member(database, "o_acme", "u_bob", "member", before=before),
            organizations.remove_member(database, "o_acme", "u_bob", before=before),
        ):
            with pytest.raises(PreconditionFailed):
                await attempt
        assert await organizations.find_member_role(database, "o_acme", "u_bob") == role
    elif role is None:
        with pytest.raises(NotFound):
            await organizations.remove_member(database, "o_acme", "u_bob", before=None)
    else:
        await organizations.set_member(database, "o_acme", "u_bob", "admin", before=before)
        await organizations.remove_member(database, "o_acme", "u_bob", before="admin")


async def test_whether_somebody_still_manages_is_seen_by_the_write(database: Database) -> None:
    await set_member(database, "o_acme", "u_ada", "owner")
    await set_member(database, "o_acme", "u_bob", "admin")
    await organizations.set_role_permissions(database, "admin", ["manage_members"])
    cap = MemberCap("u_ada", "voice_minutes", 1)

    async def write(user: str, role: MemberRole) -> None:
        guards = [organizations.still_manages("o_acme", user, role)]
        await organizations.set_cap(Guarded(database, guards), "o_acme", cap)

    await write("u_bob", "admin")
    for attempt in (write("u_bob", "owner"), write("u_ada", "owner"), write("u_eve", "admin")):
        with pytest.raises(PreconditionFailed):
            await attempt
    await organizations.set_organization_status(database, "o_acme", "disabled")
    with pytest.raises(PreconditionFailed):
        await write("u_bob", "admin")


async def test_of_two_owners_who_leave_at_once_one_stays(database: Database) -> None:
    for user in ("u_ada", "u_bob"):
        await set_member(database, "o_acme", user, "owner")
    results = await asyncio.gather(
        *(remove_member(database, "o_acme", user) for user in ("u_ada", "u_bob")), return_exceptions=True
    )
    assert sorted(type(result) for result in results if isinstance(result, Exception)) == [Conflict]
    assert len(await organizations.list_members(database, "o_acme")) == 1


async def test_an_organization_comes_with_its_owner_or_not_at_all(database: Database) -> None:
    new = Organization(id="o_new", name="New", plan="free")
    with pytest.raises(NotFound, match="no user u_x"):
        await organizations.add_organization(database, new, "u_x")
    with pytest.raises(NotFound):
        await organizations.find_organization(database, "o_new")
    await organizations.add_organization(database, new, "u_ada")
    assert [member.role for member in await organizations.list_members(database, "o_new")] == ["owner"]


async def test_a_users_organizations_are_the_active_ones_in_full_pages(database: Database) -> None:
    for name in ("o_b", "o_c", "o_d"):
        await organizations.add_organization(database, Organization(id=name, name=name, plan="free"), "u_ada")
    await set_member(database, "o_acme", "u_ada", "member")
    await set_member(database, "o_b", "u_bob", "admin")
    await organizations.set_organization_status(database, "o_b", "disabled")
    found = await organizations.list_organizations(database, member="u_ada")
    assert [each.id for each in found] == ["o_acme", "o_c", "o_d"]
    assert found[0] == await organizations.find_organization(database, "o_acme")
    assert await organizations.list_organizations(database, member="u_ada", limit=2) == found[:2]
    assert await organizations.list_organizations(database, member="u_ada", after="o_acme", limit=1) == found[1:2]
    assert await organizations.list_organizations(database, member="u_bob") == []


async def test_members_are_listed_in_pages(database: Database) -> None:
    await set_member(database, "o_acme", "u_ada", "member")
    await set_member(database, "o_acme", "u_bob", "admin")
    assert [each.user_id for each in await organizations.list_members(database, "o_acme", after="ADA")] == ["u_bob"]
    assert [each.user_id for each in await organizations.list_members(database, "o_acme", limit=1)] == ["u_ada"]


async def test_an_organization_is_replaced_only_as_it_was_seen(database: Database) -> None:
    seen = await organizations.find_organization(database, "o_acme")
    after = msgspec.structs.replace(seen, name="Acme & Co", plan="free", attributes={}, anchor_at=1, id="o_other")
    await organizations.replace_organization(database, seen, after)
    found = await organizations.find_organization(database, "o_acme")
    assert (found.name, found.plan, found.attributes, found.anchor_at) == ("Acme & Co", "free", {}, 1)
    with pytest.raises(PreconditionFailed):
        await organizations.replace_organization(database, seen, after)
    with pytest.raises(NotFound, match="no plan gold"):
        await organizations.replace_organization(database, found, msgspec.structs.replace(found, plan="gold"))
    await organizations.delete_organization(database, "o_acme")
    with pytest.raises(NotFound, match="no organization o_acme"):
        await organizations.replace_organization(database, found, after)


async def test_caps_outlive_the_membership(database: Database) -> None:
    await set_member(database, "o_acme", "u_ada", "member")
    await organizations.set_cap(database, "o_acme", MemberCap("u_ada", "voice_minutes", 100))
    await organizations.set_cap(database, "o_acme", MemberCap("u_ada", "voice_minutes", 50))
    await organizations.set_cap(database, "o_acme", MemberCap("u_ada", "sms_messages", None))
    await remove_member(database, "o_acme", "u_ada")
    assert await organizations.list_caps(database, "o_acme") == [
        MemberCap("u_ada", "sms_messages", None),
        MemberCap("u_ada", "voice_minutes", 50),
    ]
    await organizations.remove_cap(database, "o_acme", "u_ada", "voice_minutes")
    assert [cap.quota for cap in await organizations.list_caps(database, "o_acme")] == ["sms_messages"]
    with pytest.raises(BadRequest):
        await organizations.set_cap(database, "o_acme", MemberCap("u_ada", "voice_minutes", -1))


async def test_roles_grant_exactly_what_was_said(database: Database) -> None:
    await organizations.set_role_permissions(database, "admin", ["manage_members", "see_bills"])
    before = await last_seq(database)
    await organizations.set_role_permissions(database, "admin", ["see_bills", "manage_members"])
    assert await logged_since(database, before) == []
    await organizations.set_role_permissions(database, "admin", ["see_bills"])
    assert await logged_since(database, before) == [("role:org.admin", "permissions")]
    assert await organizations.read_role_permissions(database) == {"owner": (), "admin": ("see_bills",), "member": ()}


async def test_what_roles_grant_is_replaced_only_as_it_was_seen(database: Database) -> None:
    seen = await organizations.read_role_permissions(database)
    wanted: RolePermissions = {"owner": ("a", "b"), "admin": ("a",), "member": ()}
    await organizations.replace_role_permissions(database, seen, wanted)
    assert await organizations.read_role_permissions(database) == wanted
    before = await last_seq(database)
    await organizations.replace_role_permissions(database, wanted, wanted)
    others: list[RolePermissions] = [
        seen,
        {**wanted, "owner": ("a",)},
        {**wanted, "member": ("a",)},
        {**wanted, "admin": ("b",)},
    ]
    for other in others:
        with pytest.raises(PreconditionFailed):
            await organizations.replace_role_permissions(database, other, seen)
    assert await last_seq(database) == before
    assert await organizations.read_role_permissions(database) == wanted


async def test_a_deleted_organization_leaves_nothing(database: Database) -> None:
    await set_member(database, "o_acme", "u_ada", "member")
    await organizations.set_cap(database, "o_acme", MemberCap("u_ada", "voice_minutes", 100))
    await organizations.delete_organization(database, "o_acme")
    assert await organizations.list_members(database, "o_acme") == []
    assert await organizations.list_caps(database, "o_acme") == []
