"""The lists of the command line go on where one row is as only SQL can have written it."""

from __future__ import annotations

import pytest

from tests.gateway.cli.conftest import Cli
from tests.support.foreign_writer import ForeignWriter

FAR = 9 * 10**18
NO_ATTRIBUTES = ('{"a":1e999}', '{"a":' * 900 + "1" + "}" * 900)


@pytest.mark.parametrize("far", [FAR, -FAR])
def test_a_moment_that_no_calendar_has_is_a_number(demo: Cli, far: int) -> None:
    with ForeignWriter(demo.database) as foreign:
        foreign.execute("UPDATE users SET created_at = ? WHERE id = 'u_ada'", far)
        foreign.execute("INSERT INTO login_sessions (id, user_id, expires_at) VALUES ('s_1', 'u_ada', ?)", far)
        foreign.execute(
            "INSERT INTO api_tokens (id, user_id, token_hash, expires_at) VALUES ('t_1', 'u_ada', ?, ?)", "0" * 64, far
        )
        foreign.execute("INSERT INTO organizations (id, plan, created_at) VALUES ('o_1', 'pro', ?)", far)
    users = {user["id"]: user["created_at"] for user in demo.json("user", "list")}
    assert users["u_ada"] == far
    assert users["u_grace"].startswith("20")
    for command, key, column in (("session", "s_1", "expires_at"), ("token", "t_1", "expires_at")):
        [found] = [row for row in demo.json(command, "list") if row["id"] == key]
        assert found[column] == far
        assert key in demo(command, "list").out
    assert [row["created_at"] for row in demo.json("org", "list") if row["id"] == "o_1"] == [far]
    assert str(far) in demo("user", "show", "ada").out


@pytest.mark.parametrize("attributes", NO_ATTRIBUTES, ids=["infinite", "deep"])
def test_attributes_that_no_document_holds_are_empty(demo: Cli, attributes: str) -> None:
    with ForeignWriter(demo.database) as foreign:
        foreign.execute("UPDATE users SET attributes = ? WHERE id = 'u_ada'", attributes)
        foreign.execute("INSERT INTO organizations (id, plan, attributes) VALUES ('o_1', 'pro', ?)", attributes)
    for command, key in (("user", "u_ada"), ("org", "o_1")):
        assert [row["attributes"] for row in demo.json(command, "list") if row["id"] == key] == [{}]
        assert demo.json(command, "show", key)["attributes"] == {}


def test_a_text_that_is_none_is_shown_with_replacements(demo: Cli) -> None:
    with ForeignWriter(demo.database) as foreign:
        foreign.execute("UPDATE users SET name = CAST(x'61ff62' AS TEXT) WHERE id = 'u_ada'")
        foreign.execute("INSERT INTO organizations (id, plan, name) VALUES ('o_1', 'pro', CAST(x'ff' AS TEXT))")
        foreign.execute(
            "INSERT INTO login_sessions (id, user_id, expires_at, ip) VALUES ('s_1', 'u_ada', 5, CAST(x'ff' AS TEXT))"
        )
        foreign.execute("INSERT INTO plan_permissions (plan, permission) VALUES ('pro', CAST(x'ff' AS TEXT))")
        foreign.execute(
            "INSERT INTO audit (at, actor, action, target, address, outcome)"
            " VALUES (5, CAST(x'ff' AS TEXT), 'user.update', 'user:u_ada', '', 'ok')"
        )
    assert "a\ufffdb" in demo("user", "list").out
    assert demo.json("user", "show", "ada")["name"] == "a\ufffdb"
    assert [row["name"] for row in demo.json("org", "list") if row["id"] == "o_1"] == ["\ufffd"]
    assert [row["ip"] for row in demo.json("session", "list") if row["id"] == "s_1"] == ["\ufffd"]
    assert "\ufffd" in demo("plan", "list").out + demo("plan", "list", "--json").out
    assert any(row["actor"] == "\ufffd" for row in demo.json("audit"))
