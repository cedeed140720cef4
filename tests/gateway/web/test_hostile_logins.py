"""Requests below ``/auth`` that are no honest ones: bodies, hosts, methods and names."""

from __future__ import annotations

import json

import pytest

from tests.gateway.web.conftest import Site, StartSite
from tests.support.signed_in import ORIGIN, PASSWORD, bearer, cheap_hash, signed_in


@pytest.fixture
def site(start_site: StartSite) -> Site:
    site = start_site(base_url=ORIGIN)
    site.run("UPDATE users SET password_hash = ?", cheap_hash())
    return site


HOSTILE: dict[str, tuple[bytes, dict[str, str], int]] = {
    "30,000 deep": (b"[" * 30_000 + b"]" * 30_000, {}, 422),
    "deep within": (b'{"username":"ada","password":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}", {}, 422),
    "NaN": (b'{"username":"ada","password":NaN}', {}, 400),
    "1e999": (b'{"username":"ada","password":1e999}', {}, 422),
    "BOM": (b'\xef\xbb\xbf{"username":"ada","password":"x"}', {}, 400),
    "UTF-16": ('{"username":"ada","password":"x"}'.encode("utf-16"), {}, 400),
    "not UTF-8": (b'{"username":"ada","password":"\xff\xfe"}', {}, 400),
    "lone surrogate": (b'{"username":"ada","password":"\\ud800"}', {}, 400),
    "cut off": (b'{"username":"ada"', {}, 400),
    "twice": (b'{"username":"ada","password":"a"}{"username":"ada","password":"b"}', {}, 400),
    "64 KiB + 1": (json.dumps({"username": "ada", "password": "x" * 70_000}).encode()[:65_537], {}, 413),
    "10 MB": (b'{"password":"' + b"x" * 10_000_000 + b'"}', {}, 413),
    "form": (b"username=ada&password=x", {"content-type": "application/x-www-form-urlencoded"}, 415),
    "text": (b'{"username":"ada","password":"x"}', {"content-type": "text/plain"}, 415),
    "multipart": (b'{"username":"ada","password":"x"}', {"content-type": "multipart/form-data; boundary=x"}, 415),
    "no type": (b'{"username":"ada","password":"x"}', {"content-type": ""}, 415),
}


@pytest.mark.parametrize("path", ["/auth/login", "/auth/refresh"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bodies_are_refused(site: Site, path: str, name: str) -> None:
    content, headers, status = HOSTILE[name]
    answer = site.client.post(path, content=content, headers={"content-type": "application/json"} | headers)
    accepted = {status} if path == "/auth/login" else {400, 413, 415, 422}
    assert answer.status_code in accepted, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 1_000


def test_of_duplicate_keys_the_last_counts_everywhere(site: Site) -> None:
    """Nobody checks one of them and uses the other."""
    content = (
        json.dumps({"username": "nobody"})[:-1]
        + ', "username": "ada", "password": "x", "password": '
        + json.dumps(PASSWORD)
    )
    answer = site.client.post("/auth/login", content=content + "}", headers={"content-type": "application/json"})
    assert answer.json()["user"]["id"] == "u_ada"


@pytest.mark.parametrize("host", ["testserver", "evil.example", "evil.example:1@testserver", "", "testserver\t"])
def test_nothing_that_is_answered_comes_from_the_host(site: Site, host: str) -> None:
    session = signed_in(site.client)
    for path, headers in (("/auth/login", {}), ("/auth/refresh", {}), ("/auth/logout", bearer(session))):
        body = {"username": "ada", "password": PASSWORD} if path == "/auth/login" else {}
        answer = site.client.post(
            path, json=body, headers={"host": host, "x-forwarded-host": "evil.example", **headers}
        )
        assert "evil" not in answer.text
        assert "evil" not in str(answer.headers)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/auth/login", {"POST"}),
        ("/auth/refresh", {"POST"}),
        ("/auth/logout", {"POST"}),
        ("/auth/password", {"POST"}),
        ("/auth/register", {"POST"}),
        ("/auth/ticket", {"POST"}),
        ("/auth/csrf", {"GET", "HEAD"}),
        ("/auth/sessions", {"GET", "HEAD"}),
        ("/auth/sessions/s_1", {"DELETE"}),
        ("/auth/tokens", {"GET", "HEAD", "POST"}),
        ("/auth/tokens/t_1", {"DELETE"}),
    ],
)
def test_other_methods_are_told_which_there_are(site: Site, path: str, allowed: set[str]) -> None:
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "WOMBAT"} - allowed:
        answer = site.client.request(method, path, headers=site.bearer())
        assert answer.status_code == 405
        assert set(answer.headers["allow"].replace(" ", "").split(",")) == allowed
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_client_may_call_itself_what_it_likes(site: Site) -> None:
    """What is stored of it is printable, and short."""
    name = "Mozilla\x1b[31m\u202e" + "x" * 2000
    headers = {b"user-agent": name.encode()}
    answer = site.client.post("/auth/login", json={"username": "ada", "password": PASSWORD}, headers=headers)
    listed = site.client.get("/auth/sessions", headers=bearer(answer.json())).json()["items"]
    assert listed[0]["user_agent"].isprintable()
    assert 0 < len(listed[0]["user_agent"]) <= 256


def test_a_request_with_a_login_never_changes_the_clients_own_token(site: Site) -> None:
    """A bearer token beside a login is not looked at."""
    answer = site.client.post(
        "/auth/login", json={"username": "ada", "password": PASSWORD}, headers={"authorization": "Bearer nonsense"}
    )
    assert answer.status_code == 200


def test_the_head_of_a_list_is_what_its_reading_would_say(site: Site) -> None:
    headers = bearer(signed_in(site.client))
    for path in ("/auth/sessions", "/auth/tokens"):
        read, head = site.client.get(path, headers=headers), site.client.head(path, headers=headers)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == read.headers["content-type"]
        assert head.headers["cache-control"] == "no-store"
    assert site.client.head("/auth/sessions").status_code == 401
