"""Units that are held over HTTP: reserved, looked at, extended, committed, released, and ended by their time."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.clock import parse_rfc3339
from tests.gateway.web.conftest import Site
from tests.support.api_caller import ApiCaller, at_once, rows
from tests.support.people import add_plan
from tests.support.spending_caller import LEASES, balance, held, place, reserve

Json = dict[str, Any]


def end(site: Site, lease: str = "call") -> None:
    """Its time is over."""
    site.run("UPDATE leases SET expires_at = 1 WHERE id = ?", lease)


@pytest.fixture
def ada(site: Site) -> ApiCaller:
    """On the plan pro: 500 voice minutes a month, 1,000 messages, which may be passed."""
    return ApiCaller(site, "u_ada")


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
    before = held(site)
    again = ada("POST", LEASES, {"lease": "call", "amount": 10, "ttl_s": 3600})
    assert again.status_code == 200
    assert "location" not in again.headers
    assert (again.json()["held"], again.json()["expires_at"]) == (10, made["expires_at"])
    assert again.headers["gateway-seq"] == str(again.json()["seq"])
    assert held(site) == before


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
    before = held(site)
    body = {"lease": "call", "amount": 10, "ttl_s": 60} | fields
    assert ada.refused(409, "POST", path, body)["code"] == "conflict"
    assert held(site) == before


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
    before = held(site)
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
    assert held(site) == before
    assert reserve(ApiCaller(site, "u_grace"), amount=3)["held"] == 3


def test_a_lease_of_another_quota_is_not_there(site: Site, ada: ApiCaller) -> None:
    reserve(ada)
    before = held(site)
    for method, action, body in (
        ("GET", "", None),
        ("POST", "extend", {"ttl_s": 60, "amount": 1, "key": "k"}),
        ("POST", "commit", {"amount": 1}),
        ("POST", "release", None),
    ):
        for quota in ("sms_messages", "calls", "Voice_minutes"):
            assert ada.refused(404, method, place("call", action, quota), body)["code"] == "lease_not_found"
    assert held(site) == before


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
    assert held(site) == [(0,)]
