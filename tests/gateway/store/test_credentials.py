from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.core.principal import CredentialKind, Principal, PrincipalKind
from gateway.errors import AuthFailed, Conflict, NotFound
from gateway.store import credentials
from gateway.store.accounts import User, add_user
from gateway.store.changes import last_seq
from gateway.store.credentials import ApiToken, Place
from gateway.store.database import Database, Statement
from gateway.store.guards import guarded_write
from gateway.store.plans import Plan, apply_plans
from tests.support.people import add_token, insert, run

NOW = 1_800_000_000_000
LAPTOP = ApiToken(id="t_1", user_id="u_ada", name="laptop", scopes={"permissions": ["users.read"]}, expires_at=NOW + 1)


@pytest.fixture(autouse=True)
async def users(database: Database) -> None:
    await apply_plans(database, [Plan("pro")])
    await add_user(database, User(id="u_ada", username="ada", plan="pro"))
    await add_user(database, User(id="u_bob", username="bob", plan="pro"))


async def log_in(database: Database, session_id: str, user_id: str, at: int) -> None:
    sql = "INSERT INTO login_sessions (id, user_id, created_at, expires_at, ip) VALUES (?, ?, ?, ?, '192.0.2.1')"
    await database.write(Statement(sql, (session_id, user_id, at, at + 1000)))


async def test_a_token_is_found_by_its_hash_alone(database: Database) -> None:
    seq = await credentials.add_token(database, LAPTOP, "hash-1")
    assert seq == await last_seq(database)
    found = await credentials.find_token(database, "hash-1")
    assert (found.id, found.user_id, found.name) == ("t_1", "u_ada", "laptop")
    assert (found.scopes, found.expires_at, found.revoked_at) == ({"permissions": ["users.read"]}, NOW + 1, None)
    with pytest.raises(NotFound):
        await credentials.find_token(database, "HASH-1")


async def test_a_token_needs_a_user_and_a_hash_of_its_own(database: Database) -> None:
    await credentials.add_token(database, LAPTOP, "hash-1")
    with pytest.raises(Conflict):
        await credentials.add_token(database, ApiToken(id="t_2", user_id="u_ada"), "hash-1")
    with pytest.raises(NotFound, match="no user u_eve"):
        await credentials.add_token(database, ApiToken(id="t_2", user_id="u_eve"), "hash-2")


async def test_tokens_are_listed_with_those_that_ended(database: Database) -> None:
    await credentials.add_token(database, LAPTOP, "hash-1")
    await credentials.add_token(database, ApiToken(id="t_2", user_id="u_bob"), "hash-2")
    await database.write(Statement("UPDATE api_tokens SET revoked_at = ? WHERE id = 't_1'", (NOW,)))
    assert [(token.id, token.revoked_at) for token in await credentials.list_tokens(database)] == [
        ("t_1", NOW),
        ("t_2", None),
    ]
    assert [token.id for token in await credentials.list_tokens(database, "u_bob")] == ["t_2"]


async def test_sessions_are_listed_with_those_that_ended(database: Database) -> None:
    await log_in(database, "s_1", "u_ada", NOW)
    await log_in(database, "s_2", "u_bob", NOW - 1)
    await database.write(Statement("UPDATE login_sessions SET revoked_at = ? WHERE id = 's_1'", (NOW + 7,)))
    assert [(s.id, s.revoked_at, s.ip) for s in await credentials.list_sessions(database)] == [
        ("s_2", None, "192.0.2.1"),
        ("s_1", NOW + 7, "192.0.2.1"),
    ]
    assert [session.id for session in await credentials.list_sessions(database, "u_ada")] == ["s_1"]


async def test_lists_are_read_in_pages_and_those_in_force_alone(database: Database) -> None:
    for number in range(7):
        await log_in(database, f"s_{number}", "u_ada", NOW + number // 3)
        await credentials.add_token(database, ApiToken(id=f"t_{number}", user_id="u_ada"), f"hash-{number}")
    await log_in(database, "s_bob", "u_bob", NOW)
    await run(database, "UPDATE api_tokens SET created_at = 5")
    await run(database, "UPDATE login_sessions SET revoked_at = 1 WHERE id = 's_1'")
    await run(database, "UPDATE login_sessions SET expires_at = ? WHERE id = 's_4'", NOW + 9)
    await run(database, "UPDATE api_tokens SET expires_at = ? WHERE id = 't_4'", NOW + 9)

    async def sessions(**asked: Any) -> list[str]:
        return [session.id for session in await credentials.list_sessions(database, "u_ada", **asked)]

    async def tokens(**asked: Any) -> list[str]:
        return [token.id for token in await credentials.list_tokens(database, "u_ada", **asked)]

    assert await sessions() == [f"s_{number}" for number in range(7)]
    assert await sessions(limit=2, after=Place(NOW, "s_2")) == ["s_3", "s_4"]
    assert await sessions(after=Place(NOW, "s_3")) == ["s_3", "s_4", "s_5", "s_6"]
    assert await sessions(in_force_at=NOW + 9) == ["s_0", "s_2", "s_3", "s_5", "s_6"]
    assert await sessions(in_force_at=NOW + 8, after=Place(NOW + 1, "s_3"), limit=1) == ["s_4"]
    assert await tokens(limit=2, after=Place(5, "t_2")) == ["t_3", "t_4"]
    assert await tokens(in_force_at=NOW + 9, after=Place(5, "t_2")) == ["t_3", "t_5", "t_6"]
    assert await tokens(after=Place(5, "t_6")) == []


# --- conditions of a write ---

LOGIN = Principal(PrincipalKind.USER, "u_ada", CredentialKind.LOGIN_SESSION, "s_1", credential_mark="k_1")
HASH = "0123456789abcdef" + 48 * "0"
BY_TICKET = msgspec.structs.replace(LOGIN, credential_mark="")
TOKEN = Principal(PrincipalKind.USER, "u_ada", CredentialKind.API_TOKEN, "t_1", credential_mark=HASH)
NARROWED = msgspec.structs.replace(TOKEN, permissions=frozenset(("users.read",)))
OTHER_HASHES = ("id || 'another'", "token_hash || 'x'", "substr(token_hash, 1, 63)", "substr(token_hash, 1, 16) || id")
"""Of the rows of several tokens: none of them twice."""
ALWAYS = "UPDATE users SET name = name WHERE false"
ENDS_USERS = ("UPDATE users SET status = 'disabled' WHERE id = 'u_ada'", "DELETE FROM users WHERE id = 'u_ada'")


async def add_credentials(database: Database) -> None:
    await log_in(database, "s_1", "u_ada", NOW)
    await log_in(database, "s_2", "u_bob", NOW)
    await database.write(
        add_token("u_ada", "one", id="t_1", token_hash=HASH, expires_at=NOW + 1000),
        add_token("u_bob", "two", id="t_2"),
        insert(
            "signing_keys", kid="k_1", public_key="{}", private_key=b"", created_at=1, signs_from=1, verifies_until=None
        ),
    )


async def holds(database: Database, caller: Principal, now: int = NOW) -> bool:
    before = await last_seq(database)
    guards = [credentials.credential_holds(caller, now)]
    try:
        await guarded_write(database, guards)
    except AuthFailed:
        return False
    finally:
        assert await last_seq(database) == before  # a condition changes nothing, and nobody hears of it
    return True


@pytest.mark.parametrize("caller", [LOGIN, BY_TICKET, TOKEN, NARROWED])
@pytest.mark.parametrize("sql", [ALWAYS, "UPDATE users SET status = 'disabled' WHERE id = 'u_bob'"])
async def test_a_credential_holds(database: Database, caller: Principal, sql: str) -> None:
    await add_credentials(database)
    await run(database, sql)
    assert await holds(database, caller)
    assert await holds(database, caller, NOW + 999)
    assert not await holds(database, caller, NOW + 1000)
    assert not await holds(database, msgspec.structs.replace(caller, id="u_bob"))
    assert not await holds(database, msgspec.structs.replace(caller, credential_id="x_2"))


@pytest.mark.parametrize(
    ("caller", "sql"),
    [
        *((caller, sql) for caller in (LOGIN, BY_TICKET, TOKEN) for sql in ENDS_USERS),
        *((caller, "UPDATE login_sessions SET revoked_at = 1") for caller in (LOGIN, BY_TICKET)),
        *((caller, "DELETE FROM login_sessions") for caller in (LOGIN, BY_TICKET)),
        (LOGIN, "UPDATE signing_keys SET verifies_until = 1"),
        (LOGIN, "DELETE FROM signing_keys"),
        *((caller, "UPDATE api_tokens SET revoked_at = 1") for caller in (TOKEN, NARROWED)),
        *(
            (caller, f"UPDATE api_tokens SET token_hash = {other}")
            for caller in (TOKEN, NARROWED)
            for other in OTHER_HASHES
        ),
        (TOKEN, """UPDATE api_tokens SET scopes = '{"permissions":["users.read"]}'"""),
        (TOKEN, """UPDATE api_tokens SET scopes = '{"no": "scopes"}'"""),
    ],
)
async def test_a_credential_that_ended_or_is_another_one_does_not_hold(
    database: Database, caller: Principal, sql: str
) -> None:
    await add_credentials(database)
    assert await holds(database, caller)
    await run(database, sql)
    assert not await holds(database, caller)


async def test_a_key_that_still_verifies_holds_until_its_end(database: Database) -> None:
    await add_credentials(database)
    assert not await holds(database, msgspec.structs.replace(LOGIN, credential_mark="k_2"))
    await run(database, "UPDATE signing_keys SET verifies_until = ?", NOW + 10)
    assert await holds(database, LOGIN, NOW + 9)
    assert not await holds(database, LOGIN, NOW + 10)
    await run(database, "DELETE FROM signing_keys")
    assert await holds(database, BY_TICKET)


@pytest.mark.parametrize(("kind", "mine", "other"), [("login_session", "s_1", "s_2"), ("api_token", "t_1", "t_2")])
async def test_what_is_in_force_is_so_for_its_user_until_it_ends(
    database: Database, kind: str, mine: str, other: str
) -> None:
    await add_credentials(database)

    async def found(credential: str, now: int = NOW) -> bool:
        held = credentials.in_force(CredentialKind(kind), credential, "u_ada", now, NotFound("none"))
        try:
            await guarded_write(database, [held])
        except NotFound:
            return False
        return True

    assert [await found(credential) for credential in (mine, other, "x")] == [True, False, False]
    assert [await found(mine, NOW + after) for after in (999, 1000)] == [True, False]
    await run(database, ENDS_USERS[0])
    assert await found(mine)  # of a disabled user too: there is something to end
    await run(database, f"UPDATE {kind}s SET revoked_at = 1")
    assert not await found(mine)
