from __future__ import annotations

from gateway.core.tokens import hash_token
from gateway.store.authentication import (
    SessionRow,
    TokenRow,
    read_voids,
    record_use,
    session_by_id,
    session_row,
    sessions_by_id,
    token_by_id,
    tokens_by_hash,
    tokens_by_id,
)
from gateway.store.changes import last_seq, read_news
from gateway.store.database import Database
from tests.support.people import add_plan, add_token, add_user, insert, run, token_text

ADA, BOB, EVE = (token_text(name) for name in ("ada", "bob", "eve"))


async def fill(database: Database) -> None:
    await database.write(
        *add_plan("free"),
        add_user("ada"),
        add_user("bob"),
        add_token("ada", ADA, expires_at=5, scopes={"permissions": ["a"]}, last_used_at=3),
        add_token("bob", BOB),
    )


async def test_tokens_are_found_by_hash_and_by_id(database: Database) -> None:
    await fill(database)
    ada = TokenRow("t_ada", "ada", hash_token(ADA), 5, '{"permissions": ["a"]}', 3)
    bob = TokenRow("t_bob", "bob", hash_token(BOB), None, "{}", None)
    assert await tokens_by_hash(database, [hash_token(ADA), hash_token(EVE), hash_token(BOB)]) == {
        hash_token(ADA): ada,
        hash_token(BOB): bob,
    }
    assert await tokens_by_id(database, {"t_ada", "t_eve"}) == {"t_ada": ada}
    assert await tokens_by_hash(database, []) == {}
    async with database.snapshot() as snapshot:
        assert await tokens_by_id(snapshot, ["t_bob"]) == {"t_bob": bob}


async def test_what_is_revoked_or_belongs_to_nobody_active_is_not_there(database: Database) -> None:
    await fill(database)
    for undo, change in (
        ("UPDATE api_tokens SET revoked_at = NULL", "UPDATE api_tokens SET revoked_at = 1 WHERE id = 't_ada'"),
        ("UPDATE users SET status = 'active'", "UPDATE users SET status = 'disabled' WHERE id = 'ada'"),
    ):
        await run(database, change)
        assert set(await tokens_by_id(database, ["t_ada", "t_bob"])) == {"t_bob"}
        assert set(await tokens_by_hash(database, [hash_token(ADA), hash_token(BOB)])) == {hash_token(BOB)}
        await run(database, undo)
        assert set(await tokens_by_id(database, ["t_ada", "t_bob"])) == {"t_ada", "t_bob"}
    await run(database, "DELETE FROM users WHERE id = 'ada'")
    assert set(await tokens_by_id(database, ["t_ada", "t_bob"])) == {"t_bob"}


async def test_no_key_reaches_another_row(database: Database) -> None:
    await fill(database)
    odd = [
        "",
        "T_ADA",
        "t_ada ",
        "t_ada'",
        "t_%",
        "%",
        "t_ada\x00",
        "null",
        "[]",
        "' OR 1=1 --",
        '"',
        "\\",
        "\U0001f600",
    ]
    assert await tokens_by_id(database, odd) == {}
    assert await tokens_by_hash(database, [*odd, hash_token(ADA).upper(), hash_token(ADA)[:32]]) == {}


async def test_a_row_that_is_not_text_stands_for_nobody_and_keeps_nobody_out(database: Database) -> None:
    await fill(database)
    await run(database, "UPDATE api_tokens SET scopes = CAST(x'7b2261223a22ff227d' AS TEXT) WHERE id = 't_ada'")
    assert set(await tokens_by_id(database, ["t_ada", "t_bob"])) == {"t_bob"}
    assert set(await tokens_by_hash(database, [hash_token(BOB), hash_token(ADA)])) == {hash_token(BOB)}


async def test_use_is_written_down_and_changes_no_right(database: Database) -> None:
    await fill(database)
    before = await last_seq(database)
    await record_use(database, {"t_ada": 7, "t_gone": 8})
    rows = await tokens_by_id(database, ["t_ada", "t_bob"])
    assert (rows["t_ada"].last_used_at, rows["t_bob"].last_used_at) == (7, None)
    _, news = await read_news(database, before)
    assert [(change.doc, change.cause) for change in news] == [("user:ada", "use")]


# --- login sessions ---


async def log_in(database: Database) -> None:
    await fill(database)
    await database.write(
        insert("login_sessions", id="s_ada", user_id="ada", expires_at=100),
        insert("login_sessions", id="s_bob", user_id="bob", expires_at=200, revoked_at=7),
    )


async def test_sessions_are_found_by_id_in_force_or_not(database: Database) -> None:
    await log_in(database)
    ada, bob = SessionRow("ada", 100, True), SessionRow("bob", 200, False)
    assert await sessions_by_id(database, ["s_ada", "s_bob", "s_eve", "S_ADA"]) == {"s_ada": ada, "s_bob": bob}
    await run(database, "UPDATE users SET status = 'disabled'")
    assert await sessions_by_id(database, ["s_ada"]) == {"s_ada": SessionRow("ada", 100, False)}
    await run(database, "DELETE FROM users WHERE id = 'ada'")
    assert await sessions_by_id(database, ["s_ada"]) == {}


async def test_one_credential_is_read_in_a_write(database: Database) -> None:
    await log_in(database)
    tokens, none, sessions = (
        await database.write(token_by_id("t_ada"), token_by_id("t_eve"), session_by_id("s_ada"))
    ).rows
    assert [TokenRow(*row) for row in tokens] == list((await tokens_by_id(database, ["t_ada"])).values())
    assert none == []
    assert [session_row(row) for row in sessions] == [SessionRow("ada", 100, True)]


async def test_a_session_that_is_not_text_keeps_nobody_out(database: Database) -> None:
    await log_in(database)
    await run(database, "UPDATE users SET id = CAST(x'ff' AS TEXT) WHERE id = 'bob'")
    assert set(await sessions_by_id(database, ["s_ada", "s_bob"])) == {"s_ada"}
    assert (await read_voids(database, ["ada", "\ufffd"], 50, 10)).sessions == []


async def test_what_is_void_is_told_with_its_moment(database: Database) -> None:
    await log_in(database)
    users = ["ada", "bob", "eve"]
    voids = await read_voids(database, users, 95, 10)
    assert (voids.users, sorted(set(voids.sessions))) == ({"eve"}, [("ada", "s_ada", 100), ("bob", "s_bob", 0)])
    assert set((await read_voids(database, users, 80, 10)).sessions) == {("bob", "s_bob", 0)}
