"""Units taken from a quota over HTTP: what is answered, from which quotas, and to whom."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.clock import parse_rfc3339
from tests.gateway.web.conftest import Site, StartSite, one, opened
from tests.support.api_caller import ApiCaller, at_once, rows
from tests.support.people import add_plan
from tests.support.signed_in import ORIGIN, Browser, cheap_hash
from tests.support.spending_caller import CONSUME, next_key, spend, taken

MOST = 2**31


@pytest.fixture
def ada(site: Site) -> ApiCaller:
    """On the plan pro: 500 voice minutes a month, 1,000 messages, which may be passed."""
    return ApiCaller(site, "u_ada")


# --- what is answered ---


def test_the_answer_is_the_balance_and_the_commit(site: Site, ada: ApiCaller) -> None:
    response = ada("POST", CONSUME, {"amount": 7}, idempotency_key="call-1")
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    seq, resets_at = body.pop("seq"), body.pop("resets_at")
    assert body == {
        "quota": "voice_minutes",
        "limit": 500,
        "used": 7,
        "reserved": 0,
        "remaining": 493,
        "period": "month",
        "hard": True,
        "level": "ok",
    }
    assert response.headers["gateway-seq"] == str(seq)
    assert rows(site, "SELECT max(seq) FROM change_log") == [(seq,)]
    assert parse_rfc3339(resets_at) > site.node.clock.now().wall
    document = ada.done("GET", "/api/document")
    assert document["seq"] == seq
    assert document["data"]["quotas"]["voice_minutes"] == {
        key: value for key, value in (body | {"resets_at": resets_at}).items() if key != "quota"
    }


def test_one_who_watches_sees_the_balance_of_the_answer(site: Site, ada: ApiCaller) -> None:
    with site.connect(ada.headers) as socket:
        opened(socket)
        answered = spend(ada, 40)
        update = one(socket, "update")
    assert update["seq"] == answered["seq"]
    assert update["causes"] == ["quota_usage"]
    assert update["patch"] == {"quotas": {"voice_minutes": {"used": 40, "remaining": 460}}}


def test_an_unlimited_quota_is_counted(site: Site) -> None:
    site.write(*add_plan("endless", calls=(None, "never")))
    site.run("UPDATE users SET plan = 'endless' WHERE id = 'u_ada'")
    caller = ApiCaller(site, "u_ada")
    for used in (MOST, 2 * MOST):
        answered = spend(caller, MOST, "/api/quotas/calls/consume")
        assert answered == {
            "quota": "calls",
            "used": used,
            "period": "never",
            "level": "ok",
            "seq": answered["seq"],
        }


def test_a_soft_limit_is_counted_and_passed(ada: ApiCaller) -> None:
    answered = spend(ada, 1_001, "/api/quotas/sms_messages/consume")
    assert (answered["used"], answered["remaining"], answered["hard"]) == (1_001, 0, False)
    assert (spend(ada, 5, "/api/quotas/sms_messages/consume")["used"], answered["level"]) == (1_006, "exhausted")


def test_levels_on_the_way_to_nothing(ada: ApiCaller) -> None:
    assert [spend(ada, amount)["level"] for amount in (399, 1, 75, 25)] == ["ok", "low", "critical", "exhausted"]


# --- hard limits ---


def test_more_than_there_is_takes_nothing(site: Site, ada: ApiCaller) -> None:
    left = spend(ada, 498)
    before = taken(site)
    for amount in (3, 500, MOST):
        problem = ada.refused(409, "POST", CONSUME, {"amount": amount, "key": next_key()})
        assert (problem["code"], problem["quota"], problem["remaining"]) == ("quota_exceeded", "voice_minutes", 2)
        assert problem["resets_at"] == left["resets_at"]
        assert problem["type"] == "urn:gateway:problem:quota_exceeded"
    response = ada("POST", CONSUME, {"amount": 3, "key": next_key()})
    assert response.headers["content-type"] == "application/problem+json"
    assert "gateway-seq" not in response.headers
    assert taken(site) == before
    assert spend(ada, 2)["remaining"] == 0


def test_a_quota_that_never_resets_says_no_moment(site: Site) -> None:
    site.write(*add_plan("seats", seats=(3, "never")))
    site.run("UPDATE users SET plan = 'seats' WHERE id = 'u_ada'")
    problem = ApiCaller(site, "u_ada").refused(409, "POST", "/api/quotas/seats/consume", {"amount": 4, "key": "x"})
    assert problem["remaining"] == 3
    assert "resets_at" not in problem


def test_a_refusal_does_not_use_up_its_key(site: Site, ada: ApiCaller) -> None:
    """What was refused left nothing behind: under the same key the request is made when there is room."""
    ada.refused(409, "POST", CONSUME, {"amount": 501, "key": "big"})
    site.run("UPDATE plan_quotas SET limit_value = 600 WHERE plan = 'pro' AND quota = 'voice_minutes'")
    assert ada.done("POST", CONSUME, {"amount": 501, "key": "big"})["remaining"] == 99


def test_of_many_takers_of_the_last_units_as_many_succeed_as_there_are(site: Site, ada: ApiCaller) -> None:
    spend(ada, 497)
    asked = [ada.request("POST", CONSUME, {"amount": 1, "key": next_key()}) for _ in range(50)]
    answers = at_once(site, asked)
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [409] * 47
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"quota_exceeded"}
    assert sorted(answer.json()["used"] for answer in answers if answer.status_code == 200) == [498, 499, 500]
    assert taken(site)[:-1] == [("user:u_ada", "voice_minutes", 500, 0)]


# --- which quota, and whose ---


UNKNOWN = ["calls", "voice_minutes2", "Voice_minutes", "1quota", "user:u_ada", "-", "a" * 64, "a" * 65, "%00", "*", "'"]


@pytest.mark.parametrize("quota", [*UNKNOWN, "..%2f..", "%2e%2e", "voice_minutes%20", "voice_minutes%00", "%ff", "é"])
def test_a_quota_that_is_not_there_is_not_found(site: Site, ada: ApiCaller, quota: str) -> None:
    problem = ada.refused(404, "POST", f"/api/quotas/{quota}/consume", {"amount": 1, "key": "x"})
    assert problem["code"] == "not_found"
    assert taken(site) == [(0,)]


def test_a_pool_is_spent_by_its_members(site: Site, ada: ApiCaller) -> None:
    answered = spend(ada, 30, org="o_acme")
    assert (answered["org"], answered["quota"], answered["used"]) == ("o_acme", "voice_minutes", 30)
    assert answered["remaining"] == 9_970
    assert "cap" not in answered
    assert spend(ApiCaller(site, "u_grace"), 5, org="o_acme")["used"] == 35
    assert taken(site)[:-1] == [("org:o_acme", "voice_minutes", 35, 0)]


def test_a_cap_is_hard_and_is_told(site: Site, ada: ApiCaller) -> None:
    site.run("INSERT INTO member_caps(org_id, user_id, quota, limit_value) VALUES ('o_acme', 'u_ada', ?, 10)", "calls")
    site.run("INSERT INTO plan_quotas(plan, quota, limit_value, hard) VALUES ('enterprise', 'calls', 5, 0)")
    path = "/api/quotas/calls/consume"
    answered = spend(ada, 8, path, org="o_acme")
    assert (answered["cap"], answered["cap_remaining"], answered["remaining"]) == (10, 2, 0)
    problem = ada.refused(409, "POST", path, {"amount": 3, "key": next_key(), "org": "o_acme"})
    assert (problem["code"], problem["remaining"]) == ("quota_exceeded", 2)
    assert spend(ApiCaller(site, "u_alan"), 11, path, org="o_acme")["used"] == 19


def test_a_pool_of_others_is_not_there(site: Site, ada: ApiCaller) -> None:
    site.write(*add_plan("pool", calls=100))
    site.run("INSERT INTO organizations(id, name, plan) VALUES ('o_other', 'Other', 'pool')")
    admin = ApiCaller(site, "u_admin")
    reader = ApiCaller(site, "u_grace", "orgs.write", "orgs.read")
    path, told = "/api/quotas/calls/consume", set()
    for caller, org in ((ada, "o_other"), (ada, "o_nobody"), (ada, "u_grace"), (admin, "o_other"), (reader, "o_other")):
        problem = caller.refused(404, "POST", path, {"amount": 1, "key": next_key(), "org": org})
        told.add((problem["code"], problem["detail"]))
    assert len(told) == 1
    site.run("DELETE FROM memberships WHERE user_id = 'u_ada'")
    assert (
        ada.refused(404, "POST", CONSUME, {"amount": 1, "key": "x", "org": "o_acme"})["detail"] == next(iter(told))[1]
    )
    assert taken(site) == [(0,)]


def test_a_pool_of_a_disabled_organization_is_not_there(site: Site, ada: ApiCaller) -> None:
    site.run("UPDATE organizations SET status = 'disabled'")
    ada.refused(404, "POST", CONSUME, {"amount": 1, "key": "x", "org": "o_acme"})
    assert taken(site) == [(0,)]


@pytest.mark.parametrize("org", ["", " ", "o_acme ", "org:o_acme", "o/acme", "a" * 65, "o_acme\0", 1, ["o_acme"], True])
def test_what_can_be_no_organization_is_refused(site: Site, ada: ApiCaller, org: Any) -> None:
    ada.refused(422, "POST", CONSUME, {"amount": 1, "key": "x", "org": org})
    assert taken(site) == [(0,)]


def test_no_organization_is_the_own_quota(ada: ApiCaller) -> None:
    answered = spend(ada, 1, org=None)
    assert "org" not in answered
    assert answered["limit"] == 500


# --- who ---


def test_nobody_spends_without_a_credential(site: Site) -> None:
    for headers in ({}, {"authorization": "Bearer gw_no"}):
        answer = site.client.post(CONSUME, json={"amount": 1, "key": "x"}, headers=headers)
        assert answer.status_code == 401
    assert taken(site) == [(0,)]


@pytest.mark.parametrize("scopes", [[], ["users.write"], ["quotas"], ["quotas.spend.all"], ["Quotas.spend"], ["*"]])
def test_a_narrowed_token_spends_only_by_its_scope(site: Site, scopes: list[str]) -> None:
    for user in ("u_ada", "u_admin"):
        narrowed = ApiCaller(site, user, scopes={"permissions": scopes})
        problem = narrowed.refused(403, "POST", CONSUME, {"amount": 1, "key": "x"})
        assert problem["code"] == "forbidden"
    assert taken(site) == [(0,)]


def test_a_token_narrowed_to_spending_spends(site: Site) -> None:
    narrowed = ApiCaller(site, "u_ada", scopes={"permissions": ["quotas.spend"]})
    assert spend(narrowed, 3)["used"] == 3
    assert spend(narrowed, 3, org="o_acme")["used"] == 3


def test_who_was_disabled_or_revoked_spends_no_more(site: Site, ada: ApiCaller) -> None:
    spend(ada, 1)
    site.run("UPDATE api_tokens SET revoked_at = 1 WHERE user_id = 'u_ada'")
    ada.refused(401, "POST", CONSUME, {"amount": 1, "key": "x"})
    grace = ApiCaller(site, "u_grace")
    spend(grace, 1)
    site.run("UPDATE users SET status = 'disabled' WHERE id = 'u_grace'")
    assert grace("POST", CONSUME, {"amount": 1, "key": "x"}).status_code in (401, 404)
    assert rows(site, "SELECT sum(used) FROM quota_ledger") == [(2,)]


def test_a_browser_spends_with_its_csrf_token_from_its_own_page(start_site: StartSite) -> None:
    site = start_site(base_url=ORIGIN)
    site.run("UPDATE users SET password_hash = ?", cheap_hash())
    browser = Browser(site.client)
    browser.sign_in()
    for headers in (
        {"x_csrf_token": None},
        {"x_csrf_token": "x"},
        {"origin": "https://evil.example"},
        {"origin": None},
    ):
        assert browser.post(CONSUME, {"amount": 1, "key": "x"}, **headers).status_code == 403
    assert taken(site) == [(0,)]
    assert browser.post(CONSUME, {"amount": 1}, idempotency_key="x").json()["used"] == 1


def test_the_routes_stand_below_the_configured_place(start_site: StartSite) -> None:
    site = start_site(server={"api_base": "/v1"})
    caller = ApiCaller(site, "u_ada")
    assert spend(caller, 1, "/v1/quotas/voice_minutes/consume")["used"] == 1
    caller.refused(404, "POST", CONSUME, {"amount": 1, "key": "x"})


def test_other_methods_are_refused(ada: ApiCaller) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        answer = ada(method, CONSUME)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
