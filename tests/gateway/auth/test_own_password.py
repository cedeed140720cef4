"""The user's own password: who may change it, and what that ends."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from gateway.core.principal import CredentialKind, Principal, PrincipalKind
from gateway.core.tokens import hash_token
from gateway.errors import AuthFailed, Conflict, Forbidden, RateLimited, Unavailable, Unprocessable
from gateway.store.changes import last_seq
from gateway.store.database import Database, Statement
from tests.support.flaky_store import FlakyStore
from tests.support.login_rig import HERE, NOW, PASSWORD, LoginRig, principal
from tests.support.people import add_token, run, token_text

NEW = "seven herons on a roof"


@pytest.fixture
async def rig(database: Database) -> AsyncIterator[LoginRig]:
    """With ada, whose id is u1."""
    opened = await LoginRig.open(database)
    await opened.add_user("u1", username="ada", email="ada@example.org", name="Ada Lovelace")
    yield opened
    opened.close()


async def stored_hash(rig: LoginRig) -> str:
    return str((await rig.rows("SELECT password_hash FROM users WHERE id = 'u1'"))[0][0])


async def test_a_new_password_ends_all_other_sessions(rig: LoginRig) -> None:
    here, there = await rig.login(), await rig.login()
    seq = await rig.logins.change_password(principal(here), PASSWORD, NEW, address=HERE)
    assert seq == await last_seq(rig.database)
    assert rig.access_tokens.check(here.access_token)
    assert (await rig.refresh(here.refresh_token)).session == here.session
    with pytest.raises(AuthFailed):
        rig.access_tokens.check(there.access_token)
    with pytest.raises(AuthFailed):
        await rig.refresh(there.refresh_token)
    await rig.fails(password=PASSWORD)
    await rig.login(password=NEW)
    [entry] = await rig.audited("password.change")
    assert (entry.actor, entry.target, entry.address, entry.before, entry.after) == (
        *("user:u1", "user:u1", HERE, None, None),
    )
    assert "password:u1" not in await rig.counts()


async def test_with_an_api_token_all_sessions_end(rig: LoginRig) -> None:
    tokens = await rig.login()
    await rig.database.write(add_token("u1", token_text("of ada")))
    token = Principal(
        PrincipalKind.USER, "u1", CredentialKind.API_TOKEN, "t_u1", credential_mark=hash_token(token_text("of ada"))
    )
    await rig.logins.change_password(token, PASSWORD, NEW)
    with pytest.raises(AuthFailed):
        await rig.refresh(tokens.refresh_token)


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ("short", "at least 15 characters"),
        ("", "is empty"),
        ("a\0" + "x" * 20, "NUL"),
        ("x" * 2000, "at most 1024"),
        ("Ada Lovelace 2026!", "common word or a name"),
        (PASSWORD, "another one than the old one"),
        ("a lamp for eleven otter\uff53", "another one than the old one"),
    ],
)
async def test_a_new_password_that_may_not_be_one(rig: LoginRig, new: str, reason: str) -> None:
    me, before = principal(await rig.login()), await stored_hash(rig)
    with pytest.raises(Unprocessable, match=reason):
        await rig.logins.change_password(me, PASSWORD, new)
    assert await stored_hash(rig) == before
    assert await rig.counts() == {}


async def test_words_of_the_place_are_blocked(database: Database) -> None:
    rig = await LoginRig.open(database, blocked_words=("Vantage",))
    await rig.add_user("u1", username="ada")
    me = principal(await rig.login())
    with pytest.raises(Unprocessable, match="common word"):
        await rig.logins.change_password(me, PASSWORD, "my-v@nt@ge-2026-!!")
    rig.close()


@pytest.mark.parametrize("old", ["wrong password 1", "", "a\0b", "\ud800", "x" * 5000])
async def test_the_old_password_must_be_right_and_guesses_are_counted(rig: LoginRig, old: str) -> None:
    me, before = principal(await rig.login()), await stored_hash(rig)
    for _ in range(5):
        with pytest.raises(Forbidden, match=r"^The old password is wrong\.$"):
            await rig.logins.change_password(me, old, NEW, address=HERE)
    with pytest.raises(RateLimited) as refused:
        await rig.logins.change_password(me, PASSWORD, NEW)
    assert refused.value.retry_after_s == 300
    assert await stored_hash(rig) == before
    assert await rig.counts() == {"password:u1": 5}
    entries = await rig.audited("password.change_failed")
    assert {(entry.actor, entry.target, entry.address) for entry in entries} == {("user:u1", "user:u1", HERE)}
    assert [entry.outcome for entry in reversed(entries)] == ["wrong_password"] * 5 + ["locked"]
    await rig.login()
    rig.clock.pass_s(300)
    await rig.logins.change_password(me, PASSWORD, NEW)


async def test_a_right_old_password_begins_the_count_anew(rig: LoginRig) -> None:
    me, passwords = principal(await rig.login()), (PASSWORD, NEW, f"{NEW} again")
    for old, new in itertools.pairwise(passwords):
        for _ in range(4):
            with pytest.raises(Forbidden):
                await rig.logins.change_password(me, "wrong password 1", new)
        await rig.logins.change_password(me, old, new)


class Faster(FlakyStore):
    """Somebody else is faster before each write."""

    sql = "UPDATE users SET password_hash = 'another'"

    async def write(self, *statements: Statement) -> Any:
        await run(self._database, self.sql)
        return await super().write(*statements)


OVERTAKEN = {
    "the session is revoked": ("UPDATE login_sessions SET revoked_at = 1", AuthFailed),
    "the user is disabled": ("UPDATE users SET status = 'disabled'", AuthFailed),
    "five others failed": (f"INSERT INTO login_failures VALUES ('password:u1', 5, {NOW + 1000})", RateLimited),
    "another password": ("UPDATE users SET password_hash = 'another'", Conflict),
}


@pytest.mark.parametrize("what", OVERTAKEN)
async def test_a_change_hangs_on_what_holds_when_it_is_written(rig: LoginRig, what: str) -> None:
    me = principal(await rig.login())
    store = Faster(rig.database)
    store.sql, refusal = OVERTAKEN[what]
    rig.revoker._database = store
    with pytest.raises(refusal) as refused:
        await rig.logins.change_password(me, PASSWORD, NEW)
    assert type(refused.value) is refusal
    await rig.fails(password=NEW)
    assert await rig.audited("password.change") == []


async def test_of_two_changes_at_once_one_is_made(rig: LoginRig) -> None:
    me = principal(await rig.login())
    rig.revoker._database = Faster(rig.database)
    with pytest.raises(Conflict):
        await rig.logins.change_password(me, PASSWORD, NEW)
    assert await stored_hash(rig) == "another"


async def test_only_a_user_has_a_password(rig: LoginRig) -> None:
    me = msgspec.structs.replace(principal(await rig.login()), kind=PrincipalKind.INSTANCE)
    with pytest.raises(Forbidden):
        await rig.logins.change_password(me, PASSWORD, NEW)


async def test_a_user_without_a_password_has_no_old_one(rig: LoginRig) -> None:
    me = principal(await rig.login())
    await run(rig.database, "UPDATE users SET password_hash = NULL")
    with pytest.raises(Forbidden):
        await rig.logins.change_password(me, PASSWORD, NEW)


async def test_a_change_waits_for_no_more_than_its_turn(rig: LoginRig) -> None:
    me = principal(await rig.login())
    rig.passwords.close()
    with pytest.raises(Unavailable):
        await rig.logins.change_password(me, PASSWORD, NEW)
    with pytest.raises(Unavailable):
        await rig.login()
    assert await rig.counts() == {}
