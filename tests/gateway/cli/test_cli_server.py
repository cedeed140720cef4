"""The commands on a libSQL server, which has to be as good as a file."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store.inspection import PAGE
from tests.gateway.cli.conftest import Cli
from tests.support.sqld import JwtKey, SqldReplica, SqldServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SqldServer]:
    with SqldServer(tmp_path / "server") as running:
        yield running


@pytest.fixture
def cli(server: SqldServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_DATABASE_URL", server.url)
    return Cli(tmp_path / "nowhere.db", lambda: tuple(capsys.readouterr()))


@pytest.fixture
def demo(cli: Cli) -> Cli:
    cli("init", "--demo")
    return cli


def test_a_new_server_is_made_ready(cli: Cli, server: SqldServer) -> None:
    assert cli.json("migrate")["applied"][0] == 1
    assert cli.json("migrate") == {"applied": []}
    made = cli.json("init", "--demo")
    assert (made["created"], made["user"]) == (True, "ada")
    cli("init", "--demo", code=5)
    assert cli.json("init", "--demo", "--if-missing")["created"] is False
    assert {row["username"] for row in cli.json("user", "list")} == {"ada", "grace", "alan", "admin"}
    cli("user", "plan", "grace", "enterprise")
    assert cli.json("user", "show", "grace")["plan"] == "enterprise"
    assert server.execute("SELECT plan FROM users WHERE id = 'u_grace'") == [("enterprise",)]


def test_a_backup_is_restored_with_a_new_epoch(demo: Cli, server: SqldServer) -> None:
    assert demo("backup", "copy.db").out == "Wrote copy.db.\n"
    demo("backup", "copy.db", code=5)
    demo("user", "plan", "ada", "free")
    demo("user", "delete", "grace", "--yes")
    [(before,)] = server.execute("SELECT value FROM meta WHERE key = 'epoch'")
    restored = demo.json("restore", "copy.db", "--yes")
    assert demo.json("user", "show", "ada")["plan"] == "pro"
    assert demo.json("user", "show", "grace")["plan"] == "free"
    assert server.execute("SELECT value FROM meta WHERE key = 'epoch'") == [(restored["epoch"],)]
    assert restored["epoch"] != before
    assert restored["database"] == server.url
    assert demo.json("doctor")["findings"] == []


def test_a_backup_of_one_kind_is_restored_to_the_other(
    demo: Cli, monkeypatch: pytest.MonkeyPatch, server: SqldServer
) -> None:
    demo("backup", "of-server.db")
    monkeypatch.setenv("GATEWAY_DATABASE_URL", "file:local.db")
    demo("restore", "of-server.db")
    assert demo.json("user", "show", "ada")["plan"] == "pro"
    assert demo("doctor").out == "Nothing is wrong.\n"
    demo("user", "plan", "ada", "enterprise")
    demo("backup", "of-file.db")
    monkeypatch.setenv("GATEWAY_DATABASE_URL", server.url)
    demo("restore", "of-file.db", "--yes")
    assert demo.json("user", "show", "ada")["plan"] == "enterprise"
    assert demo.json("doctor")["findings"] == []


def test_nothing_is_replaced_without_a_word(demo: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    demo("backup", "copy.db")
    demo("user", "plan", "ada", "free")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    demo("restore", "copy.db", code=130)
    Path("noise.db").write_bytes(b"noise" * 1000)
    demo("restore", "noise.db", "--yes", code=6)
    demo("restore", "absent.db", "--yes", code=6)
    assert demo.json("user", "show", "ada")["plan"] == "free"


def test_by_websocket_too(demo: Cli, server: SqldServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_DATABASE_URL", server.websocket_url)
    demo("backup", "copy.db")
    demo("user", "plan", "ada", "free")
    demo("restore", "copy.db", "--yes")
    assert demo.json("user", "show", "ada")["plan"] == "pro"
    assert demo.json("doctor")["findings"] == []


def test_a_server_that_is_away_is_told_in_a_line(demo: Cli, server: SqldServer) -> None:
    demo("backup", "copy.db")
    server.kill()
    for command in (("backup", "other.db"), ("restore", "copy.db", "--yes"), ("doctor",), ("user", "list")):
        assert server.url in demo(*command, code=7).err
    assert not Path("other.db").exists()


class TestDoctor:
    def test_a_sound_server(self, demo: Cli, server: SqldServer) -> None:
        before = server.execute("SELECT id FROM writers")
        lines = demo("doctor").out.splitlines()
        assert lines[-1] == "Nothing is wrong."
        assert [line.partition(":")[0] for line in lines[:-1]] == ["server", "changes", "writes", "durability"]
        assert server.url in lines[0]
        assert lines[1] == "changes: the server tells of changes as they happen"
        notes = demo.json("doctor")["notes"]
        assert [note["about"] for note in notes] == ["server", "changes", "writes", "durability"]
        assert server.execute("SELECT id FROM writers") == before

    @pytest.mark.parametrize(
        ("script", "check", "named"),
        [
            ("DROP TRIGGER users_update", "schema", "trigger users_update is missing"),
            ("UPDATE users SET attributes = '{\"n\": 1e999}' WHERE id = 'u_ada'", "documents", "user:u_ada"),
            ("UPDATE users SET timezone = 'Mars' WHERE id = 'u_ada'", "documents", "user:u_ada can not be built"),
            ("INSERT INTO quota_usage (owner, quota, period_start) VALUES ('user:eve', 'x', 0)", "balances", "eve"),
            ("UPDATE migrations SET sha256 = 'x'", "schema", "migration 1"),
        ],
    )
    def test_what_is_wrong_is_found(self, demo: Cli, server: SqldServer, script: str, check: str, named: str) -> None:
        server.script(script)
        lines = demo("doctor", code=1).out.splitlines()
        [line] = [line for line in lines if line.startswith(f"{check}: ")]
        assert named in line

    def test_more_than_one_answer_can_hold_is_looked_at_in_pages(self, demo: Cli, server: SqldServer) -> None:
        """A server's answer ends at 10 MB."""
        server.execute(
            "INSERT INTO api_tokens(id, user_id, token_hash, scopes, created_at)"
            " SELECT 't_' || value, 'u_ada', 'hash ' || value, json_object('note', ?), 0 FROM json_each(?)",
            "x" * 16_000,
            str(list(range(800))),
        )
        assert demo.json("doctor")["findings"] == []
        server.execute("UPDATE api_tokens SET scopes = json_object('n', 9e999) WHERE id LIKE 't_7__'")
        findings = json.loads(demo("doctor", "--json", code=1).out)["findings"]
        assert len(findings) == 100
        assert findings[0]["message"].startswith("the scopes of API token t_700 can not be read: ")

    def test_findings_of_one_kind_come_to_an_end(self, demo: Cli, server: SqldServer) -> None:
        server.execute(
            "INSERT INTO api_tokens(id, user_id, token_hash, scopes, created_at)"
            " SELECT 't_' || value, 'u_ada', 'hash ' || value, json_object('n', 9e999), 0 FROM json_each(?)",
            str(list(range(PAGE + 100))),
        )
        server.execute(
            "INSERT INTO plan_permissions SELECT 'pro', 'no ' || value FROM json_each(?)", str(list(range(PAGE + 100)))
        )
        findings = json.loads(demo("doctor", "--json", code=1).out)["findings"]
        checks = Counter(finding["check"] for finding in findings)
        assert checks == {"documents": PAGE, "names": PAGE}

    def test_a_server_without_tables(self, cli: Cli) -> None:
        findings = json.loads(cli("doctor", "--json", code=1).out)["findings"]
        assert [finding["check"] for finding in findings] == ["schema"]
        assert "run gateway migrate" in findings[0]["message"]

    def test_a_token_that_may_only_read(self, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        key = JwtKey(tmp_path)
        with SqldServer(tmp_path / "locked", jwt_key=key) as locked:
            monkeypatch.setenv("GATEWAY_DATABASE_URL", locked.url)
            monkeypatch.setenv("GATEWAY_DATABASE_AUTH_TOKEN", key.token())
            cli("init", "--demo")
            monkeypatch.setenv("GATEWAY_DATABASE_AUTH_TOKEN", key.token(access="ro"))
            findings = json.loads(cli("doctor", "--json", code=1).out)["findings"]
            assert [finding["check"] for finding in findings] == ["writes"]
            assert "the token does not allow it" in findings[0]["message"]
            cli("backup", "copy.db")
            cli("restore", "copy.db", "--yes", code=7)

    def test_the_replica(self, tmp_path: Path, demo: Cli, server: SqldServer, monkeypatch: pytest.MonkeyPatch) -> None:
        with SqldReplica(server, tmp_path / "replica") as replica:
            monkeypatch.setenv("GATEWAY_DATABASE_REPLICA", replica.url)
            [note] = [note for note in demo.json("doctor")["notes"] if note["about"] == "replica"]
            assert f"{replica.url} follows" in note["message"]
            replica.kill()
            findings = json.loads(demo("doctor", "--json", code=1).out)["findings"]
            assert [finding["check"] for finding in findings] == ["replica"]
            assert "it can not be read" in findings[0]["message"]


def test_passwords_and_the_trail(demo: Cli, server: SqldServer) -> None:
    generated = demo.json("user", "password", "grace", "--generate")["password"]
    demo("user", "plan", "grace", "pro")
    demo("user", "delete", "alan", "--yes")
    deleted, plan, reset = demo.json("audit", "--limit", "3")
    assert (deleted["action"], deleted["before"]["username"]) == ("user.delete", "alan")
    assert (plan["before"]["plan"], plan["after"]) == ("free", {"plan": "pro"})
    assert (reset["action"], reset["target"]) == ("password.reset", "user:u_grace")
    assert demo.json("audit", "--user", "grace", "--action", "user.plan", "--since", "1h") == [plan]
    assert generated not in str(server.execute("SELECT * FROM audit"))
