"""How leases are called over HTTP, who may ask about them, and what can not be asked."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.web.conftest import Site, StartSite
from tests.support.api_caller import ApiCaller, at_once
from tests.support.signed_in import ORIGIN, Browser, cheap_hash
from tests.support.spending_caller import LEASES, held, next_key, place, reserve


@pytest.fixture
def ada(site: Site) -> ApiCaller:
    """On the plan pro: 500 voice minutes a month, 1,000 messages, which may be passed."""
    return ApiCaller(site, "u_ada")


# --- names ---


NAMES = [
    "a",
    "a" * 128,
    "é" * 128,
    "💥" * 128,
    " a ",
    "'; --",
    "%2F",
    "a%2Fb",
    "?x=1#y",
    "a\\b",
    "..a",
    "\u202e",
    "commit",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_text_without_a_slash_names_a_lease(site: Site, ada: ApiCaller, name: str) -> None:
    response = ada("POST", LEASES, {"lease": name, "amount": 1, "ttl_s": 60})
    assert response.status_code == 201
    location = response.headers["location"]
    found, committed = at_once(
        site, [ada.request("GET", location), ada.request("POST", f"{location}/commit", {"amount": 1})]
    )
    assert (found.json()["lease"], committed.json()["lease"]) == (name, name)


@pytest.mark.parametrize(
    "name", ["", "a" * 129, "é" * 129, "a/b", "/", ".", "..", "a\0", "a\n", "\x7f", "\x9f", 1, None]
)
def test_what_can_be_no_name_is_refused(site: Site, ada: ApiCaller, name: Any) -> None:
    problem = ada.refused(422, "POST", LEASES, {"lease": name, "amount": 1, "ttl_s": 60})
    assert problem["code"] == "unprocessable"
    assert held(site) == [(0,)]


@pytest.mark.parametrize("name", ["a/b", ".", ".."])
def test_nor_is_it_in_the_header(site: Site, ada: ApiCaller, name: str) -> None:
    ada.refused(422, "POST", LEASES, {"amount": 1, "ttl_s": 60}, idempotency_key=name)
    assert held(site) == [(0,)]


def test_the_reason_is_the_reason(ada: ApiCaller) -> None:
    said = {name: ada.refused(422, "POST", LEASES, {"lease": name, "amount": 1, "ttl_s": 60}) for name in ("a/b", "..")}
    assert said["a/b"]["detail"].endswith("it has no / in it.")
    assert said[".."]["detail"].endswith("it is not . or ..")


@pytest.mark.parametrize("part", ["a" * 129, "%00", "a%00", "%0a", "%c2%85", "a%2fb", "%7f"])
def test_what_can_name_no_lease_names_nothing(ada: ApiCaller, part: str) -> None:
    for method, action, body in (("GET", "", None), ("POST", "/commit", {"amount": 0}), ("POST", "/release", None)):
        answer = ada(method, f"{LEASES}/{part}{action}", body)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


# --- bodies ---


BAD_TTLS = ["0", "0.999", "-1", "3600.001", "3601", "1e999", "9223372036854775808", '"60"', "null", "true", "[60]"]
BAD_AMOUNTS = ["-1", "1.5", "1.0", "2147483649", "9007199254740992", "9223372036854775808", '"1"', "null", "true", "[]"]


def refused(caller: ApiCaller, path: str, text: str, status: int = 422) -> None:
    headers = caller.headers | {"content-type": "application/json", "idempotency-key": next_key()}
    answer = caller.site.client.post(path, content=text, headers=headers)
    assert (answer.status_code, "code" in answer.json()) == (status, True), (text, answer.text)


def test_what_can_not_be_reserved(site: Site, ada: ApiCaller) -> None:
    for ttl_s in BAD_TTLS:
        refused(ada, LEASES, f'{{"amount": 1, "ttl_s": {ttl_s}}}')
    for amount in ("0", *BAD_AMOUNTS):
        refused(ada, LEASES, f'{{"amount": {amount}, "ttl_s": 60}}')
    for text in ("{}", '{"amount": 1}', '{"ttl_s": 60}', '{"amount": 1, "ttl_s": 60, "key": "k"}', "[]", "null"):
        refused(ada, LEASES, text)
    for text in ('{"amount": 1, "ttl_s": NaN}', '{"amount": 1, "ttl_s": Infinity}', '{"amount": 1', "x"):
        refused(ada, LEASES, text, 400)
    assert held(site) == [(0,)]


def test_what_can_not_be_done_to_a_lease(site: Site, ada: ApiCaller) -> None:
    reserve(ada)
    before = held(site)
    for amount in BAD_AMOUNTS:
        refused(ada, place(action="extend"), f'{{"ttl_s": 60, "amount": {amount}}}')
        if amount != "2147483649":
            refused(ada, place(action="commit"), f'{{"amount": {amount}}}')
    for ttl_s in BAD_TTLS:
        refused(ada, place(action="extend"), f'{{"ttl_s": {ttl_s}}}')
    for action, text in (
        ("extend", "{}"),
        ("extend", '{"ttl_s": 60, "amount": 1, "lease": "call"}'),
        ("extend", '{"ttl_s": 60, "amount": 1, "key": ""}'),
        ("commit", "{}"),
        ("commit", '{"amount": 1, "key": "k"}'),
        ("release", '{"amount": 1}'),
        ("release", "null"),
        ("release", "[]"),
    ):
        refused(ada, place(action=action), text)
    for action in ("extend", "commit", "release"):
        refused(ada, place(action=action), "{", 400)
    assert held(site) == before


def test_the_bounds_themselves_are_inside(ada: ApiCaller) -> None:
    assert reserve(ada, "short", 1, ttl_s=1)["state"] == "open"
    assert reserve(ada, "long", 1, ttl_s=3600)["state"] == "open"
    assert reserve(ada, "fraction", 1, ttl_s=1.5)["state"] == "open"
    assert ada.done("POST", place("long", "commit"), {"amount": 0})["committed"] == 0


# --- who ---


def test_a_narrowed_token_needs_its_scope_for_all_of_it(site: Site, ada: ApiCaller) -> None:
    reserve(ada)
    before = held(site)
    narrowed = ApiCaller(site, "u_ada", scopes={"permissions": ["users.read"]})
    for method, path, body in (
        ("POST", LEASES, {"lease": "x", "amount": 1, "ttl_s": 60}),
        ("GET", place(), None),
        ("POST", place(action="extend"), {"ttl_s": 60}),
        ("POST", place(action="commit"), {"amount": 1}),
        ("POST", place(action="release"), {}),
    ):
        assert narrowed.refused(403, method, path, body)["code"] == "forbidden"
        assert site.client.request(method, path, json=body).status_code == 401
    assert held(site) == before
    spending = ApiCaller(site, "u_ada", scopes={"permissions": ["quotas.spend"]})
    assert spending.done("POST", place(action="commit"), {"amount": 1})["used"] == 1


def test_a_browser_needs_its_csrf_token_and_its_own_page(start_site: StartSite) -> None:
    site = start_site(base_url=ORIGIN)
    site.run("UPDATE users SET password_hash = ?", cheap_hash())
    browser = Browser(site.client)
    browser.sign_in()
    body = {"lease": "call", "amount": 2, "ttl_s": 60}
    assert browser.post(LEASES, body, x_csrf_token=None).status_code == 403
    assert browser.post(LEASES, body).status_code == 201
    before = held(site)
    for action, change in (("extend", {"ttl_s": 60}), ("commit", {"amount": 1}), ("release", {})):
        for headers in ({"x_csrf_token": None}, {"x_csrf_token": "x"}, {"origin": "https://evil.example"}):
            assert browser.post(place(action=action), change, **headers).status_code == 403
    assert held(site) == before
    assert browser.get(place()).json()["state"] == "open"
    assert browser.post(place(action="commit"), {"amount": 1}).json()["used"] == 1


def test_other_methods_are_refused(ada: ApiCaller) -> None:
    for path, allowed in ((LEASES, {"POST"}), (place(), {"GET", "HEAD"}), (place(action="commit"), {"POST"})):
        for method in ("PUT", "PATCH", "DELETE"):
            answer = ada(method, path)
            assert answer.status_code == 405
            assert set(answer.headers["allow"].split(", ")) == allowed
