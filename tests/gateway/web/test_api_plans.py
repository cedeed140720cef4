"""Plans over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.administration import OWN_PERMISSIONS
from tests.gateway.web.conftest import Site
from tests.support.api_caller import ApiCaller, at_once, everything, rows
from tests.support.people import add_plan

GOLD: dict[str, Any] = {"id": "gold", "name": "Gold", "permissions": ["b", "a"], "quotas": {"q": {"limit": 5}}}
Q = {"limit": 5, "period": "month", "hard": True}


@pytest.fixture
def editor(site: Site) -> ApiCaller:
    """Grace may write plans, and is no administrator."""
    return ApiCaller(site, "u_grace", "plans.write")


def test_a_plan_from_its_making_to_its_end(site: Site, editor: ApiCaller) -> None:
    made = editor("POST", "/plans", GOLD)
    assert made.status_code == 201
    assert made.headers["location"] == "/plans/gold"
    shown = {"id": "gold", "name": "Gold", "permissions": ["a", "b"], "quotas": {"q": Q}}
    assert made.json() == shown | {"seq": int(made.headers["gateway-seq"])}
    read = editor("GET", "/plans/gold")
    assert (read.json(), read.headers["etag"]) == (shown, made.headers["etag"])
    replaced = editor("PUT", "/plans/gold", {"permissions": ["c"], "quotas": {}}, if_match=read.headers["etag"])
    assert replaced.json() == {
        **{"id": "gold", "name": "", "permissions": ["c"], "quotas": {}, "seq": replaced.json()["seq"]}
    }
    editor.refused(412, "PUT", "/plans/gold", GOLD, if_match=read.headers["etag"])
    patch = {"name": "G", "quotas": {"q": {"limit": None}, "r": {"limit": 1, "period": "day", "hard": False}}}
    assert editor.done("PATCH", "/plans/gold", patch)["quotas"] == {
        "q": {"limit": None, "period": "month", "hard": True},
        "r": {"limit": 1, "period": "day", "hard": False},
    }
    assert editor.done("PATCH", "/plans/gold", {"quotas": {"q": None, "r": {"hard": None}}})["quotas"] == {
        "r": {"limit": 1, "period": "day", "hard": True}
    }
    assert editor.done("DELETE", "/plans/gold").keys() == {"seq"}
    editor.refused(404, "GET", "/plans/gold")
    assert rows(site, "SELECT actor, action, target FROM audit ORDER BY id") == [
        *([("user:u_grace", "plan.write", "plan:gold")] * 4),
        ("user:u_grace", "plan.delete", "plan:gold"),
    ]


def test_the_list_is_paged(editor: ApiCaller) -> None:
    first = editor.done("GET", "/plans?limit=2")
    rest = editor.done("GET", f"/plans?limit=2&cursor={first['next']}")
    assert [plan["id"] for plan in first["items"] + rest["items"]] == ["enterprise", "free", "pro"]
    assert rest["next"] is None


@pytest.mark.parametrize("permission", ["users.read", "users.write", "orgs.write", "plans.write"])
def test_whoever_has_to_do_with_plans_reads_them(site: Site, permission: str) -> None:
    caller = ApiCaller(site, "u_ada", permission)
    assert len(caller.done("GET", "/plans")["items"]) == 3
    assert caller.done("GET", "/plans/pro")["name"] == "Pro"


def test_others_neither_read_nor_write_them(site: Site) -> None:
    before = everything(site)
    ada = ApiCaller(site, "u_ada", "users.read")
    grace = ApiCaller(site, "u_grace")
    before = everything(site)
    for method, path, body in (
        ("POST", "/plans", GOLD),
        ("PUT", "/plans/{}", {"permissions": [], "quotas": {}}),
        ("PATCH", "/plans/{}", {"name": "x"}),
        ("DELETE", "/plans/{}", None),
    ):
        for caller in (ada, grace):
            there, absent = caller(method, path.format("pro"), body), caller(method, path.format("nope"), body)
            assert (there.status_code, there.content) == (403, absent.content)
    for path in ("/plans", "/plans/pro", "/plans/nope"):
        grace.refused(403, "GET", path)
    assert everything(site) == before


def test_a_plan_that_somebody_is_on_stays(site: Site, editor: ApiCaller) -> None:
    site.write(*add_plan("team"))
    site.run("UPDATE organizations SET plan = 'team'")
    before = everything(site)
    for plan in ("pro", "team"):
        assert editor.refused(409, "DELETE", f"/plans/{plan}")["code"] == "conflict"
    editor.refused(404, "DELETE", "/plans/nope")
    assert everything(site) == before


def test_an_id_is_given_once(site: Site, editor: ApiCaller) -> None:
    before = everything(site)
    editor.refused(409, "POST", "/plans", GOLD | {"id": "pro"})
    assert everything(site) == before


@pytest.mark.parametrize("permission", sorted(OWN_PERMISSIONS))
def test_only_administrators_put_the_gateways_permissions_into_plans_or_take_them_out(
    site: Site, editor: ApiCaller, permission: str
) -> None:
    site.write(*add_plan("staff", [permission, "x"]))
    before = everything(site)
    editor.refused(403, "POST", "/plans", GOLD | {"permissions": [permission]})
    editor.refused(403, "PATCH", "/plans/free", {"permissions": [permission]})
    editor.refused(403, "PUT", "/plans/free", {"permissions": ["x", permission], "quotas": {}})
    editor.refused(403, "PATCH", "/plans/staff", {"permissions": []})
    editor.refused(403, "DELETE", "/plans/staff")
    assert everything(site) == before
    assert editor.done("PATCH", "/plans/staff", {"permissions": [permission]})["permissions"] == [permission]
    assert ApiCaller(site, "u_admin").done("PATCH", "/plans/staff", {"permissions": []})["permissions"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"id": "1st"},
        {"id": "x'; DROP TABLE plans; --"},
        {"id": ""},
        {"name": "a\nb"},
        {"name": None},
        {"permissions": ["has space"]},
        {"permissions": "users.read"},
        {"permissions": [1]},
        {"permissions": [f"p{number}" for number in range(1001)]},
        {"quotas": {"has space": {}}},
        {"quotas": {"q": {"limit": -1}}},
        {"quotas": {"q": {"limit": 2**53}}},
        {"quotas": {"q": {"period": "century"}}},
        {"quotas": {"q": {"used": 3}}},
        {"quotas": {"q": None}},
        {"users": ["u_ada"]},
    ],
)
def test_what_may_not_stand_in_a_plan_is_refused(site: Site, editor: ApiCaller, change: Any) -> None:
    before = everything(site)
    editor.refused(422, "POST", "/plans", GOLD | change)
    if "id" not in change:
        editor.refused(422, "PUT", "/plans/free", GOLD | {"id": "free"} | change)
    assert everything(site) == before


def test_a_put_says_everything_and_never_renames(site: Site, editor: ApiCaller) -> None:
    before = everything(site)
    bodies: list[Any] = [{}, {"name": "X"}, {"permissions": []}, {"quotas": {}}, GOLD]
    for body in bodies:
        editor.refused(422, "PUT", "/plans/free", body)
    editor.refused(422, "PATCH", "/plans/free", {"id": "other"})
    assert editor("PUT", "/plans/free").status_code == 415
    editor.refused(404, "PUT", "/plans/nope", {"permissions": [], "quotas": {}})
    assert everything(site) == before


def test_many_patches_at_once_are_all_kept(site: Site, editor: ApiCaller) -> None:
    sent = [
        editor.request("PATCH", "/plans/free", {"quotas": {f"q{number}": {"limit": number}}}) for number in range(30)
    ]
    assert [answer.status_code for answer in at_once(site, sent)] == [200] * 30
    assert editor.done("GET", "/plans/free")["quotas"].keys() >= {f"q{number}" for number in range(30)}


def test_the_second_of_two_updates_of_one_plan_is_refused(site: Site, editor: ApiCaller) -> None:
    tag = editor("GET", "/plans/free").headers["etag"]
    sent = [editor.request("PATCH", "/plans/free", {"name": name}, if_match=tag) for name in ("One", "Two")]
    assert sorted(answer.status_code for answer in at_once(site, sent)) == [200, 412]
