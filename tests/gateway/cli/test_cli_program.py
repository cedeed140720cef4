from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys

import click
import pytest

from gateway import __version__
from gateway.cli import exits, program
from gateway.cli.exits import ExitCode
from gateway.cli.program import COMMANDS, gateway
from gateway.errors import StoreUnavailable, StoreUncertain
from tests.gateway.cli.conftest import PROGRAM, Cli, program_environment


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found.append((*path, name))
        if isinstance(command, click.Group) and name != "bench":
            found += commands(command, (*path, name))
    return found


ALL = commands(gateway)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_says_what_it_does(cli: Cli, path: tuple[str, ...]) -> None:
    answer = cli(*path, "--help")
    assert "Usage: gateway" in answer.out
    if path[0] not in ("serve", "bench") and path not in {
        (name,) for name in ("user", "token", "session", "instance", "keys", "org", "plan", "quota")
    }:
        assert "--json" in answer.out


def test_help_and_version(cli: Cli) -> None:
    out = cli("--help").out
    assert all(f"  {name} " in out for name in COMMANDS)
    assert cli("--version").out == f"gateway, version {__version__}\n"
    assert run_alone().returncode == ExitCode.USAGE


def run_alone(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [*PROGRAM, *arguments], capture_output=True, text=True, env=program_environment(), timeout=30, **options
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["usr"], "No such command 'usr'"),
        (["user", "shw"], "No such command 'shw'"),
        (["user", "show"], "Missing argument 'USER'"),
        (["user", "show", "ada", "--jsn"], "No such option"),
        (["user", "show", "ada", "eve"], "unexpected extra argument"),
        (["serve", "--port", "70000"], "is not in the range"),
    ],
)
def test_a_wrong_call_is_one_line_with_a_way_on(cli: Cli, arguments: list[str], said: str) -> None:
    error = cli(*arguments, code=ExitCode.USAGE).err
    assert said in error
    assert "--help)" in error


def test_a_database_that_is_not_there_is_not_made(cli: Cli) -> None:
    error = cli("user", "list", code=ExitCode.UNAVAILABLE).err
    assert error == f"gateway: {cli.database}: there is no such file (gateway init and gateway migrate make one)\n"
    cli("doctor", code=ExitCode.UNAVAILABLE)
    assert not cli.database.exists()


def test_a_database_without_tables_is_no_database(cli: Cli) -> None:
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('CREATE TABLE t (x)')"
    subprocess.run([sys.executable, "-c", code, str(cli.database)], check=True, timeout=30)
    assert "run gateway migrate" in cli("user", "list", code=ExitCode.DAMAGED).err
    assert cli.json("migrate")["applied"][0] == 1
    assert cli("migrate").out == "Nothing to do.\n"
    assert cli.json("user", "list") == []


def test_a_bad_setting_is_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "absent.toml" in cli("--config", "absent.toml", "user", "list", code=ExitCode.CONFIG).err
    assert "absent.toml" in cli("serve", "--config", "absent.toml", code=ExitCode.CONFIG).err
    monkeypatch.setenv("GATEWAY_SERVER_PORT", "many")
    assert "GATEWAY_SERVER_PORT" in cli("user", "list", code=ExitCode.CONFIG).err
    monkeypatch.setenv("GATEWAY_SERVER_PORT", "1")
    monkeypatch.setenv("GATEWAY_DATABASE_URL", "libsql:example.turso.io")
    assert "database.url" in cli("user", "list", code=ExitCode.CONFIG).err


@pytest.mark.parametrize(
    "address",
    ["libsql://x?password=SECRET", "libsql:x?authToken=SECRET", "file:a?SECRET", "x://SECRET", "ws://[SECRET"],
)
def test_an_address_may_hold_a_secret_and_is_not_repeated(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("GATEWAY_DATABASE_URL", address)
    for arguments in (("user", "list"), ("init",), ("restore", "x.db"), ("migrate",)):
        error = cli(*arguments, code=ExitCode.CONFIG).err
        assert "SECRET" not in error
        assert "DATABASE" in error.upper()


def test_settings_are_taken_from_the_file_named(cli: Cli) -> None:
    (cli.database.parent / "my.toml").write_text('[server]\nport = 4711\n[database]\nurl = "file:other.db"\n')
    del os.environ["GATEWAY_DATABASE_URL"]
    assert cli.json("--config", "my.toml", "init")["address"] == "http://127.0.0.1:4711"
    assert (cli.database.parent / "other.db").exists()


def test_a_fault_of_the_program_is_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "broken", "tests.support.nothing_here:command")  # type: ignore[arg-type]
    error = cli("broken", code=ExitCode.INTERNAL).err
    assert error.startswith("gateway: internal error: ModuleNotFoundError")


def test_a_missing_extra_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("gateway.bench")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "picows", None)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "gateway.bench.command", None)  # type: ignore[arg-type]
    command = program._without_extra("bench", "picows")
    with pytest.raises(click.ClickException, match=r"session-gateway\[bench\]"):
        command.main(["push", "--rate", "9"], standalone_mode=False)


def test_a_write_that_fails_is_one_line(demo: Cli) -> None:
    permissions = [f"permission_{number:04}" for number in range(2000)]
    (demo.database.parent / "plans.toml").write_text(f"[plans.big]\npermissions = {permissions}\n")
    # Room for what opening needs, and not for the log of this write.
    room = 64 * 1024
    ended = run_alone(
        *("plan", "apply", "plans.toml"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
    assert ended.returncode == ExitCode.UNAVAILABLE
    assert ended.stderr.startswith("gateway: ")
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert "big" not in [plan["id"] for plan in demo.json("plan", "list")]


def test_logs_are_quiet_for_as_long_as_a_command_runs(
    demo: Cli, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def note() -> None:
        log.warning("noted")
        log.error("failed")

    log = logging.getLogger("gateway.store.writer")
    monkeypatch.setattr("gateway.cli.serve.serve", click.Command("serve", callback=note))
    monkeypatch.setattr("gateway.cli.tail.tail", click.Command("tail", callback=note))
    demo("tail")
    assert [record.message for record in caplog.records] == ["failed"]
    demo("serve")
    assert [record.message for record in caplog.records] == ["failed", "noted", "failed"]
    note()
    assert len(caplog.records) == 5


@pytest.mark.parametrize("arguments", [("tail", "--since", "0"), ("user", "list"), ("plan", "list", "--json")])
def test_a_closed_pipe_is_no_error(demo: Cli, arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [*PROGRAM, *arguments]
    ended = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, text=True, env=program_environment(), timeout=30, check=False
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (ExitCode.PIPE_CLOSED, "")


def test_what_comes_from_the_database_can_not_talk_to_the_terminal(demo: Cli) -> None:
    code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2], [sys.argv[3]]); c.commit()"
    sql = "UPDATE users SET name = ? WHERE id = 'u_ada'"
    evil = "\x1b]0;owned\x07[red]x"
    subprocess.run([sys.executable, "-c", code, str(demo.database), sql, evil], check=True, timeout=30)
    out = demo("user", "list").out
    assert "\x1b" not in out
    assert "\\x1b]0;owned\\x07[red]x" in out
    assert demo.json("user", "show", "ada")["name"] == evil


def test_each_exit_code_means_one_thing() -> None:
    assert len({code.value for code in ExitCode}) == len(ExitCode)
    assert exits.exit_code(RuntimeError()) is ExitCode.INTERNAL
    assert exits.sentence(RuntimeError("a\nb")) == "internal error: RuntimeError: a b"
    doubt = StoreUncertain("the answer was lost")
    assert exits.exit_code(doubt) is ExitCode.UNCERTAIN is not exits.exit_code(StoreUnavailable("gone"))
    assert exits.sentence(doubt) == "the answer was lost; it may have been made: look before you repeat it"
    assert exits.printable("a\x1b\u202e") == "a\\x1b\\u202e"
