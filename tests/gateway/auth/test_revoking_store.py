"""A store function's change and the end of credentials in one write: under its conditions, or not at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest

from gateway.auth.revoker import UserDeleted, UserDisabled
from gateway.auth.revoking_store import RevokingStore
from gateway.auth.void_logins import VoidLogins
from gateway.errors import Conflict, NotFound, PreconditionFailed, StoreUnavailable
from gateway.store import accounts
from gateway.store.accounts import User, user_before
from gateway.store.audit import Entry
from gateway.store.changes import last_seq
from gateway.store.database import Database, Row, Statement
from tests.support.people import add_plan, add_user, insert

NOW = 1_795_288_200_000


class Rig:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.revocations = VoidLogins(lambda: NOW, 900)

    def revoking(self, target: UserDisabled | UserDeleted) -> RevokingStore:
        entry = Entry("user:root", "user.update", f"user:{target.id}", before=user_before(target.id))
        return RevokingStore(self.database, self.revocations, target, entry)

    async def rows(self, sql: str) -> list[Row]:
        return (await self.database.read(Statement(sql)))[0]

    async def disabled(self, user: str) -> tuple[User, User]:
        before = await accounts.find_user(self.database, user)
        return before, msgspec.structs.replace(before, status="disabled", name="Gone")


@pytest.fixture
async def rig(database: Database) -> Rig:
    await database.write(
        *add_plan("free"),
        add_user("root", is_admin=1),
        add_user("ada"),
        insert("login_sessions", id="s_ada", user_id="ada", created_at=NOW, expires_at=NOW + 1000),
    )
    return Rig(database)


async def test_the_change_the_entry_and_the_end_come_together(rig: Rig) -> None:
    before, after = await rig.disabled("ada")
    seq = await accounts.replace_user(rig.revoking(UserDisabled("ada")), before, after)
    assert seq == await last_seq(rig.database)
    assert await rig.rows("SELECT name, status FROM users WHERE id = 'ada'") == [("Gone", "disabled")]
    [(found,)] = await rig.rows("SELECT before FROM audit")
    assert '"status":"active"' in found
    assert rig.revocations.void("ada", "s_ada")


async def test_who_is_deleted_is_void_at_once(rig: Rig) -> None:
    await accounts.set_status(rig.revoking(UserDeleted("ada")), "ada", "disabled")
    assert await rig.rows("SELECT id FROM users") == [("root",)]
    assert rig.revocations.void("ada", "s_ada")
    assert '"status":"active"' in (await rig.rows("SELECT before FROM audit"))[0][0]


Change = Callable[[Rig], Awaitable[int]]


async def _demote_the_last(rig: Rig) -> int:
    before, after = await rig.disabled("root")
    return await accounts.replace_user(rig.revoking(UserDisabled("root")), before, after)


async def _delete_the_last(rig: Rig) -> int:
    return await accounts.set_status(rig.revoking(UserDeleted("root")), "root", "disabled")


async def _delete_nobody(rig: Rig) -> int:
    return await accounts.set_status(rig.revoking(UserDeleted("eve")), "eve", "disabled")


async def _change_what_was_changed(rig: Rig) -> int:
    before, after = await rig.disabled("ada")
    await rig.database.write(Statement("UPDATE users SET timezone = 'Europe/Rome' WHERE id = 'ada'"))
    return await accounts.replace_user(rig.revoking(UserDisabled("ada")), before, after)


async def _take_a_name(rig: Rig) -> int:
    before, after = await rig.disabled("ada")
    taken = msgspec.structs.replace(after, username="root")
    return await accounts.replace_user(rig.revoking(UserDisabled("ada")), before, taken)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (_demote_the_last, Conflict),
        (_delete_the_last, Conflict),
        (_delete_nobody, NotFound),
        (_change_what_was_changed, PreconditionFailed),
        (_take_a_name, Conflict),
    ],
)
async def test_a_condition_that_does_not_hold_leaves_everything(
    rig: Rig, change: Change, refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        await change(rig)
    assert await rig.rows("SELECT id, status, name FROM users ORDER BY id") == [
        ("ada", "active", ""),
        ("root", "active", ""),
    ]
    assert await rig.rows("SELECT * FROM audit") == []
    assert not rig.revocations.void("ada", "s_ada")


async def test_a_database_that_is_away_voids_nothing(rig: Rig) -> None:
    before, after = await rig.disabled("ada")
    revoking = rig.revoking(UserDisabled("ada"))
    await rig.database.close()
    with pytest.raises(StoreUnavailable):
        await accounts.replace_user(revoking, before, after)
    assert not rig.revocations.void("ada", "s_ada")
