"""Sessions that access tokens and tickets opened: they end with their login, their user and the key that signed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from gateway.auth import keyring
from gateway.auth.revoker import SessionEnded
from gateway.core.principal import Principal
from gateway.core.wire import JSON
from gateway.errors import AuthFailed, Unavailable
from gateway.store.database import Database, Reader, Statement
from gateway.store.keys import SigningKeyRow, delete_keys, list_keys
from tests.support.node_rig import FrameList, Peer, Rig
from tests.support.people import insert, token_text
from tests.support.waiting import eventually

DAY = 86_400_000


class Logins(Rig):
    """A node with keys to sign with."""

    def token(self, session: str, user: str = "ada") -> str:
        """A new access token of a login session."""
        return self.accounts.access_tokens.issue(user, session)[0]

    async def principal(self, token: str) -> Principal:
        return await self.node.authenticator.authenticate(token)

    async def ticket(self, session: str) -> str:
        principal = await self.principal(self.token(session))
        return self.accounts.tickets.issue(principal)

    async def refused(self, token: str) -> bool:
        try:
            await self.principal(token)
        except AuthFailed:
            return True
        return False


@pytest.fixture
async def rig(cast: Database) -> AsyncIterator[Logins]:
    """A node over the cast. Ada is logged in twice, Bob once."""
    made = Logins(cast)
    ends = made.clock.wall + 7 * DAY
    await cast.write(
        *(
            insert("login_sessions", id=id, user_id=user, created_at=made.clock.wall, expires_at=ends)
            for id, user in (("s_1", "ada"), ("s_2", "ada"), ("s_bob", "bob"))
        )
    )
    await made.accounts.start()
    async with made:
        yield made


async def three(rig: Logins) -> tuple[Peer, Peer, Peer]:
    tokens = rig.token("s_1"), rig.token("s_2"), rig.token("s_bob", "bob")
    first, second, other = [await rig.connect(token) for token in tokens]
    return first, second, other


async def test_an_access_token_opens_a_session_that_lasts_as_long_as_it(rig: Logins) -> None:
    ada = await rig.connect(rig.token("s_1"))
    hello, ready, snapshot = ada.take()
    assert (hello["op"], ready["principal"], snapshot["doc"]) == ("hello", "user:ada", "user:ada")
    assert ready["expires_at"] == "2026-11-21T19:25:00.000Z"
    await rig.tick()
    rig.advance(15 * 60 - 60)
    await eventually(lambda: "expiring" in ada.ops())
    rig.advance(60)
    await eventually(lambda: ada.ended == "token_expired")


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_1'",
        "DELETE FROM login_sessions WHERE id = 's_1'",
        "UPDATE login_sessions SET user_id = 'bob' WHERE id = 's_1'",
        "UPDATE login_sessions SET id = 's_other' WHERE id = 's_1'",
    ],
)
async def test_what_its_login_session_loses_it_loses_and_others_do_not(rig: Logins, sql: str) -> None:
    peers, token = await three(rig), rig.token("s_1")
    await rig.run(sql)
    assert [peer.ended for peer in peers] == ["revoked", None, None]
    assert await rig.refused(token)
    assert not await rig.refused(rig.token("s_2"))
    assert not await rig.refused(rig.token("s_bob", "bob"))


@pytest.mark.parametrize(
    "sql", ["UPDATE users SET status = 'disabled' WHERE id = 'ada'", "DELETE FROM users WHERE id = 'ada'"]
)
async def test_a_disabled_or_deleted_user_loses_all_sessions(rig: Logins, sql: str) -> None:
    peers, tokens = await three(rig), [rig.token("s_1"), rig.token("s_2"), rig.token("s_bob", "bob")]
    await rig.run(sql)
    assert [peer.ended for peer in peers] == ["revoked", "revoked", None]
    assert [await rig.refused(token) for token in tokens] == [True, True, False]


async def test_a_session_ends_no_later_than_its_login(rig: Logins) -> None:
    ada, second, _ = await three(rig)
    await rig.tick()
    await rig.run("UPDATE login_sessions SET expires_at = ? WHERE id = 's_1'", rig.clock.wall + 30_000)
    assert [message["expires_at"] for message in ada.take() if message["op"] == "expiring"]
    rig.advance(30)
    await eventually(lambda: ada.ended == "token_expired")
    assert second.ended is None
    await rig.run("UPDATE login_sessions SET expires_at = 1000 WHERE id = 's_2'")
    assert second.ended == "token_expired"


async def test_a_longer_login_makes_no_token_last_longer(rig: Logins) -> None:
    ada, *_ = await three(rig)
    await rig.run("UPDATE login_sessions SET expires_at = expires_at + 1000")
    principal = ada.connection.session.principal
    assert principal is not None
    assert principal.expires_at == rig.clock.wall + 900_000


async def test_an_api_token_of_the_same_user_is_another_credential(rig: Logins) -> None:
    by_token = await rig.connect(token_text("ada"))
    await rig.run("UPDATE login_sessions SET revoked_at = 5")
    assert by_token.ended is None


async def test_a_renewal_binds_the_session_to_the_new_login(rig: Logins) -> None:
    ada = await rig.connect(rig.token("s_1"))
    ada.say(op="auth", id="r", token=rig.token("s_2"))
    await rig.settle()
    await rig.run("UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_1'")
    assert ada.ended is None
    await rig.run("UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_2'")
    assert ada.ended == "revoked"


async def test_a_ticket_opens_and_renews_once(rig: Logins) -> None:
    ticket = await rig.ticket("s_1")
    ada = await rig.connect()
    ada.say(op="auth", token=ticket)
    await rig.settle()
    assert ada.ops() == ["hello", "ready", "snapshot"]
    ada.say(op="auth", id="again", token=ticket)
    await rig.settle()
    assert ada.one("error")["code"] == "auth_failed"
    ada.say(op="auth", id="new", token=await rig.ticket("s_2"))
    await rig.settle()
    assert ada.one("ready")["id"] == "new"
    await rig.run("UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_2'")
    assert ada.ended == "revoked"


async def test_a_ticket_is_no_bearer_token(rig: Logins) -> None:
    ticket = await rig.ticket("s_1")
    assert await rig.refused(ticket)
    assert (await rig.node.authenticator.redeem(ticket)).id == "ada"


# --- keys ------------------------------------------------------------------------------------------------------------


async def test_sessions_end_with_the_key_that_signed_their_token(rig: Logins) -> None:
    old = rig.token("s_1")
    peers = await three(rig)
    ticket = await rig.connect()
    ticket.say(op="auth", token=await rig.ticket("s_1"))
    unused = await rig.ticket("s_1")
    await rig.settle()
    elsewhere = Logins(rig.database)
    await elsewhere.accounts.keyring.rotate(rig.database, rig.clock.wall, discard=True)
    await rig.settle()
    assert [peer.ended for peer in peers] == ["token_expired"] * 3  # for a new one, they may come back
    # Whoever had the key could make such a token, and a ticket of it.
    assert ticket.ended == "token_expired"
    with pytest.raises(AuthFailed):
        await rig.node.authenticator.redeem(unused)
    assert await rig.refused(old)
    assert (await rig.connect(rig.token("s_1"))).ended is None


async def test_a_key_that_overlaps_ends_nobody(rig: Logins) -> None:
    peers = await three(rig)
    elsewhere = Logins(rig.database)
    await elsewhere.accounts.keyring.rotate(rig.database, rig.clock.wall, lead_ms=1000)
    await rig.settle()
    rig.advance(2)
    assert [peer.ended for peer in peers] == [None] * 3
    await rig.run("UPDATE users SET name = 'New' WHERE id = 'ada'")
    assert peers[0].ended is None
    assert not await rig.refused(rig.token("s_1"))


# --- the lane of the feed --------------------------------------------------------------------------------------------


async def test_other_changes_read_nothing_about_credentials(rig: Logins, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, *_ = await three(rig)
    ada.take()
    calls: list[str] = []
    for name in ("update", "load", "load_keys", "recheck"):
        monkeypatch.setattr(rig.node.authenticator, name, lambda *_, name=name, **__: calls.append(name))
    for sql in (
        "UPDATE users SET name = 'New'",
        "UPDATE plan_quotas SET limit_value = 9",
        "UPDATE login_sessions SET last_seen_at = 9",
        "UPDATE organizations SET name = 'New'",
    ):
        await rig.run(sql)
    assert calls == []
    assert ada.ops()


async def test_what_the_node_revoked_itself_is_void_before_the_feed_hears_of_it(rig: Logins) -> None:
    token = rig.token("s_1")
    await rig.accounts.revoker.revoke(SessionEnded("s_1"))
    assert await rig.refused(token)
    await rig.settle()
    assert await rig.refused(token)
    await rig.run("UPDATE login_sessions SET revoked_at = NULL WHERE id = 's_1'")
    assert not await rig.refused(token)


async def test_a_round_that_fails_loses_no_revocation(rig: Logins) -> None:
    ada, second, _ = await three(rig)
    token, reads = rig.token("s_1"), 0

    async def gate() -> None:
        nonlocal reads
        reads += 1
        if reads in (3, 6, 9, 12):
            rig.store.fail()
        else:
            rig.store.recover()

    rig.store.gate = gate
    await rig.database.write(
        insert("user_permissions", user_id="ada", permission="x"),
    )
    await rig.run("UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_1'")
    assert rig.feed.failures
    rig.store.gate = None
    rig.store.recover()
    await rig.settle()
    assert (ada.ended, second.ended) == ("revoked", None)
    assert await rig.refused(token)


async def test_access_tokens_open_nothing_while_the_database_is_away(rig: Logins) -> None:
    token = rig.token("s_1")
    ada = await rig.connect(token)
    rig.store.fail()
    await rig.database.write(insert("user_permissions", user_id="ada", permission="x"))
    await eventually(lambda: rig.feed.stale)
    with pytest.raises(Unavailable) as caught:
        await rig.principal(token)
    assert caught.value.retry_after_s
    assert await rig.refused("nonsense")
    assert ada.ended is None
    rig.store.recover()
    await rig.settle()
    assert (await rig.principal(token)).id == "ada"


async def test_a_log_that_was_cut_off_is_made_up_for(rig: Logins) -> None:
    peers, token = await three(rig), rig.token("s_1")
    rig.store.fail()
    await rig.database.write(insert("user_permissions", user_id="ada", permission="x"))
    await eventually(lambda: rig.feed.stale)
    await rig.database.write(
        Statement("UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_1'"), Statement("DELETE FROM change_log")
    )
    rig.store.recover()
    await rig.settle()
    assert rig.feed.resyncs == 1
    assert [peer.ended for peer in peers] == ["revoked", None, None]
    assert await rig.refused(token)


async def test_a_database_that_was_replaced_says_itself_what_is_revoked(rig: Logins) -> None:
    token = rig.token("s_1")
    await rig.run("UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_1'")
    assert await rig.refused(token)
    rig.accounts.revocations.note(1_000_000, sessions=[("bob", "s_bob")])
    await rig.run("DROP TRIGGER login_sessions_update")
    await rig.database.write(
        Statement("UPDATE login_sessions SET revoked_at = NULL"),
        Statement("DELETE FROM revocations"),
        Statement("UPDATE meta SET value = 'another' WHERE key = 'epoch'"),
        Statement("UPDATE users SET name = 'New'"),
    )
    await eventually(lambda: rig.hub.epoch == "another")
    await rig.settle()
    assert not await rig.refused(token)
    assert not await rig.refused(rig.token("s_bob", "bob"))


async def test_a_sweep_finds_what_nobody_logged(rig: Logins) -> None:
    ada, token = await rig.connect(rig.token("s_1")), rig.token("s_1")
    await rig.run("DROP TRIGGER login_sessions_update")
    await rig.run("UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_1'")
    await rig.node.housekeeping.keep_house()
    assert not await rig.refused(token)
    rig.clock.advance(600)
    token = rig.token("s_1")
    await rig.node.housekeeping.keep_house()
    assert await rig.refused(token)
    rig.feed.sweep(["user:ada"])
    await rig.settle()
    assert ada.ended == "revoked"


async def test_a_key_that_was_withdrawn_does_not_come_back_by_an_older_reading(
    rig: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Housekeeping begins to read, the key is withdrawn and the log tells of it: whichever reading comes last."""
    token, old, overtaken = rig.token("s_1"), asyncio.Event(), asyncio.Event()

    async def slow(reader: Reader) -> list[SigningKeyRow]:
        rows = await list_keys(reader)
        if not old.is_set():
            old.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(overtaken.wait(), 0.3)
        else:
            asyncio.get_running_loop().call_soon(overtaken.set)
        return rows

    rig.clock.advance(600)
    monkeypatch.setattr(keyring, "list_keys", slow)
    keeping = asyncio.create_task(rig.node.housekeeping.keep_house())
    await old.wait()
    await rig.database.write(delete_keys("another"))
    await keeping
    await rig.settle()
    assert await rig.refused(token)


async def test_a_session_that_is_revoked_while_the_handshake_is_answered_ends(rig: Logins) -> None:
    """The token was checked a moment ago; what is between then and the greeting must not be lost."""
    principal = await rig.principal(rig.token("s_1"))
    await rig.run("UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_1'")
    assert not rig.node.authenticator.holds(principal)
    transport = FrameList()
    connection = rig.node.connection(JSON, transport, "192.0.2.1")
    connection.greet(principal, [])
    await rig.settle()
    assert transport.closed_with is not None
    assert transport.closed_with[1] == "revoked"
