from __future__ import annotations

import time
from array import array
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

import gateway
from gateway.bench.board import Board, create_board
from gateway.bench.broken import BenchBroken
from gateway.bench.child import Child
from gateway.bench.columns import read_columns
from gateway.bench.login_population import LIFE_MS
from gateway.bench.marker import marked_name
from gateway.bench.population import PERMISSIONS, PLAN, QUOTAS, read_tokens, token_id, user_id
from gateway.core.tokens import hash_token, is_api_token, is_refresh_token

SCHEMA = Path(gateway.__file__).resolve().parent.parent / "schema.sql"
USERS = 12


@pytest.fixture
def database(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection = apsw.Connection(str(tmp_path / "bench.db"))
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(SCHEMA.read_text())
    yield connection
    connection.close()


@pytest.fixture
def writer(tmp_path: Path, database: apsw.Connection) -> Iterator[Child]:
    child = Child("gateway.bench.writer", database.filename, str(tmp_path), directory=tmp_path)
    child.call("populate", count=USERS)
    yield child
    child.close()


def committed(answer: dict[str, str]) -> list[array[int]]:
    return read_columns(Path(answer["commits"]), 4)


def names(database: apsw.Connection) -> list[str]:
    return [row[0] for row in database.execute("SELECT name FROM users ORDER BY id")]


def last_seq(database: apsw.Connection) -> int:
    found: int = database.execute("SELECT max(seq) FROM change_log").get
    return found


def test_every_user_has_the_plan_and_a_token_of_its_own(
    tmp_path: Path, writer: Child, database: apsw.Connection
) -> None:
    tokens = read_tokens(tmp_path / "tokens")
    assert len(set(tokens)) == USERS
    assert all(is_api_token(token) for token in tokens)
    rows = list(
        database.execute(
            "SELECT t.id, t.user_id, t.token_hash, u.plan FROM api_tokens t JOIN users u ON u.id = user_id ORDER BY 1"
        )
    )
    assert rows == [(token_id(i), user_id(i), hash_token(tokens[i]), PLAN) for i in range(USERS)]
    assert [row[0] for row in database.execute("SELECT permission FROM plan_permissions")] == list(PERMISSIONS)
    assert list(database.execute("SELECT quota, limit_value FROM plan_quotas")) == list(QUOTAS)


def test_logins_are_a_password_a_session_and_a_refresh_token_for_everybody(
    tmp_path: Path, writer: Child, database: apsw.Connection
) -> None:
    before = time.time_ns() // 1_000_000
    answer = writer.call("add_logins", count=USERS, password_hash="the hash")
    tokens = read_tokens(Path(answer["refresh_tokens"]))
    assert len(set(tokens)) == USERS
    assert all(is_refresh_token(token) for token in tokens)
    assert list(database.execute("SELECT DISTINCT password_hash FROM users")) == [("the hash",)]
    rows = list(
        database.execute(
            "SELECT s.id, user_id, token_hash, s.created_at, s.expires_at, t.expires_at, revoked_at, used_at"
            " FROM login_sessions s JOIN refresh_tokens t ON session_id = s.id ORDER BY 1"
        )
    )
    now = rows[0][3]
    assert before <= now <= time.time_ns() // 1_000_000
    assert rows == [
        (rows[i][0], user_id(i), hash_token(tokens[i]), now, now + LIFE_MS, now + LIFE_MS, None, None)
        for i in range(USERS)
    ]
    assert len({row[0] for row in rows}) == USERS


def test_changes_are_a_commit_each(writer: Child, database: apsw.Connection) -> None:
    writer.call("add_logins", count=USERS, password_hash="the hash")
    for how, users in (("revoke", [1]), ("disable", [2, 0]), ("deny", [3])):
        seq = last_seq(database)
        numbers, changed, starts, ends = committed(writer.call("change", how=how, users=users))
        assert (numbers.tolist(), changed.tolist()) == ([0] * len(users), users)
        assert all(start < end for start, end in zip(starts, ends, strict=True))
        assert last_seq(database) > seq
    revoked = "SELECT user_id FROM login_sessions WHERE revoked_at IS NOT NULL"
    assert list(database.execute(revoked)) == [(user_id(1),)]
    disabled = "SELECT id FROM users WHERE status = 'disabled' ORDER BY id"
    assert list(database.execute(disabled)) == [(user_id(0),), (user_id(2),)]
    denied = "SELECT user_id, permission, effect FROM user_permissions"
    assert list(database.execute(denied)) == [(user_id(3), PERMISSIONS[-1], "deny")]


def test_an_instance_takes_the_place_of_an_earlier_one(writer: Child, database: apsw.Connection) -> None:
    for kid, secret in (("k_1", "00ff"), ("k_2", "ff00")):
        writer.call("add_instance", instance="i_bench", kid=kid, secret=secret)
    rows = list(database.execute("SELECT id, instance_id, secret FROM instance_keys"))
    assert rows == [("k_2", "i_bench", b"\xff\x00")]


def test_a_paced_change_is_a_commit_of_one_row_with_its_number_in_the_name(
    writer: Child, database: apsw.Connection
) -> None:
    seq = last_seq(database)
    before = time.monotonic_ns()
    answer = writer.call("pace", rate=1000, users=[3, 1, 3], revoked=[], pad=[], pad_bytes=0)
    numbers, users, starts, ends = committed(answer)
    assert numbers.tolist() == [1, 2, 3]
    assert users.tolist() == [3, 1, 3]
    moments = [moment for pair in zip(starts, ends, strict=True) for moment in pair]
    assert before < moments[0]
    assert moments == sorted(moments)
    assert starts[2] - before >= 2_000_000
    assert (names(database)[1], names(database)[3]) == (marked_name(2), marked_name(3))
    assert last_seq(database) > seq + 2


def test_padded_changes_carry_new_text_each_time(writer: Child, database: apsw.Connection) -> None:
    seen = []
    for _ in range(2):
        writer.call("pace", rate=1000, users=[5, 6], revoked=[], pad=[5], pad_bytes=64)
        padded, plain = (
            database.execute("SELECT attributes FROM users WHERE id = ?", (user_id(i),)).get for i in (5, 6)
        )
        assert len(padded) == 64 + len('{"pad":""}')
        assert plain == "{}"
        seen.append(padded)
    assert seen[0] != seen[1]


def test_revocations_are_spread_among_the_changes(writer: Child, database: apsw.Connection) -> None:
    answer = writer.call("pace", rate=1000, users=list(range(9)), revoked=[4, 8], pad=[], pad_bytes=0)
    numbers, users, *_ = committed(answer)
    assert [user for number, user in zip(numbers, users, strict=True) if number == 0] == [4, 8]
    assert numbers.tolist() == [1, 2, 3, 4, 0, 5, 6, 7, 0, 8, 9]
    revoked = [row[0] for row in database.execute("SELECT id FROM api_tokens WHERE revoked_at IS NOT NULL ORDER BY id")]
    assert revoked == [token_id(4), token_id(8)]


def test_batches_change_all_users_in_turn_and_stay_within_reach_of_the_clients(
    tmp_path: Path, writer: Child, database: apsw.Connection
) -> None:
    board = tmp_path / "board"
    create_board(board, 1)
    Board(board).slots[0] = 20
    answer = writer.call("batches", seconds=0.3, batch=5, window=10, sessions=USERS, board=str(board))
    numbers, users, starts, _ = committed(answer)
    assert numbers.tolist() == list(range(1, 36))  # 20 were seen, 10 may be ahead, and the batch that stepped over it
    assert users.tolist() == [number % USERS for number in range(35)]
    assert len(set(starts)) == 7
    assert names(database)[10] == marked_name(35)


def test_a_new_limit_is_one_row_of_the_change_log(writer: Child, database: apsw.Connection) -> None:
    seq = last_seq(database)
    answer = writer.call("limit", value=777)
    assert answer["before"] < answer["after"]
    assert list(database.execute("SELECT doc, cause FROM change_log WHERE seq > ?", (seq,))) == [
        (f"plan:{PLAN}", "quota_limit")
    ]


def test_a_change_that_changes_nothing_breaks_the_run(writer: Child) -> None:
    with pytest.raises(BenchBroken, match="0 rows changed, not 1"):
        writer.call("mark", user=USERS)
