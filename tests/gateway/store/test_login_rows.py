"""The rows behind logging in: sessions, refresh tokens, counts of failures, and what becomes of them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from gateway.core.clock import CLOCK_SKEW_MS, DAY_MS
from gateway.core.tokens import hash_token, new_refresh_token
from gateway.errors import NoRowChanged
from gateway.store.audit import Entry, list_audit
from gateway.store.changes import last_seq
from gateway.store.database import Database, Row, Statement
from gateway.store.logins import (
    GRACE_MS,
    LIFE_STEP_MS,
    PRUNE_GROUP,
    AccountRow,
    Counted,
    Failures,
    NewSession,
    Rotation,
    begin_session,
    count_failure,
    longest_life,
    note_life,
    prune_logins,
    read_account,
    read_account_of,
    read_failures,
    read_refresh,
    read_refresh_end,
    replace_password,
    rotate,
    still_open,
)
from tests.support.people import add_plan, add_user, insert, run

NOW = 1_764_000_000_000
SPAN = 300_000
LIFE = 900_000
OLD, NEW = hash_token(new_refresh_token(b"o" * 32)), hash_token(new_refresh_token(b"n" * 32))
SALT = b"s" * 32


@pytest.fixture
async def people(database: Database) -> Database:
    """Ada, who may log in, and Bob, who is disabled."""
    await database.write(
        *add_plan("free"),
        add_user("u1", username="ada", email="ada@example.org", password_hash="h1"),
        add_user("u2", username="bob", password_hash="h2", status="disabled"),
    )
    return database


async def rows(database: Database, sql: str, *args: Any) -> list[Row]:
    return (await database.read(Statement(sql, args)))[0]


def real_now() -> int:
    """The clock of this machine, which is the database's too."""
    return time.time_ns() // 1_000_000 + 1  # the database rounds


def session(user: str = "u1", id: str = "s1", token: str = OLD, now: int = NOW) -> NewSession:
    return NewSession(id, user, token, now, now + DAY_MS, "192.0.2.1", "Browser/1")


# --- accounts ---------------------------------------------------------------------------------------------------------


async def test_an_account_is_found_by_name_or_address(people: Database) -> None:
    ada = AccountRow("u1", active=True, password_hash="h1")
    for name in ("ada", "ADA", "ada@example.org", "Ada@Example.ORG"):
        assert await read_account(people, name) == ada
    assert await read_account(people, "bob") == AccountRow("u2", active=False, password_hash="h2")
    for name in ("u1", "", "nobody", "ad%", "ada' OR '1'='1"):
        assert await read_account(people, name) is None
    assert await read_account_of(people, "u1") == ada
    assert await read_account_of(people, "ada") is None


async def test_a_name_goes_before_an_address(people: Database) -> None:
    await people.write(add_user("u3", username="ada@example.org"))
    found = await read_account(people, "ada@example.org")
    assert found is not None
    assert found.id == "u3"


async def test_a_row_that_is_no_text_is_nobody(people: Database) -> None:
    await run(people, "UPDATE users SET password_hash = CAST(x'ff' AS TEXT) WHERE id = 'u1'")
    assert await read_account(people, "ada") is None


# --- sessions and refresh tokens --------------------------------------------------------------------------------------


async def test_a_session_begins_with_its_token(people: Database) -> None:
    await people.write(*begin_session(session(), "h1"))
    [found] = await rows(
        people,
        "SELECT id, user_id, created_at, expires_at, revoked_at, ip, user_agent, last_seen_at FROM login_sessions",
    )
    assert found == ("s1", "u1", NOW, NOW + DAY_MS, None, "192.0.2.1", "Browser/1", NOW)
    assert await rows(people, "SELECT * FROM refresh_tokens") == [(OLD, "s1", NOW, NOW + DAY_MS, None, None)]


@pytest.mark.parametrize(("user", "password_hash"), [("u1", "h0"), ("u2", "h2"), ("nobody", "h1")])
async def test_no_session_for_another_password_or_a_disabled_user(
    people: Database, user: str, password_hash: str
) -> None:
    with pytest.raises(NoRowChanged):
        await people.write(*begin_session(session(user), password_hash))
    assert await rows(people, "SELECT 1 FROM login_sessions") == []
    assert await rows(people, "SELECT 1 FROM refresh_tokens") == []


def rotation(token: str = OLD, successor: str = NEW, now: int = NOW + 1000) -> Rotation:
    return Rotation(token, SALT, successor, now, now + DAY_MS, "192.0.2.2", "Browser/2", LIFE, now + LIFE)


async def test_tokens_of_an_older_setting_are_kept_in_mind_until_the_last_has_ended(people: Database) -> None:
    """A life that is made shorter concerns what is issued from then on."""
    hour, end = 3_600_000, NOW + 3_600_000
    await people.write(note_life(LIFE, NOW + LIFE))
    assert await longest_life(people, NOW, LIFE + CLOCK_SKEW_MS) == LIFE + CLOCK_SKEW_MS
    await people.write(note_life(hour, end))
    for now in (NOW, end, end + CLOCK_SKEW_MS):
        assert await longest_life(people, now, LIFE + CLOCK_SKEW_MS) == hour + CLOCK_SKEW_MS
    assert await longest_life(people, end + 3 * LIFE_STEP_MS, LIFE + CLOCK_SKEW_MS) == LIFE + CLOCK_SKEW_MS
    assert await longest_life(people, NOW, DAY_MS) == DAY_MS


async def test_a_life_is_written_once_in_a_while(people: Database) -> None:
    await people.write(note_life(LIFE, NOW))
    [(until,)] = await rows(people, "SELECT until FROM access_token_lives")
    for later, written in ((1, until), (LIFE_STEP_MS, until), (LIFE_STEP_MS + 1, until + LIFE_STEP_MS + 1)):
        await people.write(note_life(LIFE, NOW + later))
        assert await rows(people, "SELECT until FROM access_token_lives") == [(written,)]
        assert until >= NOW + later + LIFE_STEP_MS or written > until
    await people.write(note_life(LIFE, NOW))
    assert await rows(people, "SELECT until FROM access_token_lives") == [(written,)], "a clock that was set back"


async def test_a_renewal_says_how_long_its_access_token_lives(people: Database) -> None:
    await people.write(*begin_session(session(), "h1"))
    await rotate(people, rotation())
    assert await longest_life(people, NOW, 0) == LIFE + CLOCK_SKEW_MS


async def test_a_use_adds_the_successor_and_prolongs_the_session(people: Database) -> None:
    await people.write(*begin_session(session(), "h1"))
    before = real_now() - 2
    rotated = await rotate(people, rotation())
    assert rotated[:2] == ("u1", "s1")
    later = NOW + 1000
    [[used]] = await rows(people, "SELECT used_at FROM refresh_tokens WHERE used_at IS NOT NULL")
    assert before <= used <= real_now()  # by the database's clock, which all nodes share
    assert await rows(people, "SELECT * FROM refresh_tokens ORDER BY created_at") == [
        (OLD, "s1", NOW, NOW + DAY_MS, used, SALT),
        (NEW, "s1", later, later + DAY_MS, None, None),
    ]
    assert await rows(people, "SELECT expires_at, last_seen_at, ip, user_agent FROM login_sessions") == [
        (later + DAY_MS, later, "192.0.2.2", "Browser/2")
    ]
    found = await read_refresh(people, OLD, later)
    assert found is not None
    assert found[:5] == ("u1", "s1", used, SALT, True)
    assert used <= found.read_at <= real_now()
    assert await read_refresh_end(people, NEW) == later + DAY_MS
    with pytest.raises(NoRowChanged):
        await rotate(people, rotation(successor="another"))
    assert await rows(people, "SELECT count(*) FROM refresh_tokens") == [(2,)]


NOT_IN_FORCE = {
    "session revoked": "UPDATE login_sessions SET revoked_at = 1",
    "session ended": f"UPDATE login_sessions SET expires_at = {NOW + 1000}",
    "token ended": f"UPDATE refresh_tokens SET expires_at = {NOW + 1000}",
    "user disabled": "UPDATE users SET status = 'disabled'",
}


@pytest.mark.parametrize("why", NOT_IN_FORCE)
async def test_a_token_that_is_not_in_force_is_not_used(people: Database, why: str) -> None:
    await people.write(*begin_session(session(), "h1"))
    await run(people, NOT_IN_FORCE[why])
    with pytest.raises(NoRowChanged):
        await rotate(people, rotation())
    found = await read_refresh(people, OLD, NOW + 1000)
    assert found is not None
    assert (found.used_at, found.in_force) == (None, False)


async def test_an_unknown_token_is_nothing(people: Database) -> None:
    assert await read_refresh(people, OLD, NOW) is None
    assert await read_refresh_end(people, OLD) is None
    with pytest.raises(NoRowChanged):
        await rotate(people, rotation())


async def test_of_many_uses_at_once_one_counts(people: Database) -> None:
    await people.write(*begin_session(session(), "h1"))
    uses = [rotate(people, rotation(successor=f"successor {number}")) for number in range(20)]
    outcomes = await asyncio.gather(*uses, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoRowChanged"] * 19 + ["Rotated"]
    assert await rows(people, "SELECT count(*) FROM refresh_tokens") == [(2,)]


async def test_a_password_is_replaced_only_where_it_is_the_one_that_was_read(people: Database) -> None:
    await people.write(replace_password("u1", "h1", "h3"))
    with pytest.raises(NoRowChanged):
        await people.write(replace_password("u1", "h1", "h4"))
    await people.write(replace_password("u1", "h1", "h4", must_change=False))
    assert (await read_account(people, "ada")) == AccountRow("u1", active=True, password_hash="h3")


# --- failures ---------------------------------------------------------------------------------------------------------

HERE = ("address:a", "all")
WRONG = Entry("stranger", "session.login_failed", "user:u1", "192.0.2.1", "wrong_password")


def counted(own: str = "account:u1", others: tuple[str, ...] = HERE) -> Counted:
    return Counted(own, 3, others)


async def count(database: Database, counted: Counted, now: int = NOW) -> None:
    await database.write(*count_failure(counted, now, SPAN, WRONG))


async def read(database: Database, now: int, *keys: str) -> dict[str, Failures]:
    return await read_failures(database, keys, now, SPAN)


async def table(database: Database) -> dict[str, tuple[int, int]]:
    found = await rows(database, "SELECT counted, failures, until FROM login_failures")
    return {row[0]: (row[1], row[2] - NOW) for row in found}


async def trail(database: Database) -> list[tuple[str, str]]:
    return [(entry.target, entry.outcome) for entry in reversed(await list_audit(database))]


async def test_a_failure_counts_against_all_that_it_names(database: Database) -> None:
    assert await read(database, NOW, "account:u1", *HERE) == {}
    await count(database, counted())
    await count(database, counted("account:u2", ("address:b", "all")), NOW + 1)
    end = NOW + SPAN
    assert await read(database, NOW + 1, "account:u1", *HERE) == {
        "account:u1": Failures(1, end),
        "address:a": Failures(1, end),
        "all": Failures(2, end),
    }
    assert await read(database, NOW + 1, "account:u2") == {"account:u2": Failures(1, end + 1)}
    assert await read(database, end - 1, "all") == {"all": Failures(2, end)}
    assert await read(database, end, "account:u1", *HERE) == {}


async def test_the_last_failure_begins_the_lock_and_those_after_do_not_prolong_it(database: Database) -> None:
    for moment in (0, 10, 20, 30, 40):
        await count(database, counted(), NOW + moment)
    found = await table(database)
    assert found["account:u1"] == (5, SPAN + 20)
    assert found["all"] == (5, SPAN)
    assert (await read(database, NOW + SPAN + 19, "account:u1"))["account:u1"].failures == 5
    assert await read(database, NOW + SPAN + 20, "account:u1") == {}
    await count(database, counted(), NOW + SPAN + 20)
    assert (await table(database))["account:u1"] == (1, 2 * SPAN + 20)


async def test_each_failure_is_written_down_and_the_lock_with_the_one_that_begins_it(database: Database) -> None:
    for moment in (0, 1, 2, 3, SPAN + 2, SPAN + 3, SPAN + 4, SPAN + 5):
        await count(database, counted(), NOW + moment)
    wrong, locked = ("user:u1", "wrong_password"), ("user:u1", "locked")
    assert await trail(database) == [*[wrong] * 3, locked, *[wrong] * 4, locked, wrong]


async def test_an_account_alone(database: Database) -> None:
    await count(database, counted(others=()))
    assert await table(database) == {"account:u1": (1, SPAN)}


async def test_of_many_failures_at_once_each_counts_and_one_is_the_last(database: Database) -> None:
    await asyncio.gather(*(count(database, counted()) for _ in range(30)))
    assert {key: value[0] for key, value in (await table(database)).items()} == dict.fromkeys(("account:u1", *HERE), 30)
    outcomes = [outcome for _, outcome in await trail(database)]
    assert (outcomes.count("wrong_password"), outcomes.count("locked")) == (30, 1)


async def test_what_a_right_password_does_hangs_on_the_count(people: Database) -> None:
    open_ = [still_open(counted(), user, NOW + 2, SPAN) for user in ("u1", "nobody")]
    for _ in range(2):
        await count(people, counted())
        await people.write(open_[0])
    with pytest.raises(NoRowChanged):
        await people.write(open_[1])
    await count(people, counted())
    with pytest.raises(NoRowChanged):
        await people.write(open_[0])
    await people.write(still_open(counted("device:d", ()), "u1", NOW + 2, SPAN))
    seq = await last_seq(people)
    await people.write(still_open(counted(), "u1", NOW + SPAN, SPAN))
    assert await last_seq(people) == seq  # nothing was changed


async def test_a_clock_that_was_an_hour_ahead_locks_nobody_for_that_long(database: Database) -> None:
    hour = 3_600_000
    for _ in range(5):
        await count(database, counted(others=()), NOW + hour)
    assert await read(database, NOW, "account:u1") == {}
    await count(database, counted(others=()))
    assert await table(database) == {"account:u1": (1, SPAN)}
    # Another node's clock that is a little ahead counts.
    await count(database, counted(others=()), NOW + SPAN)
    assert "account:u1" in await read(database, NOW, "account:u1")


# --- housekeeping -----------------------------------------------------------------------------------------------------


async def test_what_is_over_goes_in_its_time(people: Database) -> None:
    day = DAY_MS
    sessions = {"gone": NOW - 30 * day - 1, "kept": NOW - 30 * day, "live": NOW + day}
    tokens = {
        # expires_at, used_at, salt
        "ended": (NOW - day - 1, None, None),
        "just ended": (NOW - day, None, None),
        "old salt": (NOW + day, real_now() - GRACE_MS - CLOCK_SKEW_MS - 2, SALT),
        "young salt": (NOW + day, real_now() - GRACE_MS - CLOCK_SKEW_MS + 30_000, SALT),
        "unused": (NOW + day, None, None),
    }
    await people.write(
        *(insert("login_sessions", id=id, user_id="u1", expires_at=end) for id, end in sessions.items()),
        *(
            insert("refresh_tokens", token_hash=id, session_id="live", created_at=1, expires_at=end, used_at=u, salt=s)
            for id, (end, u, s) in tokens.items()
        ),
        insert("refresh_tokens", token_hash="of gone", session_id="gone", created_at=1, expires_at=NOW + day),
        insert("login_failures", counted="over", failures=3, until=NOW - 1),
        insert("login_failures", counted="live", failures=3, until=NOW),
    )
    assert await prune_logins(people, NOW) == 4
    assert await rows(people, "SELECT id FROM login_sessions ORDER BY id") == [("kept",), ("live",)]
    assert await rows(people, "SELECT token_hash, salt FROM refresh_tokens ORDER BY token_hash") == [
        ("just ended", None),
        ("old salt", None),
        ("unused", None),
        ("young salt", SALT),
    ]
    assert await rows(people, "SELECT counted FROM login_failures") == [("live",)]
    commits = people.counts.operations
    assert await prune_logins(people, NOW) == 0
    assert people.counts.operations == commits


async def test_many_rows_go_in_groups(people: Database) -> None:
    await people.write(insert("login_sessions", id="s1", user_id="u1", expires_at=NOW + DAY_MS))
    count = 2 * PRUNE_GROUP + 1
    numbers = f"WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
    await run(people, f"INSERT INTO login_failures SELECT 'k' || i, 1, 5 FROM ({numbers} SELECT i FROM n)")
    await run(
        people,
        "INSERT INTO refresh_tokens(token_hash, session_id, created_at, expires_at, used_at, salt)"
        f" SELECT 'h' || i, 's1', 1, ?, 1, x'01' FROM ({numbers} SELECT i FROM n)",
        NOW + DAY_MS,
    )
    before = people.counts.operations
    assert await prune_logins(people, NOW) == 2 * count
    assert people.counts.operations - before == 3 + 3
    assert await rows(people, "SELECT count(*), count(salt) FROM refresh_tokens") == [(count, 0)]
