from __future__ import annotations

import pytest

from gateway.errors import BadRequest, Conflict, NotFound
from gateway.store import accounts
from gateway.store.accounts import PermissionRow, QuotaRow, User
from gateway.store.changes import last_seq, read_changes
from gateway.store.database import Database, Statement
from gateway.store.plans import Plan, apply_plans

ADA = User(id="u_ada", username="ada", name="Ada Lovelace", email="ada@example.org", plan="pro", attributes={"a": [1]})


@pytest.fixture(autouse=True)
async def plans(database: Database) -> None:
    await apply_plans(database, [Plan("pro"), Plan("free")])


async def changes_since(database: Database, seq: int) -> list[tuple[str, str]]:
    return [(change.doc, change.cause) for change in await read_changes(database, seq, 100)]


async def test_a_user_is_found_by_id_name_and_address(database: Database) -> None:
    seq = await accounts.add_user(database, ADA)
    assert seq == await last_seq(database)
    for who in ("u_ada", "ada", "ADA", "Ada@Example.org"):
        found = await accounts.find_user(database, who)
        assert (found.id, found.username, found.email, found.attributes) == (
            "u_ada",
            "ada",
            "ada@example.org",
            {"a": [1]},
        )
        assert (found.is_admin, found.status, found.timezone, found.anchor_at) == (False, "active", "UTC", None)
        assert found.created_at > 1_500_000_000_000
    with pytest.raises(NotFound, match="There is no user eve"):
        await accounts.find_user(database, "eve")


async def test_an_id_goes_before_a_name_and_a_name_before_an_address(database: Database) -> None:
    await accounts.add_user(database, ADA)
    await accounts.add_user(database, User(id="u_2", username="u_ada", email="x@example.org", plan="pro"))
    await accounts.add_user(database, User(id="u_3", username="x@example.org", plan="pro"))
    assert (await accounts.find_user(database, "u_ada")).username == "ada"
    assert (await accounts.find_user(database, "x@example.org")).id == "u_3"


@pytest.mark.parametrize(
    "twin",
    [
        User(id="u_ada", username="bob", plan="pro"),
        User(id="u_bob", username="ADA", plan="pro"),
        User(id="u_bob", username="bob", email="ADA@example.org", plan="pro"),
    ],
)
async def test_what_is_taken_is_a_conflict(database: Database, twin: User) -> None:
    await accounts.add_user(database, ADA)
    before = await last_seq(database)
    with pytest.raises(Conflict, match="taken"):
        await accounts.add_user(database, twin)
    assert await last_seq(database) == before


async def test_what_hangs_on_nothing_is_not_found(database: Database) -> None:
    with pytest.raises(NotFound, match="no plan gold"):
        await accounts.add_user(database, User(id="u_1", username="x", plan="gold"))
    await accounts.add_user(database, ADA)
    with pytest.raises(NotFound, match="no plan gold"):
        await accounts.set_plan(database, "u_ada", "gold")
    row = QuotaRow("voice_minutes", 1, "month", True)
    for attempt in (
        accounts.set_plan(database, "u_eve", "pro"),
        accounts.set_status(database, "u_eve", "disabled"),
        accounts.set_permission(database, "u_eve", "can_fly", "allow"),
        accounts.set_permission(database, "u_eve", "can_fly", None),
        accounts.set_quota(database, "u_eve", row),
        accounts.remove_quota(database, "u_ada", "voice_minutes"),
        accounts.delete_user(database, "u_eve"),
    ):
        with pytest.raises(NotFound):
            await attempt


async def test_what_a_check_refuses_is_a_bad_request(database: Database) -> None:
    await accounts.add_user(database, ADA)
    with pytest.raises(BadRequest):
        await accounts.set_quota(database, "u_ada", QuotaRow("voice_minutes", -1, "month", True))
    with pytest.raises(BadRequest):
        await accounts.set_quota(database, "u_ada", QuotaRow("voice_minutes", 1, "fortnight", True))


async def test_each_change_is_logged_once_and_only_when_something_changes(database: Database) -> None:
    seq = await accounts.add_user(database, ADA)
    before = seq
    seq = await accounts.set_status(database, "u_ada", "disabled")
    assert [change for change in await changes_since(database, before) if change[1] != "profile"] == [
        ("user:u_ada", "status")
    ]
    assert seq == await last_seq(database)
    assert await accounts.set_status(database, "u_ada", "disabled") == seq
    before = seq
    seq = await accounts.set_plan(database, "u_ada", "free")
    assert ("user:u_ada", "plan") in await changes_since(database, before)
    assert (await accounts.find_user(database, "ada")).plan == "free"
    assert await accounts.set_plan(database, "u_ada", "free") == seq


async def test_the_last_word_on_a_permission_counts(database: Database) -> None:
    await accounts.add_user(database, ADA)
    await accounts.set_permission(database, "u_ada", "can_fly", "allow", 2_000_000_000_000)
    assert (await accounts.read_grants(database, "u_ada")).permissions == (
        PermissionRow("can_fly", "allow", None, 2_000_000_000_000),
    )
    await accounts.set_permission(database, "u_ada", "can_fly", "allow")
    await accounts.set_permission(database, "u_ada", "can_swim", "deny")
    assert (await accounts.read_grants(database, "u_ada")).permissions == (
        PermissionRow("can_fly", "allow", None, None),
        PermissionRow("can_swim", "deny", None, None),
    )
    seq = await accounts.set_permission(database, "u_ada", "can_fly", "deny")
    assert [row.effect for row in (await accounts.read_grants(database, "u_ada")).permissions] == ["deny", "deny"]
    assert await accounts.set_permission(database, "u_ada", "can_fly", "deny") == seq
    await accounts.set_permission(database, "u_ada", "can_fly", None)
    await accounts.set_permission(database, "u_ada", "can_swim", None)
    assert (await accounts.read_grants(database, "u_ada")).permissions == ()


async def test_a_permission_that_waits_for_its_day_is_replaced_by_one_for_now(database: Database) -> None:
    await accounts.add_user(database, ADA)
    await database.write(
        Statement(
            "INSERT INTO user_permissions (user_id, permission, starts_at) VALUES ('u_ada', 'can_fly', 4000000000000)"
        )
    )
    await accounts.set_permission(database, "u_ada", "can_fly", "allow")
    assert (await accounts.read_grants(database, "u_ada")).permissions == (
        PermissionRow("can_fly", "allow", None, None),
    )


async def test_a_quota_is_overridden_and_left_to_the_plan_again(database: Database) -> None:
    await accounts.add_user(database, ADA)
    for row in (
        QuotaRow("voice_minutes", 10, "day", True, None, 2_000_000_000_000),
        QuotaRow("voice_minutes", None, "month", False),
        QuotaRow("voice_minutes", 2**53 - 1, "never", True, 1, 2),
    ):
        seq = await accounts.set_quota(database, "u_ada", row)
        assert (await accounts.read_grants(database, "u_ada")).quotas == (row,)
        assert await accounts.set_quota(database, "u_ada", row) == seq
    await accounts.remove_quota(database, "u_ada", "voice_minutes")
    assert (await accounts.read_grants(database, "u_ada")).quotas == ()


async def test_users_are_listed_in_pages(database: Database) -> None:
    for name in ("dan", "Bea", "ada", "cid"):
        plan = "pro" if name in ("ada", "dan") else "free"
        await accounts.add_user(database, User(id=f"u_{name}", username=name, plan=plan))
    await accounts.set_status(database, "u_dan", "disabled")

    async def names(**filters: object) -> list[str]:
        return [user.username for user in await accounts.list_users(database, **filters)]  # type: ignore[arg-type]

    assert await names() == ["ada", "Bea", "cid", "dan"]
    assert await names(limit=2) == ["ada", "Bea"]
    assert await names(limit=2, after="BEA") == ["cid", "dan"]
    assert await names(plan="pro") == ["ada", "dan"]
    assert await names(plan="pro", status="active") == ["ada"]


async def test_a_deleted_user_leaves_nothing(database: Database) -> None:
    await accounts.add_user(database, ADA)
    await accounts.set_permission(database, "u_ada", "can_fly", "allow")
    before = await last_seq(database)
    await accounts.delete_user(database, "u_ada")
    assert ("user:u_ada", "profile") in await changes_since(database, before)
    assert (await accounts.read_grants(database, "u_ada")).permissions == ()
    with pytest.raises(NotFound):
        await accounts.find_user(database, "u_ada")
