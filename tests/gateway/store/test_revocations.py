"""schema.sql: the triggers of the two credential tables keep `revocations` exact and log each change of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.change_rows import connect, logged


@pytest.fixture
def db() -> Iterator[apsw.Connection]:
    connection = connect()
    yield connection
    connection.close()


CREDENTIALS = [("login_sessions", "login_session"), ("api_tokens", "api_token")]


@pytest.mark.parametrize(("table", "kind"), CREDENTIALS)
class TestRevocations:
    @pytest.fixture(autouse=True)
    def a_credential(self, db: apsw.Connection, table: str) -> None:
        column, value = ("token_hash", "h1") if table == "api_tokens" else ("ip", "::1")
        db.execute(f"INSERT INTO {table}(id, user_id, expires_at, {column}) VALUES ('c1', 'u1', 50, ?)", (value,))

    def revocations(self, db: apsw.Connection) -> list[tuple[Any, ...]]:
        return db.execute("SELECT id, kind, user_id, expires_at FROM revocations ORDER BY id").fetchall()

    def test_revoked_and_back(self, db: apsw.Connection, table: str, kind: str) -> None:
        both = [("user:u1", "revocation"), ("revocations", "revocation")]
        assert logged(db, f"UPDATE {table} SET revoked_at = 7") == both
        assert self.revocations(db) == [("c1", kind, "u1", 50)]
        assert logged(db, f"UPDATE {table} SET revoked_at = 8") == [("user:u1", "revocation")]
        assert logged(db, f"UPDATE {table} SET expires_at = 60") == both
        assert self.revocations(db) == [("c1", kind, "u1", 60)]
        assert logged(db, f"UPDATE {table} SET revoked_at = NULL") == both
        assert self.revocations(db) == []
        assert logged(db, f"UPDATE {table} SET expires_at = 70") == [("user:u1", "revocation")]

    def test_deleted_and_made_again(self, db: apsw.Connection, table: str, kind: str) -> None:
        db.execute("CREATE TEMP TABLE kept AS SELECT * FROM " + table)
        db.execute(f"DELETE FROM {table}")
        assert self.revocations(db) == [("c1", kind, "u1", 50)]
        found = logged(db, f"INSERT INTO {table} SELECT * FROM kept")
        assert found == [("user:u1", "revocation"), ("revocations", "revocation")]
        assert self.revocations(db) == []

    def test_made_as_revoked(self, db: apsw.Connection, table: str, kind: str) -> None:
        db.execute(
            f"CREATE TEMP TABLE kept AS SELECT * FROM {table}; UPDATE kept SET revoked_at = 3; DELETE FROM {table}"
        )
        assert ("revocations", "revocation") in logged(db, f"INSERT INTO {table} SELECT * FROM kept")
        assert self.revocations(db) == [("c1", kind, "u1", 50)]

    def test_an_id_that_is_given_up_is_revoked(self, db: apsw.Connection, table: str, kind: str) -> None:
        db.execute(f"UPDATE {table} SET id = 'c2'")
        assert self.revocations(db) == [("c1", kind, "u1", 50)]

    def test_the_statements_own_conflict_rule_does_not_reach_the_triggers(
        self, db: apsw.Connection, table: str, kind: str
    ) -> None:
        """SQLite applies ``OR IGNORE`` of a statement to what its triggers do; an upsert there keeps its own rule."""
        db.execute(f"INSERT INTO revocations(id, kind, user_id, expires_at) VALUES ('c1', '{kind}', 'u1', 1)")
        db.execute(f"UPDATE OR IGNORE {table} SET revoked_at = 7")
        assert self.revocations(db) == [("c1", kind, "u1", 50)]


IDS = st.sampled_from(["a", "b", "c"])
TIMES = st.integers(4_000_000_000_000, 4_000_000_000_002)
STEPS = st.one_of(
    st.tuples(st.just("insert"), IDS, st.one_of(st.none(), TIMES), TIMES),
    st.tuples(st.just("delete"), IDS),
    st.tuples(st.just("revoke"), IDS, st.one_of(st.none(), TIMES)),
    st.tuples(st.just("expire"), IDS, TIMES),
    st.tuples(st.just("rename"), IDS, IDS),
    st.tuples(st.just("both"), IDS, st.one_of(st.none(), TIMES), TIMES),
)


@given(steps=st.lists(STEPS, max_size=12))
def test_revocations_are_what_is_revoked_or_gone(steps: list[tuple[Any, ...]]) -> None:
    db = connect()
    living: dict[str, tuple[int | None, int]] = {}
    void: dict[str, int] = {}
    for step in steps:
        before = dict(void)
        found = logged(db, lambda step=step: apply(db, living, void, step))  # type: ignore[misc]
        stored: list[tuple[Any, ...]] = db.execute("SELECT id, expires_at FROM revocations").fetchall()
        assert dict(stored) == void
        if void != before:
            assert found.count(("revocations", "revocation")) == 1
    db.close()


def apply(
    db: apsw.Connection, living: dict[str, tuple[int | None, int]], void: dict[str, int], step: tuple[Any, ...]
) -> None:
    """Do one step in the database and in the model, where `void` has the latest end that a token of each void session
    may have.
    """
    kind, name, *values = step
    if kind == "insert":
        if name not in living:
            db.execute(
                "INSERT INTO login_sessions(id, user_id, revoked_at, expires_at) VALUES (?, 'u1', ?, ?)",
                (name, *values),
            )
            living[name] = (values[0], values[1])
            settle(void, name, *living[name], values[1])
        return
    if name not in living:
        return
    revoked, expires = before = living[name]
    if kind == "delete":
        db.execute("DELETE FROM login_sessions WHERE id = ?", (name,))
        del living[name]
        void[name] = max(void.get(name, 0), expires)
    elif kind == "rename":
        if values[0] not in living:
            db.execute("UPDATE login_sessions SET id = ? WHERE id = ?", (values[0], name))
            void[name] = max(void.get(name, 0), expires)
            living[values[0]] = living.pop(name)
            settle(void, values[0], revoked, expires, expires)
    else:
        if kind in ("revoke", "both"):
            revoked = values[0]
        if kind in ("expire", "both"):
            expires = values[-1]
        db.execute("UPDATE login_sessions SET revoked_at = ?, expires_at = ? WHERE id = ?", (revoked, expires, name))
        living[name] = (revoked, expires)
        if revoked is None or before[0] is None or expires != before[1]:
            settle(void, name, revoked, expires, max(expires, before[1]))


def settle(void: dict[str, int], name: str, revoked: int | None, expires: int, latest: int) -> None:
    """What becomes of a session's row of revocations when the session is as it is now."""
    if revoked is not None:
        void[name] = max(void.get(name, 0), latest)
    elif void.get(name, expires + 1) <= expires:
        del void[name]
