from __future__ import annotations

from typing import Any

import pytest

from gateway.core.clock import parse_rfc3339
from gateway.core.document import canonical, revision
from gateway.core.facts import Catalog, Plan
from gateway.store.database import Statement
from gateway.web.answer import matches
from gateway.web.identity import flatten
from tests.gateway.web.conftest import Site
from tests.support.people import add_token, add_user, insert, token_text

ADA = {
    "id": "u_ada",
    "username": "ada",
    "name": "Ada Lovelace",
    "email": "ada@example.org",
    "user_phone": "+15550100001",
    "xswarm_email": "ada@xswarm.example.org",
    "xswarm_phone": "+15550200001",
    "subscription_tier": "pro",
    "persona": "boss",
    "wake_word": "hey boss",
    "can_use_voice": True,
    "can_use_sms": True,
    "can_use_email": True,
    "can_provision_numbers": False,
    "voice_minutes_remaining": 500,
    "sms_messages_remaining": 1000,
}
OWN = {"plan": "pro", "status": "active", "is_admin": False}
ROUTES = [("GET", "/api/identity"), ("GET", "/api/document"), ("POST", "/api/auth/validate")]
WHY = "/api/explain?permission=can_use_voice"


def test_every_field_of_a_voice_clients_user(site: Site) -> None:
    answer = site.client.get("/api/identity", headers=site.bearer())
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    body = answer.json()
    moments = [parse_rfc3339(body.pop(name)) for name in ("created_at", "updated_at")]
    assert moments[0] <= moments[1]
    assert body == ADA | OWN


@pytest.mark.parametrize(
    ("user", "tier", "numbers", "voice", "messages"),
    [("u_grace", "free", False, 10, 20), ("u_alan", "enterprise", True, 10_000, None)],
)
def test_plans_make_the_difference(
    site: Site, user: str, tier: str, numbers: bool, voice: int, messages: int | None
) -> None:
    body = site.client.get("/api/identity", headers=site.bearer(user)).json()
    assert (body["subscription_tier"], body["can_provision_numbers"]) == (tier, numbers)
    assert (body["voice_minutes_remaining"], body["sms_messages_remaining"]) == (voice, messages)
    assert set(ADA) <= set(body)


def test_without_an_e_mail_address_it_is_null(site: Site) -> None:
    site.write(add_user("nobody"))
    body = site.client.get("/api/identity", headers=site.bearer("nobody")).json()
    assert (body["name"], body["email"]) == ("", None)
    assert "user_phone" not in body


def test_where_names_meet_attributes_lose() -> None:
    """Users set attributes themselves: none of them may pass for a permission, a quota or another user."""
    mine = {
        "id": "u_other",
        "plan": "gold",
        "subscription_tier": "gold",
        "email": "forged@example.org",
        "can_fly": True,
        "can_swim": True,
        "minutes_remaining": 10**9,
        "attributes": "mine",
        "x": 1,
    }
    document: dict[str, Any] = {
        "identity": {"id": "u_1", "plan": "free", "attributes": dict(mine)},
        "permissions": {"can_swim": True, "plan": True, "minutes_remaining": True, "voice_remaining": True},
        "quotas": {"minutes": {"remaining": 3}, "voice": {"remaining": 9}, "endless": {"used": 1}},
    }
    catalog = Catalog()
    catalog.plans = {"gold": Plan(frozenset({"can_fly", "can_swim"}), {})}
    assert flatten(document, catalog) == {
        "id": "u_1",
        "plan": "free",
        "subscription_tier": "free",
        "email": None,
        "can_fly": False,
        "can_swim": True,
        "minutes_remaining": True,
        "voice_remaining": True,
        "endless_remaining": None,
        "attributes": "mine",
        "x": 1,
    }


def test_the_etag_is_the_revision_and_gives_304(site: Site) -> None:
    bearer = site.bearer()
    document = site.client.get("/api/document", headers=bearer)
    body = document.json()
    assert (body["doc"], body["rev"]) == ("user:u_ada", revision(canonical(body["data"])))
    etag = site.client.get("/api/identity", headers=bearer).headers["etag"]
    assert etag == document.headers["etag"] == f'"{body["rev"]}"'

    known = site.client.get("/api/identity", headers=bearer | {"if-none-match": f'"older", W/{etag}'})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", etag)
    seq = site.run("UPDATE users SET name = 'Countess' WHERE id = 'u_ada'")
    new = site.client.get("/api/identity", headers=bearer | {"if-none-match": etag})
    assert (new.status_code, new.json()["name"]) == (200, "Countess")
    assert new.headers["etag"] != etag
    assert site.client.get("/api/document", headers=bearer).json()["seq"] >= seq


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ([], False),
        (['"a"'], True),
        (['W/"a"'], True),
        (["*"], True),
        (['"b"', '"c" , "a"'], True),
        (["a"], False),
        (['"A"'], False),
        (['"b"'], False),
    ],
)
def test_if_none_match(fields: list[str], same: bool) -> None:
    assert matches(fields, '"a"') is same


def test_nothing_may_be_stored(site: Site) -> None:
    bearer = site.bearer()
    etag = site.client.get("/api/identity", headers=bearer).headers["etag"]
    answers = [site.client.request(*route, headers=bearer) for route in ROUTES]
    answers += [site.client.request(*route) for route in ROUTES]
    answers += [
        site.client.get(path, headers=bearer) for path in ("/health", "/ready", "/metrics", WHY, "/api/explain")
    ]
    answers.append(site.client.get("/api/identity", headers=bearer | {"if-none-match": etag}))
    assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}
    assert {answer.status_code for answer in answers} == {200, 304, 400, 401}


@pytest.mark.parametrize(("method", "path"), [*ROUTES, ("GET", WHY)])
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Basic eDp5")],
        [("authorization", "Bearer")],
        [("authorization", f"Bearer {token_text('never issued')}")],
        [("authorization", f"Bearer {token_text('known')}")] * 2,
        [("authorization", f"Bearer {token_text('known')}"), ("authorization", "Basic eDp5")],
    ],
)
def test_without_one_good_token_401(site: Site, method: str, path: str, headers: list[tuple[str, str]]) -> None:
    site.write(add_token("u_ada", token_text("known")))
    answer = site.client.request(method, path, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "auth_failed")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE api_tokens SET revoked_at = 1",
        "UPDATE api_tokens SET expires_at = 1",
        "DELETE FROM api_tokens",
        "DELETE FROM users WHERE id = 'u_ada'",
        "UPDATE users SET status = 'disabled' WHERE id = 'u_ada'",
    ],
)
def test_a_token_that_was_good_is_refused_by_the_next_request(site: Site, sql: str) -> None:
    bearer = site.bearer()
    assert site.client.get("/api/identity", headers=bearer).status_code == 200
    site.run(sql)
    for method, path in [*ROUTES, ("GET", WHY)]:
        assert site.client.request(method, path, headers=bearer).status_code == 401, path


def test_validate_says_whose_token_it_is_and_until_when(site: Site) -> None:
    ends = site.node.clock.now().wall + 3_600_000
    endless = site.client.post("/api/auth/validate", headers=site.bearer(id="t_1")).json()
    assert endless == {"valid": True, "user_id": "u_ada", "session": "t_1", "expires_at": None}
    ending = site.client.post("/api/auth/validate", headers=site.bearer(id="t_2", expires_at=ends)).json()
    assert (ending["session"], parse_rfc3339(ending["expires_at"])) == ("t_2", ends)


def test_why_one_may(site: Site) -> None:
    now = site.node.clock.now().wall
    deny = {"permission": "can_use_voice", "effect": "deny", "starts_at": now + 86_400_000}
    site.write(insert("user_permissions", user_id="u_ada", **deny))
    body = site.client.get(WHY, headers=site.bearer()).json()
    assert (body["user"], body["permission"], body["allowed"]) == ("u_ada", "can_use_voice", True)
    assert parse_rfc3339(body["changes_at"]) == deny["starts_at"]
    plan, own = body["reasons"]
    assert (plan["source"], plan["name"], plan["counts"]) == ("plan", "pro", True)
    assert (own["source"], own["counts"], own["starts_at"]) == ("deny", False, body["changes_at"])


def test_why_one_has_so_much(site: Site) -> None:
    override = {"quota": "voice_minutes", "limit_value": 7, "period": "month"}
    site.write(insert("user_quotas", user_id="u_ada", **override))
    body = site.client.get("/api/explain?quota=voice_minutes", headers=site.bearer()).json()
    assert (body["quota"], body["balance"]["limit"], body["balance"]["remaining"]) == ("voice_minutes", 7, 7)
    assert body["changes_at"] == body["balance"]["resets_at"]
    assert [(reason["source"], reason["counts"]) for reason in body["reasons"]] == [("plan", False), ("override", True)]


def test_what_nobody_knows_has_no_reasons(site: Site) -> None:
    bearer = site.bearer()
    permission = site.client.get("/api/explain?permission=unheard", headers=bearer).json()
    assert (permission["allowed"], permission["reasons"]) == (False, [])
    quota = site.client.get("/api/explain?quota=unheard", headers=bearer).json()
    assert (quota.get("balance"), quota["reasons"]) == (None, [])


def test_others_only_for_who_may_read_them(site: Site) -> None:
    site.write(*_reader("u_grace"))
    other = f"{WHY}&user=u_alan"
    refused = site.client.get(other, headers=site.bearer("u_ada"))
    unknown = site.client.get(f"{WHY}&user=u_none", headers=site.bearer("u_ada"))
    assert (refused.status_code, refused.json()) == (404, unknown.json())
    for reader in ("u_grace", "u_admin"):
        seen = site.client.get(other, headers=site.bearer(reader))
        assert (seen.status_code, seen.json()["user"], seen.json()["allowed"]) == (200, "u_alan", True)
        assert site.client.get(f"{WHY}&user=u_none", headers=site.bearer(reader)).status_code == 404
    narrowed = site.bearer("u_grace", scopes={"permissions": ["can_use_email"]})
    assert site.client.get(other, headers=narrowed).status_code == 404
    assert site.client.get(f"{WHY}&user=u_grace", headers=narrowed).status_code == 200


def _reader(user: str) -> list[Statement]:
    return [
        insert("roles", id="support"),
        insert("role_permissions", role="support", permission="users.read"),
        insert("user_roles", user_id=user, role="support"),
    ]


@pytest.mark.parametrize("query", ["", "?permission=a&quota=b", "?user=u_ada"])
def test_one_question_at_a_time(site: Site, query: str) -> None:
    answer = site.client.get(f"/api/explain{query}", headers=site.bearer())
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
