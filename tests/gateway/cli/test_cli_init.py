from __future__ import annotations

import asyncio
import io
import os
import stat
from pathlib import Path

import pytest

from gateway.cli.demo import ACME, DEMO_USERS, PLANS
from gateway.cli.token_file import Kept, keeping
from gateway.core.tokens import is_api_token
from gateway.store.database import Database
from gateway.store.inspection import inspect
from tests.gateway.cli.conftest import Cli, opens, type_in
from tests.support.foreign_writer import ForeignWriter

GOOD = "moons of jupiter, four"
IDENTITY = ["user_phone", "xswarm_email", "xswarm_phone", "persona", "wake_word"]


def test_a_new_database_has_plans_and_an_administrator(cli: Cli) -> None:
    answer = cli.json("init", "--admin", "root")
    assert (answer["created"], answer["user"]) == (True, "root")
    assert is_api_token(answer["token"])
    [admin] = cli.json("user", "list")
    assert (admin["username"], admin["is_admin"], admin["status"], admin["plan"]) == (
        "root",
        True,
        "active",
        "enterprise",
    )
    assert [plan["id"] for plan in cli.json("plan", "list")] == sorted(plan.id for plan in PLANS)
    assert cli.json("org", "list") == []
    granted = cli.json("org", "role")
    assert {role for role, names in granted.items() if "manage_members" in names} == {"admin", "owner"}


def test_the_demo_has_every_field_that_an_identity_can_have(cli: Cli) -> None:
    cli("init", "--demo")
    users = cli.json("user", "list")
    assert {user["username"] for user in users} == {"admin", *(user.username for user in DEMO_USERS)}
    assert {user["plan"] for user in users} == {plan.id for plan in PLANS}
    for user in users:
        assert user["name"]
        assert user["email"]
        assert all(user["attributes"][field] for field in IDENTITY)
    permissions = set().union(*(plan.permissions for plan in PLANS))
    assert permissions == {"can_use_voice", "can_use_sms", "can_use_email", "can_provision_numbers"}
    assert all(plan.quotas.keys() == {"voice_minutes", "sms_messages"} for plan in PLANS)
    acme = cli.json("org", "show", ACME.id)
    assert {row["username"]: row["role"] for row in acme["members"]} == {
        "ada": "admin",
        "alan": "owner",
        "grace": "member",
    }


def test_nothing_is_wrong_with_what_it_makes(cli: Cli) -> None:
    cli("init", "--demo")

    async def look() -> list[object]:
        async with await Database.open(str(cli.database), create=False) as database:
            return [finding async for finding in inspect(database, database.clock())]

    assert asyncio.run(look()) == []


def test_a_database_in_use_is_refused_or_left_alone(cli: Cli) -> None:
    cli("init")
    before = cli.json("user", "list"), cli.json("token", "list")
    assert "in use already" in cli("init", code=5).err
    assert "in use already" in cli("init", "--demo", code=5).err
    assert cli.json("init", "--if-missing")["created"] is False
    assert cli.json("init", "--demo", "--if-missing") == {
        "created": False,
        "address": "http://127.0.0.1:8787",
        "user": None,
        "password": None,
        "token": None,
        "admin_password": None,
    }
    assert (cli.json("user", "list"), cli.json("token", "list")) == before


def test_a_migrated_database_without_users_is_new(cli: Cli) -> None:
    cli("migrate")
    assert cli.json("init")["created"] is True


def test_the_token_is_kept_for_its_owner_alone(cli: Cli) -> None:
    file = Path("demo.env")
    first = cli.json("init", "--demo", "--if-missing", "--token-file", str(file))
    assert file.read_text() == f"GATEWAY_AUTH_TOKEN={first['token']}\nDEMO_PASSWORD={first['password']}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = cli.json("init", "--demo", "--if-missing", "--token-file", str(file))
    assert again == first | {"created": False, "admin_password": None}
    assert len(cli.json("token", "list")) == 1


@pytest.mark.parametrize("spoil", ["revoked", "another", "nonsense"])
def test_a_kept_token_that_is_no_longer_good_is_replaced(cli: Cli, spoil: str) -> None:
    file = Path("demo.env")
    arguments = ("init", "--demo", "--if-missing", "--token-file", str(file))
    made = cli.json(*arguments)
    first, password = made["token"], made["password"]
    if spoil == "revoked":
        cli("token", "revoke", cli.json("token", "list")[0]["id"])
    elif spoil == "another":
        token = cli.json("token", "issue", "grace")["token"]
        file.write_text(f"GATEWAY_AUTH_TOKEN={token}\nDEMO_PASSWORD={password}\n")
    else:
        file.write_bytes(b"GATEWAY_AUTH_TOKEN=x" * 99 + f"\nDEMO_PASSWORD={password}".encode())
    second = cli.json(*arguments)["token"]
    assert second != first
    mine = [row for row in cli.json("token", "list", "ada") if row["name"] == "init"]
    assert [row["revoked_at"] is None for row in mine] == [spoil != "revoked", True]
    assert file.read_text() == f"GATEWAY_AUTH_TOKEN={second}\nDEMO_PASSWORD={password}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_each_token_file_has_a_token_of_its_own(cli: Cli) -> None:
    first, second = (cli.json("init", "--if-missing", "--token-file", name)["token"] for name in ("one.env", "two.env"))
    assert first != second
    assert [row["revoked_at"] for row in cli.json("token", "list")] == [None, None]
    assert cli.json("init", "--if-missing", "--token-file", "one.env")["token"] == first


def test_a_token_of_another_user_that_this_command_issued_is_revoked_when_it_is_replaced(cli: Cli) -> None:
    cli("init", "--demo")
    other = cli.json("init", "--if-missing", "--token-file", "demo.env")
    assert other["user"] == "admin"
    assert cli.json("init", "--demo", "--if-missing", "--token-file", "demo.env")["user"] == "ada"
    assert [row["revoked_at"] is None for row in cli.json("token", "list", "admin")] == [False]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"GATEWAY_AUTH_TOKEN",
        b"GATEWAY_AUTH_TOKEN=x\nDATABASE_PASSWORD=y\n",
        b"# mine\nGATEWAY_AUTH_TOKEN=x\n",
        b"DEMO_PASSWORD=x\nGATEWAY_AUTH_TOKEN=x\n",
        b"GATEWAY_AUTH_TOKEN=x\nDEMO_PASSWORD=y\nOTHER=z\n",
        b"GATEWAY_AUTH_TOKEN=x\nDEMO_PASSWORD=a b\n",
        b"GATEWAY_AUTH_TOKEN=" + b"x" * 5000,
    ],
    ids=["empty", "binary", "no value", "another line", "comment", "other order", "a third", "blank", "long"],
)
@pytest.mark.parametrize("is_new", [True, False])
def test_a_file_that_holds_anything_else_is_not_replaced(cli: Cli, content: bytes, is_new: bool) -> None:
    if not is_new:
        cli("init", "--demo")
    file = Path("mine.env")
    file.write_bytes(content)
    assert "mine.env is not replaced" in cli("init", "--demo", "--if-missing", "--token-file", str(file), code=5).err
    assert file.read_bytes() == content
    assert cli.database.exists() is not is_new


@pytest.mark.parametrize("name", ["gateway.db", "gateway.db-wal", "gateway.db-lock", "link", "pipe", "directory"])
@pytest.mark.parametrize("is_new", [True, False])
def test_a_token_never_takes_the_place_of_the_database_or_of_what_is_no_file(cli: Cli, name: str, is_new: bool) -> None:
    if not is_new:
        cli("init", "--demo")
    Path("link").symlink_to("gateway.db")
    os.mkfifo("pipe")
    Path("directory").mkdir()
    before = sorted((path.name, path.lstat().st_ino) for path in Path().iterdir())
    cli("init", "--demo", "--if-missing", "--token-file", name, code=2 if name == "directory" else 5)
    assert sorted((path.name, path.lstat().st_ino) for path in Path().iterdir()) == before
    if not is_new:
        assert cli("doctor").out == "Nothing is wrong.\n"


def test_no_directory_is_made_but_that_of_the_database(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nowhere" in cli("init", "--token-file", "nowhere/demo.env", code=4).err
    assert list(Path().iterdir()) == []
    Path("loop").symlink_to("loop")
    cli("init", "--token-file", "loop", code=7)
    assert not cli.database.exists()
    monkeypatch.setenv("GATEWAY_DATABASE_URL", "file:data/gateway.db")
    token = cli.json("init", "--token-file", "data/demo.env")["token"]
    assert Path("data/demo.env").read_text() == f"GATEWAY_AUTH_TOKEN={token}\n"


def test_a_write_that_fails_leaves_the_token_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "demo.env"
    file.write_text("GATEWAY_AUTH_TOKEN=old\n")
    with pytest.raises(RuntimeError), keeping(file, Kept("new")):
        raise RuntimeError
    assert [path.read_text() for path in tmp_path.iterdir()] == ["GATEWAY_AUTH_TOKEN=old\n"]


def test_people_are_told_how_to_go_on(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    out = cli("init", "--demo").out
    token = next(line.split()[2] for line in out.splitlines() if line.startswith("API token"))
    assert is_api_token(token.rstrip(","))
    assert "http://127.0.0.1:8787" in out
    assert f"GATEWAY_AUTH_TOKEN={token.rstrip(',')} python -m gateway watch" in out
    assert "ada (Ada Lovelace, plan pro), id u_ada" in out
    monkeypatch.setenv("GATEWAY_SERVER_HOST", "0.0.0.0")
    again = cli("init", "--demo", "--if-missing", "--token-file", "demo.env").out
    assert "watch --url http://127.0.0.1:8787\n" in again


# --- passwords ---


def test_the_administrator_has_a_password_that_is_shown_once(cli: Cli) -> None:
    answer = cli.json("init")
    assert answer["password"] == answer["admin_password"]
    assert opens(cli, "u_admin", answer["password"])
    again = cli.json("init", "--if-missing")
    assert (again["password"], again["admin_password"]) == (None, None)


def test_people_see_the_administrators_password(cli: Cli) -> None:
    out = cli("init", "--admin", "root").out
    [line] = [line for line in out.splitlines() if line.startswith("password ")]
    assert line.endswith(", shown this once")
    assert opens(cli, "u_admin", line.split()[1].rstrip(","))


def test_the_administrators_password_can_be_given(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch, b"short\n")
    assert "at least 15" in cli("init", "--admin-password-stdin", code=6).err
    assert cli.json("user", "list") == []
    type_in(monkeypatch, f"{GOOD}\n".encode())
    answer = cli.json("init", "--admin-password-stdin")
    assert (answer["password"], answer["admin_password"]) == (None, None)
    assert opens(cli, "u_admin", GOOD)


def test_it_is_asked_at_a_terminal_unless_it_is_the_demo_or_json(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(whose: str) -> str:
        asked.append(whose)
        return GOOD

    monkeypatch.setattr("gateway.cli.passwords.ask", ask)
    monkeypatch.setattr("sys.stdin", Terminal())
    for name, arguments in (("one", ["--demo"]), ("two", ["--json"]), ("three", ["--admin", "root"])):
        monkeypatch.setenv("GATEWAY_DATABASE_URL", f"file:{name}.db")
        cli("init", *arguments)
    assert asked == ["root"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_demo_user_can_log_in_and_the_others_can_not_yet(cli: Cli) -> None:
    answer = cli.json("init", "--demo")
    assert opens(cli, "u_ada", answer["password"])
    assert opens(cli, "u_admin", answer["admin_password"])
    assert answer["password"] != answer["admin_password"]
    has_password = {user["id"]: cli.json("user", "show", user["id"])["password"] for user in cli.json("user", "list")}
    assert has_password == {"u_ada": True, "u_admin": True, "u_grace": False, "u_alan": False}


KEEPING = ("init", "--demo", "--if-missing", "--token-file", "demo.env")


def test_what_was_printed_is_printed_again(cli: Cli) -> None:
    first, second = cli(*KEEPING).out, cli(*KEEPING).out
    [line] = [line for line in first.splitlines() if line.startswith("password ")]
    assert line.endswith(", kept in demo.env")
    shown = [line for line in second.splitlines() if not line.startswith("database")]
    assert [line for line in shown if line not in first.splitlines()] == []
    assert line in shown
    [admin] = [line for line in first.splitlines() if "administrator" in line]
    assert admin not in second


def test_a_password_that_its_user_has_changed_stays(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli(*KEEPING)
    kept = Path("demo.env").read_text()
    type_in(monkeypatch, GOOD.encode())
    cli("user", "password", "ada", "--stdin")
    assert cli.json(*KEEPING)["password"] is None
    assert "password   as it was set\n" in cli(*KEEPING).out
    assert opens(cli, "u_ada", GOOD)
    assert Path("demo.env").read_text() == kept


@pytest.mark.parametrize("lost", ["file", "line", "hash"])
def test_a_password_that_nobody_has_any_more_is_replaced(cli: Cli, lost: str) -> None:
    first = cli.json(*KEEPING)
    file = Path("demo.env")
    with ForeignWriter(cli.database) as foreign:
        foreign.execute("INSERT INTO login_sessions (id, user_id, expires_at) VALUES ('s_1', 'u_ada', 4000000000000)")
        if lost == "hash":
            foreign.execute("UPDATE users SET password_hash = NULL WHERE id = 'u_ada'")
    if lost == "file":
        file.unlink()
    elif lost == "line":
        file.write_text(f"GATEWAY_AUTH_TOKEN={first['token']}\n")
    second = cli.json(*KEEPING)
    assert second["password"] not in (None, first["password"])
    assert opens(cli, "u_ada", second["password"])
    assert (second["token"] == first["token"]) is (lost != "file")
    assert file.read_text() == f"GATEWAY_AUTH_TOKEN={second['token']}\nDEMO_PASSWORD={second['password']}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [row["revoked_at"] is not None for row in cli.json("session", "list")] == [True]
    assert cli.json(*KEEPING) == second


def test_a_file_that_outlived_its_database_is_renewed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cli.json(*KEEPING)
    monkeypatch.setenv("GATEWAY_DATABASE_URL", "file:second.db")
    second = cli.json(*KEEPING)
    assert (second["created"], second["user"]) == (True, "ada")
    assert second["password"] != first["password"]
    assert second["token"] != first["token"]
    assert cli.json(*KEEPING) == second | {"created": False, "admin_password": None}


def test_an_administrators_file_has_no_password(cli: Cli) -> None:
    answer = cli.json("init", "--token-file", "admin.env")
    assert Path("admin.env").read_text() == f"GATEWAY_AUTH_TOKEN={answer['token']}\n"
    assert opens(cli, "u_admin", answer["password"])
