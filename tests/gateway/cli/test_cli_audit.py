from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.invocation import actor
from gateway.store.audit import ACTIONS
from tests.gateway.cli.conftest import Cli
from tests.support.foreign_writer import ForeignWriter

ME = f"command:{getpass.getuser()}"

# Command, action, target, and what of it was found and left.
WRITES: list[tuple[str, str, str, Any, Any]] = [
    ("user add bob --id u_bob", "user.create", "user:u_bob", None, {"username": "bob", "plan": "free"}),
    ("user plan bob pro", "user.plan", "user:u_bob", {"plan": "free"}, {"plan": "pro"}),
    ("user disable bob", "user.update", "user:u_bob", {"status": "active"}, {"status": "disabled"}),
    ("user enable bob", "user.update", "user:u_bob", {"status": "disabled"}, {"status": "active"}),
    ("user allow bob can_fly", "user.permission", "user:u_bob", {}, {"permission": "can_fly", "effect": "allow"}),
    (
        *("user deny bob can_fly --until 2999-01-01", "user.permission", "user:u_bob"),
        *({"allow": {"starts_at": None, "expires_at": None}}, {"effect": "deny"}),
    ),
    ("user deny bob can_fly --remove", "user.permission", "user:u_bob", None, {"effect": None}),
    ("user quota bob calls 5", "user.quota", "user:u_bob", None, {"quota": "calls", "limit": 5}),
    ("user quota bob calls 6", "user.quota", "user:u_bob", {"limit": 5, "hard": True}, {"limit": 6}),
    ("user quota bob calls --remove", "user.quota", "user:u_bob", {"limit": 6}, None),
    (
        *("quota adjust bob voice_minutes 3 --reason counted", "quota.adjust", "user:u_bob", {"used": 0}),
        {"quota": "voice_minutes", "amount": 3, "reason": "counted"},
    ),
    ("user password bob --generate", "password.reset", "user:u_bob", None, None),
    ("org add Ops --id o_ops", "org.create", "org:o_ops", None, {"name": "Ops", "plan": "free"}),
    ("org plan o_ops pro", "org.update", "org:o_ops", {"plan": "free"}, {"plan": "pro"}),
    ("org disable o_ops", "org.update", "org:o_ops", {"status": "active"}, {"status": "disabled"}),
    ("org enable o_ops", "org.update", "org:o_ops", {"status": "disabled"}, {"status": "active"}),
    ("org member o_ops bob owner", "org.member", "org:o_ops", None, {"user_id": "u_bob", "role": "owner"}),
    ("org member o_ops ada admin", "org.member", "org:o_ops", None, {"user_id": "u_ada", "role": "admin"}),
    ("org member o_ops ada --remove", "org.member", "org:o_ops", {"role": "admin"}, {"role": None}),
    ("org cap o_ops bob calls 3", "org.member", "org:o_ops", None, {"quota": "calls", "limit": 3}),
    ("org cap o_ops bob calls --remove", "org.member", "org:o_ops", {"quota": "calls", "limit": 3}, None),
    ("org role member see_bills", "role.write", "role:org.member", {"permissions": []}, {"permissions": ["see_bills"]}),
    ("org delete o_ops --yes", "org.delete", "org:o_ops", {"name": "Ops"}, None),
    ("plan apply plans.toml", "plan.write", "plan:free", {"name": "Free"}, {"name": "Gratis", "permissions": []}),
    ("session revoke s_1", "session.revoke", "user:u_ada", None, {"id": "s_1"}),
    ("session revoke --user bob", "revoke.before", "user:u_bob", None, None),
    ("keys rotate", "keys.rotate", "keys", None, {"discard": False}),
    ("user delete bob --yes", "user.delete", "user:u_bob", {"username": "bob", "email": None}, None),
]


def some(whole: Any, part: Any) -> bool:
    """Whether `whole` says what `part` does."""
    if isinstance(part, dict) and part:
        return isinstance(whole, dict) and all(some(whole.get(name), value) for name, value in part.items())
    return bool(whole == part)


def test_every_command_that_writes_leaves_an_entry(demo: Cli) -> None:
    Path("plans.toml").write_text('[plans.free]\nname = "Gratis"\n')
    with ForeignWriter(demo.database) as foreign:
        foreign.execute("INSERT INTO login_sessions (id, user_id, expires_at) VALUES ('s_1', 'u_ada', 4000000000000)")
    position = demo.json("audit", "--limit", "1")[0]["id"]
    for command, action, target, before, after in WRITES:
        demo(*command.split())
        new = [row for row in demo.json("audit") if row["id"] > position]
        assert len(new) == 1, command
        [row] = new
        assert (row["actor"], row["action"], row["target"], row["outcome"]) == (ME, action, target, "ok"), command
        assert before is None or some(row["before"], before), (command, row)
        assert some(row["after"], after), (command, row)
        position = row["id"]
    demo("plan", "apply", "plans.toml")
    demo("plan", "apply", "plans.toml", "--dry-run")
    demo("user", "plan", "eve", "pro", code=4)
    demo("user", "plan", "ada", "gold", code=4)
    assert demo.json("audit", "--limit", "1")[0]["id"] == position


def test_tokens_are_in_the_trail_without_their_secrets(demo: Cli) -> None:
    issued = demo.json("token", "issue", "ada", "--name", "phone", "--scopes", "users.read")
    demo("token", "revoke", issued["id"])
    revoked, made = demo.json("audit", "--limit", "2")
    assert (made["action"], made["target"]) == ("token.issue", "user:u_ada")
    assert made["after"]["scopes"] == {"permissions": ["users.read"]}
    assert (made["after"]["id"], made["after"]["name"]) == (issued["id"], "phone")
    assert (revoked["action"], revoked["target"]) == ("token.revoke", "user:u_ada")
    assert revoked["after"] == {"id": issued["id"]}
    assert {row["id"] for row in demo.json("audit", "--user", "ada")} >= {made["id"], revoked["id"]}


def test_the_trail_holds_no_secret(cli: Cli) -> None:
    secrets = cli.json("init", "--demo", "--token-file", "demo.env")
    generated = cli.json("user", "password", "grace", "--generate")["password"]
    added = cli.json("user", "add", "bob", "--generate-password")["password"]
    token = cli.json("token", "issue", "ada")["token"]
    cli("export", "all.jsonl")
    cli("user", "delete", "bob", "--yes")
    cli("import", "all.jsonl")
    cli("session", "revoke", "--user", "ada")
    with ForeignWriter(cli.database) as foreign:
        trail = str(foreign.execute("SELECT * FROM audit"))
        hashes = [row[0] for row in foreign.execute("SELECT password_hash FROM users WHERE password_hash IS NOT NULL")]
        hashes += [row[0] for row in foreign.execute("SELECT token_hash FROM api_tokens")]
    known = [secrets["password"], secrets["token"], secrets["admin_password"], generated, added, token]
    assert len(hashes) >= 5
    assert all(known)
    assert [secret for secret in [*known, *hashes] if secret in trail] == []
    assert "$argon2" not in trail


def test_an_import_says_that_it_began_and_what_came_of_it(demo: Cli) -> None:
    demo("export", "all.jsonl")
    demo("user", "delete", "grace", "--yes")
    demo("import", "all.jsonl", "--dry-run")
    assert demo.json("audit", "--action", "import") == []
    demo("import", "all.jsonl")
    done, begun = demo.json("audit", "--action", "import")
    assert (begun["outcome"], done["outcome"]) == ("begun", "ok")
    assert begun["after"]["overwrite"] is False
    assert begun["after"]["epoch"]
    [users] = [count for count in done["after"]["counts"] if count["kind"] == "user"]
    assert users["added"] == 1


def test_a_new_database_begins_its_trail(cli: Cli) -> None:
    cli("init", "--demo")
    rows = cli.json("audit")
    assert {row["actor"] for row in rows} == {ME}
    created = {row["target"]: row["after"]["username"] for row in rows if row["action"] == "user.create"}
    assert created == {"user:u_ada": "ada", "user:u_grace": "grace", "user:u_alan": "alan", "user:u_admin": "admin"}
    assert {row["target"] for row in rows if row["action"] == "plan.write"} == {
        "plan:free",
        "plan:pro",
        "plan:enterprise",
    }


def test_the_trail_is_filtered(demo: Cli) -> None:
    demo("user", "plan", "ada", "free")
    demo("user", "plan", "grace", "pro")
    demo("user", "disable", "grace")
    targets = [row["target"] for row in demo.json("audit", "--action", "user.plan")]
    assert targets == ["user:u_grace", "user:u_ada"]
    assert [row["action"] for row in demo.json("audit", "--user", "GRACE")] == [
        "user.update",
        "user.plan",
        "user.create",
    ]
    assert [row["action"] for row in demo.json("audit", "--user", "grace", "--limit", "1")] == ["user.update"]
    demo("user", "delete", "grace", "--yes")
    assert demo.json("audit", "--user", "u_grace", "--limit", "1")[0]["action"] == "user.delete"
    with ForeignWriter(demo.database) as foreign:
        foreign.execute(
            "INSERT INTO audit (at, actor, action, target, address, outcome)"
            " VALUES (1000, 'gateway', 'import', 'x', '', 'ok')"
        )
    assert demo.json("audit", "--since", "1970-01-01", "--limit", "1")[0]["at"] == "1970-01-01T00:00:01.000Z"
    assert demo.json("audit", "--since", "1970-01-01T00:00:01Z", "--action", "import")
    assert demo.json("audit", "--since", "1h", "--action", "import") == []
    lines = demo("audit", "--action", "user.plan").out.splitlines()
    assert lines[0].split() == ["id", "at", "actor", "action", "target", "address", "outcome"]
    assert lines[2].split()[2:5] == [ME, "user.plan", "user:u_ada"]


@pytest.mark.parametrize(
    "arguments",
    [["--action", "user.fly"], ["--since", "2999-01-01"], ["--since", "soon"], ["--since", "0d"], ["--limit", "0"]],
)
def test_a_bad_filter_is_a_usage_error(demo: Cli, arguments: list[str]) -> None:
    demo("audit", *arguments, code=2)


def test_the_actor_is_printable_and_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "eve\x1b[2J\n\udcff" + "x" * 100)
    assert actor() == f"command:eve?[2J??{'x' * 55}"


def test_all_actions_are_words_of_the_trail() -> None:
    assert {action for _, action, *_ in WRITES} < set(ACTIONS)
