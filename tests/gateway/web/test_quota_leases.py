"""Units that are held over HTTP: reserved, looked at, extended, committed, released, and ended by their time."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import quote

import pytest

from gateway.core.clock import parse_rfc3339
from tests.gateway.web.conftest import Site, StartSite
from tests.support.api_caller import ApiCaller, at_once, rows
from tests.support.people import add_plan
from tests.support.signed_in import ORIGIN, Browser, cheap_hash

Json = dict[str, Any]
LEASES = "/api/quotas/voice_minutes/leases"
_keys = (f"key {number}" for number in itertools.count(1))


@pytest.fixture
def ada(site: Site) -> ApiCaller:
    """On the plan pro: 500 voice minutes a month."""
    return ApiCaller(site, "u_ada")


def reserve(caller: ApiCaller, lease: str = "call", amount: int = 10, *, status: int = 201, **fields: Any) -> Json:
    return caller.done("POST", LEASES, {"lease": lease, "amount": amount, "ttl_s": 60, **fields}, status=status)


def place(lease: str = "call", action: str = "", quota: str = "voice_minutes") -> str:
    return f"/api/quotas/{quota}/leases/{quote(lease, safe='')}" + (f"/{action}" if action else "")


def balance(site: Site, owner: str = "user:u_ada") -> tuple[int, int]:
    """Used and reserved."""
    [found] = rows(
        site, "SELECT coalesce(sum(used), 0), coalesce(sum(reserved), 0) FROM quota_usage WHERE owner = ?", owner
    )
    return found


def everything_spent(site: Site) -> list[Any]:
    return [
        *rows(site, "SELECT * FROM quota_usage"),
        *rows(site, "SELECT * FROM leases"),
        *rows(site, "SELECT count(*) FROM quota_ledger"),
    ]


def end(site: Site, lease: str = "call") -> None:
    """Its time is over."""
    site.run("UPDATE leases SET expires_at = 1 WHERE id = ?", lease)


# --- the whole life of one ---


def test_a_lease_is_reserved_extended_and_committed(site: Site, ada: ApiCaller) -> None:
    before = site.node.clock.now().wall
    response = ada("POST", LEASES, {"lease": "call", "amount": 10, "ttl_s": 60})
    assert response.status_code == 201
    assert response.headers["location"] == place()
    made = response.json()
    assert response.headers["gateway-seq"] == str(made["seq"])
    assert made == {
        "quota": "voice_minutes",
        "limit": 500,
        "used": 0,
        "reserved": 10,
        "remaining": 490,
        "period": "month",
        "hard": True,
        "resets_at": made["resets_at"],
        "level": "ok",
        "seq": made["seq"],
        "lease": "call",
        "held": 10,
        "expires_at": made["expires_at"],
        "state": "open",
    }
    assert before + 60_000 <= parse_rfc3339(made["expires_at"]) <= site.node.clock.now().wall + 60_000
    found = ada("GET", place())
    assert (found.json(), "gateway-seq" in found.headers) == (made, False)
    extended = ada.done("POST", place(action="extend"), {"ttl_s": 120, "amount": 5, "key": "more"})
    assert (extended["held"], extended["reserved"], extended["remaining"]) == (15, 15, 485)
    assert parse_rfc3339(extended["expires_at"]) >= parse_rfc3339(made["expires_at"]) + 59_000
    response = ada("POST", place(action="commit"), {"amount": 12})
    committed = response.json()
    assert response.headers["gateway-seq"] == str(committed["seq"])
    assert (committed["state"], committed["committed"], committed["held"]) == ("committed", 12, 15)
    assert (committed["used"], committed["reserved"], committed["remaining"]) == (12, 0, 488)
    assert balance(site) == (12, 0)
    assert ada.done("GET", place())["state"] == "committed"
    assert rows(site, "SELECT max(seq) FROM change_log") == [(committed["seq"],)]


def test_a_lease_is_given_back(site: Site, ada: ApiCaller) -> None:
    reserve(ada)
    bodies: list[Json | None] = [{}, None]
    for body in bodies:
        response = ada("POST", place(action="release"), body)
        released = response.json()
        assert (response.status_code, released["state"], released["remaining"]) == (200, "released", 500)
        assert "committed" not in released
        assert response.headers["gateway-seq"] == str(released["seq"])
    assert balance(site) == (0, 0)


def test_what_is_reserved_is_not_there_to_be_spent(site: Site, ada: ApiCaller) -> None:
    reserve(ada, "first", 400)
    problem = ada.refused(409, "POST", LEASES, {"lease": "second", "amount": 101, "ttl_s": 60})
    assert (problem["code"], problem["quota"], problem["remaining"]) == ("quota_exceeded", "voice_minutes", 100)
    assert parse_rfc3339(problem["resets_at"]) > site.node.clock.now().wall
    body = {"amount": 101, "key": "x"}
    assert ada.refused(409, "POST", "/api/quotas/voice_minutes/consume", body)["remaining"] == 100
    more = {"ttl_s": 60, "amount": 101, "key": "y"}
    assert ada.refused(409, "POST", place("first", "extend"), more)["remaining"] == 100
    assert balance(site) == (0, 400)


# --- asked again ---


def test_reserving_again_is_the_same_lease(site: Site, ada: ApiCaller) -> None:
    made = reserve(ada)
    before = everything_spent(site)
    again = ada("POST", LEASES, {"lease": "call", "amount": 10, "ttl_s": 3600})
    assert again.status_code == 200
    assert "location" not in again.headers
    assert (again.json()["held"], again.json()["expires_at"]) == (10, made["expires_at"])
    assert again.headers["gateway-seq"] == str(again.json()["seq"])
    assert everything_spent(site) == before


def test_the_header_names_the_lease(site: Site, ada: ApiCaller) -> None:
    body = {"amount": 10, "ttl_s": 60}
    assert ada.done("POST", LEASES, body, status=201, idempotency_key="from the header")["lease"] == "from the header"
    assert ada.done("POST", LEASES, body, idempotency_key='"from the header"')["held"] == 10
    assert reserve(ada, "from the header", status=200)["held"] == 10
    again = ada.done("POST", LEASES, body | {"lease": "from the header"}, idempotency_key="from the header")
    assert again["lease"] == "from the header"
    assert balance(site) == (0, 10)
    ada.refused(400, "POST", LEASES, body | {"lease": "call"}, idempotency_key="another")
    assert ada.refused(400, "POST", LEASES, body)["code"] == "bad_request"


def test_many_who_reserve_at_once_make_one_lease(site: Site, ada: ApiCaller) -> None:
    answers = at_once(site, [ada.request("POST", LEASES, {"lease": "call", "amount": 10, "ttl_s": 60})] * 20)
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert balance(site) == (0, 10)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (LEASES, {"amount": 11}),
        (LEASES, {"org": "o_acme"}),
        ("/api/quotas/sms_messages/leases", {}),
    ],
)
def test_a_name_for_another_request_is_a_conflict(site: Site, ada: ApiCaller, path: str, fields: Json) -> None:
    reserve(ada)
    before = everything_spent(site)
    body = {"lease": "call", "amount": 10, "ttl_s": 60} | fields
    assert ada.refused(409, "POST", path, body)["code"] == "conflict"
    assert everything_spent(site) == before


def test_a_name_whose_lease_is_over_is_used_up(site: Site, ada: ApiCaller) -> None:
    body = {"amount": 1, "ttl_s": 60}
    for lease, action in (("committed", {"amount": 0}), ("released", {})):
        reserve(ada, lease, 1)
        ada.done("POST", place(lease, "commit" if action else "release"), action)
        assert ada.refused(409, "POST", LEASES, body | {"lease": lease})["code"] == "conflict"
    reserve(ada, "expired", 1)
    end(site, "expired")
    assert ada.refused(409, "POST", LEASES, body | {"lease": "expired"})["code"] == "lease_expired"
    assert balance(site) == (0, 0)


def test_adding_units_is_done_once_for_each_key(site: Site, ada: ApiCaller) -> None:
    reserve(ada)
    more = {"ttl_s": 60, "amount": 5, "key": "more"}
    extend = place(action="extend")
    assert [ada.done("POST", extend, more)["held"] for _ in range(3)] == [15, 15, 15]
    plain = {"ttl_s": 60, "amount": 5}
    assert ada.done("POST", extend, plain, idempotency_key="more")["held"] == 15
    assert ada.refused(409, "POST", extend, more | {"amount": 6})["code"] == "conflict"
    assert ada.refused(400, "POST", extend, more, idempotency_key="other")["code"] == "bad_request"
    assert ada.refused(400, "POST", extend, plain)["code"] == "bad_request"
    assert ada.done("POST", extend, plain, idempotency_key="again")["held"] == 20
    assert balance(site) == (0, 20)


def test_a_lease_lasts_longer_without_a_key_and_never_shorter(ada: ApiCaller) -> None:
    reserve(ada, ttl_s=3600)
    until = ada.done("GET", place())["expires_at"]
    assert ada.done("POST", place(action="extend"), {"ttl_s": 1})["expires_at"] == until
    assert ada.done("POST", place(action="extend"), {"ttl_s": 3600, "amount": 0})["expires_at"] >= until


def test_committing_again(site: Site, ada: ApiCaller) -> None:
    reserve(ada)
    first = ada.done("POST", place(action="commit"), {"amount": 4})
    again = ada.done("POST", place(action="commit"), {"amount": 4})
    assert (again["committed"], again["used"], again["state"]) == (first["committed"], 4, "committed")
    for path, body in (("commit", {"amount": 5}), ("commit", {"amount": 0}), ("release", {}), ("extend", {"ttl_s": 9})):
        assert ada.refused(409, "POST", place(action=path), body)["code"] == "conflict"
    assert balance(site) == (4, 0)


def test_after_a_release_nothing_is_committed(site: Site, ada: ApiCaller) -> None:
    reserve(ada)
    ada.done("POST", place(action="release"))
    for path, body in (("commit", {"amount": 4}), ("commit", {"amount": 0}), ("extend", {"ttl_s": 9})):
        assert ada.refused(409, "POST", place(action=path), body)["code"] == "conflict"
    assert balance(site) == (0, 0)


def test_no_more_is_committed_than_is_held(site: Site, ada: ApiCaller) -> None:
    reserve(ada)
    for amount in (11, 2**31, 2**53 - 1):
        problem = ada.refused(400, "POST", place(action="commit"), {"amount": amount})
        assert (problem["code"], problem["detail"]) == ("bad_request", "The lease holds 10.")
    assert balance(site) == (0, 10)
    assert ada.done("POST", place(action="commit"), {"amount": 10})["used"] == 10


def test_a_commit_and_a_release_at_once_have_one_outcome(site: Site, ada: ApiCaller) -> None:
    reserve(ada)
    commit = ada.request("POST", place(action="commit"), {"amount": 7})
    answers = at_once(site, [commit, ada.request("POST", place(action="release"))] * 5)
    state = ada.done("GET", place())["state"]
    assert state in ("committed", "released")
    asked = ["committed", "released"] * 5
    assert [answer.status_code for answer in answers] == [200 if one == state else 409 for one in asked]
    assert balance(site) == ((7, 0) if state == "committed" else (0, 0))


# --- the end ---


def test_a_lease_ends_by_itself(site: Site, ada: ApiCaller) -> None:
    reserve(ada)
    end(site)
    found = ada.done("GET", place())
    assert (found["state"], found["reserved"], found["remaining"]) == ("expired", 0, 500)
    for path, body in (
        ("commit", {"amount": 4}),
        ("commit", {"amount": 0}),
        ("extend", {"ttl_s": 9}),
        ("extend", {"ttl_s": 9, "amount": 1, "key": "k"}),
    ):
        problem = ada.refused(409, "POST", place(action=path), body)
        assert problem["code"] == "lease_expired"
    assert ada.done("POST", place(action="release"))["state"] == "expired"
    assert balance(site) == (0, 0)


@pytest.mark.parametrize(("action", "body"), [("commit", {"amount": 4}), ("extend", {"ttl_s": 9}), ("release", {})])
def test_the_end_is_strict_for_whoever_comes_first(site: Site, ada: ApiCaller, action: str, body: Json) -> None:
    """Also where nothing has noticed yet that the time is over."""
    reserve(ada)
    end(site)
    answer = ada("POST", place(action=action), body)
    expected = (200, None) if action == "release" else (409, "lease_expired")
    assert (answer.status_code, answer.json().get("code")) == expected
    assert balance(site) == (0, 0)


# --- whose, and of what ---


def test_a_lease_of_another_is_not_there(site: Site, ada: ApiCaller) -> None:
    reserve(ada)
    before = everything_spent(site)
    for other in (ApiCaller(site, "u_grace"), ApiCaller(site, "u_admin")):
        told = set()
        for lease in ("call", "never"):
            for method, action, body in (
                ("GET", "", None),
                ("POST", "extend", {"ttl_s": 60}),
                ("POST", "commit", {"amount": 1}),
                ("POST", "release", {}),
            ):
                problem = other.refused(404, method, place(lease, action), body)
                told.add((problem["code"], problem["detail"]))
        assert told == {("lease_not_found", "No such lease.")}
    assert everything_spent(site) == before
    assert reserve(ApiCaller(site, "u_grace"), amount=3)["held"] == 3


def test_a_lease_of_another_quota_is_not_there(site: Site, ada: ApiCaller) -> None:
    reserve(ada)
    before = everything_spent(site)
    for method, action, body in (
        ("GET", "", None),
        ("POST", "extend", {"ttl_s": 60, "amount": 1, "key": "k"}),
        ("POST", "commit", {"amount": 1}),
        ("POST", "release", None),
    ):
        for quota in ("sms_messages", "calls", "Voice_minutes"):
            assert ada.refused(404, method, place("call", action, quota), body)["code"] == "lease_not_found"
    assert everything_spent(site) == before


def test_a_lease_of_a_pool(site: Site, ada: ApiCaller) -> None:
    site.run("INSERT INTO plan_quotas(plan, quota, limit_value) VALUES ('enterprise', 'calls', 20)")
    site.run("INSERT INTO member_caps(org_id, user_id, quota, limit_value) VALUES ('o_acme', 'u_ada', 'calls', 10)")
    path = "/api/quotas/calls/leases"
    made = ada.done("POST", path, {"lease": "pool", "amount": 8, "ttl_s": 60, "org": "o_acme"}, status=201)
    assert (made["org"], made["reserved"], made["cap"], made["cap_remaining"]) == ("o_acme", 8, 10, 2)
    assert ada.done("GET", place("pool", quota="calls"))["org"] == "o_acme"
    more = {"ttl_s": 60, "amount": 3, "key": "k"}
    assert ada.refused(409, "POST", place("pool", "extend", "calls"), more)["remaining"] == 2
    committed = ada.done("POST", place("pool", "commit", "calls"), {"amount": 5})
    assert (committed["used"], committed["cap_remaining"]) == (5, 5)
    assert balance(site, "org:o_acme") == (5, 0)
    body = {"lease": "x", "amount": 1, "ttl_s": 60, "org": "o_acme"}
    site.write(*add_plan("pool", calls=100))
    site.run("INSERT INTO organizations(id, name, plan) VALUES ('o_other', 'Other', 'pool')")
    assert ada.refused(404, "POST", path, body | {"org": "o_other"})["code"] == "not_found"
    assert ada.refused(404, "POST", path, body | {"org": "o_nobody"})["code"] == "not_found"
    ada.refused(422, "POST", path, body | {"org": "o acme"})


def test_who_was_a_member_settles_what_was_reserved(site: Site, ada: ApiCaller) -> None:
    """What was used was used; no more is held for somebody who may not take from the pool."""
    reserve(ada, org="o_acme")
    site.run("DELETE FROM memberships WHERE user_id = 'u_ada'")
    assert ada.refused(404, "POST", place(action="extend"), {"ttl_s": 60})["code"] == "not_found"
    assert ada.done("POST", place(action="commit"), {"amount": 3})["committed"] == 3
    assert balance(site, "org:o_acme") == (3, 0)


@pytest.mark.parametrize("quota", ["calls", "1quota", "%00", "a" * 65, "user:u_ada"])
def test_a_quota_that_is_not_there(site: Site, ada: ApiCaller, quota: str) -> None:
    body = {"lease": "x", "amount": 1, "ttl_s": 60}
    assert ada.refused(404, "POST", f"/api/quotas/{quota}/leases", body)["code"] == "not_found"
    assert everything_spent(site) == [(0,)]


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
    assert everything_spent(site) == [(0,)]


@pytest.mark.parametrize("name", ["a/b", ".", ".."])
def test_nor_is_it_in_the_header(site: Site, ada: ApiCaller, name: str) -> None:
    ada.refused(422, "POST", LEASES, {"amount": 1, "ttl_s": 60}, idempotency_key=name)
    assert everything_spent(site) == [(0,)]


@pytest.mark.parametrize("part", ["a" * 129, "%00", "a%00", "%0a", "%c2%85", "a%2fb", "%7f"])
def test_what_can_name_no_lease_names_nothing(ada: ApiCaller, part: str) -> None:
    for method, action, body in (("GET", "", None), ("POST", "/commit", {"amount": 0}), ("POST", "/release", None)):
        answer = ada(method, f"{LEASES}/{part}{action}", body)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


# --- bodies ---


BAD_TTLS = ["0", "0.999", "-1", "3600.001", "3601", "1e999", "9223372036854775808", '"60"', "null", "true", "[60]"]
BAD_AMOUNTS = ["-1", "1.5", "1.0", "2147483649", "9007199254740992", "9223372036854775808", '"1"', "null", "true", "[]"]


def refused(caller: ApiCaller, path: str, text: str, status: int = 422) -> None:
    headers = caller.headers | {"content-type": "application/json", "idempotency-key": next(_keys)}
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
    assert everything_spent(site) == [(0,)]


def test_what_can_not_be_done_to_a_lease(site: Site, ada: ApiCaller) -> None:
    reserve(ada)
    before = everything_spent(site)
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
    assert everything_spent(site) == before


def test_the_bounds_themselves_are_inside(ada: ApiCaller) -> None:
    assert reserve(ada, "short", 1, ttl_s=1)["state"] == "open"
    assert reserve(ada, "long", 1, ttl_s=3600)["state"] == "open"
    assert reserve(ada, "fraction", 1, ttl_s=1.5)["state"] == "open"
    assert ada.done("POST", place("long", "commit"), {"amount": 0})["committed"] == 0


# --- who ---


def test_a_narrowed_token_needs_its_scope_for_all_of_it(site: Site, ada: ApiCaller) -> None:
    reserve(ada)
    before = everything_spent(site)
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
    assert everything_spent(site) == before
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
    before = everything_spent(site)
    for action, change in (("extend", {"ttl_s": 60}), ("commit", {"amount": 1}), ("release", {})):
        for headers in ({"x_csrf_token": None}, {"x_csrf_token": "x"}, {"origin": "https://evil.example"}):
            assert browser.post(place(action=action), change, **headers).status_code == 403
    assert everything_spent(site) == before
    assert browser.get(place()).json()["state"] == "open"
    assert browser.post(place(action="commit"), {"amount": 1}).json()["used"] == 1


def test_other_methods_are_refused(ada: ApiCaller) -> None:
    for path, allowed in ((LEASES, {"POST"}), (place(), {"GET", "HEAD"}), (place(action="commit"), {"POST"})):
        for method in ("PUT", "PATCH", "DELETE"):
            answer = ada(method, path)
            assert answer.status_code == 405
            assert set(answer.headers["allow"].split(", ")) == allowed
