from __future__ import annotations

import io

import pytest

from gateway.cli.exits import ExitCode
from tests.gateway.cli.conftest import Cli
from tests.support.foreign_writer import ForeignWriter


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


def test_a_text_that_is_none_is_named_as_what_it_is(demo: Cli) -> None:
    with ForeignWriter(demo.database) as foreign:
        foreign.execute("UPDATE users SET name = CAST(x'ff61' AS TEXT) WHERE id = 'u_ada'")
    assert "not UTF-8: gateway doctor names it" in demo("user", "list", code=ExitCode.DAMAGED).err
    assert "u_ada" in demo("doctor", code=ExitCode.FINDINGS).out
