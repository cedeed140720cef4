from __future__ import annotations

import pytest

from gateway.errors import BadRequest, Conflict, NotFound, PreconditionFailed
from gateway.store.accounts import User, add_user
from gateway.store.changes import last_seq, read_changes
from gateway.store.database import Database
from gateway.store.grants import read_grants, set_role
from gateway.store.plans import Plan, create_plan
from gateway.store.roles import Role, create_role, delete_role, find_role, list_roles, replace_role

SUPPORT = Role("support", "Support", frozenset({"users.read", "orgs.read"}))


async def logged_since(database: Database, seq: int) -> list[tuple[str, str]]:
    return [(change.doc, change.cause) for change in await read_changes(database, seq, 100)]


async def test_a_role_is_created_found_and_deleted(database: Database) -> None:
    assert await create_role(database, SUPPORT) == await last_seq(database)
    assert await find_role(database, "support") == SUPPORT
    with pytest.raises(Conflict, match="taken"):
        await create_role(database, Role("support"))
    assert await find_role(database, "support") == SUPPORT
    with pytest.raises(BadRequest):
        await create_role(database, Role(""))
    with pytest.raises(PreconditionFailed):
        await delete_role(database, Role("support"))
    await delete_role(database, SUPPORT)
    for attempt in (find_role(database, "support"), delete_role(database, SUPPORT)):
        with pytest.raises(NotFound):
            await attempt


async def test_whoever_had_a_deleted_role_has_it_no_more(database: Database) -> None:
    await create_role(database, SUPPORT)
    await create_plan(database, Plan("free"))
    await add_user(database, User(id="u_ada", username="ada", plan="free"))
    await set_role(database, "u_ada", "support")
    before = await last_seq(database)
    await delete_role(database, SUPPORT)
    assert ("user:u_ada", "roles") in await logged_since(database, before)
    assert (await read_grants(database, "u_ada")).roles == ()


@pytest.mark.parametrize(
    "other",
    [
        Role("support", "Helpers", SUPPORT.permissions),
        Role("support", "Support", frozenset({"users.read"})),
        Role("support", "Support", frozenset({"users.read", "can_fly"})),
        Role("support", "Support", SUPPORT.permissions | {"can_fly"}),
        Role("support"),
    ],
)
async def test_a_role_is_replaced_only_as_it_was_seen(database: Database, other: Role) -> None:
    await create_role(database, SUPPORT)
    before = await last_seq(database)
    with pytest.raises(PreconditionFailed):
        await replace_role(database, other, SUPPORT)
    await replace_role(database, SUPPORT, SUPPORT)
    assert await last_seq(database) == before
    await replace_role(database, SUPPORT, other)
    assert await find_role(database, "support") == other
    assert {doc for doc, _ in await logged_since(database, before)} == {"role:support"}
    with pytest.raises(NotFound):
        await replace_role(database, Role("chief"), other)


async def test_roles_are_listed_in_pages(database: Database) -> None:
    for role in (SUPPORT, Role("auditor"), Role("chief", "Chief", frozenset({"can_fly"}))):
        await create_role(database, role)
    assert await list_roles(database) == [
        Role("auditor"),
        Role("chief", "Chief", frozenset({"can_fly"})),
        SUPPORT,
    ]
    assert [role.id for role in await list_roles(database, after="auditor", limit=1)] == ["chief"]
