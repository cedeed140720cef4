"""Whoever may not ask is told so before what is wrong with the question, and of what may not be seen the same as of
what is not there.
"""

from __future__ import annotations

import gzip
from typing import Any, cast

import pytest
from httpx2 import Response
from starlette.applications import Starlette
from starlette.responses import Response as Answer
from starlette.testclient import TestClient

from gateway.config import Config
from gateway.core.networks import Networks
from gateway.errors import Forbidden, Unprocessable
from gateway.metrics import Metrics
from gateway.web.caller import Callers
from gateway.web.cookies import Cookies
from gateway.web.operation import Call, Operation, Who, operation_routes
from gateway.web.routes import operations
from tests.gateway.web.conftest import Site
from tests.support.api_caller import everything

JSON = {"content-type": "application/json"}
BODIES: dict[str, tuple[bytes, dict[str, str]]] = {
    "nothing": (b"", {}),
    "an empty object": (b"{}", JSON),
    "an unknown name": (b'{"bogus": 1}', JSON),
    "a list": (b"[]", JSON),
    "no JSON": (b"{", JSON),
    "another type": (b"{}", {"content-type": "text/plain"}),
    "a form": (b"a=b", {"content-type": "application/x-www-form-urlencoded"}),
    "too much": (b" " * 70_000, JSON),
    "a code": (gzip.compress(b"{}"), JSON | {"content-encoding": "gzip"}),
    "no end": (b'{"attributes": ' * 4_000, JSON),
}
MAKING = [("POST", path) for path in ("/auth/register", "/plans", "/roles", "/orgs", "/instances")]
EDITS = [
    (method, path) for path in ("/plans/{}", "/roles/{}", "/instances/{}", "/orgs/{}") for method in ("PUT", "PATCH")
]
BELOW = [("POST", "/instances/{}/keys"), ("POST", "/plans/{}/preview"), ("POST", "/orgs/{}/members")]
BELOW += [("PUT", "/orgs/{}/members/u_ada"), ("POST", "/orgs/{}/quotas/voice_minutes/adjust")]
OF_A_USER = [
    *(("PUT", "/users/{}"), ("PATCH", "/users/{}"), ("PUT", "/users/{}/plan"), ("PUT", "/users/{}/roles/support")),
    *(("PUT", "/users/{}/permissions/can_use_voice"), ("PUT", "/users/{}/quotas/voice_minutes")),
    ("POST", "/users/{}/quotas/voice_minutes/adjust"),
]
THERE = {"plans": "pro", "roles": "support", "instances": "i_shop", "orgs": "o_acme", "users": "u_ada"}
QUOTA = "/api/quotas/voice_minutes"
LEASE = [("POST", f"{QUOTA}/leases/l/{verb}") for verb in ("extend", "commit", "release")]
SPENDING = [("POST", f"{QUOTA}/consume"), ("POST", f"{QUOTA}/leases"), *LEASE]
FORBIDDEN = [*MAKING, *EDITS, *BELOW, ("PUT", "/roles/organization"), ("POST", "/admin/revoke-before")]
OWN = [(method, path) for method, path in OF_A_USER if path != "/users/{}"]


def named(path: str, name: str | None = None) -> str:
    return path.format(name or THERE.get(path.split("/")[1], ""))


@pytest.fixture
def furnished(site: Site) -> Site:
    """With one of each kind."""
    site.run("INSERT OR IGNORE INTO roles(id) VALUES ('support')")
    made = site.client.post("/instances", json={"id": "i_shop"}, headers=site.bearer("u_admin"))
    assert made.status_code == 201
    return site


def ask(site: Site, method: str, path: str, body: str, headers: dict[str, str]) -> Response:
    content, fields = BODIES[body]
    answer: Response = site.client.request(method, path, content=content, headers=headers | fields)
    return answer


@pytest.mark.parametrize("body", BODIES)
def test_strangers_and_those_who_may_not_are_told_nothing_of_the_body(furnished: Site, body: str) -> None:
    grace, narrowed = furnished.bearer("u_grace"), furnished.bearer("u_admin", scopes={"permissions": []})
    before = everything(furnished)
    for method, path in FORBIDDEN:
        at = named(path)
        assert ask(furnished, method, at, body, {}).status_code == 401, at
        assert ask(furnished, method, at, body, grace).json()["code"] == "forbidden", (method, at)
    for method, path in [*MAKING, *SPENDING, ("POST", "/auth/tokens"), ("POST", "/auth/password")]:
        assert ask(furnished, method, path, body, narrowed).status_code == 403, path
    for method, path in OWN:
        assert ask(furnished, method, named(path, "u_grace"), body, grace).status_code == 403, path
    assert everything(furnished) == before


@pytest.mark.parametrize("body", BODIES)
def test_what_may_not_be_seen_is_answered_as_what_is_not_there(furnished: Site, body: str) -> None:
    furnished.run("INSERT INTO organizations(id, plan) VALUES ('o_other', 'pro')")
    grace = furnished.bearer("u_grace")
    before = everything(furnished)
    hidden = [(*one, "u_ada") for one in OF_A_USER]
    hidden += [(*one, "o_other") for one in (*EDITS, *BELOW) if one[1].startswith("/orgs/")]
    for method, path, name in hidden:
        there, absent = (ask(furnished, method, named(path, one), body, grace) for one in (name, "x_nobody"))
        assert there.status_code == 404
        assert (there.content, dict(there.headers)) == (absent.content, dict(absent.headers))
    assert everything(furnished) == before


@pytest.mark.parametrize("body", BODIES)
def test_of_a_lease_that_is_not_there_no_question_is_wrong(furnished: Site, body: str) -> None:
    grace = furnished.bearer("u_grace")
    for method, path in LEASE:
        assert ask(furnished, method, path, body, grace).json()["code"] == "lease_not_found", path


OPEN = {("POST", "/auth/login"), ("POST", "/auth/refresh"), ("POST", "/auth/logout")}
"""For those who show in the body who they are."""


def test_whatever_reads_a_body_says_who_may_send_it_one(site: Site) -> None:
    table = operations(site.node, site.accounts, Config(), cast(Callers, None), cast(Cookies, None))
    reading = [operation for operation in table if operation.body is not None]
    assert len(reading) > 30
    assert {(one.method, one.path) for one in reading if one.check is None} == OPEN


@pytest.mark.parametrize("body", [body for body in BODIES if body != "nothing"])
def test_those_who_may_are_told_that_it_is_not_there_and_else_what_is_wrong(furnished: Site, body: str) -> None:
    admin = furnished.bearer("u_admin")
    for method, path in (*EDITS, *BELOW, *OF_A_USER):
        assert ask(furnished, method, named(path, "x_nobody"), body, admin).status_code == 404, (method, path)
        if body not in ("an empty object", "nothing"):
            assert ask(furnished, method, named(path), body, admin).status_code in (400, 413, 415, 422), (method, path)


def test_what_replaces_one_is_never_left_out_and_described_so(furnished: Site) -> None:
    """By nobody, though all that a user says of the own account may be left out."""
    paths = furnished.client.get("/openapi.json").json()["paths"]
    optional = [
        path for path, item in paths.items() if item.get("put", {}).get("requestBody", {}).get("required") is False
    ]
    assert optional == ["/users/{id}/roles/{role}"]
    before = everything(furnished)
    for path in ("/plans/{}", "/roles/{}", "/instances/{}", "/orgs/{}", "/users/{}"):
        assert ask(furnished, "PUT", named(path), "nothing", furnished.bearer("u_admin")).status_code == 415, path
    assert ask(furnished, "PUT", "/users/u_ada", "nothing", furnished.bearer("u_ada")).status_code == 415
    assert everything(furnished) == before


def test_users_who_write_users_are_refused_administrators_first(furnished: Site) -> None:
    furnished.run("INSERT INTO user_permissions(user_id, permission) VALUES ('u_grace', 'users.write')")
    grace = furnished.bearer("u_grace")
    for method, path in OF_A_USER:
        assert ask(furnished, method, named(path, "u_admin"), "an unknown name", grace).status_code == 403
        assert ask(furnished, method, named(path, "u_ada"), "an unknown name", grace).status_code == 422


class Checked:
    """One operation with a check, and how often that is asked."""

    def __init__(self, *, refuses: bool) -> None:
        self.asked = 0

        async def check(call: Call) -> None:
            self.asked += 1
            if refuses:
                raise Forbidden("No.")

        async def answer(call: Call) -> Answer:
            if call.request.query_params.get("wrong"):
                raise Unprocessable("Wrong.")
            return Answer("done")

        operation = Operation("POST", "/thing", answer, "Does", {200: dict[str, Any]}, Who.ALL, check=check)
        routes = operation_routes([operation], None, Metrics(), Networks(()))  # type: ignore[arg-type]
        self.client = TestClient(Starlette(routes=routes))


def test_what_the_endpoint_judges_itself_is_not_judged_twice() -> None:
    """So that a write reads no more than it has to."""
    checked = Checked(refuses=False)
    assert (checked.client.post("/thing").status_code, checked.asked) == (200, 0)
    assert (checked.client.post("/thing?wrong=1").status_code, checked.asked) == (422, 1)
    refused = Checked(refuses=True)
    assert (refused.client.post("/thing?wrong=1").status_code, refused.asked) == (403, 1)
