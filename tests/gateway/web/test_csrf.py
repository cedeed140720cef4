"""Pages of other origins, which can make a browser send its cookies and must get nothing written by that."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.store.database import Statement
from tests.gateway.web.conftest import Site, StartSite
from tests.support.signed_in import ACCESS, ORIGIN, PASSWORD, Browser, cheap_hash

FOREIGN = [
    "https://evil.example",
    "null",
    "",
    " ",
    "https://testserver.evil.example",
    "https://eviltestserver",
    "https://testserver@evil.example",
    "https://testserver:444",
    "https://testserver:443@evil.example",
    "http://testserver",
    "https://testserver.",
    "https://testserver/",
    "https://testserver/evil",
    "https://testserver?x",
    "https://testserver#x",
    "https://TESTSERVER.evil.example",
    "https://te\u0455tserver",
    "https://xn--testerver-fbh",
    "//testserver",
    "testserver",
    "https:testserver",
    "ws://testserver",
    "file://testserver",
    "https://testserver, https://evil.example",
    "https://testserver https://evil.example",
    "https://[::1",
    "https://testserver:x",
]


@pytest.fixture
def site(start_site: StartSite) -> Site:
    site = start_site(base_url=ORIGIN)
    site.run("UPDATE users SET password_hash = ?", cheap_hash())
    return site


@pytest.fixture
def browser(site: Site) -> Browser:
    browser = Browser(site.client)
    browser.sign_in()
    return browser


def position(site: Site) -> int:
    seq: int = site.call(site.node.database.read, Statement("SELECT max(seq) FROM change_log"))[0][0][0]
    return seq


def refused(answer: Any) -> bool:
    return (answer.status_code, answer.json()["code"]) == (403, "forbidden") and "set-cookie" not in answer.headers


# --- writes ---

WRITES = [
    ("POST", "/auth/logout", {}),
    ("POST", "/auth/logout", {"everywhere": True}),
    ("POST", "/auth/password", {"old_password": PASSWORD, "new_password": "rings of saturn, many"}),
    ("POST", "/auth/register", {"username": "eve", "plan": "free"}),
    ("POST", "/auth/ticket", None),
    ("POST", "/auth/tokens", {"name": "evil"}),
    ("POST", "/auth/refresh", None),
    ("DELETE", "/auth/sessions/{session}", None),
    ("DELETE", "/auth/tokens/t_1", None),
    ("POST", "/api/auth/validate", None),
    ("POST", "/api/quotas/voice_minutes/consume", {"amount": 1, "key": "x"}),
    ("POST", "/api/quotas/voice_minutes/leases", {"amount": 1, "ttl_s": 60, "lease": "x"}),
    ("POST", "/users/u_ada/quotas/voice_minutes/adjust", {"amount": 1, "reason": "x"}),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_a_write_needs_the_csrf_token_of_its_session(site: Site, method: str, path: str, body: Any) -> None:
    browser, other, stranger = (Browser(site.client) for _ in range(3))
    session = browser.sign_in("root")["session"]
    path = path.replace("{session}", session)
    other.sign_in("root")
    stranger.sign_in("grace")
    before = position(site)
    good = browser.csrf or ""
    bad = [None, "", "x", good[:-1], good + "x", good.swapcase(), other.csrf, stranger.csrf, session, f'"{good}"']
    for csrf in [*bad, browser.cookies[ACCESS], browser.cookies["__Host-gateway_device"]]:
        assert refused(browser.request(method, path, body, x_csrf_token=csrf)), csrf
    assert position(site) == before
    assert browser.get("/api/identity").status_code == 200


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_a_write_needs_a_trusted_origin(site: Site, method: str, path: str, body: Any) -> None:
    browser = Browser(site.client)
    session = browser.sign_in("root")["session"]
    before = position(site)
    for origin in [None, *FOREIGN]:
        answer = browser.request(method, path.replace("{session}", session), body, origin=origin)
        assert refused(answer), origin
    assert position(site) == before


def test_with_both_it_is_done(site: Site, browser: Browser) -> None:
    assert browser.post("/auth/ticket", origin=ORIGIN).status_code == 200
    assert refused(browser.post("/auth/ticket", origin=f"{ORIGIN}:443")), "no browser writes it so"


def test_two_of_one_header_are_none(site: Site, browser: Browser) -> None:
    csrf = browser.csrf or ""
    for headers in (
        [("origin", ORIGIN), ("origin", "https://evil.example"), ("x-csrf-token", csrf)],
        [("origin", "https://evil.example"), ("origin", ORIGIN), ("x-csrf-token", csrf)],
        [("origin", ORIGIN), ("x-csrf-token", csrf), ("x-csrf-token", "x")],
        [("origin", ORIGIN), ("x-csrf-token", "x"), ("x-csrf-token", csrf)],
    ):
        assert refused(browser.client.post("/auth/ticket", headers=headers))


def test_a_csrf_token_anywhere_else_does_not_count(browser: Browser) -> None:
    csrf = browser.csrf or ""
    answer = browser.client.post(
        "/auth/tokens",
        params={"X-CSRF-Token": csrf, "csrf_token": csrf},
        json={"name": "x"},
        headers={"origin": ORIGIN},
    )
    assert refused(answer)
    browser.client.cookies.set("X-CSRF-Token", csrf)
    assert refused(browser.post("/auth/ticket", x_csrf_token=None))


def test_a_method_in_a_header_makes_no_read_a_write(site: Site, browser: Browser) -> None:
    before = position(site)
    for method in ("GET", "HEAD"):
        browser.request(method, "/auth/tokens", x_http_method_override="POST", x_csrf_token=None)
    assert position(site) == before


def test_a_form_of_another_site_writes_nothing(site: Site, browser: Browser) -> None:
    """What a page can send without asking first: forms and plain text. The origin is its own."""
    before = position(site)
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"):
        for path in ("/auth/logout", "/auth/tokens", "/auth/ticket", "/auth/refresh"):
            answer = browser.client.post(
                path, content=b'{"name": "evil"}', headers={"origin": "https://evil.example", "content-type": kind}
            )
            assert answer.status_code in (403, 415)
            assert "set-cookie" not in answer.headers
    assert position(site) == before


# --- reads ---


def test_nothing_is_shared_with_other_origins(browser: Browser) -> None:
    """No answer lets a page of another origin read it, and none says that one may ask."""
    for path in ("/auth/csrf", "/auth/sessions", "/auth/tokens", "/api/identity", "/api/document"):
        answer = browser.get(path, origin="https://evil.example")
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-type"] == "application/json"
        preflight = browser.request(
            "OPTIONS", path, origin="https://evil.example", access_control_request_method="POST", x_csrf_token=None
        )
        assert preflight.status_code == 405
        assert not [name for name in preflight.headers if name.startswith("access-control")]


# --- logins ---


def sign_in(browser: Browser, **headers: str | None) -> Any:
    return browser.post("/auth/login", {"username": "grace", "password": PASSWORD, "cookie": True}, **headers)


def test_another_sites_page_signs_nobody_in(site: Site, browser: Browser) -> None:
    """The visitor would go on as the attacker, and tell what is meant for nobody."""
    before = position(site)
    for origin in FOREIGN:
        assert refused(sign_in(browser, origin=origin)), origin
    assert position(site) == before
    assert browser.get("/api/identity").json()["id"] == "u_ada"


def test_a_program_that_keeps_cookies_has_no_origin(site: Site) -> None:
    program = Browser(site.client, origin=None)
    assert sign_in(program).status_code == 200
    assert program.get("/api/identity").json()["id"] == "u_grace"


def test_signing_in_as_somebody_else_makes_the_old_pages_token_worthless(browser: Browser) -> None:
    old = browser.csrf
    assert sign_in(browser).status_code == 200
    assert refused(browser.post("/auth/ticket", x_csrf_token=old))


# --- which origins are trusted ---


def test_the_configured_origins_are_the_only_ones(start_site: StartSite) -> None:
    site = start_site(base_url=ORIGIN, server={"allowed_origins": ("https://app.example.org", "http://localhost:3000")})
    site.run("UPDATE users SET password_hash = ?", cheap_hash())
    browser = Browser(site.client, "https://app.example.org")
    browser.sign_in()
    for origin, status in (
        *(("https://app.example.org", 200), ("http://localhost:3000", 200), (ORIGIN, 403), ("null", 403)),
        *(("https://app.example.org:443", 403), ("https://APP.example.org", 403), ("http://app.example.org", 403)),
        *(
            ("http://localhost", 403),
            ("https://sub.app.example.org", 403),
            ("https://app.example.org.evil.example", 403),
        ),
    ):
        answer = browser.post("/auth/ticket", origin=origin)
        assert answer.status_code == status, origin
        assert status == 200 or "server.allowed_origins" in answer.json()["detail"]


@pytest.mark.parametrize("host", ["evil.example", "", "testserver:444", "testserver, evil.example"])
def test_a_host_that_was_made_up_trusts_only_its_own_pages(site: Site, browser: Browser, host: str) -> None:
    """A browser can not be made to send another host than the page's address, so that this gains nobody anything: the
    cookies of this host do not go there."""
    answer = browser.post("/auth/ticket", host=host)
    assert refused(answer)


def test_behind_a_proxy_the_clients_scheme_is_the_origins(start_site: StartSite) -> None:
    site = start_site(base_url="http://testserver", server={"trusted_proxies": ("127.0.0.1",)})
    site.run("UPDATE users SET password_hash = ?", cheap_hash())
    browser = Browser(site.client)
    browser.client.base_url = "http://testserver"  # the proxy asks by plain HTTP
    body = {"username": "ada", "password": PASSWORD, "cookie": True}
    assert browser.post("/auth/login", body, x_forwarded_proto="https").status_code == 200
    for scheme in ("http", "", "gopher", "https, http"):
        assert refused(browser.post("/auth/login", body, x_forwarded_proto=scheme)), scheme
