"""Cookies of a browser's session: how they are set, what they are not, and how they end."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import WebSocketDenialResponse

from gateway.auth.signed import SignedValues
from gateway.core.clock import parse_rfc3339
from gateway.core.networks import Networks
from gateway.core.sealing import Sealer
from gateway.store.database import Statement
from gateway.web.cookies import Cookies
from gateway.web.origins import Origins
from tests.gateway.web.conftest import Site, StartSite, one, opened, take
from tests.support.signed_in import ACCESS, CSRF, DEVICE, ORIGIN, PASSWORD, REFRESH, Browser, cheap_hash, set_cookies

TOKENS = {"access_token", "refresh_token", "token_type"}


@pytest.fixture
def site(start_site: StartSite) -> Site:
    site = start_site(base_url=ORIGIN)
    site.run("UPDATE users SET password_hash = ?", cheap_hash())
    return site


@pytest.fixture
def browser(site: Site) -> Browser:
    return Browser(site.client)


def sign_in_answer(browser: Browser, **fields: Any) -> Any:
    return browser.post("/auth/login", {"username": "ada", "password": PASSWORD, "cookie": True, **fields})


# --- what is set ---


def test_a_login_with_cookies_shows_no_token(site: Site, browser: Browser) -> None:
    answer = sign_in_answer(browser)
    session = answer.json()
    assert set(session) == {"session", "expires_at", "expires_in", "refresh_expires_at", "seq", "user", "csrf_token"}
    for name, value in set_cookies(answer).items():
        assert value["value"] not in answer.text, name
    assert not TOKENS & set(session)


def test_each_cookie_is_bound_to_its_host_and_hidden_from_scripts(browser: Browser) -> None:
    cookies = set_cookies(sign_in_answer(browser))
    assert set(cookies) == {ACCESS, REFRESH, DEVICE}
    ages = {ACCESS: 900, REFRESH: 604_800, DEVICE: 180 * 86_400}
    for name, cookie in cookies.items():
        assert name.startswith("__Host-")
        assert cookie["httponly"] is True
        assert cookie["secure"] is True
        assert cookie["samesite"] == "Lax", "as the specifications write it"
        assert cookie["path"] == "/"
        assert "domain" not in cookie
        assert int(cookie["max-age"]) == ages[name]
        assert len(name) + len(cookie["value"]) < 4_000


def test_the_cookie_is_enough_to_read(browser: Browser) -> None:
    browser.sign_in()
    assert browser.client.get("/api/identity").json()["id"] == "u_ada"
    assert browser.client.get("/auth/sessions").json()["items"][0]["current"] is True


def test_a_browser_without_them_is_nobody(browser: Browser) -> None:
    assert browser.get("/api/identity").status_code == 401
    assert browser.get("/auth/csrf").status_code == 401


# --- a cookie is no token, and a token no cookie ---


def test_a_cookies_value_is_no_bearer_token(site: Site, browser: Browser) -> None:
    browser.sign_in()
    for name, value in browser.cookies.items():
        answer = site.client.get("/api/identity", headers={"authorization": f"Bearer {value}"})
        assert answer.status_code == 401, name
        assert site.client.post("/auth/refresh", json={"refresh_token": value}).status_code == 401, name
        with site.connect() as socket:
            one(socket, "hello")
            socket.send_json({"op": "auth", "token": value})
            assert one(socket, "ended")["code"] == "auth_failed", name


def test_a_token_is_no_cookies_value(site: Site, browser: Browser) -> None:
    session = site.client.post("/auth/login", json={"username": "ada", "password": PASSWORD}).json()
    csrf = browser.sign_in()["csrf_token"]
    held = browser.cookies
    values = [
        *(session["access_token"], session["refresh_token"], site.token(), csrf, ""),
        *(held[REFRESH], held[DEVICE], held[ACCESS] + "x", held[ACCESS][:-3], held[ACCESS].swapcase()),
    ]
    for value in values:
        assert site.client.get("/api/identity", headers={"cookie": f"{ACCESS}={value}"}).status_code == 401, value
    for value in (held[ACCESS], held[DEVICE], session["refresh_token"], held[REFRESH] + "x"):
        sent = {"cookie": f"{REFRESH}={value}", "origin": ORIGIN, CSRF: csrf}
        assert site.client.post("/auth/refresh", headers=sent).status_code == 401, value


def test_a_cookie_without_its_prefix_is_none(site: Site, browser: Browser) -> None:
    """A page of a neighbour's host can set that one, but not one with the prefix."""
    browser.sign_in()
    for name in ("gateway_access", "__Secure-gateway_access", "__host-gateway_access", "__Host-gateway_Access"):
        answer = site.client.get("/api/identity", headers={"cookie": f"{name}={browser.cookies[ACCESS]}"})
        assert answer.status_code == 401, name


@pytest.mark.parametrize("value", ['"', ";;;=", "\x7f", "=", "a" * 60_000, "a.b.c", ".", '"a\\"'])
def test_cookies_that_nobody_set_are_none(site: Site, value: str) -> None:
    for name in (ACCESS, REFRESH, DEVICE):
        headers = {"cookie": f"{name}={value}"}
        assert site.client.get("/api/identity", headers=headers).status_code == 401
        assert site.client.get("/auth/csrf", headers=headers).status_code == 401
        assert site.client.post("/auth/refresh", headers=headers | {"origin": ORIGIN}).status_code == 401
        body = {"username": "ada", "password": PASSWORD}
        assert site.client.post("/auth/login", json=body, headers=headers).status_code == 200


class Jar:
    """Cookies of one key on a clock that is set by hand, and the request of a browser that kept them."""

    def __init__(self, key: bytes = b"k" * 32) -> None:
        self.now = 1_795_288_200_000
        signed = SignedValues(Sealer([key]), lambda: self.now)
        self.cookies = Cookies(signed, Origins((), Networks(())), access_ttl_s=900, refresh_ttl_s=3600)

    def kept(self) -> Request:
        response = Response()
        self.cookies.set_tokens(response, "s_1", "access", "refresh")
        pairs = [field.split(";")[0] for field in response.headers.getlist("set-cookie")]
        return Request({"type": "http", "headers": [(b"cookie", "; ".join(pairs).encode())]})


def test_a_value_is_good_for_as_long_as_its_cookie() -> None:
    """A copy of a cookie does not outlive the one in the browser."""
    jar = Jar()
    request = jar.kept()
    assert jar.cookies.access_token(request) == "access"
    assert jar.cookies.refresh(request) == ("s_1", "refresh")
    jar.now += 899_000
    assert jar.cookies.access_token(request) == "access"
    jar.now += 1_000
    assert jar.cookies.access_token(request) is None
    jar.now += 2_699_000
    assert jar.cookies.refresh(request) == ("s_1", "refresh")
    jar.now += 1_000
    assert jar.cookies.refresh(request) is None
    assert jar.cookies.sent_any(request)


def test_the_values_of_another_gateway_are_none_of_this_one() -> None:
    request = Jar(b"x" * 32).kept()
    assert Jar().cookies.access_token(request) is None
    assert Jar().cookies.refresh(request) is None


# --- going on and ending ---


def test_the_cookie_is_renewed_with_the_csrf_token(browser: Browser) -> None:
    session = browser.sign_in()
    before = browser.cookies
    answer = browser.post("/auth/refresh")
    assert answer.status_code == 200
    renewed = answer.json()
    assert set(renewed) == set(session) - {"user"}
    assert renewed["session"] == session["session"]
    assert set(set_cookies(answer)) == {ACCESS, REFRESH}
    assert browser.cookies[REFRESH] != before[REFRESH]
    for csrf in (session["csrf_token"], renewed["csrf_token"]):
        browser.csrf = csrf
        assert browser.post("/auth/ticket").status_code == 200


def test_two_tabs_that_renew_at_once_stay_signed_in(browser: Browser) -> None:
    browser.sign_in()
    held = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    answers = [browser.post("/auth/refresh", cookie=held) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert browser.post("/auth/refresh").status_code == 200


def test_a_page_loaded_after_the_access_cookie_ended_goes_on(browser: Browser) -> None:
    browser.sign_in()
    browser.client.cookies.delete(ACCESS)
    browser.csrf = browser.get("/auth/csrf").json()["csrf_token"]
    assert browser.get("/api/identity").status_code == 401
    assert browser.post("/auth/refresh").status_code == 200
    assert browser.get("/api/identity").status_code == 200


def test_the_csrf_token_of_a_page_that_has_only_the_access_cookie(browser: Browser) -> None:
    browser.sign_in()
    browser.client.cookies.delete(REFRESH)
    browser.csrf = browser.get("/auth/csrf").json()["csrf_token"]
    assert browser.post("/auth/ticket").status_code == 200


def test_a_ticket_of_a_cookie_opens_for_as_long_as_its_login_could_renew(site: Site, browser: Browser) -> None:
    session = sign_in_answer(browser).json()["session"]
    browser.csrf = browser.get("/auth/csrf").json()["csrf_token"]
    soon = site.node.clock.now().wall + 60_000
    token = site.accounts.access_tokens.issue("u_ada", session, until=soon)[0]
    kept = f"{ACCESS}={site.accounts.signed.dumps('cookie.access', token)}"
    ticket = browser.post("/auth/ticket", cookie=kept).json()["ticket"]
    with site.connect(path=f"/ws?ticket={ticket}") as socket:
        assert parse_rfc3339(take(socket, "hello", "ready")[1]["expires_at"]) > soon


def test_a_logout_takes_the_cookies_back_and_ends_the_sockets(site: Site, browser: Browser) -> None:
    browser.sign_in()
    stolen = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    ticket = browser.post("/auth/ticket").json()["ticket"]
    with site.connect() as socket:
        one(socket, "hello")
        socket.send_json({"op": "auth", "token": ticket})
        assert [socket.receive_json()["op"] for _ in range(2)] == ["ready", "snapshot"]
        answer = browser.post("/auth/logout")
        assert one(socket, "ended")["code"] == "revoked"
    assert {name: cookie["max-age"] for name, cookie in set_cookies(answer).items()} == {ACCESS: "0", REFRESH: "0"}
    for cookie in set_cookies(answer).values():
        assert (cookie["path"], cookie["secure"], cookie["httponly"]) == ("/", True, True)
    assert set(browser.cookies) == {DEVICE}
    assert site.client.get("/api/identity", headers={"cookie": stolen}).status_code == 401
    again = browser.post("/auth/refresh", cookie=stolen)
    assert again.status_code == 401


def test_ending_the_own_session_by_its_id_takes_the_cookies_back_too(browser: Browser) -> None:
    session = browser.sign_in()["session"]
    assert browser.delete(f"/auth/sessions/{session}").status_code == 200
    assert set(browser.cookies) == {DEVICE}


def test_a_refresh_cookie_that_is_not_good_any_more_is_taken_back(site: Site, browser: Browser) -> None:
    session = browser.sign_in()["session"]
    site.run("UPDATE login_sessions SET revoked_at = 1 WHERE id = ?", session)
    answer = browser.post("/auth/refresh")
    assert (answer.status_code, answer.json()["code"]) == (401, "auth_failed")
    assert set(browser.cookies) == {DEVICE}


def test_nothing_is_taken_back_where_no_cookie_came(browser: Browser) -> None:
    """Another site's page sends no cookie (SameSite), and must not sign anybody out."""
    answer = browser.post("/auth/refresh", origin="https://evil.example")
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_a_refused_origin_takes_nothing_back_and_uses_nothing_up(site: Site, browser: Browser) -> None:
    browser.sign_in()
    for headers in ({"origin": "https://evil.example"}, {"origin": None}, {"x_csrf_token": None}):
        answer = browser.post("/auth/refresh", **headers)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
    used = Statement("SELECT count(*) FROM refresh_tokens WHERE used_at IS NOT NULL")
    assert site.call(site.node.database.read, used) == [[(0,)]]
    assert browser.post("/auth/refresh").status_code == 200


def test_a_reused_refresh_cookie_ends_the_session(site: Site, browser: Browser) -> None:
    browser.sign_in()
    thief = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    browser.post("/auth/refresh")
    site.run("UPDATE refresh_tokens SET used_at = used_at - 10000 WHERE used_at IS NOT NULL")
    assert browser.post("/auth/refresh", cookie=thief).status_code == 401
    assert browser.get("/api/identity").status_code == 401


def test_a_bearer_token_beside_a_cookie_is_the_one_that_counts(site: Site, browser: Browser) -> None:
    """With a token in the request no page of another site made it: it needs no CSRF token."""
    browser.sign_in()
    headers = {"authorization": site.bearer("u_grace")["authorization"]}
    assert browser.client.get("/api/identity", headers=headers).json()["id"] == "u_grace"
    assert browser.client.post("/api/auth/validate", headers=headers).json()["user_id"] == "u_grace"
    assert browser.client.get("/api/identity", headers={"authorization": "Bearer x"}).status_code == 401
    assert browser.client.get("/auth/csrf", headers=headers).status_code == 401


def test_the_cookie_alone_opens_no_channel(site: Site, browser: Browser) -> None:
    browser.sign_in()
    held = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    with site.connect({"cookie": held, "origin": "http://testserver"}) as socket:
        one(socket, "hello")
        socket.send_json({"op": "auth"})
        assert one(socket, "ended")["code"] == "auth_failed"
    for origin in ("https://evil.example", "null"):
        with pytest.raises(WebSocketDenialResponse), site.connect({"cookie": held, "origin": origin}):
            pass


def test_another_users_socket_stays(site: Site, browser: Browser) -> None:
    other = Browser(site.client)
    other.sign_in("grace")
    browser.sign_in()
    with site.connect(site.bearer("u_grace")) as socket:
        opened(socket)
        browser.post("/auth/logout")
        assert other.get("/api/identity").status_code == 200
        socket.send_json({"op": "ping", "id": "1"})
        assert one(socket, "pong")["id"] == "1"
