from __future__ import annotations

import asyncio

from gateway.core.tokens import hash_token, is_api_token
from gateway.store.authentication import tokens_by_hash
from gateway.store.database import Database, Statement
from tests.gateway.cli.conftest import Cli


def in_force(cli: Cli, secret: str) -> bool:
    async def look() -> bool:
        async with await Database.open(str(cli.database), create=False) as database:
            return bool(await tokens_by_hash(database, [hash_token(secret)]))

    return asyncio.run(look())


def log_in(cli: Cli, session_id: str, user_id: str) -> None:
    async def write() -> None:
        async with await Database.open(str(cli.database), create=False) as database:
            sql = "INSERT INTO login_sessions (id, user_id, expires_at) VALUES (?, ?, 4000000000000)"
            await database.write(Statement(sql, (session_id, user_id)))

    asyncio.run(write())


def test_a_token_is_printed_once_and_kept_as_a_hash(demo: Cli) -> None:
    answer = demo("token", "issue", "ada", "--name", "phone")
    secret = answer.out.strip()
    assert is_api_token(secret)
    assert secret not in answer.err
    assert in_force(demo, secret)
    rows = [row for row in demo.json("token", "list", "ada") if row["name"] == "phone"]
    assert len(rows) == 1
    assert rows[0]["scopes"] == {}
    assert secret not in demo("token", "list").out
    assert secret.encode() not in b"".join(
        path.read_bytes() for path in demo.database.parent.iterdir() if path.is_file()
    )


def test_a_token_can_be_narrow_and_short_lived(demo: Cli) -> None:
    issued = demo.json("token", "issue", "ada", "--days", "2", "--scopes", "users.read, orgs.read")
    [row] = [row for row in demo.json("token", "list") if row["id"] == issued["id"]]
    assert row["scopes"] == {"permissions": ["users.read", "orgs.read"]}
    assert row["expires_at"] == issued["expires_at"]
    demo("token", "issue", "ada", "--scopes", "users read", code=2)
    demo("token", "issue", "ada", "--days", "0", code=2)
    demo("token", "issue", "eve", code=4)


def test_a_token_is_revoked(demo: Cli) -> None:
    issued = demo.json("token", "issue", "ada")
    assert in_force(demo, issued["token"])
    first = demo.json("token", "revoke", issued["id"])
    assert not in_force(demo, issued["token"])
    assert demo.json("token", "revoke", issued["id"]) == first
    demo("token", "revoke", "t_none", code=4)


def test_sessions_are_listed_and_ended(demo: Cli) -> None:
    log_in(demo, "s_1", "u_ada")
    log_in(demo, "s_2", "u_ada")
    log_in(demo, "s_3", "u_grace")
    assert [row["id"] for row in demo.json("session", "list")] == ["s_1", "s_2", "s_3"]
    demo("session", "revoke", "s_1")
    revoked = {row["id"]: row["revoked_at"] is not None for row in demo.json("session", "list", "ada")}
    assert revoked == {"s_1": True, "s_2": False}
    demo("session", "revoke", "s_9", code=4)
    demo("session", "revoke", code=2)
    demo("session", "revoke", "s_2", "--user", "ada", code=2)


def test_everything_that_a_user_holds_ends_at_once(demo: Cli) -> None:
    log_in(demo, "s_1", "u_ada")
    secret = demo("token", "issue", "ada").out.strip()
    other = demo("token", "issue", "grace").out.strip()
    demo("session", "revoke", "--user", "ada")
    assert all(row["revoked_at"] for row in [*demo.json("session", "list", "ada"), *demo.json("token", "list", "ada")])
    assert not in_force(demo, secret)
    assert in_force(demo, other)
