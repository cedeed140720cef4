from __future__ import annotations

from pathlib import Path

import pytest

from tests.gateway.cli.conftest import Cli

FILE = """
[plans.pro]
name = "Pro"
permissions = ["can_use_email", "can_use_voice"]

[plans.pro.quotas.voice_minutes]
limit = 300
period = "week"

[plans.pro.quotas.calls]
hard = false

[plans.gold]
name = "Gold"
"""


def written(text: str) -> str:
    Path("plans.toml").write_text(text, encoding="utf-8")
    return "plans.toml"


def test_plans_are_shown(demo: Cli) -> None:
    assert [plan["id"] for plan in demo.json("plan", "list")] == ["enterprise", "free", "pro"]
    shown = demo.json("plan", "show", "pro")
    assert shown["permissions"] == ["can_use_email", "can_use_sms", "can_use_voice"]
    assert shown["quotas"]["sms_messages"] == {"limit": 1000, "period": "month", "hard": False}
    assert "sms_messages: 1000/month (soft)" in demo("plan", "show", "pro").out
    assert "sms_messages: unlimited/month" in demo("plan", "list").out
    demo("plan", "show", "gold", code=4)


def test_a_dry_run_says_who_would_gain_or_lose_what(demo: Cli) -> None:
    before = demo.json("plan", "list")
    file = written(FILE)
    lines = [line.strip() for line in demo("plan", "apply", file, "--dry-run").out.splitlines()]
    assert lines == [
        "pro:",
        "loses can_use_sms",
        "calls: none becomes unlimited/month (soft)",
        "sms_messages: 1000/month (soft) becomes none",
        "voice_minutes: 500/month becomes 300/week",
        "concerns 1 users: u_ada",
        "gold: new",
        "is called Gold",
    ]
    answer = demo.json("plan", "apply", file, "--dry-run")
    assert (answer["applied"], answer["seq"]) == (False, None)
    assert demo.json("plan", "list") == before


def test_plans_are_applied(demo: Cli) -> None:
    file = written(FILE)
    answer = demo.json("plan", "apply", file)
    assert answer["applied"]
    assert answer["seq"] > 0
    assert answer["plans"][0]["lost"] == ["can_use_sms"]
    assert demo.json("plan", "show", "pro")["quotas"] == {
        "calls": {"limit": None, "period": "month", "hard": False},
        "voice_minutes": {"limit": 300, "period": "week", "hard": True},
    }
    assert demo.json("plan", "show", "free")["name"] == "Free"
    assert demo("plan", "apply", file).out == "All plans are as the file says.\n"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "only sections"),
        ("[plan.pro]", "only sections"),
        ("plans = 1", "only sections"),
        ("[plans]", "there must be one section [plans.ID] at least"),
        ("[plans.pro", "not TOML"),
        ("[plans]\npro = 1", "plans.pro: must be a section"),
        ("[plans.pro]\nid = 'x'", "plans.pro: must be a section"),
        ("[plans.pro]\npermission = ['a']", "unknown field `permission`"),
        ("[plans.pro]\npermissions = ['can fly']", "plans.pro: the permission must"),
        ("[plans.pro.quotas.voice]\nlimit = -1", "plans.pro: Expected `int` >= 0"),
        ("[plans.pro.quotas.voice]\nlimit = 9007199254740992", "plans.pro: Expected `int` <="),
        ("[plans.pro.quotas.voice]\nlimits = 1", "unknown field `limits`"),
        ("[plans.pro.quotas.voice]\nperiod = 'fortnight'", "plans.pro: Invalid enum value"),
        ('[plans.pro.quotas."a b"]', "plans.pro: the quota must"),
        ('[plans."a b"]', "plans.a b: the plan must"),
        ('[plans.pro]\nname = "a\\u0000"', "plans.pro: the name must"),
    ],
)
def test_a_file_that_is_wrong_changes_nothing(demo: Cli, text: str, named: str) -> None:
    before = demo.json("plan", "list")
    assert named in demo("plan", "apply", written(text), code=6).err
    assert demo.json("plan", "list") == before


def test_a_file_that_is_not_there_is_named(demo: Cli) -> None:
    assert demo("plan", "apply", "absent.toml", code=4).err == "gateway: absent.toml: No such file or directory\n"
