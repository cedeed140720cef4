from __future__ import annotations

import subprocess
import sys

import pytest

from tests.gateway.cli.conftest import Cli


def meddle(cli: Cli, script: str) -> None:
    """Another program writes to the file, without rules."""
    code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.executescript(sys.argv[2]); c.commit()"
    subprocess.run([sys.executable, "-c", code, str(cli.database), script], check=True, timeout=30)


def test_a_sound_database(demo: Cli) -> None:
    assert demo("doctor").out == "Nothing is wrong.\n"
    assert demo.json("doctor") == {"findings": [], "notes": []}


NO_JSON = "PRAGMA ignore_check_constraints=ON;"


@pytest.mark.parametrize(
    ("script", "check", "named"),
    [
        ("DROP TRIGGER users_update", "schema", "trigger users_update is missing"),
        ("DROP INDEX users_by_plan", "schema", "index users_by_plan is missing"),
        (
            "DROP TRIGGER plans_insert; CREATE TRIGGER plans_insert AFTER INSERT ON plans BEGIN SELECT 1; END",
            "schema",
            "trigger plans_insert is not the one of schema.sql",
        ),
        (f"{NO_JSON} UPDATE users SET attributes = 'x' WHERE id = 'u_ada'", "documents", "user:u_ada can not be built"),
        (f"{NO_JSON} UPDATE organizations SET attributes = '[1]'", "documents", "org:o_acme can not be built"),
        (f"{NO_JSON} UPDATE api_tokens SET scopes = '{{'", "documents", "the scopes of API token t_"),
        (
            "UPDATE users SET attributes = '{\"n\": 1e999}' WHERE id = 'u_ada'",
            "documents",
            "user:u_ada can not be built",
        ),
        ("UPDATE users SET timezone = 'Mars' WHERE id = 'u_ada'", "documents", "user:u_ada can not be built"),
        ("UPDATE users SET created_at = 9e15 WHERE id = 'u_ada'", "documents", "user:u_ada can not be built"),
        ("UPDATE organizations SET timezone = 'Mars'", "documents", "org:o_acme can not be built"),
        ("UPDATE users SET plan = 'gold' WHERE id = 'u_ada'", "references", "a row of users names a row of plans"),
        ("INSERT INTO quota_usage (owner, quota, period_start) VALUES ('user:eve', 'x', 0)", "balances", "user:eve"),
        ("INSERT INTO plan_permissions VALUES ('pro', 'can fly')", "names", "plan_permissions: 'can fly'"),
        ("INSERT INTO user_quotas (user_id, quota) VALUES ('u_ada', 'é')", "names", "user_quotas: 'é'"),
        (
            "INSERT INTO change_log (doc, cause, at) VALUES ('user:x', 'plan', 9e12)",
            "clock",
            "ahead of this machine's clock",
        ),
        ("UPDATE api_tokens SET revoked_at = 1; DELETE FROM revocations", "revocations", "is revoked"),
        ("UPDATE migrations SET sha256 = 'x'", "schema", "migration 1"),
    ],
)
def test_what_is_wrong_is_found(demo: Cli, script: str, check: str, named: str) -> None:
    meddle(demo, script)
    answer = demo("doctor", code=1)
    assert answer.err == ""
    [line] = [line for line in answer.out.splitlines() if line.startswith(f"{check}: ")]
    assert named in line


@pytest.mark.parametrize(
    "table", ["users", "plans", "plan_quotas", "memberships", "api_tokens", "revocations", "change_log", "meta"]
)
def test_a_table_that_is_gone_is_a_finding(demo: Cli, table: str) -> None:
    meddle(demo, f"PRAGMA foreign_keys=OFF; DROP TABLE {table}")
    answer = demo("doctor", code=1)
    assert f"schema: table {table} is missing" in answer.out.splitlines()
    assert answer.err == ""


def test_a_column_that_is_gone_is_a_finding(demo: Cli) -> None:
    meddle(demo, "PRAGMA foreign_keys=OFF; ALTER TABLE change_log RENAME COLUMN at TO moment")
    lines = demo("doctor", code=1).out.splitlines()
    assert "schema: table change_log is not the one of schema.sql" in lines
    assert any(line.startswith("schema: clock can not be looked at: ") for line in lines)


def test_a_damaged_page_is_found(demo: Cli) -> None:
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA wal_checkpoint(TRUNCATE)');"
        "[(page,)] = c.execute(\"SELECT rootpage FROM sqlite_schema WHERE name = 'users_by_plan'\");"
        "[(size,)] = c.execute('PRAGMA page_size'); print(page * size - size, size)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(demo.database)], capture_output=True, check=True, timeout=30
    )
    start, size = map(int, found.stdout.split())
    with demo.database.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * size)
    answer = demo("doctor", code=1)
    assert answer.out.startswith("integrity: ")


def test_what_is_no_database_is_told_in_a_line(cli: Cli) -> None:
    cli.database.write_bytes(b"this is not a database" * 500)
    cli("doctor", code=8)
    cli("user", "list", code=8)


def test_settings_are_tried(demo: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CERT", "KEY"):
        monkeypatch.setenv(f"GATEWAY_SERVER_TLS_{name}", f"absent-{name}.pem")
    monkeypatch.setenv("GATEWAY_SERVER_USE_HTTPS", "true")
    assert demo("doctor", code=1).out.splitlines() == [
        "configuration: server.tls_cert: absent-CERT.pem can not be read",
        "configuration: server.tls_key: absent-KEY.pem can not be read",
    ]


def test_a_master_key_that_is_not_the_databases(demo: Cli) -> None:
    demo.json("keys", "rotate")
    file = demo.database.with_name("gateway.db.key")
    assert demo("doctor").out == "Nothing is wrong.\n"
    key = file.read_bytes()
    file.unlink()
    [missing] = demo.json("doctor", code=1)["findings"]
    assert missing["check"] == "keys"
    assert str(file) in missing["message"]
    assert not file.exists()
    file.write_text("A" * 43 + "=\n")
    [another] = demo.json("doctor", code=1)["findings"]
    assert another["check"] == "keys"
    assert "auth.master_key" in another["message"]
    file.write_bytes(key)
    assert demo.json("doctor")["findings"] == []
