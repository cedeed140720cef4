from __future__ import annotations

import pytest

from gateway.errors import Conflict, NotFound
from gateway.store import credentials
from gateway.store.accounts import User, add_user
from gateway.store.changes import last_seq
from gateway.store.credentials import ApiToken
from gateway.store.database import Database, Statement
from gateway.store.plans import Plan, apply_plans

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
