"""Logging in, and the user's own password."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import bcrypt
import pytest

from gateway.auth.logins import DEVICE_TTL_S, FAILURE_FLOOR_S
from gateway.core.tokens import is_refresh_token
from gateway.errors import (
    AuthFailed,
    GatewayError,
    StoreUnavailable,
)
from gateway.store.audit import list_audit
from gateway.store.changes import last_seq
from gateway.store.database import Database, Statement
from gateway.store.logins import GRACE_MS
from tests.support.flaky_store import FlakyStore
from tests.support.login_rig import CHEAP, HERE, NOW, PASSWORD, LoginRig, principal
from tests.support.people import run

NEW = "seven herons on a roof"


@pytest.fixture
async def rig(database: Database) -> AsyncIterator[LoginRig]:
    """With ada, whose id is u1."""
    opened = await LoginRig.open(database)
    await opened.add_user("u1", username="ada", email="ada@example.org", name="Ada Lovelace")
    yield opened
    opened.close()


async def test_a_login_begins_a_session(rig: LoginRig) -> None:
    tokens = await rig.login(user_agent="Browser/1")
    end = NOW + CHEAP.refresh_ttl_s * 1000
    assert (tokens.user.id, tokens.user.username, tokens.user.email) == ("u1", "ada", "ada@example.org")
    assert is_refresh_token(tokens.refresh_token)
    assert (tokens.refresh_expires_at, tokens.access_expires_at) == (end, NOW + CHEAP.access_ttl_s * 1000)
    [(life_ms, until)] = await rig.rows("SELECT life_ms, until FROM access_token_lives")
    assert (life_ms, until > tokens.access_expires_at) == (CHEAP.access_ttl_s * 1000, True)
    claims = rig.access_tokens.check(tokens.access_token)
    assert (claims.user, claims.session, claims.expires_at) == ("u1", tokens.session, tokens.access_expires_at)
    assert await rig.rows("SELECT id, user_id, created_at, expires_at, ip, user_agent FROM login_sessions") == [
        (tokens.session, "u1", NOW, end, HERE, "Browser/1")
    ]
    assert tokens.seq == await last_seq(rig.database)
    assert await rig.counts() == {}
    assert rig.slept == []
    [entry] = await rig.audited()
    assert (entry.actor, entry.action, entry.target, entry.address, entry.outcome) == (
        *("user:u1", "session.login", "user:u1", HERE, "ok"),
    )
    assert entry.after == {"id": tokens.session}


async def test_no_secret_is_stored(rig: LoginRig) -> None:
    tokens = await rig.login()
    again = await rig.refresh(tokens.refresh_token)
    await rig.fails(password="some wrong password")
    await rig.fails(identifier="my password in the wrong field")
    secrets = {PASSWORD, tokens.refresh_token, again.refresh_token, tokens.access_token, tokens.device}
    secrets |= {"some wrong password", "my password in the wrong field"}
    for [table] in await rig.rows("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"):
        if table.startswith(("libsql", "_litestream")):
            continue
        text = repr(await rig.rows(f'SELECT * FROM "{table}"'))
        assert not any(secret in text for secret in secrets), table


@pytest.mark.parametrize("identifier", ["ada", "ADA", "ada@example.org", "ADA@Example.org", "\uff41da"])
async def test_by_user_name_or_address(rig: LoginRig, identifier: str) -> None:
    assert (await rig.login(identifier)).user.id == "u1"


async def test_two_logins_are_two_sessions(rig: LoginRig) -> None:
    first, second = await rig.login(), await rig.login()
    assert first.session != second.session
    assert (await rig.refresh(first.refresh_token)).session == first.session
    assert (await rig.refresh(second.refresh_token)).session == second.session


async def test_an_access_token_ends_with_its_session(database: Database) -> None:
    rig = await LoginRig.open(database, refresh_ttl_s=300)
    await rig.add_user("u1", username="ada")
    tokens = await rig.login()
    assert tokens.access_expires_at == tokens.refresh_expires_at == NOW + 300_000
    rig.close()


# --- hashes -----------------------------------------------------------------------------------------------------------


async def stored_hash(rig: LoginRig) -> str:
    return str((await rig.rows("SELECT password_hash FROM users WHERE id = 'u1'"))[0][0])


async def test_an_imported_hash_becomes_argon2id_at_the_next_login(rig: LoginRig) -> None:
    foreign = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    await run(rig.database, "UPDATE users SET password_hash = ?", foreign)
    await rig.fails()
    assert await stored_hash(rig) == foreign
    await rig.login()
    present = await stored_hash(rig)
    assert present.startswith("$argon2id$v=19$m=7168,t=1,p=1$")
    await rig.login()
    assert await stored_hash(rig) == present


async def test_a_new_policy_makes_new_hashes(rig: LoginRig, database: Database) -> None:
    before = await stored_hash(rig)
    dearer = await LoginRig.open(database, argon2_time=2)
    await dearer.login()
    assert "t=2" in await stored_hash(rig)
    assert await stored_hash(rig) != before
    dearer.close()


class Rehashes(FlakyStore):
    """Counts the writes that were made with another hash of a password in them."""

    made = 0

    async def write(self, *statements: Statement) -> Any:
        written = await super().write(*statements)
        self.made += any("SET password_hash" in one.sql for one in statements)
        return written


async def test_many_right_logins_at_once_after_the_cost_changed_make_one_new_hash(
    rig: LoginRig, database: Database
) -> None:
    """At several nodes, by user name, by address, and in a browser that is known."""
    store = Rehashes(database)
    known = (await rig.login()).device
    nodes = [await LoginRig.open(database, argon2_time=2) for _ in range(2)]
    logins = [
        node.new_logins(database=store).login(name, PASSWORD, address=HERE, device=device)
        for node in nodes
        for name, device in (("ada", None), ("ada", None), ("ada@example.org", None), ("ada", known))
    ]
    tokens = await asyncio.gather(*logins)
    assert len({one.session for one in tokens}) == 8
    assert "t=2" in await stored_hash(rig)
    assert store.made == 1
    assert await rig.counts() == {}
    for node in nodes:
        node.close()


class Meddling(FlakyStore):
    """Runs `statement` before the first write that begins a session or replaces a password."""

    statement: Statement | None = None

    async def write(self, *statements: Statement) -> Any:
        if self.statement is not None and any(
            "SET password_hash" in one.sql or "INTO login_s" in one.sql for one in statements
        ):
            meddle, self.statement = self.statement, None
            await self._database.write(meddle)
        return await super().write(*statements)


MEDDLING = {
    "disabled": "UPDATE users SET status = 'disabled'",
    "another password": "UPDATE users SET password_hash = 'another'",
    "deleted": "DELETE FROM users",
}


@pytest.mark.parametrize("what", MEDDLING)
async def test_what_happens_while_a_password_is_checked_counts(rig: LoginRig, what: str) -> None:
    store = Meddling(rig.database)
    store.statement = Statement(MEDDLING[what])
    wrong = await rig.fails("nobody")
    with pytest.raises(AuthFailed) as failed:
        await rig.new_logins(database=store).login("ada", PASSWORD, address=HERE)
    assert failed.value.message == wrong
    assert await rig.rows("SELECT 1 FROM login_sessions") == []
    assert len(rig.slept) == 2


class Vanishing(FlakyStore):
    """Deletes all users before the read of this number."""

    left = 0

    async def read(self, *statements: Statement) -> Any:
        self.left -= 1
        if self.left == 0:
            await self._database.write(Statement("DELETE FROM users"))
        return await super().read(*statements)


@pytest.mark.parametrize("read", [1, 2, 3])
async def test_a_user_who_is_deleted_meanwhile_is_one_whom_nobody_knows(rig: LoginRig, read: int) -> None:
    """Whatever asks for the user then: no answer names the id."""
    tokens = await rig.login()
    users = await rig.rows("SELECT * FROM users")
    sessions = await rig.rows("SELECT * FROM login_sessions")
    refreshes = await rig.rows("SELECT * FROM refresh_tokens")

    async def restore() -> None:
        for table, rows in (("users", users), ("login_sessions", sessions), ("refresh_tokens", refreshes)):
            await run(rig.database, f"DELETE FROM {table}")
            for row in rows:
                await run(rig.database, f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", *row)

    store = Vanishing(rig.database)
    logins = rig.new_logins(database=store)
    calls: list[Any] = [
        lambda: logins.login("ada", PASSWORD, address=HERE),
        lambda: logins.refresh(tokens.refresh_token, address=HERE),
        lambda: logins.change_password(principal(tokens), PASSWORD, NEW),
    ]
    said = []
    for call in calls:
        store.left = read
        try:
            await call()
        except GatewayError as error:
            said.append(error)
        await restore()
    assert said or read == 3
    assert all(isinstance(error, AuthFailed) for error in said)
    assert not [error for error in said if "u1" in str(error)]


async def test_a_database_that_is_away_is_no_wrong_password(rig: LoginRig) -> None:
    store = FlakyStore(rig.database)
    store.fail()
    with pytest.raises(StoreUnavailable):
        await rig.new_logins(database=store).login("ada", PASSWORD, address=HERE)


async def test_a_failure_is_written_down_without_what_was_typed(rig: LoginRig) -> None:
    await run(rig.database, "INSERT INTO users(id, username, plan, password_hash, status)"
                            " SELECT 'u2', 'bob', plan, password_hash, 'disabled' FROM users")  # fmt: skip
    await rig.add_user("u3", None, username="cem")
    for identifier in ("ada", "bob", "cem", "nobody"):
        await rig.fails(identifier)
    for _ in range(5):
        await rig.fails()
    entries = await rig.audited("session.login_failed")
    assert {(entry.actor, entry.address) for entry in entries} == {("stranger", HERE)}
    assert [(entry.target, entry.outcome) for entry in reversed(entries)] == [
        ("user:u1", "wrong_password"),
        ("user:u2", "disabled"),
        ("user:u3", "no_password"),
        ("unknown", "unknown"),
        *[("user:u1", "wrong_password")] * 4,
        ("user:u1", "locked"),
    ]
    for _ in range(20):
        await rig.fails(password=PASSWORD)
    assert len(await rig.audited("session.login_failed")) == len(entries)
    rig.clock.pass_s(300)
    await rig.fails()
    assert len(await rig.audited("session.login_failed")) == len(entries) + 1


async def test_what_concerns_a_user_is_found_by_the_user(rig: LoginRig) -> None:
    await rig.add_user("u2", username="bob")
    await rig.login("bob")
    await rig.fails("bob")
    first = await rig.login()
    for _ in range(5):
        await rig.fails()
    await rig.refresh(first.refresh_token)
    await run(rig.database, "UPDATE refresh_tokens SET used_at = used_at - ? WHERE used_at IS NOT NULL", GRACE_MS)
    with pytest.raises(AuthFailed):
        await rig.refresh(first.refresh_token)
    entries = await list_audit(rig.database, user="u1")
    assert [(entry.action, entry.outcome) for entry in reversed(entries)] == [
        ("session.login", "ok"),
        *[("session.login_failed", "wrong_password")] * 5,
        ("session.login_failed", "locked"),
        ("session.refresh_reused", "revoked"),
    ]
    assert {entry.target for entry in entries} == {"user:u1"}
    assert entries[0].after == entries[-1].after == {"id": first.session}


# --- known browsers ---------------------------------------------------------------------------------------------------


async def lock(rig: LoginRig) -> None:
    for _ in range(6):
        await rig.fails(address="198.51.100.9")


async def test_a_stranger_can_not_lock_a_known_browser_out(rig: LoginRig) -> None:
    known = (await rig.login()).device
    await lock(rig)
    await rig.fails(password=PASSWORD)
    tokens = await rig.login(device=known)
    assert rig.signed.loads("device", tokens.device, 10) == rig.signed.loads("device", known, 10)
    assert (await rig.counts())["account:u1"] == 5


async def test_a_known_browser_has_five_guesses_too(rig: LoginRig) -> None:
    known = (await rig.login()).device
    for _ in range(5):
        await rig.fails(device=known)
    await rig.fails(password=PASSWORD, device=known)
    assert (await rig.login()).device != known


async def test_a_browser_is_known_for_one_user_only(rig: LoginRig) -> None:
    await rig.add_user("u2", username="bob")
    known = (await rig.login("bob")).device
    await lock(rig)
    await rig.fails(password=PASSWORD, device=known)
    assert not any(key.startswith("device:") for key in await rig.counts())


FORGED = {
    "nothing": "",
    "text": "d_1.u1",
    "long": "x" * 100_000,
    "other use": ("csrf", ["d_1", "u1"]),
    "other form": ("device", {"device": "d_1", "user": "u1"}),
    "other types": ("device", ["d_1", ["u1"]]),
    "too much": ("device", ["d_1", "u1", 1]),
}


@pytest.mark.parametrize("what", FORGED)
async def test_a_forged_mark_is_none(rig: LoginRig, what: str) -> None:
    forged: Any = FORGED[what]
    await lock(rig)
    await rig.fails(password=PASSWORD, device=forged if isinstance(forged, str) else rig.signed.dumps(*forged))


async def test_a_mark_ends(rig: LoginRig) -> None:
    known = (await rig.login()).device
    rig.clock.pass_s(DEVICE_TTL_S + 1)
    await lock(rig)
    await rig.fails(password=PASSWORD, device=known)


async def test_the_floor_is_measured_from_the_beginning(rig: LoginRig) -> None:
    moments = iter([10.0, 10.1, 20.0, 20.5])
    logins = rig.new_logins()
    logins._monotonic = lambda: next(moments)
    for _ in range(2):
        with pytest.raises(AuthFailed):
            await logins.login("ada", "wrong password 1", address=HERE)
    assert rig.slept == [pytest.approx(FAILURE_FLOOR_S - 0.1)]
