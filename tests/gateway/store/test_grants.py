from __future__ import annotations

import pytest

from gateway.errors import BadRequest, NotFound
from gateway.store import grants
from gateway.store.accounts import User, add_user
from gateway.store.changes import last_seq, read_changes
from gateway.store.database import Database, Statement
from gateway.store.grants import PermissionRow, QuotaRow, RoleRow
from gateway.store.plans import Plan, apply_plans
from gateway.store.roles import Role, create_role

ADA = User(id="u_ada", username="ada", plan="pro")


@pytest.fixture(autouse=True)
async def ada(database: Database) -> None:
    await apply_plans(database, [Plan("pro")])
    await create_role(database, Role("support", "Support", frozenset({"users.read"})))
    await add_user(database, ADA)


async def test_a_role_is_given_prolonged_and_taken(database: Database) -> None:
    await grants.set_role(database, "u_ada", "support", 2_000_000_000_000)
    assert (await grants.read_grants(database, "u_ada")).roles == (RoleRow("support", 2_000_000_000_000),)
    before = await last_seq(database)
    seq = await grants.set_role(database, "u_ada", "support")
    assert [(change.doc, change.cause) for change in await read_changes(database, before)] == [("user:u_ada", "roles")]
    assert await grants.set_role(database, "u_ada", "support") == seq
    assert (await grants.read_grants(database, "u_ada")).roles == (RoleRow("support", None),)
    await grants.remove_role(database, "u_ada", "support")
    assert (await grants.read_grants(database, "u_ada")).roles == ()


async def test_what_is_not_there_is_not_found(database: Database) -> None:
    row = QuotaRow("voice_minutes", 1, "month", True)
    for attempt in (
        grants.set_permission(database, "u_eve", "can_fly", "allow"),
        grants.set_permission(database, "u_eve", "can_fly", None),
        grants.remove_permission(database, "u_ada", "can_fly"),
        grants.set_quota(database, "u_eve", row),
        grants.remove_quota(database, "u_ada", "voice_minutes"),
        grants.set_role(database, "u_eve", "support"),
        grants.set_role(database, "u_ada", "chief"),
        grants.remove_role(database, "u_ada", "support"),
    ):
        with pytest.raises(NotFound):
            await attempt


async def test_a_permission_has_its_days_and_is_removed_whole(database: Database) -> None:
    await grants.set_permission(database, "u_ada", "can_fly", "deny", 2_000, starts_at=1_000)
    assert (await grants.read_grants(database, "u_ada")).permissions == (
        PermissionRow("can_fly", "deny", 1_000, 2_000),
    )
    await database.write(Statement("INSERT INTO user_permissions (user_id, permission) VALUES ('u_ada', 'can_fly')"))
    await grants.remove_permission(database, "u_ada", "can_fly")
    assert (await grants.read_grants(database, "u_ada")).permissions == ()


async def test_what_a_check_refuses_is_a_bad_request(database: Database) -> None:
    with pytest.raises(BadRequest):
        await grants.set_quota(database, "u_ada", QuotaRow("voice_minutes", -1, "month", True))
    with pytest.raises(BadRequest):
        await grants.set_quota(database, "u_ada", QuotaRow("voice_minutes", 1, "fortnight", True))


async def test_the_last_word_on_a_permission_counts(database: Database) -> None:
    await grants.set_permission(database, "u_ada", "can_fly", "allow", 2_000_000_000_000)
    assert (await grants.read_grants(database, "u_ada")).permissions == (
        PermissionRow("can_fly", "allow", None, 2_000_000_000_000),
    )
    await grants.set_permission(database, "u_ada", "can_fly", "allow")
    await grants.set_permission(database, "u_ada", "can_swim", "deny")
    assert (await grants.read_grants(database, "u_ada")).permissions == (
        PermissionRow("can_fly", "allow", None, None),
        PermissionRow("can_swim", "deny", None, None),
    )
    seq = await grants.set_permission(database, "u_ada", "can_fly", "deny")
    assert [row.effect for row in (await grants.read_grants(database, "u_ada")).permissions] == ["deny", "deny"]
    assert await grants.set_permission(database, "u_ada", "can_fly", "deny") == seq
    await grants.set_permission(database, "u_ada", "can_fly", None)
    await grants.set_permission(database, "u_ada", "can_swim", None)
    assert (await grants.read_grants(database, "u_ada")).permissions == ()


async def test_a_permission_that_waits_for_its_day_is_replaced_by_one_for_now(database: Database) -> None:
    await database.write(
        Statement(
            "INSERT INTO user_permissions (user_id, permission, starts_at) VALUES ('u_ada', 'can_fly', 4000000000000)"
        )
    )
    await grants.set_permission(database, "u_ada", "can_fly", "allow")
    assert (await grants.read_grants(database, "u_ada")).permissions == (PermissionRow("can_fly", "allow", None, None),)


async def test_a_quota_is_overridden_and_left_to_the_plan_again(database: Database) -> None:
    for row in (
        QuotaRow("voice_minutes", 10, "day", True, None, 2_000_000_000_000),
        QuotaRow("voice_minutes", None, "month", False),
        QuotaRow("voice_minutes", 2**53 - 1, "never", True, 1, 2),
    ):
        seq = await grants.set_quota(database, "u_ada", row)
        assert (await grants.read_grants(database, "u_ada")).quotas == (row,)
        assert await grants.set_quota(database, "u_ada", row) == seq
    await grants.remove_quota(database, "u_ada", "voice_minutes")
    assert (await grants.read_grants(database, "u_ada")).quotas == ()
