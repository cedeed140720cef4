"""``If-Match`` of every write about what can be read, ``If-None-Match`` of whatever has an entity tag."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.web.conftest import Site
from tests.support.api_caller import ApiCaller, everything, rows
from tests.support.overtaken_store import overtake
from tests.support.people import add_plan, add_user, insert

STALE = '"0123456789abcdef"'


@pytest.fixture
def root(site: Site) -> ApiCaller:
    """An administrator, where there is one of everything that nobody else hangs on."""
    site.write(*add_plan("idle"), insert("roles", id="pilot"), add_user("u_eve"), insert("roles", id="sailor"))
    site.write(insert("organizations", id="o_x", plan="free"), insert("instances", id="i_x"))
    site.run("INSERT INTO instance_keys (id, instance_id, secret) VALUES ('k_x', 'i_x', x'00')")
    site.run("INSERT INTO memberships (org_id, user_id, role) VALUES ('o_x', 'u_eve', 'member')")
    site.run("INSERT INTO user_permissions (user_id, permission) VALUES ('u_eve', 'y')")
    site.run("INSERT INTO user_roles (user_id, role) VALUES ('u_eve', 'sailor')")
    site.run("INSERT INTO user_quotas (user_id, quota, limit_value) VALUES ('u_eve', 'y', 1)")
    return ApiCaller(site, "u_admin")


# --- deleting ---

KINDS = {
    "/users/u_eve": "UPDATE users SET name = '{}' WHERE id = 'u_eve'",
    "/plans/idle": "UPDATE plans SET name = '{}' WHERE id = 'idle'",
    "/roles/pilot": "UPDATE roles SET name = '{}' WHERE id = 'pilot'",
    "/orgs/o_x": "UPDATE organizations SET name = '{}' WHERE id = 'o_x'",
    "/instances/i_x": "UPDATE instances SET name = '{}' WHERE id = 'i_x'",
}


@pytest.mark.parametrize("path", KINDS)
def test_what_is_not_what_the_client_means_is_not_deleted(site: Site, root: ApiCaller, path: str) -> None:
    read = root("GET", path).headers["etag"]
    site.run(KINDS[path].format("Another"))
    before = everything(site)
    for tag in (read, STALE, f"W/{root('GET', path).headers['etag']}", f"{read}, {STALE}"):
        root.refused(412, "DELETE", path, if_match=tag)
    assert everything(site) == before
    assert root.done("DELETE", path, if_match=f"{STALE}, {root('GET', path).headers['etag']}")["seq"] > 0
    root.refused(404, "DELETE", path, if_match=read)


@pytest.mark.parametrize("path", KINDS)
def test_what_becomes_another_before_it_is_deleted_stays(site: Site, root: ApiCaller, path: str) -> None:
    overtaken = overtake(site, KINDS[path].format("Another"))
    root.refused(412, "DELETE", path, if_match=root("GET", path).headers["etag"])
    assert everything(site) == overtaken.left


@pytest.mark.parametrize("path", KINDS)
@pytest.mark.parametrize("headers", [{}, {"if_match": "*"}])
def test_who_means_whatever_stands_there_deletes_it(
    site: Site, root: ApiCaller, path: str, headers: dict[str, str]
) -> None:
    overtake(site, KINDS[path].format("Another"))
    root.done("DELETE", path, **headers)
    root.refused(404, "GET", path)
    assert [row[0].count("Another") for row in rows(site, "SELECT before FROM audit")] == [1]


@pytest.mark.parametrize("path", KINDS)
def test_who_may_not_delete_is_not_told_what_stands_there(site: Site, root: ApiCaller, path: str) -> None:
    site.write(add_user("u_nosy"))
    nosy = ApiCaller(site, "u_nosy", "users.read", "orgs.read")
    tag = root("GET", path).headers["etag"]
    assert nosy("DELETE", path, if_match=tag).json() == nosy("DELETE", path, if_match=STALE).json()
    nosy.refused(403, "DELETE", path, if_match=STALE)


# --- what hangs on users, organizations and instances ---

EVE, MEMBER, KEY = "/users/u_eve", "/orgs/o_x/members/u_eve", "/instances/i_x/keys/k_x"
UNTAGGED: list[tuple[str, str, Any]] = [
    ("PUT", f"{EVE}/permissions/x", {"effect": "deny"}),
    ("DELETE", f"{EVE}/permissions/y", None),
    ("PUT", f"{EVE}/roles/pilot", {}),
    ("DELETE", f"{EVE}/roles/sailor", None),
    ("PUT", f"{EVE}/quotas/x", {"limit": 3}),
    ("POST", f"{EVE}/quotas/y/adjust", {"amount": 1, "reason": "x"}),
    ("DELETE", f"{EVE}/quotas/y", None),
    ("POST", "/orgs/o_x/quotas/sms_messages/adjust", {"amount": 1, "reason": "x"}),
]
PLAN = ("PUT", f"{EVE}/plan", {"plan": "idle"})
TAGGED: list[tuple[str, str, Any]] = [
    ("PUT", MEMBER, {"role": "admin"}),
    ("DELETE", MEMBER, None),
    ("DELETE", KEY, None),
]


@pytest.mark.parametrize(("method", "path", "body"), [*UNTAGGED, PLAN, *TAGGED])
def test_a_tag_that_nothing_has_is_refused(site: Site, root: ApiCaller, method: str, path: str, body: Any) -> None:
    before = everything(site)
    root.refused(412, method, path, body, if_match=STALE)
    root.refused(412, method, path, body, if_match=f'{STALE}, "x"')
    assert everything(site) == before
    assert root(method, path, body, if_match="*").status_code == 200


@pytest.mark.parametrize(("method", "path", "body"), UNTAGGED)
def test_what_has_no_tag_has_not_that_of_the_user(
    site: Site, root: ApiCaller, method: str, path: str, body: Any
) -> None:
    before = everything(site)
    owner = "/".join(path.split("/")[:3])
    problem = root.refused(412, method, path, body, if_match=root("GET", owner).headers["etag"])
    assert "no entity tag" in problem["detail"]
    assert everything(site) == before


@pytest.mark.parametrize(("method", "path", "body"), [*UNTAGGED, PLAN])
def test_who_may_not_write_is_told_so_first(site: Site, root: ApiCaller, method: str, path: str, body: Any) -> None:
    site.write(add_user("u_nosy"))
    ApiCaller(site, "u_nosy", "users.read", "orgs.read").refused(403, method, path, body, if_match=STALE)


def test_a_plan_is_given_to_the_user_that_was_looked_at(site: Site, root: ApiCaller) -> None:
    read = root("GET", EVE).headers["etag"]
    site.run("UPDATE users SET plan = 'pro' WHERE id = 'u_eve'")
    root.refused(412, *PLAN, if_match=read)
    read = root("GET", EVE).headers["etag"]
    overtaken = overtake(site, "UPDATE users SET name = 'Eve' WHERE id = 'u_eve'")
    root.refused(412, *PLAN, if_match=read)
    assert everything(site) == overtaken.left
    root.done(*PLAN, if_match=root("GET", EVE).headers["etag"])
    assert root.done("GET", EVE)["plan"] == "idle"


@pytest.mark.parametrize(("method", "body"), [("PUT", {"role": "owner"}), ("DELETE", None)])
def test_a_member_is_changed_as_it_was_looked_at(site: Site, root: ApiCaller, method: str, body: Any) -> None:
    read = root("GET", MEMBER).headers["etag"]
    site.run("UPDATE memberships SET role = 'admin' WHERE user_id = 'u_eve'")
    root.refused(412, method, MEMBER, body, if_match=read)
    read = root("GET", MEMBER).headers["etag"]
    overtaken = overtake(site, "UPDATE memberships SET role = 'member' WHERE user_id = 'u_eve'")
    root.refused(412, method, MEMBER, body, if_match=read)
    assert everything(site) == overtaken.left
    root.done(method, MEMBER, body, if_match=root("GET", MEMBER).headers["etag"])


ANEW = "INSERT INTO memberships (org_id, user_id, role, created_at) VALUES ('o_x', 'u_eve', 'member', 1)"


@pytest.mark.parametrize(("method", "body"), [("PUT", {"role": "owner"}), ("DELETE", None)])
@pytest.mark.parametrize(
    "ahead",
    [
        ("DELETE FROM memberships WHERE user_id = 'u_eve'", ANEW),
        ("UPDATE memberships SET created_at = created_at - 1 WHERE user_id = 'u_eve'",),
        ("UPDATE users SET username = upper(username) WHERE id = 'u_eve'",),
        ("DELETE FROM memberships WHERE user_id = 'u_eve'",),
    ],
)
def test_a_member_of_the_same_role_is_not_the_same_for_that(
    site: Site, root: ApiCaller, method: str, body: Any, ahead: tuple[str, ...]
) -> None:
    read = root("GET", MEMBER).headers["etag"]
    overtaken = overtake(site, *ahead)
    root.refused(412, method, MEMBER, body, if_match=read)
    assert everything(site) == overtaken.left


@pytest.mark.parametrize(("method", "body"), [("PUT", {"role": "owner"}), ("DELETE", None)])
def test_who_does_not_say_which_member_is_not_held_up_by_another_name(
    site: Site, root: ApiCaller, method: str, body: Any
) -> None:
    overtake(site, "UPDATE users SET username = upper(username) WHERE id = 'u_eve'")
    root.done(method, MEMBER, body)


def test_a_member_who_is_none_has_no_tag(site: Site, root: ApiCaller) -> None:
    root.refused(412, "PUT", "/orgs/o_x/members/u_ada", {"role": "member"}, if_match=STALE)
    root.refused(404, "DELETE", "/orgs/o_x/members/u_ada", if_match=STALE)
    root.done("PUT", "/orgs/o_x/members/u_ada", {"role": "member"})


# --- reading ---


def tagged_reads(site: Site) -> list[str]:
    """The paths that the description says have an entity tag, with what stands there."""
    paths = site.client.get("/openapi.json").json()["paths"]
    names = {
        "/users/{id}": EVE,
        "/plans/{id}": "/plans/idle",
        "/roles/{id}": "/roles/pilot",
        "/orgs/{id}": "/orgs/o_x",
        "/orgs/{id}/members/{user}": MEMBER,
        "/instances/{id}": "/instances/i_x",
        "/instances/{id}/keys/{kid}": KEY,
        "/dashboard/{path}": "/dashboard/index.html",
        "/sdk/{path}": "/sdk/gateway.js",
    }
    found = [path for path, item in paths.items() if "304" in item.get("get", {}).get("responses", {})]
    return [names.get(path, path) for path in found]


def test_whoever_holds_what_stands_there_is_not_sent_it_again(site: Site, root: ApiCaller) -> None:
    paths = tagged_reads(site)
    assert len(paths) > 15
    for path in paths:
        whole = root("GET", path)
        tag = whole.headers["etag"]
        for named in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            for method in ("GET", "HEAD"):
                held = root(method, path, if_none_match=named)
                assert (held.status_code, held.content, held.headers["etag"]) == (304, b"", tag), path
                assert held.headers["cache-control"] == whole.headers["cache-control"]
                assert held.headers.get("vary") == whole.headers.get("vary")
                assert "content-type" not in held.headers
        assert root("GET", path, if_none_match=STALE).content == whole.content


def test_nothing_that_is_read_has_a_tag_beside_those(site: Site, root: ApiCaller) -> None:
    paths = site.client.get("/openapi.json").json()["paths"]
    others = [path for path, item in paths.items() if "get" in item and "304" not in item["get"]["responses"]]
    asked = [path for path in others if "{" not in path and "/admin/changes" not in path]
    assert len(asked) > 10
    assert [path for path in asked if "etag" in root("GET", path).headers] == []


def test_a_change_is_seen_by_who_asks_whether_there_is_one(site: Site, root: ApiCaller) -> None:
    tag = root("GET", EVE).headers["etag"]
    root.done("PATCH", EVE, {"name": "Eve"})
    assert root.done("GET", EVE, if_none_match=tag)["name"] == "Eve"


def test_another_than_the_one_that_is_asked_for_is_not_sent(site: Site, root: ApiCaller) -> None:
    for path in tagged_reads(site):
        whole = root("GET", path)
        for named in (whole.headers["etag"], "*"):
            assert root("GET", path, if_match=named).content == whole.content
        for named in (STALE, f"W/{whole.headers['etag']}"):
            assert [root(method, path, if_match=named).status_code for method in ("GET", "HEAD")] == [412, 412], path


# --- what must not stand there ---

NOBODY = "/orgs/o_x/members/u_ada"
WRITES = [
    *(PLAN, *TAGGED, ("PATCH", EVE, {"name": "Eve"}), ("PUT", "/roles/pilot", {"permissions": []})),
    *(("DELETE", path, None) for path in KINDS),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_a_write_leaves_alone_what_its_client_says_must_not_be_there(
    site: Site, root: ApiCaller, method: str, path: str, body: Any
) -> None:
    tag, before = root("GET", path.removesuffix("/plan")).headers["etag"], everything(site)
    for named in ("*", tag, f"W/{tag}", f"{STALE}, {tag}"):
        root.refused(412, method, path, body, if_none_match=named)
    assert everything(site) == before
    root.done(method, path, body, if_none_match=STALE)


@pytest.mark.parametrize(("method", "path", "body"), UNTAGGED)
def test_of_what_has_no_tag_nobody_is_told_that_there_is_none(
    site: Site, root: ApiCaller, method: str, path: str, body: Any
) -> None:
    before = everything(site)
    root.refused(412, method, path, body, if_none_match="*")
    assert everything(site) == before
    root.done(method, path, body, if_none_match=STALE)


def test_to_be_changed_and_not_made(site: Site, root: ApiCaller) -> None:
    before = everything(site)
    root.refused(412, "PUT", NOBODY, {"role": "member"}, if_match="*")
    assert everything(site) == before
    assert root.done("PUT", MEMBER, {"role": "admin"}, if_match="*")["seq"] > 0


def test_to_be_changed_and_not_made_while_it_goes(site: Site, root: ApiCaller) -> None:
    overtaken = overtake(site, "DELETE FROM memberships WHERE user_id = 'u_eve'")
    root.refused(412, "PUT", MEMBER, {"role": "admin"}, if_match="*")
    assert everything(site) == overtaken.left


def test_to_be_made_and_not_changed(root: ApiCaller) -> None:
    root.done("PUT", NOBODY, {"role": "member"}, if_none_match="*")
    root.refused(412, "PUT", NOBODY, {"role": "owner"}, if_none_match="*")
    assert root.done("GET", NOBODY)["role"] == "member"


def test_to_be_made_and_not_changed_while_it_comes(site: Site, root: ApiCaller) -> None:
    overtaken = overtake(site, "INSERT INTO memberships (org_id, user_id, role) VALUES ('o_x', 'u_ada', 'member')")
    root.refused(412, "PUT", NOBODY, {"role": "owner"}, if_none_match="*")
    assert everything(site) == overtaken.left


# --- what was made ---


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/auth/register", {"username": "new", "plan": "free"}),
        ("/plans", {"id": "new"}),
        ("/roles", {"id": "new"}),
        ("/orgs", {"id": "new", "plan": "free"}),
        ("/orgs/o_x/members", {"user": "u_ada", "role": "member"}),
        ("/instances", {"id": "new"}),
    ],
)
def test_what_was_made_is_answered_with_the_tag_that_it_has_where_it_is(root: ApiCaller, path: str, body: Any) -> None:
    answer = root("POST", path, body)
    assert answer.status_code == 201
    assert root("GET", answer.headers["location"]).headers["etag"] == answer.headers["etag"]
