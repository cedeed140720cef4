from __future__ import annotations

from tests.gateway.cli.conftest import Cli


def test_a_permission_of_the_plan(demo: Cli) -> None:
    answer = demo.json("explain", "ada", "can_use_voice")
    assert (answer["allowed"], answer["changes_at"]) == (True, None)
    [reason] = answer["reasons"]
    assert (reason["source"], reason["name"], reason["counts"]) == ("plan", "pro", True)
    assert reason["row"] == {"table": "plan_permissions", "plan": "pro", "permission": "can_use_voice"}
    assert "ada has can_use_voice." in demo("explain", "ada", "can_use_voice").out


def test_a_denial_overrules_the_plan_until_its_end(demo: Cli) -> None:
    demo("user", "deny", "ada", "can_use_voice", "--until", "2999-12-31")
    answer = demo.json("explain", "ada", "can_use_voice")
    assert (answer["allowed"], answer["changes_at"]) == (False, "2999-12-31T00:00:00.000Z")
    assert [(reason["source"], reason["counts"]) for reason in answer["reasons"]] == [("plan", False), ("deny", True)]
    out = demo("explain", "ada", "can_use_voice").out
    assert "ada does not have can_use_voice. That may change at 2999-12-31T00:00:00.000Z." in out
    assert "user_permissions u_ada can_use_voice deny" in out


def test_what_nobody_gave(demo: Cli) -> None:
    assert demo.json("explain", "ada", "can_fly")["allowed"] is False
    assert demo("explain", "ada", "can_fly").out.splitlines() == [
        "ada does not have can_fly.",
        "No row has to do with it.",
    ]
    assert "An administrator may do everything." in demo("explain", "admin", "can_fly").out


def test_a_disabled_user_has_nothing(demo: Cli) -> None:
    demo("user", "disable", "ada")
    answer = demo.json("explain", "ada", "can_use_voice")
    assert answer["allowed"] is False
    assert answer["reasons"][0]["source"] == "status"


def test_a_quota_of_the_plan_and_an_override(demo: Cli) -> None:
    answer = demo.json("explain", "ada", "--quota", "voice_minutes")
    assert (answer["balance"]["limit"], answer["balance"]["remaining"]) == (500, 494)
    assert answer["changes_at"] == answer["balance"]["resets_at"]
    demo("user", "quota", "ada", "voice_minutes", "9", "--until", "7d")
    answer = demo.json("explain", "ada", "--quota", "voice_minutes")
    assert answer["balance"]["limit"] == 9
    assert [(reason["source"], reason["counts"]) for reason in answer["reasons"]] == [
        ("plan", False),
        ("override", True),
        ("usage", True),
    ]
    assert "6 used and 0 reserved of 9 a month, 3 left." in demo("explain", "ada", "--quota", "voice_minutes").out
    demo("user", "quota", "ada", "voice_minutes", "unlimited")
    assert "voice_minutes: 6 used, unlimited." in demo("explain", "ada", "--quota", "voice_minutes").out


def test_a_quota_that_is_not_there(demo: Cli) -> None:
    assert demo.json("explain", "ada", "--quota", "faxes")["balance"] is None
    assert "ada does not have the quota faxes." in demo("explain", "ada", "--quota", "faxes").out


def test_one_question_at_a_time(demo: Cli) -> None:
    demo("explain", "ada", code=2)
    demo("explain", "ada", "can_fly", "--quota", "voice_minutes", code=2)
    demo("explain", "eve", "can_fly", code=4)
