"""The set of what is void, against what the rows say: whoever wrote them, in whatever order it is heard of."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from gateway.auth.void_logins import GROUP, VoidLogins
from gateway.store import authentication
from gateway.store.changes import last_seq
from gateway.store.database import Database, Row, Statement
from tests.support.foreign_writer import ForeignWriter
from tests.support.people import add_plan, add_user, insert, run

NOW = 1_795_288_200_000
MINUTE = 60_000
DAY = 86_400_000
LIFE_S = 900


class Rig:
    """A set that is fed as the feed does it: a round reads whose rows the log has."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = NOW
        self.position = 0
        self.revocations = VoidLogins(lambda: self.now, LIFE_S)

    async def start(self) -> None:
        self.position = await last_seq(self.database)
        await self.revocations.load(self.database)

    async def round(self) -> None:
        async with self.database.snapshot() as snapshot:
            [[(seq,)]] = await snapshot.read(Statement("SELECT coalesce(max(seq), 0) FROM change_log"))
            sql = "SELECT DISTINCT substr(doc, 6) FROM change_log WHERE seq > ? AND doc GLOB 'user:*'"
            [rows] = await snapshot.read(Statement(f"{sql} AND cause IN ('revocation', 'status')", (self.position,)))
            if rows:
                await self.revocations.update(snapshot, {user for (user,) in rows}, seq)
            self.position = seq

    async def heard(self, sql: str, *args: Any) -> None:
        await run(self.database, sql, *args)
        await self.round()

    def void(self, *sessions: str) -> list[bool]:
        return [self.revocations.void("bob" if id == "s_bob" else "ada", id) for id in sessions]


def session(id: str, user: str = "ada", **columns: Any) -> Statement:
    return insert(
        "login_sessions",
        **{"id": id, "user_id": user, "created_at": NOW - MINUTE, "expires_at": NOW + 7 * DAY} | columns,
    )


@pytest.fixture
async def rig(database: Database) -> Rig:
    await database.write(
        *add_plan("free"), add_user("ada"), add_user("bob"), session("s_1"), session("s_2"), session("s_bob", "bob")
    )
    rig = Rig(database)
    await rig.start()
    return rig


CHANGES = {
    "revoked": "UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_1'",
    "deleted": "DELETE FROM login_sessions WHERE id = 's_1'",
    "given another id": "UPDATE login_sessions SET id = 's_other' WHERE id = 's_1'",
    "ended": "UPDATE login_sessions SET expires_at = 1795288199000 WHERE id = 's_1'",
    "ended long ago": "UPDATE login_sessions SET expires_at = 1000 WHERE id = 's_1'",
    "given to somebody else": "UPDATE login_sessions SET user_id = 'bob' WHERE id = 's_1'",
}


@pytest.mark.parametrize("sql", CHANGES.values(), ids=list(CHANGES))
async def test_a_session_that_stands_for_nothing_is_known_by_the_next_round(rig: Rig, sql: str) -> None:
    assert rig.void("s_1", "s_2", "s_bob") == [False] * 3
    await rig.heard(sql)
    assert rig.void("s_1", "s_2", "s_bob") == [True, False, False]
    await rig.revocations.load(rig.database)
    assert rig.void("s_1", "s_2", "s_bob") == [True, False, False]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE users SET status = 'disabled' WHERE id = 'ada'",
        "DELETE FROM users WHERE id = 'ada'",
        "UPDATE users SET id = 'eve' WHERE id = 'ada'",
    ],
)
async def test_a_user_who_is_disabled_gone_or_renamed_has_no_session(rig: Rig, sql: str) -> None:
    await rig.heard(sql)
    assert rig.void("s_1", "s_2", "s_bob") == [True, True, False]
    await rig.revocations.load(rig.database)
    assert rig.void("s_bob") == [False]


@pytest.mark.parametrize("sql", CHANGES.values(), ids=list(CHANGES))
async def test_who_starts_later_reads_it_from_the_tables(rig: Rig, sql: str) -> None:
    await run(rig.database, sql)
    later = Rig(rig.database)
    await later.start()
    assert later.void("s_1", "s_2", "s_bob") == [True, False, False]


async def test_a_disabled_user_is_known_from_the_start(rig: Rig) -> None:
    await run(rig.database, "UPDATE users SET status = 'disabled' WHERE id = 'ada'")
    later = Rig(rig.database)
    await later.start()
    assert later.void("s_1", "s_2", "s_bob") == [True, True, False]
    await later.heard("UPDATE users SET status = 'active' WHERE id = 'ada'")
    assert later.void("s_1", "s_2") == [False, False]


async def test_a_session_ends_by_the_clock_at_the_moment_that_its_row_says(rig: Rig) -> None:
    await rig.heard("UPDATE login_sessions SET expires_at = ? WHERE id = 's_1'", NOW + MINUTE)
    assert rig.void("s_1") == [False]
    rig.now += MINUTE - 1
    assert rig.void("s_1") == [False]
    rig.now += 1
    assert rig.void("s_1") == [True]
    await rig.heard("UPDATE login_sessions SET expires_at = ? WHERE id = 's_1'", NOW + DAY)
    assert rig.void("s_1") == [False]


async def test_what_is_taken_back_is_good_again(rig: Rig) -> None:
    for sql in CHANGES.values():
        await rig.heard(sql)
        assert rig.void("s_1") == [True], sql
        await run(rig.database, "DELETE FROM login_sessions WHERE id IN ('s_1', 's_other')")
        await rig.database.write(session("s_1"))
        await rig.round()
        assert rig.void("s_1") == [False], sql
    await rig.heard("UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_1'")
    await rig.heard("UPDATE login_sessions SET revoked_at = NULL WHERE id = 's_1'")
    assert rig.void("s_1", "s_other") == [False, True]
    assert len(rig.revocations) == 1


@pytest.mark.parametrize(
    "afterwards",
    [
        "UPDATE login_sessions SET revoked_at = NULL",
        "UPDATE login_sessions SET expires_at = expires_at + 1",
        "UPDATE login_sessions SET expires_at = 1000; DELETE FROM login_sessions",
        "DELETE FROM login_sessions WHERE id = 's_1'",
        "DELETE FROM users WHERE id = 'bob'",
        "UPDATE login_sessions SET id = 's_other' WHERE id = 's_1'",
    ],
)
async def test_a_session_that_was_given_away_is_nobodys_for_good(rig: Rig, afterwards: str) -> None:
    await rig.heard("UPDATE login_sessions SET user_id = 'bob' WHERE id = 's_1'")
    for sql in afterwards.split("; "):
        await rig.heard(sql)
    later = Rig(rig.database)
    await later.start()
    for revocations in (rig.revocations, later.revocations):
        assert revocations.void("ada", "s_1")
        assert revocations.void("bob", "s_1") or "DELETE FROM login_sessions" in afterwards or "s_other" in afterwards


async def test_the_id_of_a_session_is_nobody_elses(rig: Rig) -> None:
    await rig.heard("DELETE FROM login_sessions WHERE id = 's_1'")
    await rig.database.write(session("s_1", "bob"))
    await rig.round()
    assert rig.void("s_1") == [True]
    assert rig.revocations.void("bob", "s_1")
    await rig.heard("UPDATE login_sessions SET id = 's_x' WHERE id = 's_bob'")
    await rig.heard("DELETE FROM login_sessions WHERE id = 's_2'")
    await rig.heard("UPDATE login_sessions SET id = 's_2' WHERE id = 's_x'")
    assert rig.void("s_2", "s_bob") == [True, True]
    assert rig.revocations.void("bob", "s_2")


async def test_a_session_that_comes_back_to_its_first_owner_may_be_good_again(rig: Rig) -> None:
    for owner in ("bob", "ada"):
        await rig.heard("UPDATE login_sessions SET user_id = ? WHERE id = 's_1'", owner)
        assert rig.void("s_1") == [True]
    await rig.heard("UPDATE login_sessions SET revoked_at = NULL WHERE id = 's_1'")
    assert rig.void("s_1") == [False]


@pytest.mark.parametrize(
    "afterwards",
    [
        "UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_1'",
        "UPDATE login_sessions SET revoked_at = 5; UPDATE login_sessions SET revoked_at = NULL",
        "UPDATE login_sessions SET expires_at = 2000 WHERE id = 's_1'",
        "DELETE FROM login_sessions WHERE id = 's_1'",
    ],
)
async def test_a_session_that_was_ended_long_ago_stays_so_whatever_comes_then(rig: Rig, afterwards: str) -> None:
    await rig.heard("UPDATE login_sessions SET expires_at = 1000 WHERE id = 's_1'")
    for sql in afterwards.split("; "):
        await rig.heard(sql)
    later = Rig(rig.database)
    await later.start()
    assert rig.void("s_1") == later.void("s_1") == [True]
    await run(rig.database, "DELETE FROM login_sessions WHERE id = 's_1'")
    await rig.database.write(session("s_1"))
    await rig.round()
    assert rig.void("s_1") == [False]


async def test_an_end_that_is_moved_back_into_the_future_is_good_again(rig: Rig) -> None:
    await rig.heard("UPDATE login_sessions SET expires_at = 1000 WHERE id = 's_1'")
    await rig.heard("UPDATE login_sessions SET expires_at = ? WHERE id = 's_1'", NOW + 7 * DAY)
    assert rig.void("s_1") == [False]
    assert await rig.database.read(Statement("SELECT 1 FROM revocations")) == [[]]


async def test_what_is_unknown_is_good(rig: Rig) -> None:
    assert not rig.revocations.void("nobody", "s_new")
    assert rig.revocations.void("bob", "s_1") is False


# --- what this process revoked ---------------------------------------------------------------------------------------


async def test_what_was_revoked_here_is_not_forgotten_by_a_reading_of_an_earlier_moment(rig: Rig) -> None:
    async with rig.database.snapshot() as before:
        seq = await last_seq(before)
        revoked = await run(rig.database, "UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_1'")
        rig.revocations.note(revoked, sessions=[("ada", "s_1")])
        assert rig.void("s_1", "s_2") == [True, False]
        await rig.revocations.update(before, {"ada"}, seq)
        assert rig.void("s_1", "s_2") == [True, False]
        await rig.revocations.load(before)
        assert rig.void("s_1", "s_2") == [True, False]
    await rig.round()
    assert rig.void("s_1", "s_2") == [True, False]
    await rig.heard("UPDATE login_sessions SET revoked_at = NULL WHERE id = 's_1'")
    assert rig.void("s_1") == [False]


async def test_a_user_disabled_here_likewise(rig: Rig) -> None:
    async with rig.database.snapshot() as before:
        seq = await last_seq(before)
        rig.revocations.note(await run(rig.database, "UPDATE users SET status = 'disabled'"), users=["ada", "bob"])
        await rig.revocations.update(before, {"ada", "bob"}, seq)
        assert rig.void("s_1", "s_bob") == [True, True]
    await rig.round()
    await rig.heard("UPDATE users SET status = 'active' WHERE id = 'bob'")
    assert rig.void("s_1", "s_bob") == [True, False]


async def test_of_another_database_nothing_is_kept(rig: Rig) -> None:
    rig.revocations.note(1_000_000, sessions=[("ada", "s_1")])
    await rig.revocations.load(rig.database)
    assert rig.void("s_1") == [True]
    await rig.revocations.load(rig.database, anew=True)
    assert rig.void("s_1") == [False]


# --- loading ---------------------------------------------------------------------------------------------------------


class Halting:
    """A reader that stops before its read number `at` until it may go on; each read is of its own moment."""

    def __init__(self, database: Database, at: int) -> None:
        self._database = database
        self._left = at
        self.halted = asyncio.Event()
        self.go_on = asyncio.Event()

    async def read(self, *statements: Statement) -> list[list[Row]]:
        self._left -= 1
        if self._left == 0:
            self.halted.set()
            await self.go_on.wait()
        return await self._database.read(*statements)


@pytest.mark.parametrize("at", range(1, 5))
async def test_what_is_heard_during_a_load_is_not_overwritten_by_it(rig: Rig, at: int) -> None:
    await rig.heard("UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_2'")
    reader = Halting(rig.database, at)
    loading = asyncio.create_task(rig.revocations.load(reader))
    await reader.halted.wait()
    await rig.heard("UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_1'")
    await rig.heard("UPDATE login_sessions SET revoked_at = NULL WHERE id = 's_2'")
    revoked = await run(rig.database, "UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_bob'")
    rig.revocations.note(revoked, sessions=[("bob", "s_bob")])
    reader.go_on.set()
    await loading
    assert rig.void("s_1", "s_2", "s_bob") == [True, False, True]


async def test_a_load_that_was_overtaken_by_a_newer_one_changes_nothing(rig: Rig) -> None:
    reader = Halting(rig.database, 4)
    await rig.heard("UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_1'")
    loading = asyncio.create_task(rig.revocations.load(reader))
    await reader.halted.wait()
    await run(rig.database, "UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_2'")
    await rig.revocations.load(rig.database)
    await run(rig.database, "UPDATE login_sessions SET revoked_at = NULL")
    reader.go_on.set()
    await loading
    assert rig.void("s_1", "s_2") == [True, True]


async def test_a_load_that_fails_leaves_what_was_known(rig: Rig) -> None:
    await rig.heard("UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_1'")

    class Failing:
        async def read(self, *statements: Statement) -> list[list[Row]]:
            raise OSError("away")

    with pytest.raises(OSError, match="away"):
        await rig.revocations.load(Failing())
    assert rig.void("s_1", "s_2") == [True, False]


async def test_many_are_loaded_in_pages(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "VOID_PAGE", 10)
    users = [f"u{n}" for n in range(60)]
    await rig.database.write(
        *(add_user(user, status="disabled" if n % 7 == 0 else "active") for n, user in enumerate(users)),
        *(
            session(f"s{n}", user, revoked_at=5 if n % 5 == 0 else None, expires_at=NOW + DAY + n // 20)
            for n, user in enumerate(users)
        ),
        session("s_again", "u1", expires_at=NOW + DAY),
    )
    await run(rig.database, "DELETE FROM login_sessions WHERE id GLOB 's*1'")
    await rig.revocations.load(rig.database)
    for n, user in enumerate(users):
        assert rig.revocations.void(user, f"s{n}") is (n % 5 == 0 or n % 7 == 0 or n % 10 == 1), n
    assert not rig.revocations.void("u1", "s_again")


async def test_a_round_may_be_about_very_many(rig: Rig) -> None:
    count = 2 * GROUP + 1
    await rig.database.write(
        *(add_user(f"u{n}") for n in range(count)),
        *(session(f"s{n}", f"u{n}") for n in range(count)),
    )
    await rig.heard("UPDATE login_sessions SET revoked_at = 5 WHERE id <> 's_1'")
    assert all(rig.revocations.void(f"u{n}", f"s{n}") for n in range(count))
    assert rig.void("s_1", "s_2") == [False, True]


async def test_what_ended_is_not_held(rig: Rig) -> None:
    await rig.database.write(
        *(session(f"old{n}", created_at=1, revoked_at=5, expires_at=NOW - DAY) for n in range(50)),
        *(session(f"new{n}", revoked_at=5, expires_at=NOW + DAY) for n in range(5)),
    )
    await run(rig.database, "DELETE FROM revocations WHERE expires_at < ?", NOW)
    await rig.round()
    assert len(rig.revocations) == 5
    rig.now += 2 * DAY
    await run(rig.database, "DELETE FROM revocations")
    await rig.revocations.load(rig.database)
    assert len(rig.revocations) == 0


async def test_a_session_that_was_renewed_a_moment_ago_is_held_whatever_its_row_says(rig: Rig) -> None:
    await rig.database.write(
        session("s_long", created_at=1),
        insert("refresh_tokens", token_hash="h", session_id="s_long", created_at=NOW - MINUTE, expires_at=NOW + DAY),
    )
    await rig.heard("UPDATE login_sessions SET expires_at = 1000 WHERE id = 's_long'")
    assert rig.void("s_long") == [True]


# --- rows of any kind ------------------------------------------------------------------------------------------------


async def test_without_the_triggers_the_sessions_themselves_are_read(rig: Rig) -> None:
    await run(rig.database, "DROP TRIGGER login_sessions_update")
    await rig.heard("UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_1'")
    assert rig.void("s_1") == [False]
    await rig.revocations.load(rig.database)
    assert rig.void("s_1", "s_2") == [True, False]
    await run(rig.database, "UPDATE login_sessions SET revoked_at = NULL")
    await rig.revocations.load(rig.database)
    assert rig.void("s_1") == [False]


async def test_a_row_left_behind_in_the_table_of_revocations_is_not_believed(rig: Rig) -> None:
    await rig.heard("UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_1'")
    await run(rig.database, "DROP TRIGGER login_sessions_update")
    await run(rig.database, "UPDATE login_sessions SET revoked_at = NULL")
    await rig.revocations.load(rig.database)
    assert rig.void("s_1") == [False]


@pytest.mark.storages("file")
async def test_an_id_that_is_no_text_hides_nobody_elses(rig: Rig, tmp_path: Any) -> None:
    sql = "INSERT INTO login_sessions(id, user_id, expires_at, revoked_at) VALUES (CAST(x'61ff' AS TEXT), {}, ?, 5)"
    with ForeignWriter(tmp_path / "gateway.db") as writer:
        user = "CAST(x'ff' AS TEXT)"
        writer.execute(f"INSERT INTO users(id, username, plan) VALUES ({user}, {user}, 'free')")
        writer.execute(sql.format("'ada'"), NOW + DAY)
        writer.execute(sql.format(user).replace("61ff", "62ff"), NOW + DAY)
        writer.execute("UPDATE login_sessions SET revoked_at = 5 WHERE id = 's_1'")
    await rig.revocations.load(rig.database)
    assert rig.void("s_1", "s_2", "s_bob") == [True, False, False]
    later = Rig(rig.database)
    await later.start()
    assert later.void("s_1", "s_2", "s_bob") == [True, False, False]


# --- a model ---------------------------------------------------------------------------------------------------------


def steps(seed: int) -> list[tuple[str, tuple[Any, ...]]]:
    """A history of changes, each by SQL alone."""
    chance = Random(seed)
    ids, users = [f"m{n}" for n in range(4)], ["ada", "bob"]
    history: list[tuple[str, tuple[Any, ...]]] = []
    for _ in range(40):
        id, user = chance.choice(ids), chance.choice(users)
        ends = chance.choice((NOW - MINUTE, NOW + MINUTE, NOW + DAY))
        history.append(
            chance.choice(
                (
                    (
                        "INSERT INTO login_sessions(id, user_id, created_at, expires_at) VALUES (?, ?, ?, ?)"
                        " ON CONFLICT DO NOTHING",
                        (id, user, NOW - MINUTE, ends),
                    ),
                    ("DELETE FROM login_sessions WHERE id = ?", (id,)),
                    ("UPDATE login_sessions SET revoked_at = ? WHERE id = ?", (chance.choice((None, 5)), id)),
                    ("UPDATE login_sessions SET expires_at = ? WHERE id = ?", (ends, id)),
                    ("UPDATE login_sessions SET user_id = ? WHERE id = ?", (user, id)),
                    ("UPDATE users SET status = ? WHERE id = ?", (chance.choice(("active", "disabled")), user)),
                )
            )
        )
    return history


@pytest.mark.parametrize("seed", range(12))
async def test_after_every_round_it_says_what_the_rows_say(rig: Rig, seed: int) -> None:
    """Of every pair that was ever in force: a token for it may be about."""
    pairs: set[tuple[str, str]] = set()
    for number, (sql, args) in enumerate(steps(seed)):
        await run(rig.database, sql, *args)
        if number % 3 == seed % 3:
            continue
        await rig.round()
        if number % 10 == 0:
            await rig.revocations.load(rig.database)
        rows = await rig.database.read(
            Statement("SELECT id, user_id, expires_at, revoked_at IS NULL FROM login_sessions"),
            Statement("SELECT id FROM users WHERE status = 'active'"),
        )
        active = {user for (user,) in rows[1]}
        good = {(user, id) for id, user, ends, unrevoked in rows[0] if unrevoked and ends > NOW and user in active}
        pairs |= {(user, id) for id, user, _, unrevoked in rows[0] if unrevoked}
        assert {pair for pair in pairs if not rig.revocations.void(*pair)} == good, number
