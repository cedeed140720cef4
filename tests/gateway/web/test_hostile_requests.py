"""Requests that try to be more than they are: by their host, their path, their method, or what users may set."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.gateway.web.conftest import Site, StartSite

PATHS = ("/health", "/ready", "/metrics", "/api/identity", "/api/document", "/api/explain")
HOSTS = ("testserver", "evil.example", "evil.example:80@testserver", "127.0.0.1", "")


def code_of(answer: Any) -> tuple[int, str]:
    """Status and code of a failure, when it has the right form."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize("host", HOSTS)
def test_no_path_leads_anywhere_else_whatever_the_host(site: Site, host: str) -> None:
    headers = site.bearer() | {"host": host}
    for path in (
        *("/api/identity/", "/api//identity", "/API/identity", "/api/identity%2f", "/api/identity%00", "/ws/"),
        *("/x/../api/identity", "//evil.example/", "/api/identity;x", "/%2e%2e/api/identity", "/api/identity\\"),
    ):
        answer = site.client.get(f"http://testserver{path}", headers=headers, follow_redirects=False)
        assert "location" not in answer.headers
        if answer.status_code != 200:
            assert code_of(answer) == (404, "not_found")
        assert "evil" not in answer.text


@pytest.mark.parametrize("host", HOSTS)
def test_the_host_decides_nothing(start_site: StartSite, host: str) -> None:
    site = start_site(address="192.0.2.1")
    assert code_of(site.client.get("/metrics", headers={"host": host})) == (403, "forbidden")
    assert code_of(site.client.get("/api/identity", headers={"host": host})) == (401, "auth_failed")
    assert site.client.get("/api/identity", headers=site.bearer() | {"host": host}).json()["id"] == "u_ada"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "WOMBAT"])
def test_other_methods_are_refused_in_the_same_form(site: Site, method: str) -> None:
    headers = site.bearer()
    for path in PATHS:
        answer = site.client.request(method, path, headers=headers)
        assert code_of(answer) == (405, "method_not_allowed")
        assert set(answer.headers["allow"].replace(" ", "").split(",")) == {"GET", "HEAD"}


def test_a_method_in_a_header_is_no_method(site: Site) -> None:
    headers = site.bearer() | {"x-http-method-override": "GET", "x-method-override": "GET"}
    assert code_of(site.client.post("/api/identity", headers=headers)) == (405, "method_not_allowed")


def test_what_users_may_set_themselves_never_looks_like_more(site: Site) -> None:
    """Attributes with the names of identity, rights and balances do not take their place."""
    hostile = {
        "id": "u_root",
        "is_admin": True,
        "plan": "enterprise",
        "subscription_tier": "enterprise",
        "status": "super",
        "can_provision_numbers": True,
        "voice_minutes_remaining": 10**9,
        "own": 1,
    }
    site.run("UPDATE users SET attributes = ? WHERE id = 'u_grace'", json.dumps(hostile))
    flat = site.client.get("/api/identity", headers=site.bearer("u_grace")).json()
    assert {name: flat[name] for name in hostile} == {
        "id": "u_grace",
        "is_admin": False,
        "plan": "free",
        "subscription_tier": "free",
        "status": "active",
        "can_provision_numbers": False,
        "voice_minutes_remaining": 10,
        "own": 1,
    }


def test_any_question_has_an_answer(site: Site) -> None:
    headers = site.bearer()
    for name in ("'; DROP TABLE users; --", "%00", "%ff", "%F0%9F%98%80", "x" * 5000, "[]", "../../etc"):
        for question in (f"permission={name}", f"quota={name}", f"permission=a&user={name}"):
            assert site.client.get(f"/api/explain?{question}", headers=headers).status_code in (200, 404)
    assert site.client.get("/api/identity", headers=headers).status_code == 200
