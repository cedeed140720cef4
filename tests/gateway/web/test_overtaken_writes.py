"""Changes over HTTP that another writer, on another node or by SQL, gets ahead of between the check and the write."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.gateway.web.conftest import Site
from tests.support.api_caller import ApiCaller, everything, rows
from tests.support.overtaken_store import overtake
from tests.support.people import add_plan, add_user, insert

ACME, MEMBERS = "/orgs/o_acme", "/orgs/o_acme/members"
OF_MEMBERS = {"owner": ["manage_billing", "manage_members"], "admin": ["manage_members"], "member": []}
OWNER_GRACE = "UPDATE memberships SET role = 'owner' WHERE user_id = 'u_grace'"
ADMINISTRATOR = "UPDATE users SET is_admin = 1 WHERE id = 'u_ada'"


def granting(plan: str, permission: str = "users.read") -> str:
    return f"INSERT INTO plan_permissions (plan, permission) VALUES ('{plan}', '{permission}')"


def refused(site: Site, caller: ApiCaller, status: int, ahead: str, *request: Any) -> None:
    """What was asked is refused, and `ahead` is all that happened."""
    overtaken = overtake(site, ahead)
    caller.refused(status, *request)
    assert overtaken.left is not None
    assert everything(site) == overtaken.left
    assert overtaken.left["audit"] == []


# --- members ---


CHANGES: list[tuple[str, str, Any]] = [
    ("PUT", f"{MEMBERS}/u_grace", {"role": "admin"}),
    ("DELETE", f"{MEMBERS}/u_grace", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_who_is_an_owner_by_now_is_no_managers_to_change(site: Site, method: str, path: str, body: Any) -> None:
    refused(site, ApiCaller(site, "u_ada"), 403, OWNER_GRACE, method, path, body)
    assert rows(site, "SELECT role FROM memberships WHERE user_id = 'u_grace'") == [("owner",)]


NO_MANAGER = {
    "UPDATE memberships SET role = 'member' WHERE user_id = 'u_ada'": 403,
    "DELETE FROM org_role_permissions WHERE role = 'admin'": 403,
    "DELETE FROM memberships WHERE user_id = 'u_ada'": 404,
    "UPDATE organizations SET status = 'disabled'": 404,
    "DELETE FROM organizations": 404,
}


@pytest.mark.parametrize("ahead", NO_MANAGER)
@pytest.mark.parametrize(("method", "path", "body"), [*CHANGES, ("PATCH", ACME, {"name": "Mine"})])
def test_who_is_no_manager_by_now_changes_nothing(site: Site, ahead: str, method: str, path: str, body: Any) -> None:
    refused(site, ApiCaller(site, "u_ada"), NO_MANAGER[ahead], ahead, method, path, body)


@pytest.mark.parametrize(
    ("method", "body"), [("PUT", {"role": "owner"}), ("PUT", {"role": "member"}), ("DELETE", None)]
)
def test_who_is_no_owner_by_now_makes_and_removes_none(site: Site, method: str, body: Any) -> None:
    if body != {"role": "owner"}:
        site.run(OWNER_GRACE)
    ahead = (
        "UPDATE memberships SET role = iif(user_id = 'u_ada', 'owner', 'admin') WHERE user_id IN ('u_ada', 'u_alan')"
    )
    refused(site, ApiCaller(site, "u_alan"), 403, ahead, method, f"{MEMBERS}/u_grace", body)


def test_what_is_allowed_still_is_done_after_all(site: Site) -> None:
    manager = ApiCaller(site, "u_ada")
    overtake(site, "UPDATE memberships SET role = 'admin' WHERE user_id = 'u_grace'")
    manager.done("PUT", f"{MEMBERS}/u_grace", {"role": "member"})
    assert rows(site, "SELECT before FROM audit") == [('{"user_id":"u_grace","role":"admin"}',)]
    overtake(site, "DELETE FROM memberships WHERE user_id = 'u_grace'")
    manager.refused(404, "DELETE", f"{MEMBERS}/u_grace")
    overtake(site, "INSERT INTO memberships (org_id, user_id, role) VALUES ('o_acme', 'u_grace', 'admin')")
    manager.done("PUT", f"{MEMBERS}/u_grace", {"role": "member"})
    overtake(site, "UPDATE memberships SET role = 'admin' WHERE user_id = 'u_grace'")
    ApiCaller(site, "u_grace").done("DELETE", f"{MEMBERS}/u_grace")


# --- what the roles of members grant ---


@pytest.fixture
def editor(site: Site) -> ApiCaller:
    site.write(add_user("u_editor"))
    return ApiCaller(site, "u_editor", "roles.write", "plans.write", "users.write")


MANAGING_MEMBERS = "INSERT INTO org_role_permissions (role, permission) VALUES ('member', 'manage_members')"
SEEING_BILLS = "INSERT INTO org_role_permissions (role, permission) VALUES ('member', 'see_bills')"


def test_what_administrators_gave_the_roles_of_members_meanwhile_is_not_taken(site: Site, editor: ApiCaller) -> None:
    wanted = OF_MEMBERS | {"admin": ["manage_members", "see_bills"]}
    refused(site, editor, 403, MANAGING_MEMBERS, "PUT", "/roles/organization", wanted)


def test_the_roles_of_members_are_replaced_as_they_stand_and_the_trail_says_what_changed(
    site: Site, editor: ApiCaller
) -> None:
    overtake(site, SEEING_BILLS)
    editor.done("PUT", "/roles/organization", OF_MEMBERS)
    assert rows(site, "SELECT target, before, after FROM audit") == [
        ("role:org.member", '{"permissions":["see_bills"]}', '{"permissions":[]}')
    ]
    overtake(site, SEEING_BILLS)
    editor.done("PUT", "/roles/organization", OF_MEMBERS | {"member": ["see_bills"]})
    assert rows(site, "SELECT count(*) FROM audit") == [(1,)]


def test_who_names_the_state_of_the_roles_of_members_is_told_that_it_is_another(site: Site, editor: ApiCaller) -> None:
    tag = editor("GET", "/roles/organization").headers["etag"]
    overtake(site, SEEING_BILLS)
    editor.refused(412, "PUT", "/roles/organization", OF_MEMBERS, if_match=tag)
    editor.refused(412, "PUT", "/roles/organization", OF_MEMBERS, if_match=tag)
    answered = editor("PUT", "/roles/organization", OF_MEMBERS, if_match="*")
    assert (answered.status_code, answered.headers["etag"]) == (200, tag)
    assert editor.done("PUT", "/roles/organization", OF_MEMBERS | {"member": ["x"]}, if_match=tag)["member"] == ["x"]


# --- what users are given ---


GRANTS: list[tuple[str, str, Any]] = [
    ("PUT", "/users/u_ada/plan", {"plan": "plain"}),
    *(("PUT", f"/users/u_ada/{place}", body) for place, body in (("permissions/x", {"effect": "deny"}),)),
    ("PUT", "/users/u_ada/roles/pilot", {}),
    ("PUT", "/users/u_ada/quotas/x", {"limit": 0}),
    *(("DELETE", f"/users/u_ada/{place}", None) for place in ("permissions/y", "roles/sailor", "quotas/y")),
    ("PATCH", "/users/u_ada", {"plan": "plain"}),
]


@pytest.fixture
def given(site: Site) -> None:
    site.write(*add_plan("plain"), insert("roles", id="pilot"), insert("roles", id="sailor"))
    site.run("INSERT INTO user_permissions (user_id, permission) VALUES ('u_ada', 'y')")
    site.run("INSERT INTO user_roles (user_id, role) VALUES ('u_ada', 'sailor')")
    site.run("INSERT INTO user_quotas (user_id, quota, limit_value) VALUES ('u_ada', 'y', 1)")


@pytest.mark.usefixtures("given")
@pytest.mark.parametrize(("method", "path", "body"), GRANTS)
def test_who_is_an_administrator_by_now_is_not_changed(
    site: Site, editor: ApiCaller, method: str, path: str, body: Any
) -> None:
    refused(site, editor, 403, ADMINISTRATOR, method, path, body)


@pytest.mark.usefixtures("given")
@pytest.mark.parametrize(("method", "path", "body"), GRANTS)
def test_who_is_gone_by_now_is_given_nothing(site: Site, editor: ApiCaller, method: str, path: str, body: Any) -> None:
    refused(site, editor, 404, "DELETE FROM users WHERE id = 'u_ada'", method, path, body)


@pytest.mark.usefixtures("given")
@pytest.mark.parametrize(
    "ahead", [granting("plain"), granting("pro"), "UPDATE users SET plan = 'staff' WHERE id = 'u_ada'"]
)
@pytest.mark.parametrize(("method", "path"), [("PUT", "/users/u_ada/plan"), ("PATCH", "/users/u_ada")])
def test_a_plan_that_opens_the_gateway_by_now_is_neither_given_nor_taken(
    site: Site, editor: ApiCaller, method: str, path: str, ahead: str
) -> None:
    site.write(*add_plan("staff", ["users.read"]))
    refused(site, editor, 403, ahead, method, path, {"plan": "plain"})


@pytest.mark.usefixtures("given")
@pytest.mark.parametrize(("method", "role"), [("PUT", "pilot"), ("DELETE", "sailor")])
def test_a_role_that_opens_the_gateway_by_now_is_neither_given_nor_taken(
    site: Site, editor: ApiCaller, method: str, role: str
) -> None:
    ahead = f"INSERT INTO role_permissions (role, permission) VALUES ('{role}', 'users.write')"
    refused(site, editor, 403, ahead, method, f"/users/u_ada/roles/{role}", {} if method == "PUT" else None)


@pytest.mark.usefixtures("given")
def test_administrators_need_not_look_again(site: Site) -> None:
    admin = ApiCaller(site, "u_admin")
    for (method, path, body), number in zip(GRANTS, itertools.count()):
        overtake(site, ADMINISTRATOR, granting("plain", f"p{number}"))
        admin.done(method, path, body)


# --- plans and roles ---


@pytest.mark.usefixtures("given")
@pytest.mark.parametrize(
    ("path", "ahead"),
    [
        ("/plans/plain", granting("plain")),
        ("/roles/pilot", "INSERT INTO role_permissions (role, permission) VALUES ('pilot', 'users.read')"),
    ],
)
def test_what_opens_the_gateway_by_now_is_not_deleted(site: Site, editor: ApiCaller, path: str, ahead: str) -> None:
    refused(site, editor, 403, ahead, "DELETE", path)


@pytest.mark.usefixtures("given")
@pytest.mark.parametrize("kind", ["plan", "role"])
def test_what_changed_otherwise_is_deleted_as_it_stands(site: Site, editor: ApiCaller, kind: str) -> None:
    name = {"plan": "plain", "role": "pilot"}[kind]
    overtake(site, f"UPDATE {kind}s SET name = 'Another' WHERE id = '{name}'")
    editor.done("DELETE", f"/{kind}s/{name}")
    assert [row[0].count("Another") for row in rows(site, "SELECT before FROM audit")] == [1]
    overtake(site, f"UPDATE {kind}s SET name = name")
    editor.refused(404, "DELETE", f"/{kind}s/{name}")


# --- the caller's own standing ---

WRITES: list[tuple[str, str, Any]] = [
    ("POST", "/auth/register", {"username": "eve", "plan": "free"}),
    ("PATCH", "/users/u_grace", {"name": "G"}),
    ("PATCH", "/users/u_admin", {"is_admin": True, "name": "Me"}),
    ("DELETE", "/users/u_grace", None),
    ("PUT", "/users/u_grace/plan", {"plan": "pro"}),
    ("POST", "/plans", {"id": "gold"}),
    ("PUT", f"{MEMBERS}/u_grace", {"role": "admin"}),
    ("POST", "/roles", {"id": "guard"}),
    ("POST", "/orgs", {"id": "o_new", "plan": "free"}),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_who_is_no_administrator_by_now_changes_nothing(site: Site, method: str, path: str, body: Any) -> None:
    """Another node may not have heard of it yet."""
    site.run("UPDATE users SET is_admin = 1 WHERE id = 'u_alan'")
    ahead = "UPDATE users SET is_admin = 0 WHERE id = 'u_admin'"
    refused(site, ApiCaller(site, "u_admin"), 403, ahead, method, path, body)


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_whose_credential_is_revoked_by_now_changes_nothing(site: Site, method: str, path: str, body: Any) -> None:
    refused(site, ApiCaller(site, "u_admin"), 401, "UPDATE api_tokens SET revoked_at = 5", method, path, body)
