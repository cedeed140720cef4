"""Previews of plans over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.store.database import Statement
from tests.gateway.web.conftest import Site, one, opened
from tests.support.api_caller import ApiCaller, everything
from tests.support.people import add_user

PREVIEW = "/plans/gold/preview"
Q = {"limit": 5, "period": "month", "hard": True}


@pytest.fixture
def editor(site: Site) -> ApiCaller:
    """Grace may write plans, and is no administrator. Three users and an organization are on the plan gold."""
    editor = ApiCaller(site, "u_grace", "plans.write")
    editor.done("POST", "/plans", {"id": "gold", "permissions": ["a", "b"], "quotas": {"q": Q}}, status=201)
    site.write(*(add_user(f"u_{number}", "gold") for number in range(3)))
    site.run("INSERT INTO organizations (id, name, plan) VALUES ('o_gold', 'Gold', 'gold')")
    return editor


def test_it_tells_whom_a_change_reaches(site: Site, editor: ApiCaller) -> None:
    start = site.node.clock.now().wall - 1_000
    site.write(
        Statement("INSERT INTO user_permissions (user_id, permission, effect) VALUES ('u_1', 'c', 'deny')"),
        Statement("INSERT INTO user_permissions (user_id, permission) VALUES ('u_1', 'a')"),
        Statement("INSERT INTO user_quotas (user_id, quota, limit_value, period) VALUES ('u_0', 'q', 9, 'month')"),
        Statement("UPDATE users SET status = 'disabled' WHERE id = 'u_2'"),
        Statement(
            "INSERT INTO quota_usage (owner, quota, period_start, used, reserved) VALUES ('user:u_1', 'q', ?, 2, 2)",
            (start,),
        ),
    )
    change = {"permissions": ["b", "c"], "quotas": {"q": {"limit": 3, "period": "never"}, "r": {"limit": None}}}
    with site.connect(site.bearer("u_1")) as socket, site.connect(site.bearer("u_ada")) as other:
        opened(socket)
        opened(other)
        assert editor.done("POST", PREVIEW, change) == {
            **{"users": 3, "connected": 1, "organizations": 1},
            "permissions": {
                "gained": {"c": {"users": 1, "connected": 0}},
                "lost": {"a": {"users": 1, "connected": 0}},
            },
            "quotas": {
                "q": {
                    "before": Q,
                    "after": {"limit": 3, "period": "never", "hard": True},
                    **{"users": 2, "connected": 1, "over": 1},
                },
                "r": {
                    "before": None,
                    "after": {"limit": None, "period": "month", "hard": True},
                    **{"users": 3, "connected": 1, "over": 0},
                },
            },
        }


def test_what_is_pushed_is_what_was_foretold(site: Site, editor: ApiCaller) -> None:
    with site.connect(site.bearer("u_0")) as socket:
        opened(socket)
        change = {"permissions": ["c"], "quotas": {"q": None}}
        foretold = editor.done("POST", PREVIEW, change)
        editor.done("PATCH", "/plans/gold", change)
        patch: dict[str, Any] = one(socket, "update")["patch"]
    assert patch["permissions"] == {
        **dict.fromkeys(foretold["permissions"]["lost"]),
        **dict.fromkeys(foretold["permissions"]["gained"], True),
    }
    assert patch["quotas"] == dict.fromkeys(foretold["quotas"])
    assert {reached["connected"] for reached in foretold["permissions"]["lost"].values()} == {1}


def test_nothing_is_written_and_nothing_changes_for_nobody(site: Site, editor: ApiCaller) -> None:
    before = everything(site)
    none = {"users": 3, "connected": 0, "organizations": 1, "permissions": {"gained": {}, "lost": {}}, "quotas": {}}
    assert editor.done("POST", PREVIEW, {}) == none
    assert editor.done("POST", PREVIEW) == none
    assert editor.done("POST", PREVIEW, {"name": "Other", "permissions": ["b", "a"], "quotas": {"q": {}}}) == none
    assert editor.done("POST", PREVIEW, {"permissions": []})["permissions"]["lost"].keys() == {"a", "b"}
    assert everything(site) == before


def test_its_tag_is_that_of_the_plan_it_speaks_of(editor: ApiCaller) -> None:
    previewed = editor("POST", PREVIEW, {"permissions": []})
    etag = previewed.headers["etag"]
    assert etag == editor("GET", "/plans/gold").headers["etag"]
    assert previewed.headers["cache-control"] == "no-store"
    assert "gateway-seq" not in previewed.headers
    editor.done("PATCH", "/plans/gold", {"permissions": ["z"]}, if_match=etag)
    editor.refused(412, "PATCH", "/plans/gold", {"permissions": []}, if_match=etag)
    editor.refused(412, "POST", PREVIEW, {"permissions": []}, if_match=etag)


@pytest.mark.parametrize(
    "body",
    [
        *({"permissions": ["not a name"]}, {"quotas": {"q": {"limit": -1}}}, {"quotas": {"q": {"period": "century"}}}),
        *({"id": "other"}, {"unknown": 1}, {"permissions": None}, {"quotas": {"new": {"hard": 5}}}),
    ],
)
def test_what_a_change_would_be_refused_for(editor: ApiCaller, body: Any) -> None:
    change, preview = (editor.refused(422, method, path, body) for method, path in CHANGES)
    assert change == preview


CHANGES = (("PATCH", "/plans/gold"), ("POST", PREVIEW))


def test_who_may_not_change_a_plan_may_not_try_either(site: Site, editor: ApiCaller) -> None:
    for permission in ("users.read", "users.write", "orgs.write", "roles.write"):
        ApiCaller(site, "u_ada", permission).refused(403, "POST", PREVIEW, {})
    editor.refused(403, "POST", PREVIEW, {"permissions": ["users.write"]})
    ApiCaller(site, "u_admin").done("POST", PREVIEW, {"permissions": ["users.write"]})
    editor.refused(404, "POST", "/plans/none/preview", {})
    assert site.client.post(PREVIEW, json={}).status_code == 401


def test_who_can_have_no_document_does_not_stop_it(site: Site, editor: ApiCaller) -> None:
    site.run("UPDATE users SET timezone = 'Nowhere/Land' WHERE id = 'u_1'")
    site.run("UPDATE users SET timezone = CAST(x'ff' AS TEXT) WHERE id = 'u_2'")
    site.run("INSERT INTO user_permissions (user_id, permission) VALUES ('u_0', CAST(x'ff' AS TEXT))")
    told = editor.done("POST", PREVIEW, {"permissions": []})
    assert (told["users"], told["permissions"]["lost"]["a"]["users"]) == (3, 1)


def test_a_cookie_alone_is_not_enough(site: Site, editor: ApiCaller) -> None:
    described = site.client.get("/openapi.json").json()["paths"]["/plans/{id}/preview"]["post"]
    assert described["security"] == [{"bearer": []}, {"cookie": [], "csrf": []}]
