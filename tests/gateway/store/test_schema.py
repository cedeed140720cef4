"""schema.sql: the tables and their rules. What its triggers log is tested in test_triggers.py."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from gateway.store.migrate import schema_text
from tests.support.foreign_writer import ForeignError, ForeignWriter

# The public interface: later versions may add columns, never rename or drop one.
PUBLIC = {
    "users": "id username name email plan is_admin status attributes timezone anchor_at password_hash"
    " created_at updated_at",
    "plans": "id name",
    "plan_permissions": "plan permission",
    "plan_quotas": "plan quota limit_value period hard",
    "roles": "id name",
    "role_permissions": "role permission",
    "user_roles": "user_id role expires_at",
    "user_permissions": "user_id permission effect starts_at expires_at",
    "user_quotas": "user_id quota limit_value period hard starts_at expires_at",
    "quota_usage": "owner quota period_start used reserved",
    "organizations": "id name plan attributes timezone anchor_at status created_at updated_at",
    "memberships": "org_id user_id role created_at",
    "org_role_permissions": "role permission",
    "member_caps": "org_id user_id quota limit_value",
    "login_sessions": "id user_id created_at expires_at revoked_at instance_id ip user_agent last_seen_at",
    "api_tokens": "id user_id name token_hash scopes created_at expires_at revoked_at last_used_at",
    "change_log": "seq doc cause at",
    "meta": "key value",
    "revocations": "id kind user_id expires_at noted_at",
    "instances": "id name status networks requests_per_minute created_at updated_at",
    "instance_keys": "id instance_id secret created_at expires_at",
}

CARELESS = [
    "INSERT INTO plans(id) VALUES ('pro')",
    "INSERT INTO users(id, username, plan) VALUES ('u1', 'ada', 'pro')",
    "INSERT INTO organizations(id, plan) VALUES ('o1', 'pro')",
    "INSERT INTO memberships(org_id, user_id) VALUES ('o1', 'u1')",
    "INSERT INTO member_caps(org_id, user_id, quota) VALUES ('o1', 'u1', 'calls')",
    "INSERT INTO org_role_permissions(role, permission) VALUES ('owner', 'everything')",
    "INSERT INTO plan_quotas(plan, quota, limit_value) VALUES ('pro', 'calls', 10)",
    "INSERT INTO user_permissions(user_id, permission) VALUES ('u1', 'can_use_voice')",
    "INSERT INTO user_quotas(user_id, quota, limit_value) VALUES ('u1', 'calls', 20)",
    "INSERT INTO quota_usage(owner, quota, period_start) VALUES ('user:u1', 'calls', 0)",
    "INSERT INTO login_sessions(id, user_id, expires_at) VALUES ('s1', 'u1', 9e15)",
    "INSERT INTO api_tokens(id, user_id, token_hash) VALUES ('t1', 'u1', 'hash')",
]

REFUSED = [
    ("INSERT INTO users(id, username, plan) VALUES ('u2', 'ADA', 'pro')", "users.username"),
    ("INSERT INTO users(id, username, plan) VALUES ('u2', 'bo', 'nope')", "FOREIGN KEY"),
    ("INSERT INTO users(id, username, plan) VALUES (NULL, 'bo', 'pro')", "users.id"),
    ("INSERT INTO users(id, username, plan) VALUES ('', 'bo', 'pro')", "id <> ''"),
    ("UPDATE users SET status = 'asleep'", "status"),
    ("UPDATE users SET is_admin = 2", "is_admin"),
    ("UPDATE users SET is_admin = 'yes'", "users.is_admin"),
    ("UPDATE users SET attributes = '[]'", "attributes"),
    ("UPDATE users SET attributes = 'null'", "attributes"),
    ("UPDATE users SET attributes = '{'", "attributes"),
    ("UPDATE users SET attributes = NULL", "users.attributes"),
    ("UPDATE users SET created_at = 'today'", "users.created_at"),
    ("UPDATE api_tokens SET scopes = '[\"a\"]'", "scopes"),
    ("UPDATE organizations SET attributes = '1'", "attributes"),
    ("UPDATE memberships SET role = 'king'", "role"),
    ("UPDATE plan_quotas SET period = 'decade'", "period"),
    ("UPDATE plan_quotas SET limit_value = -1", "limit_value"),
    ("UPDATE user_quotas SET limit_value = 9007199254740992", "limit_value"),
    ("UPDATE quota_usage SET used = -1", "used"),
    ("UPDATE quota_usage SET owner = 'u1'", "owner"),
    ("UPDATE user_permissions SET effect = 'maybe'", "effect"),
    ("INSERT INTO api_tokens(id, user_id, token_hash) VALUES ('t2', 'u1', 'hash')", "api_tokens.token_hash"),
    ("INSERT INTO login_sessions(id, user_id) VALUES ('s2', 'u1')", "login_sessions.expires_at"),
    ("DELETE FROM plans", "FOREIGN KEY"),
]

LOOK_UPS = [
    "SELECT * FROM users WHERE id = 'u'",
    "SELECT * FROM users WHERE username = 'u'",
    "SELECT * FROM users WHERE email = 'u'",
    "SELECT id FROM users WHERE plan = 'p'",
    "SELECT id FROM organizations WHERE plan = 'p'",
    "SELECT * FROM plan_permissions WHERE plan = 'p'",
    "SELECT * FROM plan_quotas WHERE plan = 'p'",
    "SELECT * FROM role_permissions WHERE role = 'r'",
    "SELECT * FROM user_roles WHERE user_id = 'u'",
    "SELECT user_id FROM user_roles WHERE role = 'r'",
    "SELECT * FROM user_permissions WHERE user_id = 'u'",
    "SELECT * FROM user_quotas WHERE user_id = 'u'",
    "SELECT * FROM quota_usage WHERE owner = 'user:u'",
    "SELECT max(period_start) FROM quota_usage WHERE owner = 'user:u' AND quota = 'q'",
    "SELECT * FROM memberships WHERE user_id = 'u'",
    "SELECT * FROM memberships WHERE org_id = 'o'",
    "SELECT * FROM org_role_permissions WHERE role = 'admin'",
    "SELECT * FROM member_caps WHERE org_id = 'o' AND user_id = 'u'",
    "SELECT * FROM member_caps WHERE user_id = 'u'",
    "SELECT * FROM api_tokens WHERE token_hash = 'h'",
    "SELECT * FROM api_tokens WHERE user_id = 'u'",
    "SELECT * FROM login_sessions WHERE id = 's'",
    "SELECT * FROM login_sessions WHERE user_id = 'u'",
    "SELECT * FROM revocations WHERE expires_at > 5",
    "SELECT * FROM change_log WHERE seq > 5 ORDER BY seq LIMIT 10",
    "SELECT * FROM nodes WHERE name = 'n'",
    "SELECT * FROM node_sessions WHERE id = 's'",
    "SELECT * FROM node_sessions WHERE user_id = 'u'",
    "SELECT * FROM node_sessions WHERE node = 'n'",
    "SELECT * FROM writers WHERE id = 'w'",
]


@pytest.fixture
def db() -> Iterator[apsw.Connection]:
    connection = apsw.Connection(":memory:")
    connection.execute("PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF").fetchall()
    connection.execute(schema_text()).fetchall()
    yield connection
    connection.close()


def test_public_columns_keep_their_names(db: apsw.Connection) -> None:
    found = {table: " ".join(name for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (table,)))
             for table in PUBLIC}  # fmt: skip
    assert found == PUBLIC


def test_all_tables_are_strict(db: apsw.Connection) -> None:
    loose = db.execute(
        "SELECT name FROM pragma_table_list"
        " WHERE type = 'table' AND schema = 'main' AND NOT strict AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    assert loose == []


def test_careless_inserts_get_defaults(db: apsw.Connection) -> None:
    for sql in CARELESS:
        db.execute(sql)
    created, updated = db.execute("SELECT created_at, updated_at FROM users").fetchone()  # type: ignore[misc]
    assert abs(created - time.time() * 1000) < 10_000
    assert abs(updated - time.time() * 1000) < 10_000
    rest = db.execute("SELECT status, attributes, timezone, is_admin, email, anchor_at, password_hash FROM users").get
    assert rest == ("active", "{}", "UTC", 0, None, None, None)


@pytest.mark.parametrize(("sql", "names"), REFUSED)
def test_refused(db: apsw.Connection, sql: str, names: str) -> None:
    for careless in CARELESS:
        db.execute(careless)
    before = db.execute("SELECT count(*) FROM change_log").get
    with pytest.raises(apsw.ConstraintError, match=names.replace("(", r"\(")):
        db.execute(sql)
    assert db.execute("SELECT count(*) FROM change_log").get == before


def test_an_allow_and_a_deny_of_one_permission_stand_side_by_side(db: apsw.Connection) -> None:
    for sql in CARELESS[:2]:
        db.execute(sql)
    for effect in ("allow", "deny"):
        db.execute("INSERT INTO user_permissions VALUES ('u1', 'can_use_sms', ?, 5, 9)", (effect,))
    assert db.execute("SELECT count(*) FROM user_permissions").get == 2


@pytest.mark.parametrize("sql", LOOK_UPS)
def test_look_ups_use_an_index(db: apsw.Connection, sql: str) -> None:
    plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}")]
    assert all("SEARCH" in step for step in plan), plan


def test_foreign_keys_are_found_by_an_index_from_both_sides(db: apsw.Connection) -> None:
    """Deleting a parent must not read the whole table of its children."""
    slow = []
    for table in PUBLIC:
        for column in {row[3] for row in db.execute(f"PRAGMA foreign_key_list({table})")}:
            steps = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN SELECT 1 FROM {table} WHERE {column} = 'x'")]
            slow += [(table, column) for step in steps if "SEARCH" not in step]
    assert slow == []


class TestOldSqlite:
    """Whoever else writes brings an SQLite of his own, older than the gateway's."""

    @pytest.fixture
    def somebody(self, tmp_path: Path) -> Iterator[ForeignWriter]:
        with ForeignWriter(tmp_path / "plain.db") as writer:
            writer.script(schema_text())
            yield writer

    def test_defaults_and_triggers(self, somebody: ForeignWriter) -> None:
        for sql in CARELESS:
            somebody.execute(sql)
        somebody.execute("UPDATE users SET name = 'Ada', updated_at = 5")
        somebody.execute("UPDATE users SET name = 'Ada L.'")
        [(created, updated)] = somebody.execute("SELECT created_at, updated_at FROM users")
        assert abs(created - time.time() * 1000) < 10_000
        assert abs(updated - time.time() * 1000) < 10_000
        tail = somebody.execute("SELECT doc, cause FROM change_log ORDER BY seq DESC LIMIT 2")
        assert tail == [("user:u1", "profile"), ("user:u1", "profile")]
        [(at,)] = somebody.execute("SELECT max(at) FROM change_log")
        assert abs(at - time.time() * 1000) < 10_000

    def test_checks(self, somebody: ForeignWriter) -> None:
        for careless in CARELESS:
            somebody.execute(careless)
        for sql, _ in REFUSED:
            with pytest.raises(ForeignError, match="IntegrityError"):
                somebody.execute(sql)
