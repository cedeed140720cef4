from __future__ import annotations

import asyncio
import io
import os
import pty
import subprocess
import termios

import pytest

from gateway.cli.exits import ExitCode
from tests.gateway.cli.conftest import PROGRAM, Cli, opens, program_environment, type_in
from tests.support.foreign_writer import ForeignWriter
from tests.support.waiting import eventually


def test_a_user_is_added_found_and_deleted(demo: Cli) -> None:
    added = demo.json(
        *("user", "add", "bob", "--name", "Bob", "--email", "bob@example.org", "--plan", "pro", "--admin"),
        *("--timezone", "Europe/Zurich", "--attribute", "city=Basel", "--attribute", "floors=[1, 2]"),
    )
    assert added["id"].startswith("u_")
    shown = demo.json("user", "show", "BOB")
    assert shown["id"] == added["id"]
    assert (shown["plan"], shown["is_admin"], shown["timezone"]) == ("pro", True, "Europe/Zurich")
    assert shown["attributes"] == {"city": "Basel", "floors": [1, 2]}
    assert shown["created_at"].endswith("Z")
    assert (shown["roles"], shown["permissions"], shown["quotas"], shown["credentials"]) == ([], [], [], 0)
    assert demo("user", "add", "bob", code=5).err == "gateway: The id, user name or e-mail is taken.\n"
    assert demo.json("user", "delete", "bob@example.org", "--yes")["seq"] > added["seq"]
    assert demo("user", "show", "bob", code=4).err == "gateway: There is no user bob.\n"


def test_a_name_is_the_same_name_in_another_form(demo: Cli) -> None:
    demo("user", "add", "ﬁona", "--id", "u_fiona")
    assert demo.json("user", "show", "fiona")["username"] == "fiona"
    assert demo.json("user", "show", "ﬁona")["id"] == "u_fiona"


@pytest.mark.parametrize(
    "arguments",
    [
        ["user", "add", "with space"],
        ["user", "add", "a\x00b"],
        ["user", "add", "\udcff"],
        ["user", "add", "x", "--email", "nobody"],
        ["user", "add", "x", "--timezone", "Mars/Olympus"],
        ["user", "add", "x", "--id", "u/1"],
        ["user", "add", "x", "--attribute", "city"],
        ["user", "add", "x", "--attribute", f"n={2**60}"],
        ["user", "add", "x", "--name", "a\nb"],
        ["user", "add", "x", "--plan", "no plan"],
        ["user", "show", "\udcff"],
        ["user", "allow", "ada", "can fly"],
        ["user", "allow", "ada", "can_fly", "--until", "2001-01-01"],
        ["user", "allow", "ada", "can_fly", "--until", "soon"],
        ["user", "allow", "ada", "can_fly", "--until", "0d"],
        ["user", "quota", "ada", "voice_minutes"],
        ["user", "quota", "ada", "voice_minutes", "-1"],
        ["user", "quota", "ada", "voice_minutes", "1.5"],
        ["user", "quota", "ada", "voice_minutes", str(2**53)],
        ["user", "quota", "ada", "voice_minutes", "1", "--period", "fortnight"],
        ["user", "list", "--limit", "0"],
    ],
)
def test_a_bad_value_is_a_usage_error(demo: Cli, arguments: list[str]) -> None:
    before = demo.json("user", "list")
    demo(*arguments, code=2)
    assert demo.json("user", "list") == before


def test_users_are_listed(demo: Cli) -> None:
    assert [user["username"] for user in demo.json("user", "list")] == ["ada", "admin", "alan", "grace"]
    assert [user["username"] for user in demo.json("user", "list", "--plan", "pro")] == ["ada"]
    assert [user["username"] for user in demo.json("user", "list", "--after", "ADMIN", "--limit", "1")] == ["alan"]
    lines = demo("user", "list").out.splitlines()
    assert lines[0].split() == ["id", "username", "name", "email", "plan", "status", "is_admin"]
    assert lines[1].split() == ["u_ada", "ada", "Ada", "Lovelace", "ada@example.org", "pro", "active", "no"]


def test_a_user_is_disabled_and_enabled(demo: Cli) -> None:
    assert demo.json("user", "disable", "ada")["status"] == "disabled"
    assert demo.json("user", "show", "ada")["status"] == "disabled"
    assert [user["username"] for user in demo.json("user", "list", "--status", "disabled")] == ["ada"]
    assert demo("user", "enable", "ada").out == "ada is active.\n"
    assert demo.json("user", "show", "ada")["status"] == "active"


@pytest.mark.parametrize("command", [["disable"], ["delete", "--yes"]])
def test_the_last_active_administrator_stays(demo: Cli, command: list[str]) -> None:
    admin = demo.json("user", "show", "admin")
    said = demo("user", *command, "admin", code=ExitCode.CONFLICT).err
    assert said == "gateway: This is the last active administrator: there must be one.\n"
    assert demo.json("user", "show", "admin") == admin
    assert demo.json("audit", "--action", f"user.{'delete' if command[0] == 'delete' else 'update'}") == []
    demo("user", "add", "second", "--admin")
    demo("user", *command, "admin")
    demo("user", *command, "second", code=ExitCode.CONFLICT)


def test_plan_permissions_and_quotas_change(demo: Cli) -> None:
    demo("user", "plan", "ada", "free")
    demo("user", "plan", "ada", "gold", code=4)
    demo("user", "allow", "ada", "can_use_voice", "--until", "2999-12-31")
    demo("user", "deny", "ada", "can_use_email", "--until", "30d")
    demo("user", "quota", "ada", "voice_minutes", "unlimited", "--soft")
    demo("user", "quota", "ada", "sms_messages", "7", "--until", "2999-12-31T12:00:00+02:00")
    shown = demo.json("user", "show", "ada")
    assert shown["plan"] == "free"
    allowed, denied = shown["permissions"][1], shown["permissions"][0]
    assert (allowed["permission"], allowed["effect"]) == ("can_use_voice", "allow")
    assert allowed["expires_at"] == "2999-12-31T00:00:00.000Z"
    assert (denied["permission"], denied["effect"]) == ("can_use_email", "deny")
    sms, voice = shown["quotas"]
    assert (sms["limit"], sms["period"], sms["hard"], sms["expires_at"]) == (
        7,
        "month",
        True,
        "2999-12-31T10:00:00.000Z",
    )
    assert (voice["limit"], voice["hard"]) == (None, False)
    demo("user", "allow", "ada", "can_use_voice", "--remove")
    demo("user", "deny", "ada", "can_use_email", "--remove")
    demo("user", "quota", "ada", "sms_messages", "--remove")
    demo("user", "quota", "ada", "voice_minutes", "--remove")
    demo("user", "quota", "ada", "voice_minutes", "--remove", code=4)
    shown = demo.json("user", "show", "ada")
    assert (shown["permissions"], shown["quotas"]) == ([], [])


def test_an_override_takes_what_it_does_not_say_from_the_plan(demo: Cli) -> None:
    demo("user", "quota", "ada", "sms_messages", "5")
    [row] = demo.json("user", "show", "ada")["quotas"]
    assert (row["limit"], row["period"], row["hard"]) == (5, "month", False)
    demo("user", "quota", "ada", "other", "5", "--period", "day")
    assert demo.json("user", "show", "ada")["quotas"][0] | {"quota": "other"} == {
        "quota": "other",
        "limit": 5,
        "period": "day",
        "hard": True,
        "starts_at": None,
        "expires_at": None,
    }


@pytest.mark.parametrize("answer", ["", "n\n", "\n"])
def test_nothing_is_deleted_without_a_word(demo: Cli, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    demo("user", "delete", "ada", code=130)
    assert demo.json("user", "show", "ada")["id"] == "u_ada"


def test_a_text_that_is_none_is_shown_and_found(demo: Cli) -> None:
    with ForeignWriter(demo.database) as foreign:
        foreign.execute("UPDATE users SET name = CAST(x'ff61' AS TEXT) WHERE id = 'u_ada'")
    assert "\ufffda" in demo("user", "list").out
    assert "u_ada" in demo("doctor", code=ExitCode.FINDINGS).out


# --- passwords ---

GOOD = "moons of jupiter, four"


def test_a_user_can_be_added_with_a_password(demo: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert demo.json("user", "show", demo.json("user", "add", "ann")["username"])["password"] is False
    type_in(monkeypatch, f"{GOOD}\nsecond line\n".encode())
    added = demo.json("user", "add", "bob", "--password-stdin")
    assert opens(demo, added["id"], GOOD)
    assert "password" not in added
    shown = demo("user", "show", "bob").out
    assert "argon2" not in shown
    assert demo.json("user", "show", "bob")["password"] is True
    answer = demo("user", "add", "cid", "--id", "u_cid", "--generate-password")
    assert len(answer.out.strip()) >= 15
    assert opens(demo, "u_cid", answer.out.strip())
    assert answer.out.strip() not in answer.err
    assert opens(demo, "u_dan", demo.json("user", "add", "dan", "--id", "u_dan", "--generate-password")["password"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"short\n", "at least 15"),
        (b"", "no password"),
        (b"\n", "no password"),
        (b"\xff" * 20, "UTF-8"),
        (b"a" * 5000, "at most 1024"),
        (b"ada lovelace 1815\n", "common word or a name"),
        (b"aaaaaaaaaaaaaaaaaaaaaa\n", "repetitions"),
    ],
)
def test_a_bad_password_changes_nothing(demo: Cli, monkeypatch: pytest.MonkeyPatch, content: bytes, said: str) -> None:
    type_in(monkeypatch, content)
    assert said in demo("user", "password", "ada", "--stdin", code=ExitCode.BAD_VALUE).err
    assert demo.json("user", "show", "ada")["password"] is True
    trail = demo.json("audit", "--user", "ada", "--action", "password.reset")
    assert len(trail) == 1, "that of init"
    type_in(monkeypatch, content)
    demo("user", "add", "lovelace", "--name", "Ada Lovelace", "--password-stdin", code=ExitCode.BAD_VALUE)
    demo("user", "show", "lovelace", code=ExitCode.NOT_FOUND)


def test_a_new_password_ends_the_sessions_and_leaves_the_tokens(demo: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with ForeignWriter(demo.database) as foreign:
        for session, user in (("s_1", "u_ada"), ("s_2", "u_ada"), ("s_3", "u_grace")):
            sql = "INSERT INTO login_sessions (id, user_id, expires_at) VALUES (?, ?, 4000000000000)"
            foreign.execute(sql, session, user)
    type_in(monkeypatch, GOOD.encode())
    answer = demo.json("user", "password", "ada", "--stdin")
    assert (answer["id"], answer["sessions"]) == ("u_ada", 2)
    assert opens(demo, "u_ada", GOOD)
    revoked = {row["id"]: row["revoked_at"] is not None for row in demo.json("session", "list")}
    assert revoked == {"s_1": True, "s_2": True, "s_3": False}
    assert [row["revoked_at"] for row in demo.json("token", "list", "ada")] == [None]
    made = demo("user", "password", "ada", "--generate").out.strip()
    assert opens(demo, "u_ada", made)
    assert not opens(demo, "u_ada", GOOD)
    demo("user", "password", "eve", "--generate", code=ExitCode.NOT_FOUND)


def test_without_a_terminal_there_is_nobody_to_ask(demo: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch, GOOD.encode())
    assert "no terminal" in demo("user", "password", "ada", code=ExitCode.USAGE).err
    demo("user", "add", "bob", "--password", code=ExitCode.USAGE)
    demo("user", "show", "bob", code=ExitCode.NOT_FOUND)


@pytest.mark.parametrize(("second", "code"), [(GOOD, ExitCode.OK), ("another one, quite", ExitCode.INTERRUPTED)])
def test_at_a_terminal_the_password_is_asked_twice_and_not_shown(demo: Cli, second: str, code: ExitCode) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*PROGRAM, "user", "password", "ada"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=program_environment(),
        start_new_session=True,
    ) as process:
        os.close(theirs)
        shown = until(ours, b"New password of ada")
        os.write(ours, f"{GOOD}\n".encode())
        shown += until(ours, b"Once more")
        os.write(ours, f"{second}\n".encode())
        if code is not ExitCode.OK:
            shown += until(ours, b"New password of ada")
            os.write(ours, b"\x04")
        shown += rest(ours)
    os.close(ours)
    assert process.returncode == code
    assert GOOD.encode() not in shown
    assert opens(demo, "u_ada", GOOD) is (code is ExitCode.OK)


def until(terminal: int, prompt: bytes) -> bytes:
    """What the terminal shows, up to this prompt and until what is typed is hidden."""
    shown = b""
    while prompt not in shown:
        shown += os.read(terminal, 1000)
    asyncio.run(eventually(lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO))
    return shown


def rest(terminal: int) -> bytes:
    shown = b""
    try:
        while more := os.read(terminal, 1000):
            shown += more
    except OSError:  # the program has closed it
        pass
    return shown
