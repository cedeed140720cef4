"""The audit trail over HTTP."""

from __future__ import annotations

import pytest

from gateway.core.clock import rfc3339
from gateway.store.database import Statement
from tests.gateway.web.conftest import Site
from tests.support.api_caller import ApiCaller

BEGIN = 1_800_000_000_000


@pytest.fixture
def admin(site: Site) -> ApiCaller:
    return ApiCaller(site, "u_admin")


def add_entries(site: Site, count: int) -> None:
    sql = "INSERT INTO audit (at, actor, action, target, address, outcome) VALUES (?, ?, ?, ?, '192.0.2.1', 'ok')"
    kinds = [("user:u_ada", "session.login", "user:u_ada"), ("gateway", "keys.rotate", "keys")]
    site.write(*(Statement(sql, (BEGIN + number, *kinds[number % 2])) for number in range(count)))


def test_the_newest_come_first_in_pages_that_miss_nothing(site: Site, admin: ApiCaller) -> None:
    add_entries(site, 23)
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        page = admin.done("GET", "/audit?limit=5" + (f"&cursor={cursor}" if cursor else ""))
        seen += [row["id"] for row in page["items"]]
        cursor = page["next"]
        if len(seen) == 10:
            add_entries(site, 3)
    assert seen == list(range(23, 0, -1))


def test_a_line_says_who_did_what_to_whom_from_where(admin: ApiCaller) -> None:
    admin.done("PATCH", "/users/u_grace", {"name": "G"})
    [line] = admin.done("GET", "/audit")["items"]
    assert line.keys() == {"id", "at", "actor", "action", "target", "address", "outcome", "before", "after"}
    assert (line["actor"], line["action"], line["target"]) == ("user:u_admin", "user.update", "user:u_grace")
    assert (line["address"], line["outcome"]) == ("127.0.0.1", "ok")
    assert (line["before"]["name"], line["after"]["name"]) == ("Grace Hopper", "G")


def test_it_can_be_narrowed(site: Site, admin: ApiCaller) -> None:
    add_entries(site, 6)
    for query, ids in (
        ("user=u_ada", [5, 3, 1]),
        ("user=u_nobody", []),
        ("action=keys.rotate", [6, 4, 2]),
        (f"since={rfc3339(BEGIN + 3)}", [6, 5, 4]),
        (f"since={rfc3339(BEGIN + 3)}&user=u_ada&action=session.login", [5]),
        ("since=2100-01-01T00:00:00%2B01:00", []),
    ):
        assert [row["id"] for row in admin.done("GET", f"/audit?{query}")["items"]] == ids, query


@pytest.mark.parametrize(
    "query",
    [
        *("action=no.such", "action=", "since=yesterday", "since=5", "limit=0", "limit=201", "limit=x", "limit=-1"),
        *("cursor=", "cursor=x", "user=%00", "user=a%0Ab", "limit=5&limit=6", "limit=1.5", "limit="),
    ],
)
def test_what_can_not_be_meant_is_a_bad_request(admin: ApiCaller, query: str) -> None:
    assert admin.refused(400, "GET", f"/audit?{query}")["code"] == "bad_request"


@pytest.mark.parametrize("permission", ["users.read", "users.write", "orgs.write"])
def test_it_is_for_administrators(site: Site, permission: str) -> None:
    ApiCaller(site, "u_ada", permission).refused(403, "GET", "/audit")
    ApiCaller(site, "u_admin", scopes={"permissions": [permission]}).refused(403, "GET", "/audit")
    assert site.client.get("/audit").status_code == 401


def test_refused_attempts_are_not_in_it(site: Site, admin: ApiCaller) -> None:
    ada = ApiCaller(site, "u_ada")
    ada.refused(403, "PATCH", "/users/u_ada", {"is_admin": True})
    ada.refused(404, "DELETE", "/users/u_grace")
    admin.refused(409, "DELETE", "/users/u_admin")
    admin.refused(422, "PATCH", "/users/u_ada", {"timezone": "x"})
    assert admin.done("GET", "/audit")["items"] == []


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nobody_writes_it(admin: ApiCaller, method: str) -> None:
    assert admin(method, "/audit").status_code == 405
