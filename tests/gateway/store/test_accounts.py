from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest

from gateway.errors import Conflict, NoRowChanged, NotFound, PreconditionFailed
from gateway.store import accounts, grants
from gateway.store.accounts import User
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
        found = await accounts.look_up_user(database, who)
        assert (found.id, found.username, found.email, found.attributes) == (
            "u_ada",
            "ada",
            "ada@example.org",
            {"a": [1]},
        )
        assert (found.is_admin, found.status, found.timezone, found.anchor_at) == (False, "active", "UTC", None)
        assert found.created_at > 1_500_000_000_000
    with pytest.raises(NotFound, match="There is no user eve"):
        await accounts.look_up_user(database, "eve")


async def test_an_id_is_an_id_and_no_name(database: Database) -> None:
    await accounts.add_user(database, ADA)
    assert await accounts.find_user(database, "u_ada") == await accounts.look_up_user(database, "ada")
    for name in ("ada", "ada@example.org", "U_ADA"):
        with pytest.raises(NotFound, match=f"There is no user {name}"):
            await accounts.find_user(database, name)


async def test_an_id_goes_before_a_name_and_a_name_before_an_address(database: Database) -> None:
    await accounts.add_user(database, ADA)
    await accounts.add_user(database, User(id="u_2", username="u_ada", email="x@example.org", plan="pro"))
    await accounts.add_user(database, User(id="u_3", username="x@example.org", plan="pro"))
    assert (await accounts.look_up_user(database, "u_ada")).username == "ada"
    assert (await accounts.look_up_user(database, "x@example.org")).id == "u_3"


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
    for attempt in (
        accounts.set_plan(database, "u_eve", "pro"),
        accounts.set_status(database, "u_eve", "disabled"),
    ):
        with pytest.raises(NotFound):
            await attempt


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
    assert (await accounts.find_user(database, "u_ada")).plan == "free"
    assert await accounts.set_plan(database, "u_ada", "free") == seq


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


async def test_users_are_searched_by_the_beginning_of_their_name_or_address(database: Database) -> None:
    people = {
        "ann": "zoe@example.org",
        "Anton": None,
        "bob": "ANNE@example.org",
        "a_c": None,
        "abc": "100%@example.org",
    }
    for name, email in people.items():
        await accounts.add_user(database, User(id=f"u_{name}", username=name, email=email, plan="free"))
    await accounts.set_plan(database, "u_bob", "pro")

    async def names(query: str, **filters: object) -> list[str]:
        found = await accounts.list_users(database, query=query, **filters)  # type: ignore[arg-type]
        return [user.username for user in found]

    assert await names("an") == ["ann", "Anton", "bob"]
    assert await names("AN", after="ann", limit=1) == ["Anton"]
    assert await names("an", plan="pro") == ["bob"]
    assert await names("zoe@") == ["ann"]
    assert (await names("a_"), await names("a%"), await names("100%"), await names("o")) == (["a_c"], [], ["abc"], [])
    assert len(await names("")) == len(people)


@pytest.mark.parametrize(
    "fields",
    [
        {"username": "ADA"},
        {"email": None},
        {"email": "ADA@example.org"},
        {"attributes": {"a": [True]}},
        {"attributes": {"a": [1.0]}},
        {"is_admin": True},
        {"anchor_at": 0},
        {"updated_at": 1},
    ],
)
async def test_a_user_is_replaced_only_as_it_was_seen(database: Database, fields: dict[str, Any]) -> None:
    await accounts.add_user(database, ADA)
    found = await accounts.find_user(database, "u_ada")
    with pytest.raises(PreconditionFailed):
        await accounts.replace_user(database, msgspec.structs.replace(found, **fields), ADA)
    assert await accounts.find_user(database, "u_ada") == found


async def test_every_field_of_a_user_can_be_replaced(database: Database) -> None:
    await accounts.add_user(database, ADA)
    before = await accounts.find_user(database, "u_ada")
    seq = await accounts.replace_user(database, before, before)
    assert seq == await last_seq(database)
    after = User(
        id="u_other",
        username="ADA",
        plan="free",
        name="Ada King",
        email="ADA@example.org",
        is_admin=True,
        status="disabled",
        attributes={"b": {"c": None}},
        timezone="Europe/London",
        anchor_at=7,
        created_at=1,
    )
    assert await accounts.replace_user(database, before, after) > seq
    found = await accounts.find_user(database, "u_ada")
    kept = {"id": "u_ada", "created_at": before.created_at, "updated_at": found.updated_at}
    assert found == msgspec.structs.replace(after, **kept)
    assert found.updated_at >= before.updated_at
    with pytest.raises(NotFound, match="no plan gold"):
        await accounts.replace_user(database, found, msgspec.structs.replace(found, plan="gold"))
    await accounts.add_user(database, User(id="u_bob", username="bob", email="bob@example.org", plan="free"))
    for taken in ({"username": "BOB"}, {"email": "Bob@example.org"}):
        with pytest.raises(Conflict, match="taken"):
            await accounts.replace_user(database, found, msgspec.structs.replace(found, **taken))
    await database.write(Statement("DELETE FROM users WHERE id = 'u_ada'"))
    with pytest.raises(NotFound, match="no user u_ada"):
        await accounts.replace_user(database, found, after)


async def test_attributes_in_any_spelling_are_replaced(database: Database) -> None:
    await accounts.add_user(database, ADA)
    text = ' { "b" : 1.50, "a":\t"\\u00e9", "b": 2e3 } '
    await database.write(Statement("UPDATE users SET attributes = ? WHERE id = 'u_ada'", (text,)))
    before = await accounts.find_user(database, "u_ada")
    await accounts.replace_user(database, before, msgspec.structs.replace(before, name="Ada"))
    assert (await accounts.find_user(database, "u_ada")).attributes == {"b": 2000.0, "a": "é"}


async def test_of_two_who_saw_the_same_one_is_told(database: Database) -> None:
    await accounts.add_user(database, ADA)
    before = await accounts.find_user(database, "u_ada")
    results = await asyncio.gather(
        *(accounts.replace_user(database, before, msgspec.structs.replace(before, name=name)) for name in "ab"),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["PreconditionFailed", "int"]


async def test_the_last_active_administrator_stays(database: Database) -> None:
    for name in ("root", "boss"):
        await accounts.add_user(database, User(id=f"u_{name}", username=name, plan="pro", is_admin=True))
    await accounts.add_user(database, ADA)
    await accounts.set_status(database, "u_boss", "disabled")
    root = await accounts.find_user(database, "u_root")

    def attempts() -> list[Coroutine[Any, Any, int]]:
        return [
            accounts.set_status(database, "u_root", "disabled"),
            accounts.replace_user(database, root, msgspec.structs.replace(root, is_admin=False)),
            accounts.replace_user(database, root, msgspec.structs.replace(root, status="disabled")),
        ]

    before = await last_seq(database)
    for attempt in attempts():
        with pytest.raises(Conflict, match="last active administrator"):
            await attempt
    assert await last_seq(database) == before
    await accounts.replace_user(database, root, msgspec.structs.replace(root, name="Root"))
    await accounts.set_status(database, "u_ada", "disabled")
    with pytest.raises(Conflict):
        await accounts.set_status(database, "u_root", "disabled")
    await accounts.set_status(database, "u_boss", "active")
    await accounts.set_status(database, "u_root", "disabled")


async def test_of_two_administrators_who_go_at_once_one_stays(database: Database) -> None:
    admins = [User(id=f"u_{name}", username=name, plan="pro", is_admin=True) for name in ("root", "boss")]
    for admin in admins:
        await accounts.add_user(database, admin)
    root = await accounts.find_user(database, "u_root")
    results = await asyncio.gather(
        accounts.set_status(database, "u_boss", "disabled"),
        accounts.replace_user(database, root, msgspec.structs.replace(root, is_admin=False)),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["Conflict", "int"]


async def test_a_password_comes_and_goes(database: Database) -> None:
    await accounts.add_user(database, ADA, "$hash$1")
    assert await accounts.read_password_hash(database, "u_ada") == "$hash$1"
    assert await accounts.read_password_hash(database, "u_eve") is None
    await database.write(accounts.password_statement("u_ada", None))
    assert await accounts.read_password_hash(database, "u_ada") is None
    await database.write(accounts.password_statement("u_ada", "$hash$2"))
    assert await accounts.read_password_hash(database, "u_ada") == "$hash$2"
    with pytest.raises(NoRowChanged):
        await database.write(accounts.password_statement("u_eve", None))


async def test_a_deleted_user_leaves_nothing(database: Database) -> None:
    await accounts.add_user(database, ADA)
    await grants.set_permission(database, "u_ada", "can_fly", "allow")
    before = await last_seq(database)
    await database.write(Statement("DELETE FROM users WHERE id = 'u_ada'"))
    assert ("user:u_ada", "profile") in await changes_since(database, before)
    assert (await grants.read_grants(database, "u_ada")).permissions == ()
    with pytest.raises(NotFound):
        await accounts.find_user(database, "u_ada")
