"""schema.sql: every change of a public table is logged, once, under the documents that it touches; nothing else is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import apsw
import pytest

from tests.support.change_rows import Logged, connect, logged

Row: TypeAlias = Mapping[str, Any]

PRIVATE = {
    *("meta", "migrations", "change_log", "revocations", "nodes", "node_sessions", "writers"),
    *("signing_keys", "refresh_tokens", "used_tickets", "login_failures", "audit"),
    *("quota_ledger", "leases", "member_usage", "nonces", "nonce_counts", "access_token_lives"),
}

# One row of each public table that no other row refers to.
ROWS = {
    "users": "INSERT INTO users(id, username, email, plan, updated_at) VALUES ('u9', 'nine', 'n@x', 'p1', 5)",
    "plans": "INSERT INTO plans(id, name) VALUES ('p9', 'Nine')",
    "plan_permissions": "INSERT INTO plan_permissions VALUES ('p1', 'can_use_voice')",
    "plan_quotas": "INSERT INTO plan_quotas VALUES ('p1', 'calls', 5, 'month', 1)",
    "roles": "INSERT INTO roles(id, name) VALUES ('r9', 'Nine')",
    "role_permissions": "INSERT INTO role_permissions VALUES ('r1', 'can_use_voice')",
    "user_roles": "INSERT INTO user_roles VALUES ('u1', 'r1', NULL)",
    "user_permissions": "INSERT INTO user_permissions VALUES ('u1', 'can_use_voice', 'allow', NULL, NULL)",
    "user_quotas": "INSERT INTO user_quotas VALUES ('u1', 'calls', 5, 'month', 1, NULL, NULL)",
    "quota_usage": "INSERT INTO quota_usage VALUES ('user:u1', 'calls', 5, 1, 0)",
    "organizations": "INSERT INTO organizations(id, plan, updated_at) VALUES ('o9', 'p1', 5)",
    "memberships": "INSERT INTO memberships VALUES ('o1', 'u1', 'member', 5)",
    "org_role_permissions": "INSERT INTO org_role_permissions VALUES ('owner', 'manage_members')",
    "member_caps": "INSERT INTO member_caps VALUES ('o1', 'u1', 'calls', 5)",
    "login_sessions": "INSERT INTO login_sessions(id, user_id, created_at, expires_at) VALUES ('s1', 'u1', 5, 9)",
    "api_tokens": "INSERT INTO api_tokens(id, user_id, token_hash, created_at) VALUES ('t1', 'u1', 'hash', 5)",
    "instances": "INSERT INTO instances(id, updated_at) VALUES ('i9', 5)",
    "instance_keys": "INSERT INTO instance_keys VALUES ('k9', 'i1', x'00', 5, NULL)",
}

# What some column of some table accepts; the first that is accepted and differs is the change that is tried.
CANDIDATES = (
    "p2", "r2", "u2", "o2", "user:u2", "admin", "deny", "disabled", "hour", "i2", 7, 1, 0, '{"a":1}', "[1]",
    "other", b"x",
)  # fmt: skip

DOCUMENTS: Mapping[str, list[Callable[[Row], str]]] = {
    "users": [lambda row: f"user:{row['id']}"],
    "plans": [lambda row: f"plan:{row['id']}"],
    "plan_permissions": [lambda row: f"plan:{row['plan']}"],
    "plan_quotas": [lambda row: f"plan:{row['plan']}"],
    "roles": [lambda row: f"role:{row['id']}"],
    "role_permissions": [lambda row: f"role:{row['role']}"],
    "quota_usage": [lambda row: str(row["owner"])],
    "organizations": [lambda row: f"org:{row['id']}"],
    "memberships": [lambda row: f"user:{row['user_id']}", lambda row: f"org:{row['org_id']}"],
    "org_role_permissions": [lambda row: f"role:org.{row['role']}"],
    "instances": [lambda row: f"instance:{row['id']}"],
    "instance_keys": [lambda row: f"instance:{row['instance_id']}"],
}  # every other: its user

CAUSES = {
    "users": "profile", "plans": "plan", "plan_permissions": "permissions", "plan_quotas": "quota_limit",
    "roles": "roles", "role_permissions": "permissions", "user_roles": "roles", "user_permissions": "permissions",
    "user_quotas": "quota_limit", "quota_usage": "quota_usage", "organizations": "organization",
    "memberships": "organization", "org_role_permissions": "permissions", "member_caps": "quota_limit",
    "login_sessions": "revocation", "api_tokens": "revocation", "instances": "profile", "instance_keys": "keys",
}  # fmt: skip
DELETED = {"instances": "revocation", "instance_keys": "revocation"}
"""What a deletion is told as where that is another cause."""

DECIDING = {"id", "user_id", "expires_at", "revoked_at", "scopes", "token_hash"}
"""Columns of a credential that decide what it may do."""
USE = {"last_seen_at", "last_used_at"}
"""Those that say when it was used; the others are its profile."""


@pytest.fixture
def db() -> Iterator[apsw.Connection]:
    connection = connect()
    yield connection
    connection.close()


def columns(*, nullable: bool = False) -> list[tuple[str, str]]:
    """Every column of every table that is not private: a new one is tested without being named here."""
    connection = connect()
    found: list[tuple[Any, ...]] = connection.execute(
        "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table'"
        ' AND c."notnull" <= ? ORDER BY t.name, c.cid',
        (0 if nullable else 1,),
    ).fetchall()
    connection.close()
    return [(table, column) for table, column in found if table not in PRIVATE and not table.startswith("sqlite_")]


def the_row(db: apsw.Connection, table: str) -> dict[str, Any]:
    """The row that `ROWS` made: the last one."""
    order = (
        "rowid"
        if table in ("users", "plans", "roles", "organizations", "login_sessions", "api_tokens", "instances")
        else "1"
    )
    names = [name for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (table,))]
    [values] = db.execute(f"SELECT * FROM {table} ORDER BY {order} DESC LIMIT 1").fetchall()
    return dict(zip(names, values, strict=True))


def where(row: Row) -> tuple[str, tuple[Any, ...]]:
    return " AND ".join(f"{name} IS ?" for name in row), tuple(row.values())


def change(db: apsw.Connection, table: str, column: str, row: Row) -> tuple[Logged, Row]:
    """Give the column the first candidate that it accepts; what that logged, and the row afterwards."""
    condition, values = where(row)
    for candidate in CANDIDATES:
        if candidate == row[column]:
            continue
        try:
            found = logged(
                db,
                lambda value=candidate: db.execute(
                    f"UPDATE {table} SET {column} = ? WHERE {condition}", (value, *values)
                ),  # type: ignore[misc]
            )
        except apsw.ConstraintError:
            continue
        return found, {**row, column: candidate}
    raise AssertionError(f"no candidate fits {table}.{column}: add one")


def documents(table: str, *rows: Row) -> list[str]:
    of = DOCUMENTS.get(table, [lambda row: f"user:{row['user_id']}"])
    return sorted({document(row) for row in rows for document in of})


def expected(table: str, column: str, old: Row, new: Row) -> Logged:
    cause = CAUSES[table]
    if table == "users" and column in ("plan", "status"):
        cause = column
    if (table, column) == ("instances", "status"):
        cause = column
    if (table, column) == ("instances", "id"):
        return sorted([(documents(table, new)[0], "profile"), (documents(table, old)[0], "revocation")])
    if table == "instance_keys" and column in ("id", "instance_id", "expires_at"):
        cause = "revocation"
    if table in ("login_sessions", "api_tokens") and column not in DECIDING:
        cause = "use" if column in USE else "profile"
    result = [(document, cause) for document in documents(table, old, new)]
    if (table, column) == ("organizations", "plan"):
        result.append(("org:o9", "plan"))
    ending = ("id", "revoked_at", "user_id", "expires_at") if table == "login_sessions" else ("id", "revoked_at")
    if table in ("login_sessions", "api_tokens") and column in ending:
        result.append(("revocations", "revocation"))
    return sorted(result)


def test_every_public_table_has_a_row_to_try() -> None:
    assert {table for table, _ in columns()} == set(ROWS) == set(CAUSES)


@pytest.mark.parametrize("table", ROWS)
def test_insert_and_delete(db: apsw.Connection, table: str) -> None:
    inserted = logged(db, ROWS[table])
    row = the_row(db, table)
    wanted = [(document, CAUSES[table]) for document in documents(table, row)]
    assert sorted(inserted) == wanted
    condition, values = where(row)
    deleted = logged(db, lambda: db.execute(f"DELETE FROM {table} WHERE {condition}", values))
    wanted = [(document, DELETED.get(table, cause)) for document, cause in wanted]
    if table in ("login_sessions", "api_tokens"):
        wanted.append(("revocations", "revocation"))
    assert sorted(deleted) == sorted(wanted)


@pytest.mark.parametrize(("table", "column"), columns())
def test_update(db: apsw.Connection, table: str, column: str) -> None:
    db.execute(ROWS[table])
    row = the_row(db, table)
    found, new = change(db, table, column, row)
    assert sorted(found) == expected(table, column, row, new)


@pytest.mark.parametrize(("table", "column"), columns())
def test_update_to_the_same_value(db: apsw.Connection, table: str, column: str) -> None:
    db.execute(ROWS[table])
    row = the_row(db, table)
    condition, values = where(row)
    assert logged(db, lambda: db.execute(f"UPDATE {table} SET {column} = {column} WHERE {condition}", values)) == []
    assert the_row(db, table) == row


@pytest.mark.parametrize(("table", "column"), columns(nullable=True))
def test_update_between_null_and_a_value(db: apsw.Connection, table: str, column: str) -> None:
    """``<>`` would be NULL, and so not true, where one side is NULL."""
    db.execute(ROWS[table])
    row = the_row(db, table)
    _, new = change(db, table, column, row)
    condition, values = where({name: value for name, value in new.items() if name != "updated_at"})
    back = logged(db, lambda: db.execute(f"UPDATE {table} SET {column} = NULL WHERE {condition}", values))
    assert [entry for entry in back if entry[0] != "revocations"] == [
        entry for entry in expected(table, column, new, {**new, column: None}) if entry[0] != "revocations"
    ]


@pytest.mark.parametrize("change", ["username = 'NINE'", "email = 'N@X'"])
def test_a_change_of_case_is_a_change(db: apsw.Connection, change: str) -> None:
    db.execute(ROWS["users"])
    assert logged(db, f"UPDATE users SET {change} WHERE id = 'u9'") == [("user:u9", "profile")]


def test_one_update_with_several_causes(db: apsw.Connection) -> None:
    found = logged(db, "UPDATE users SET name = 'Ada', plan = 'p2', status = 'disabled' WHERE id = 'u1'")
    assert sorted(found) == [("user:u1", "plan"), ("user:u1", "profile"), ("user:u1", "status")]


@pytest.mark.parametrize(
    ("changes", "causes"),
    [
        ("last_used_at = 7", ["use"]),
        ("last_used_at = 7, revoked_at = 7", ["revocation", "use", "revocation"]),
        ("last_used_at = 7, name = 'Phone'", ["profile", "use"]),
        ("last_used_at = last_used_at", []),
    ],
)
def test_a_use_is_logged_beside_what_else_the_update_did(db: apsw.Connection, changes: str, causes: list[str]) -> None:
    db.execute(ROWS["api_tokens"])
    assert [cause for _, cause in logged(db, f"UPDATE api_tokens SET {changes}")] == causes


def test_an_upsert_logs_what_it_did(db: apsw.Connection) -> None:
    upsert = (
        "INSERT INTO quota_usage VALUES ('org:o1', 'calls', 0, 1, 0) ON CONFLICT DO UPDATE SET used = excluded.used"
    )
    assert logged(db, upsert) == [("org:o1", "quota_usage")]
    assert logged(db, upsert) == []


@pytest.mark.parametrize(("table", "key"), [("users", "u1"), ("organizations", "o1")])
class TestUpdatedAt:
    def test_moves_by_itself(self, db: apsw.Connection, table: str, key: str) -> None:
        before = time.time() * 1000
        db.execute(f"UPDATE {table} SET name = 'new' WHERE id = ?", (key,))
        updated: Any = db.execute(f"SELECT updated_at FROM {table} WHERE id = ?", (key,)).get
        assert before - 2 <= updated <= time.time() * 1000 + 2

    def test_stays_what_the_writer_says(self, db: apsw.Connection, table: str, key: str) -> None:
        db.execute(f"UPDATE {table} SET name = 'new', updated_at = 77 WHERE id = ?", (key,))
        assert db.execute(f"SELECT updated_at FROM {table} WHERE id = ?", (key,)).get == 77

    def test_is_left_alone_where_nothing_changes(self, db: apsw.Connection, table: str, key: str) -> None:
        db.execute(f"UPDATE {table} SET name = name, plan = plan")
        assert db.execute(f"SELECT DISTINCT updated_at FROM {table}").get == 5

    def test_ends_also_with_recursive_triggers(self, db: apsw.Connection, table: str, key: str) -> None:
        db.execute("PRAGMA recursive_triggers=ON").fetchall()
        found = logged(db, f"UPDATE {table} SET name = 'new' WHERE id = '{key}'")
        assert 1 <= len(found) <= 2
        assert len(set(found)) == 1


def fill(db: apsw.Connection) -> None:
    """Give u1 and o1 a row in every table that refers to them."""
    for table in ROWS:
        if table not in ("users", "plans", "roles", "organizations"):
            db.execute(ROWS[table])
    db.execute("INSERT INTO quota_usage VALUES ('org:o1', 'calls', 0, 1, 0)")


class TestDeletingParents:
    @pytest.mark.parametrize("foreign_keys", ["ON", "OFF"])
    def test_a_user_takes_everything_along(self, db: apsw.Connection, foreign_keys: str) -> None:
        fill(db)
        db.execute(f"PRAGMA foreign_keys={foreign_keys}").fetchall()
        found = logged(db, "DELETE FROM users WHERE id = 'u1'")
        assert sorted(found) == sorted(
            [("user:u1", cause) for cause in ("profile", "permissions", "roles", "organization", "quota_usage")]
            + [("user:u1", "quota_limit")] * 2  # an override and a cap
            + [("user:u1", "revocation"), ("revocations", "revocation")] * 2  # a login session and a token
            + [("org:o1", "organization")]
        )
        assert found[-1] == ("user:u1", "profile")
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        assert db.execute("SELECT count(*) FROM quota_usage WHERE owner = 'user:u1'").get == 0
        assert db.execute("SELECT id, kind, user_id, expires_at FROM revocations ORDER BY id").fetchall() == [
            ("s1", "login_session", "u1", 9),
            ("t1", "api_token", "u1", None),
        ]

    @pytest.mark.parametrize("foreign_keys", ["ON", "OFF"])
    @pytest.mark.parametrize(
        ("sql", "wanted"),
        [
            (
                "DELETE FROM organizations WHERE id = 'o1'",
                [
                    "org:o1 organization",
                    "org:o1 organization",
                    "org:o1 quota_usage",
                    "user:u1 organization",
                    "user:u1 quota_limit",
                ],
            ),
            ("DELETE FROM roles WHERE id = 'r1'", ["role:r1 permissions", "role:r1 roles", "user:u1 roles"]),
            ("DELETE FROM plans WHERE id = 'p9'", ["plan:p9 permissions", "plan:p9 plan", "plan:p9 quota_limit"]),
        ],
    )
    def test_others(self, db: apsw.Connection, foreign_keys: str, sql: str, wanted: list[str]) -> None:
        fill(db)
        db.execute("INSERT INTO plans(id) VALUES ('p9'); INSERT INTO plan_permissions VALUES ('p9', 'x')").fetchall()
        db.execute("INSERT INTO plan_quotas(plan, quota) VALUES ('p9', 'x')")
        db.execute(f"PRAGMA foreign_keys={foreign_keys}").fetchall()
        assert sorted(f"{doc} {cause}" for doc, cause in logged(db, sql)) == wanted
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []


class TestRenamingKeys:
    def test_a_user(self, db: apsw.Connection) -> None:
        fill(db)
        found = logged(db, "UPDATE users SET id = 'u7' WHERE id = 'u1'")
        for doc in ("user:u1", "user:u7"):
            assert {cause for name, cause in found if name == doc} == {
                "profile", "permissions", "roles", "organization", "quota_usage", "quota_limit", "revocation",
            }  # fmt: skip
        assert ("org:o1", "organization") in found
        assert db.execute("SELECT count(*) FROM quota_usage WHERE owner = 'user:u7'").get == 1

    def test_an_organization(self, db: apsw.Connection) -> None:
        fill(db)
        found = logged(db, "UPDATE organizations SET id = 'o7' WHERE id = 'o1'")
        assert {"org:o1", "org:o7", "user:u1"} == {doc for doc, _ in found}
        assert db.execute("SELECT count(*) FROM quota_usage WHERE owner = 'org:o7'").get == 1

    def test_a_plan(self, db: apsw.Connection) -> None:
        fill(db)
        found = logged(db, "UPDATE plans SET id = 'p7' WHERE id = 'p1'")
        assert {("plan:p1", "plan"), ("plan:p7", "plan"), ("user:u1", "plan"), ("org:o1", "plan")} <= set(found)


class TestSessionsThatAreGivenAway:
    """Its tokens name the first owner, and are void by that."""

    MOVE = "UPDATE login_sessions SET user_id = 'u2' WHERE id = 's1'"

    @pytest.fixture(autouse=True, params=["OFF", "ON"])
    def session(self, db: apsw.Connection, request: pytest.FixtureRequest) -> None:
        db.execute(ROWS["login_sessions"])
        db.execute(f"PRAGMA recursive_triggers={request.param}").fetchall()

    def rows(self, db: apsw.Connection) -> list[tuple[Any, ...]]:
        sql = (
            "SELECT s.user_id, s.revoked_at IS NOT NULL, r.user_id, r.expires_at"
            " FROM revocations AS r LEFT JOIN login_sessions AS s USING (id)"
        )
        return db.execute(sql).fetchall()

    @pytest.mark.parametrize(
        "sql",
        [
            "UPDATE login_sessions SET user_id = 'u2'",
            "UPDATE login_sessions SET user_id = 'u2', revoked_at = 5",
            "UPDATE login_sessions SET user_id = 'u2', revoked_at = NULL",
        ],
    )
    @pytest.mark.parametrize("revoked", [False, True])
    def test_it_is_revoked_and_the_row_names_who_had_it(self, db: apsw.Connection, sql: str, revoked: bool) -> None:
        db.execute("UPDATE login_sessions SET revoked_at = ?", (4 if revoked else None,))
        found = logged(db, sql)
        assert set(found) == {("user:u1", "revocation"), ("user:u2", "revocation"), ("revocations", "revocation")}
        assert self.rows(db) == [("u2", 1, "u1", 9)]

    def test_it_keeps_the_moment_of_its_revocation(self, db: apsw.Connection) -> None:
        db.execute("UPDATE login_sessions SET revoked_at = 4")
        db.execute(self.MOVE)
        assert db.execute("SELECT revoked_at FROM login_sessions").get == 4

    @pytest.mark.parametrize(
        ("sql", "left"),
        [
            ("UPDATE login_sessions SET revoked_at = NULL", ("u2", 1, "u1", 9)),
            ("UPDATE login_sessions SET expires_at = 20", ("u2", 1, "u1", 20)),
            ("UPDATE login_sessions SET expires_at = 3", ("u2", 1, "u1", 9)),
            ("UPDATE login_sessions SET user_id = 'u3'", ("u3", 1, "u1", 9)),
            ("DELETE FROM login_sessions", (None, 0, "u1", 9)),
        ],
    )
    def test_it_stays_so(self, db: apsw.Connection, sql: str, left: tuple[Any, ...]) -> None:
        db.execute("INSERT INTO users(id, username, plan) VALUES ('u3', 'three', 'p1')")
        db.execute(self.MOVE)
        db.execute(sql)
        assert self.rows(db) == [left]

    def test_back_with_its_first_owner_it_may_be_good_again(self, db: apsw.Connection) -> None:
        db.execute("UPDATE login_sessions SET expires_at = 9000000000000")
        db.execute(self.MOVE)
        db.execute("UPDATE login_sessions SET user_id = 'u1'")
        assert self.rows(db) == [("u1", 1, "u1", 9000000000000)]
        db.execute("UPDATE login_sessions SET revoked_at = NULL")
        assert self.rows(db) == []
        assert db.execute("SELECT revoked_at FROM login_sessions").get is None

    def test_renaming_a_user_ends_its_sessions(self, db: apsw.Connection) -> None:
        db.execute("UPDATE users SET id = 'u7' WHERE id = 'u1'")
        assert self.rows(db) == [("u7", 1, "u1", 9)]


def test_an_end_that_is_moved_into_the_past_is_a_revocation_until_the_end_before(db: apsw.Connection) -> None:
    far = 9_000_000_000_000
    db.execute("INSERT INTO login_sessions(id, user_id, expires_at) VALUES ('s1', 'u1', ?)", (far,))
    for sql, wanted in (
        (f"UPDATE login_sessions SET expires_at = {far - 1}", []),
        ("UPDATE login_sessions SET expires_at = 5", [("s1", "u1", far - 1)]),
        ("UPDATE login_sessions SET expires_at = 4", [("s1", "u1", far - 1)]),
        ("UPDATE login_sessions SET revoked_at = 4", [("s1", "u1", far - 1)]),
        ("UPDATE login_sessions SET revoked_at = NULL", [("s1", "u1", far - 1)]),
        (f"UPDATE login_sessions SET expires_at = {far}", []),
        ("UPDATE login_sessions SET expires_at = 5, revoked_at = 5", [("s1", "u1", far)]),
        ("DELETE FROM login_sessions", [("s1", "u1", far)]),
    ):
        db.execute(sql)
        assert db.execute("SELECT id, user_id, expires_at FROM revocations").fetchall() == wanted, sql
