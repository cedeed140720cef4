"""Principals of access tokens: made without a read, and looked at again by the row of their login session."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.auth.services import Accounts
from gateway.core.instant import Instant
from gateway.core.principal import CredentialKind, Principal, PrincipalKind
from gateway.core.tokens import new_refresh_token
from gateway.errors import AuthFailed, Unavailable
from gateway.store.database import Database, Row, Statement
from tests.conftest import Place
from tests.support.flaky_store import FlakyStore
from tests.support.people import add_plan, add_token, add_user, insert, run, token_text
from tests.support.services import accounts

NOW = 1_795_288_200_000
HOUR = 3_600_000


class Rig:
    def __init__(self, database: Any) -> None:
        self.store = FlakyStore(database)
        self.database: Database = database
        self.wall = NOW
        self.services: Accounts = accounts(self.store, self)
        self.authenticator = self.services.authenticator

    def now(self) -> Instant:
        return Instant(0.0, self.wall)

    def token(self, session: str = "s_1", user: str = "ada") -> str:
        return self.services.access_tokens.issue(user, session)[0]


@pytest.fixture
async def rig(database: Database) -> Rig:
    await database.write(
        *add_plan("free"),
        add_user("ada"),
        add_user("bob"),
        insert("login_sessions", id="s_1", user_id="ada", expires_at=NOW + HOUR),
        insert("login_sessions", id="s_2", user_id="ada", expires_at=NOW + HOUR),
    )
    rig = Rig(database)
    await rig.services.start()
    await rig.authenticator.load(database)
    rig.store.reads = 0
    return rig


async def test_an_access_token_is_checked_without_a_read(rig: Rig) -> None:
    token = rig.token()
    principal = await rig.authenticator.authenticate(token)
    kid = principal.credential_mark
    assert principal == Principal(
        PrincipalKind.USER, "ada", CredentialKind.LOGIN_SESSION, "s_1", NOW + 900_000, None, kid
    )
    assert rig.services.keyring.known(kid, NOW)
    assert await rig.authenticator.authenticate_channel(token) == principal
    assert rig.store.reads == 0


@pytest.mark.parametrize(
    "token",
    ["", "eyJ", "a.b.c", "gt_x", "gr_x", new_refresh_token(bytes(32)), "Bearer x", "\ud800", "\0", "x" * 2_000_000],
    ids=lambda token: ascii(token[:8]),
)
async def test_everything_else_is_refused_in_the_same_words_and_without_a_read(rig: Rig, token: str) -> None:
    with pytest.raises(AuthFailed) as caught:
        await rig.authenticator.authenticate(token)
    assert caught.value.message == "The token is not valid."
    assert rig.store.reads == 0


async def test_while_revocations_can_not_be_heard_of_an_access_token_is_no_credential(rig: Rig) -> None:
    token = rig.token()
    rig.authenticator.stale = True
    with pytest.raises(Unavailable) as caught:
        await rig.authenticator.authenticate(token)
    assert caught.value.retry_after_s == 1.0
    with pytest.raises(AuthFailed):
        await rig.authenticator.authenticate(token[:-2])
    rig.authenticator.stale = False
    assert (await rig.authenticator.authenticate(token)).id == "ada"


async def recheck(rig: Rig, principal: Principal) -> Principal | None:
    return (await rig.authenticator.recheck(rig.database, [principal]))[principal]


async def test_a_login_that_stands_is_the_same_principal(rig: Rig) -> None:
    first, second = [await rig.authenticator.authenticate(rig.token(id)) for id in ("s_1", "s_2")]
    assert await rig.authenticator.recheck(rig.database, [first, second]) == {first: first, second: second}
    await run(rig.database, "UPDATE login_sessions SET expires_at = ? WHERE id = 's_1'", NOW + 5)
    assert await recheck(rig, first) == msgspec.structs.replace(first, expires_at=NOW + 5)
    assert await recheck(rig, second) == second


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_1'",
        "DELETE FROM login_sessions WHERE id = 's_1'",
        "UPDATE login_sessions SET user_id = 'bob' WHERE id = 's_1'",
        "UPDATE users SET status = 'disabled' WHERE id = 'ada'",
        "DELETE FROM users WHERE id = 'ada'",
    ],
)
async def test_one_that_was_revoked_is_nobody(rig: Rig, sql: str) -> None:
    principal = await rig.authenticator.authenticate(rig.token())
    await run(rig.database, sql)
    assert await recheck(rig, principal) is None


async def test_one_whose_key_is_gone_is_nobody_and_a_tickets_needs_no_key(rig: Rig) -> None:
    principal = await rig.authenticator.authenticate(rig.token())
    by_ticket = msgspec.structs.replace(principal, credential_mark="")
    assert rig.authenticator.holds(principal)
    await rig.services.keyring.rotate(rig.database, NOW, discard=True)
    assert await rig.authenticator.recheck(rig.database, [principal, by_ticket]) == {
        principal: None,
        by_ticket: by_ticket,
    }
    assert (rig.authenticator.holds(principal), rig.authenticator.holds(by_ticket)) == (False, True)


async def test_what_holds_is_known_without_a_read(rig: Rig) -> None:
    principal = await rig.authenticator.authenticate(rig.token())
    await rig.database.write(add_token("ada", token_text("ada")))
    by_token = await rig.authenticator.authenticate(token_text("ada"))
    rig.store.reads = 0
    rig.services.revocations.note(10**9, sessions=[("ada", "s_1")], users=["bob"])
    assert (rig.authenticator.holds(principal), rig.authenticator.holds(by_token)) == (False, True)
    assert rig.store.reads == 0


class Older:
    """A replica that has no login session yet."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, *statements: Statement) -> list[list[Row]]:
        return [[] for _ in statements]


class Lagging(FlakyStore):
    lags = True


async def test_a_login_whose_row_is_not_near_yet_is_looked_up_where_it_must_be(rig: Rig) -> None:
    store = Lagging(rig.database)
    services = accounts(store, rig)
    await services.start()
    authenticator = services.authenticator
    principal = await rig.authenticator.authenticate(rig.token())
    gone = msgspec.structs.replace(principal, credential_id="s_gone")
    older = Older(rig.database)
    assert await authenticator.recheck(older, [principal, gone]) == {principal: principal, gone: None}
    store.fail()  # what is known to be void is void, whether the database can be asked or not
    assert await authenticator.recheck(older, [principal]) == {principal: None}
    # A reader may be older than a login also where nothing lags: a round of the feed lasts a while.
    assert await rig.authenticator.recheck(older, [principal]) == {principal: principal}


@pytest.mark.storages("replica")
async def test_beside_a_replica_a_login_is_never_taken_for_revoked(database: Database, database_place: Place) -> None:
    rig = Rig(database)
    await rig.services.start()
    async with await Database.open(database_place.url) as elsewhere:
        await elsewhere.write(*add_plan("free"))
        for number in range(20):
            user, session = f"user{number}", f"s_{number}"
            await elsewhere.write(
                add_user(user), insert("login_sessions", id=session, user_id=user, expires_at=NOW + HOUR)
            )
            principal = await rig.authenticator.authenticate(rig.token(session, user))
            async with database.snapshot() as snapshot:
                assert await rig.authenticator.recheck(snapshot, [principal]) == {principal: principal}
