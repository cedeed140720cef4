from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import apsw
import pytest

from gateway.cli.exits import ExitCode, exit_code, sentence
from gateway.cli.transfer import going_on
from gateway.core.tokens import hash_token
from gateway.errors import StoreUnavailable, StoreUncertain
from tests.conftest import StartServer
from tests.gateway.cli.conftest import PROGRAM, Cli, program_environment
from tests.support.gateway_process import wait_for
from tests.support.transfers import FREE, sealed, token, user

MANY = 20_000
MEASURED = """
import pathlib, re, sys
from gateway.cli.program import run
code, status = run(sys.argv[1:]), pathlib.Path("/proc/self/status")
if status.exists():
    print(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1], file=sys.stderr)
sys.exit(code)
"""
"""The program; says afterwards how much memory it took at the most, in KiB, where the system tells."""


def records(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()[1:-1]


def into(monkeypatch: pytest.MonkeyPatch, cli: Cli, url: str) -> None:
    """A new database at `url`, which commands work on from now on."""
    monkeypatch.setenv("GATEWAY_DATABASE_URL", url)
    cli("migrate")


def test_from_a_file_to_a_server_and_back(
    demo: Cli, monkeypatch: pytest.MonkeyPatch, start_server: StartServer, tmp_path: Path
) -> None:
    ada = demo.json("user", "show", "ada")
    assert demo("export", "a.jsonl").out == "Wrote a.jsonl: 3 plan, 2 organization_role, 1 organization, 4 user.\n"
    into(monkeypatch, demo, start_server().url)
    done = demo("import", "a.jsonl").out.splitlines()
    assert done[0].split() == ["kind", "added", "changed", "same", "refused"]
    assert done[-2].split() == ["user", "4", "0", "0", "0"]
    assert done[-1] == "Done."
    assert demo.json("user", "show", "ada") == ada
    demo("export", "b.jsonl")
    into(monkeypatch, demo, f"file:{tmp_path}/again.db")
    demo("import", "b.jsonl")
    demo("export", "c.jsonl")
    assert records("a.jsonl") == records("b.jsonl") == records("c.jsonl")
    assert demo("doctor").out == "Nothing is wrong.\n"


def test_a_token_opens_what_it_opened_before(demo: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = demo.json("token", "issue", "ada")["token"]
    demo("export", "a.jsonl")
    text = Path("a.jsonl").read_text()
    assert secret not in text
    assert hash_token(secret) in text
    into(monkeypatch, demo, f"file:{tmp_path}/new.db")
    demo("import", "a.jsonl")
    assert hash_token(secret) in [
        row[0] for row in apsw.Connection("new.db").execute("SELECT token_hash FROM api_tokens")
    ]


def test_what_is_there_differs_and_is_refused_or_overwritten(demo: Cli) -> None:
    demo("export", "a.jsonl")
    demo("user", "plan", "ada", "free")
    told = demo("import", "a.jsonl", code=1).out.splitlines()
    place = 2 + next(number for number, text in enumerate(records("a.jsonl")) if '"u_ada"' in text)
    reason = "differs from what is here in plan, updated_at"
    assert told[0] == f"line {place}: user u_ada: refused: {reason}"
    dry = json.loads(demo("import", "a.jsonl", "--dry-run", "--overwrite", "--json").out)
    assert dry["dry_run"] is True
    assert dry["records"] == [{"line": place, "kind": "user", "id": "u_ada", "what": "changed", "reason": reason}]
    assert {row["kind"]: row["changed"] for row in dry["counts"]}["user"] == 1
    assert demo.json("user", "show", "ada")["plan"] == "free"
    told = demo("import", "a.jsonl", "--dry-run", "--overwrite").out.splitlines()
    assert told[0] == f"line {place}: user u_ada: would be changed: {reason}"
    assert told[-1] == "Nothing was written: this is what would be done."
    assert demo("import", "a.jsonl", "--overwrite").out.splitlines()[0].endswith(f"changed: {reason}")
    assert demo.json("user", "show", "ada")["plan"] == "pro"
    demo("import", "a.jsonl")


def test_files_that_can_not_be_used_change_nothing(demo: Cli) -> None:
    demo("export", "a.jsonl")
    content = Path("a.jsonl").read_bytes()
    Path("short.jsonl").write_bytes(content[:-20])
    Path("altered.jsonl").write_bytes(content.replace(b"Ada Lovelace", b"Eva Lovelace"))
    demo("user", "delete", "ada", "--yes")
    assert "was cut off" in demo("import", "short.jsonl", code=6).err
    assert "altered.jsonl: line " in demo("import", "altered.jsonl", "--overwrite", code=6).err
    demo("import", "absent.jsonl", code=4)
    demo("import", ".", code=2)
    demo("user", "show", "ada", code=4)


def test_the_file_is_private_and_never_replaces_what_it_must_not(demo: Cli) -> None:
    demo("export", "a.jsonl")
    assert Path("a.jsonl").stat().st_mode & 0o777 == 0o600
    before = Path("a.jsonl").read_bytes()
    demo("export", "a.jsonl", code=5)
    demo("export", str(demo.database), "--overwrite", code=5)
    demo("export", "nowhere/a.jsonl", code=4)
    assert Path("a.jsonl").read_bytes() == before
    demo("export", "a.jsonl", "--overwrite")
    assert Path("a.jsonl").read_bytes() != before
    assert sorted(path.name for path in Path().iterdir() if "jsonl" in path.name) == ["a.jsonl"]


def test_a_database_that_is_not_migrated_is_refused(cli: Cli) -> None:
    Path("a.jsonl").write_bytes(sealed(FREE))
    cli("import", "a.jsonl", code=7)
    apsw.Connection("gateway.db").execute("CREATE TABLE x(y)")
    cli("import", "a.jsonl", code=8)
    cli("export", "b.jsonl", code=8)
    assert not Path("b.jsonl").exists()


def test_what_had_to_be_left_out_is_named(demo: Cli) -> None:
    connection = apsw.Connection(str(demo.database))
    connection.execute("UPDATE users SET attributes = '{\"n\": 1e999}' WHERE id = 'u_ada'")
    connection.execute("UPDATE users SET username = 'alan turing' WHERE id = 'u_alan'")
    lines = demo("export", "a.jsonl", code=1).out.splitlines()
    assert lines[0].startswith("user u_ada: left out: attributes can not be read")
    assert lines[1].startswith("user u_alan: an import takes it with --as-stored only: username: the user name must")
    assert '"u_ada"' not in Path("a.jsonl").read_text()
    found = json.loads(demo("export", "b.jsonl", "--json", code=1).out)
    assert [remark["what"] for remark in found["remarks"]] == ["left out", "as stored"]
    assert found["counts"]["user"] == 3
    connection.execute("DELETE FROM users WHERE id = 'u_alan'")
    assert "user u_alan: refused: username" in demo("import", "a.jsonl", code=1).out.replace("line 10: ", "")
    demo("import", "a.jsonl", "--as-stored")


def test_standard_output_and_input(demo: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = program_environment() | {"GATEWAY_DATABASE_URL": f"file:{demo.database}"}
    written = subprocess.run([*PROGRAM, "export", "-"], env=environment, capture_output=True, check=True, timeout=30)
    lines = written.stdout.splitlines(keepends=True)
    assert json.loads(lines[-1])["sha256"] == hashlib.sha256(b"".join(lines[:-1])).hexdigest()
    assert written.stderr.startswith(b"Wrote standard output: 3 plan")
    other = environment | {"GATEWAY_DATABASE_URL": "file:other.db"}
    subprocess.run([*PROGRAM, "migrate"], env=other, check=True, capture_output=True, timeout=30)
    done = subprocess.run([*PROGRAM, "import", "-"], input=written.stdout, env=other, capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(written.stdout[:-5])))
    assert "standard input: line " in demo("import", "-", code=6).err
    demo("export", "-", "--json", code=2)


def test_a_pipe_is_a_file_too(demo: Cli) -> None:
    demo("export", "a.jsonl")
    os.mkfifo("pipe")
    with subprocess.Popen(["cp", "a.jsonl", "pipe"]) as copying:
        assert demo("import", "pipe").out.endswith("Done.\n")
    assert copying.returncode == 0


def test_a_database_that_is_away_is_said_with_what_to_do(demo: Cli) -> None:
    demo("export", "a.jsonl")
    demo("user", "delete", "grace", "--yes")
    connection = apsw.Connection(str(demo.database))
    connection.execute("BEGIN IMMEDIATE")
    error = demo("import", "a.jsonl", code=7).err
    assert error == "gateway: database is locked; what went in stays, and the same command goes on\n"
    connection.execute("ROLLBACK")
    demo("import", "a.jsonl")


def test_a_record_that_may_be_in_is_no_record_that_is_not() -> None:
    away = going_on(StoreUnavailable("gone"))
    assert (type(away), exit_code(away)) == (StoreUnavailable, ExitCode.UNAVAILABLE)
    doubt = going_on(StoreUncertain("it is not known whether the write was made"))
    assert exit_code(doubt) is ExitCode.UNCERTAIN
    assert sentence(doubt).startswith("it is not known whether the write was made; what went in stays, and the same ")
    assert "look before" not in sentence(doubt)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 20,000 users."""
    path = tmp_path_factory.mktemp("many") / "many.jsonl"
    usage = [{"quota": "q", "period_start": 0, "used": 3}]
    users = (
        user(f"u{number:05}", email=f"u{number}@example.org", tokens=[token(f"t{number}")], usage=usage)
        for number in range(MANY)
    )
    path.write_bytes(sealed(FREE, *users))
    return path


@pytest.mark.timeout(240)
def test_an_import_that_was_killed_is_finished_by_the_next_one(cli: Cli, many: Path) -> None:
    cli("migrate")
    database = apsw.Connection(str(cli.database))

    def count() -> int:
        return int(database.execute("SELECT count(*) FROM users").get)

    for enough in (1_000, 5_000):
        process = subprocess.Popen(
            [*PROGRAM, "import", str(many)], env=program_environment(), stdout=subprocess.DEVNULL
        )
        wait_for(lambda enough=enough: count() >= enough, 60, "some users are there")  # type: ignore[misc]
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
    standing = count()
    assert 5_000 <= standing < MANY
    command = [sys.executable, "-c", MEASURED, "import", str(many), "--json"]
    done = subprocess.run(command, env=program_environment(), capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    counts = {row["kind"]: row for row in json.loads(done.stdout)["counts"]}["user"]
    assert (counts["added"], counts["same"], counts["refused"]) == (MANY - standing, standing, 0)
    assert count() == MANY
    assert int(database.execute("SELECT sum(used) FROM quota_usage").get) == 3 * MANY
    assert int(database.execute("SELECT count(*) FROM api_tokens").get) == MANY
    if done.stderr.strip():
        # Neither the file nor what it says is held in memory: Python objects of all of it would take twice as much.
        assert int(done.stderr) < 80 * 1024


def test_a_server_that_is_killed_meanwhile(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    monkeypatch.setenv("GATEWAY_DATABASE_URL", server.url)
    users = (user(f"u{number:05}", tokens=[token(f"t{number}")]) for number in range(1_500))
    Path("a.jsonl").write_bytes(sealed(FREE, *users))

    def count() -> int:
        return int(server.execute("SELECT count(*) FROM users")[0][0])

    command = [*PROGRAM, "import", "a.jsonl"]
    process = subprocess.Popen(command, env=program_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for(lambda: count() >= 200, 60, "some users are there")
    server.kill()
    _, said = process.communicate(timeout=60)
    assert process.returncode in (ExitCode.UNAVAILABLE, ExitCode.UNCERTAIN)
    assert said.count(b"\n") == 1
    assert b"; what went in stays, and the same command goes on" in said
    server.start()
    assert 200 <= count() < 1_500
    cli("import", "a.jsonl")
    assert cli("import", "a.jsonl", "--dry-run").out.splitlines()[-2].split() == ["user", "0", "0", "1500", "0"]


def test_progress_is_for_terminals_alone(demo: Cli) -> None:
    assert demo("export", "a.jsonl").err == ""
    assert demo("import", "a.jsonl").err == ""
