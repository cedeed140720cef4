"""One row that only SQL can have written hides nothing but itself from administrators."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.web.roles import ORGANIZATION
from tests.gateway.web.conftest import Site
from tests.support.api_caller import ApiCaller

NOT_TEXT = "CAST(x'61ff62' AS TEXT)"
SHOWN = "a\ufffdb"
NO_ATTRIBUTES = ('{"a":1e999}', '{"a":' * 900 + "1" + "}" * 900, '{"a":12345678901234567890}', '{"a":"\\ud800"}')


@pytest.fixture
def admin(site: Site) -> ApiCaller:
    return ApiCaller(site, "u_admin")


def only(items: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    """The one of these fields."""
    [found] = [item for item in items if wanted.items() <= item.items()]
    return found


def test_a_user_whose_name_is_not_text_is_one_of_a_list(site: Site, admin: ApiCaller) -> None:
    before = admin.done("GET", "/users")["items"]
    site.run(f"UPDATE users SET name = {NOT_TEXT} WHERE id = 'u_grace'")
    after = admin.done("GET", "/users")["items"]
    assert only(after, id="u_grace")["name"] == SHOWN
    assert [user for user in after if user["id"] != "u_grace"] == [user for user in before if user["id"] != "u_grace"]
    assert [user["id"] for user in after] == [user["id"] for user in before]
    assert admin.done("GET", "/users/u_grace")["name"] == SHOWN
    admin.refused(409, "PATCH", "/users/u_grace", {"name": "Grace"})


@pytest.mark.parametrize("attributes", NO_ATTRIBUTES, ids=["infinite", "deep", "huge", "surrogate"])
def test_attributes_that_no_document_holds_are_shown_as_none(site: Site, admin: ApiCaller, attributes: str) -> None:
    add = "INSERT INTO organizations (id, plan, attributes) VALUES (?, 'pro', ?)"
    site.run("UPDATE users SET attributes = ? WHERE id = 'u_grace'", attributes)
    site.run("UPDATE users SET attributes = '{\"b\":null,\"c\":1}' WHERE id = 'u_ada'")
    site.run(add, "o_odd", attributes)
    site.run(add, "o_plain", '{"b":2}')
    users, organizations = admin.done("GET", "/users")["items"], admin.done("GET", "/orgs")["items"]
    assert only(users, id="u_grace")["attributes"] == {} == admin.done("GET", "/users/u_grace")["attributes"]
    assert only(users, id="u_ada")["attributes"] == {"b": None, "c": 1}
    assert only(organizations, id="o_odd")["attributes"] == {} == admin.done("GET", "/orgs/o_odd")["attributes"]
    assert only(organizations, id="o_plain")["attributes"] == {"b": 2}


@pytest.mark.parametrize("attributes", NO_ATTRIBUTES, ids=["infinite", "deep", "huge", "surrogate"])
def test_a_change_of_something_else_leaves_attributes_that_could_not_be_shown(
    site: Site, admin: ApiCaller, attributes: str
) -> None:
    site.run("UPDATE users SET attributes = ? WHERE id = 'u_grace'", attributes)
    site.run("INSERT INTO organizations (id, plan, attributes) VALUES ('o_odd', 'pro', ?)", attributes)
    for path, table in (("/users/u_grace", "users"), ("/orgs/o_odd", "organizations")):
        assert admin.done("PATCH", path, {"name": "New"})["name"] == "New"
        assert site.run(f"UPDATE {table} SET name = 'Newer' WHERE attributes = ?", attributes)
        assert admin.done("GET", path)["name"] == "Newer"
        assert admin.done("PATCH", path, {"attributes": {"a": 1}})["attributes"] == {"a": 1}
    assert len(admin.done("GET", "/audit")["items"]) >= 4


@pytest.mark.parametrize("path", ["/users/u_grace", "/orgs/o_odd", "/instances/i_odd"])
def test_who_has_a_name_that_is_not_text_can_be_deleted(site: Site, admin: ApiCaller, path: str) -> None:
    """As it is shown it can not be compared with what stands there."""
    site.run(f"UPDATE users SET name = {NOT_TEXT} WHERE id = 'u_grace'")
    site.run(f"INSERT INTO organizations (id, plan, name) VALUES ('o_odd', 'pro', {NOT_TEXT})")
    site.run(f"INSERT INTO instances (id, name) VALUES ('i_odd', {NOT_TEXT})")
    admin.refused(409, "DELETE", path, if_match=admin("GET", path).headers["etag"])
    admin.done("DELETE", path)
    admin.refused(404, "GET", path)


def test_plans_with_a_permission_that_is_not_text(site: Site, admin: ApiCaller) -> None:
    site.run("INSERT INTO plans (id) VALUES ('odd')")
    site.run(f"INSERT INTO plan_permissions (plan, permission) VALUES ('odd', {NOT_TEXT})")
    plans = admin.done("GET", "/plans")["items"]
    assert only(plans, id="odd")["permissions"] == [SHOWN] == admin.done("GET", "/plans/odd")["permissions"]
    assert only(plans, id="pro") == admin.done("GET", "/plans/pro")
    admin.refused(409, "PATCH", "/plans/odd", {"name": "Odd"})
    admin.refused(409, "DELETE", "/plans/odd")


def test_roles_with_an_id_or_a_permission_that_is_not_text(site: Site, admin: ApiCaller) -> None:
    site.run(f"INSERT INTO roles (id) VALUES ({NOT_TEXT}), ('plain')")
    site.run(f"INSERT INTO role_permissions (role, permission) VALUES ({NOT_TEXT}, 'x'), ('plain', {NOT_TEXT})")
    roles = admin.done("GET", "/roles")["items"]
    assert only(roles, id=SHOWN)["permissions"] == ["x"]
    assert only(roles, id="plain")["permissions"] == [SHOWN]
    admin.refused(409, "PATCH", "/roles/plain", {"name": "Odd"})
    admin.refused(409, "DELETE", "/roles/plain")


@pytest.mark.parametrize("byte", ["80", "c3", "ef", "f4", "ff"])
def test_pages_go_on_behind_a_key_that_is_not_text(site: Site, admin: ApiCaller, byte: str) -> None:
    odd = f"CAST(x'61{byte}' AS TEXT)"
    site.run(f"INSERT INTO roles (id) VALUES ('a'), ({odd}), ('aé'), ('a\U0010ffff'), ('b')")
    site.run(f"INSERT INTO plans (id) VALUES ('a'), ({odd}), ('aé'), ('b')")
    site.run(f"INSERT INTO organizations (id, plan) VALUES ('a', 'pro'), ({odd}, 'pro'), ('b', 'pro')")
    site.run(f"UPDATE users SET username = {odd} WHERE id = 'u_grace'")
    session = "INSERT INTO login_sessions (id, user_id, created_at, expires_at) VALUES (%s, 'u_ada', 5, 4000000000000)"
    for key in ("'a'", odd, "'b'"):
        site.run(session % key)
    for path in ("/roles", "/plans", "/orgs", "/users", "/users/u_ada/sessions"):
        whole, single, cursor = admin.done("GET", path)["items"], [], ""
        for _ in whole:
            page = admin.done("GET", f"{path}?limit=1{cursor}")
            single += page["items"]
            cursor = f"&cursor={page['next']}"
        assert (single, page["next"]) == (whole, None)


def test_what_a_user_holds_and_was_given(site: Site, admin: ApiCaller) -> None:
    site.run(
        "INSERT INTO login_sessions (id, user_id, expires_at, user_agent, ip)"
        f" VALUES ('s_odd', 'u_ada', {2**62}, {NOT_TEXT}, '::1'), ('s_plain', 'u_ada', 4000000000000, 'x', NULL)"
    )
    site.token("u_ada", id="t_odd")
    site.token("u_ada", id="t_list")
    site.run(f"UPDATE api_tokens SET scopes = '{{\"a\":1e999}}', name = {NOT_TEXT} WHERE id = 't_odd'")
    site.run("UPDATE api_tokens SET scopes = '{\"permissions\":[\"x\"]}' WHERE id = 't_list'")
    site.run(f"INSERT INTO user_permissions (user_id, permission) VALUES ('u_ada', {NOT_TEXT}), ('u_ada', 'x.y')")
    sessions = admin.done("GET", "/users/u_ada/sessions")["items"]
    assert (only(sessions, id="s_odd")["user_agent"], only(sessions, id="s_odd")["ip"]) == (SHOWN, "::1")
    assert only(sessions, id="s_plain")["user_agent"] == "x"
    tokens = admin.done("GET", "/users/u_ada/tokens")["items"]
    odd = only(tokens, id="t_odd")
    assert (odd["name"], odd["scopes"]) == (SHOWN, {"permissions": []}), "it may do nothing, and is not shown as whole"
    assert only(tokens, id="t_list")["scopes"] == {"permissions": ["x"]}
    permissions = [row["permission"] for row in admin.done("GET", "/users/u_ada/grants")["permissions"]]
    assert {SHOWN, "x.y"} <= set(permissions)


def test_members_and_what_their_roles_grant(site: Site, admin: ApiCaller) -> None:
    site.run("INSERT INTO organizations (id, plan) VALUES ('o_one', 'pro')")
    site.run("INSERT INTO memberships (org_id, user_id, role) VALUES ('o_one', 'u_ada', 'owner')")
    site.run(f"UPDATE users SET username = {NOT_TEXT} WHERE id = 'u_ada'")
    site.run(f"INSERT INTO org_role_permissions (role, permission) VALUES ('member', {NOT_TEXT})")
    [member] = admin.done("GET", "/orgs/o_one/members")["items"]
    assert member["username"] == SHOWN
    assert SHOWN in admin.done("GET", f"/roles/{ORGANIZATION}")["member"]


def test_a_line_of_the_trail_that_is_not_text(site: Site, admin: ApiCaller) -> None:
    columns = "at, actor, action, target, address, outcome, before"
    sql = f"INSERT INTO audit ({columns}) VALUES (?, ?, 'user.update', 'user:u_x', '', 'ok', ?)"
    site.run(sql, 1, "user:u_x", '{"name":"plain"}')
    odd = sql.replace("VALUES (?, ?", f"VALUES (?, {NOT_TEXT}")
    site.run(odd, 2, '{"n":1}')
    site.run(sql, 3, "user:u_x", '{"a":1e999}')
    trail = admin.done("GET", "/audit?user=u_x")["items"]
    assert [(line["actor"], line["before"]) for line in trail] == [
        ("user:u_x", '{"a":1e999}'),
        (SHOWN, {"n": 1}),
        ("user:u_x", {"name": "plain"}),
    ]
