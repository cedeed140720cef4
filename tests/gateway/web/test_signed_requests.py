from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from starlette.testclient import TestClient

from gateway.store.instances import Instance, add_instance
from gateway.store.ledger import list_ledger
from tests.support.api_caller import rows
from tests.support.gateway_process import wait_for
from tests.support.signed_in import bearer, cheap_hash, signed_in
from tests.support.signing import Key, sign

Json = dict[str, Any]
URL = "http://testserver"


class Deployment:
    """An instance of the running application, and what it asks."""

    def __init__(self, site: Any, **columns: Any) -> None:
        self.site = site
        made = site.accounts.instances.new_key()
        self.key = Key(made.kid, made.secret)
        site.call(add_instance, site.node.database, Instance(id="i_shop", name="Shop", **columns), made.sealed)

    def ask(self, method: str, path: str, *, body: bytes = b"", headers: Json | None = None, **how: Any) -> Any:
        sent = sign(self.key, method, URL + path, body, headers or {}, **how)
        return self.site.client.request(method, path, content=body, headers=sent)


@pytest.fixture
def shop(site: Any) -> Deployment:
    return Deployment(site)


def test_a_token_is_validated_for_an_instance(site: Any, shop: Deployment) -> None:
    answer = shop.ask("GET", "/auth/validate", headers=site.bearer("u_ada"))
    assert answer.status_code == 200, answer.text
    told = answer.json()
    own = site.client.get("/api/document", headers=site.bearer("u_ada")).json()
    assert told["active"] is True
    assert (told["doc"], told["document"], told["rev"]) == (own["doc"], own["data"], own["rev"])
    assert told["kind"] == "api_token"
    assert "scopes" not in told
    assert told["expires_at"] is None
    assert answer.headers["ratelimit-policy"] == '"default";q=6000;w=60'
    assert answer.headers["ratelimit"] == '"default";r=5999;t=1'


def test_a_narrowed_token_says_what_it_leaves(site: Any, shop: Deployment) -> None:
    scopes = {"permissions": ["can_use_voice"]}
    headers = site.bearer("u_ada", scopes=scopes, expires_at=4_000_000_000_000)
    told = shop.ask("GET", "/auth/validate", headers=headers).json()
    assert (told["scopes"], told["expires_at"]) == (["can_use_voice"], "2096-10-02T07:06:40.000Z")


def test_a_login_is_validated(site: Any, shop: Deployment) -> None:
    site.run("UPDATE users SET password_hash = ? WHERE id = 'u_ada'", cheap_hash())
    session = signed_in(site.client)
    told = shop.ask("GET", "/auth/validate", headers=bearer(session)).json()
    assert (told["active"], told["kind"], told["session"]) == (True, "login_session", session["session"])
    assert told["expires_at"] == session["expires_at"]
    site.run("UPDATE login_sessions SET revoked_at = 1")
    eventually_inactive(shop, bearer(session))


def eventually_inactive(shop: Deployment, headers: Json) -> None:
    wait_for(lambda: shop.ask("GET", "/auth/validate", headers=headers).json() == {"active": False})


@pytest.mark.parametrize("token", ["gw_nonsense", "x.y.z", "gr_refresh"])
def test_what_is_no_token_is_not_active(shop: Deployment, token: str) -> None:
    answer = shop.ask("GET", "/auth/validate", headers={"authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()) == (200, {"active": False})


def test_the_users_token_has_to_be_there(shop: Deployment) -> None:
    assert shop.ask("GET", "/auth/validate").status_code == 400
    assert shop.ask("GET", "/auth/validate", headers={"authorization": "Basic YTpi"}).status_code == 400


def test_a_disabled_user_is_not_active(site: Any, shop: Deployment) -> None:
    headers = site.bearer("u_ada")
    site.run("UPDATE users SET status = 'disabled' WHERE id = 'u_ada'")
    eventually_inactive(shop, headers)


def test_users_do_not_validate(site: Any) -> None:
    answer = site.client.get("/auth/validate", headers=site.bearer("u_ada"))
    assert (answer.status_code, answer.json()["credential"]) == (401, "signature")


# --- OAuth ---


def form(token: str) -> tuple[bytes, Json]:
    return f"token={token}".encode(), {"content-type": "application/x-www-form-urlencoded"}


def test_an_instance_introspects_and_revokes(site: Any, shop: Deployment) -> None:
    token = site.token("u_ada")
    body, headers = form(token)
    assert shop.ask("POST", "/oauth/introspect", body=body, headers=headers).json()["active"] is True
    revoked = shop.ask("POST", "/oauth/revoke", body=body, headers=headers)
    assert revoked.status_code == 200
    assert shop.ask("POST", "/oauth/introspect", body=body, headers=headers).json() == {"active": False}
    assert rows(site, "SELECT actor, action FROM audit ORDER BY id DESC LIMIT 1") == [
        ("instance:i_shop", "token.revoke")
    ]


def test_revoking_needs_a_good_signature(site: Any, shop: Deployment) -> None:
    body, headers = form(site.token("u_ada"))
    forged = sign(Key(shop.key.kid, "A" * 43), "POST", URL + "/oauth/revoke", body, headers)
    assert site.client.post("/oauth/revoke", content=body, headers=forged).status_code == 401
    assert site.client.post("/oauth/revoke", content=body, headers=headers).status_code == 401
    assert shop.ask("POST", "/oauth/revoke", body=body, headers=headers).json()["seq"] > 0


# --- quotas ---

CONSUME = "/api/quotas/voice_minutes/consume"
JSON_BODY = {"content-type": "application/json"}


def spend(shop: Deployment, fields: Json, path: str = CONSUME, **headers: str) -> Any:
    return shop.ask("POST", path, body=json.dumps(fields).encode(), headers=JSON_BODY | headers)


def test_an_instance_spends_for_whom_it_names(site: Any, shop: Deployment) -> None:
    before = rows(site, "SELECT sum(used) FROM quota_usage WHERE owner = 'user:u_ada'")[0][0] or 0
    spent = spend(shop, {"amount": 3, "key": "k1", "user": "u_ada"})
    assert spent.status_code == 200, spent.text
    assert spend(shop, {"amount": 3, "key": "k1", "user": "u_ada"}).json() == spent.json(), "the key is the user's"
    after = rows(site, "SELECT sum(used) FROM quota_usage WHERE owner = 'user:u_ada'")[0][0]
    assert after - before == 3


def test_an_instance_spends_as_the_user_whose_token_it_shows(site: Any, shop: Deployment) -> None:
    token = site.bearer("u_ada")
    assert spend(shop, {"amount": 1, "key": "k2"}, **token).status_code == 200
    assert spend(shop, {"amount": 1, "key": "k3", "user": "u_ada"}, **token).status_code == 200
    refused = spend(shop, {"amount": 1, "key": "k4", "user": "u_grace"}, **token)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    narrow = site.bearer("u_ada", scopes={"permissions": []})
    assert spend(shop, {"amount": 1, "key": "k5"}, **narrow).status_code == 403


def test_whose_quota_it_is_has_to_be_said(shop: Deployment) -> None:
    assert spend(shop, {"amount": 1, "key": "k"}).status_code == 400
    assert spend(shop, {"amount": 1, "key": "k", "user": "../x"}).status_code == 422
    assert spend(shop, {"amount": 1, "key": "k", "user": "u_nobody"}).status_code == 404


def test_the_users_bad_token_is_told_apart_from_a_bad_signature(shop: Deployment) -> None:
    refused = spend(shop, {"amount": 1, "key": "k"}, authorization="Bearer gw_nonsense")
    assert (refused.status_code, refused.json()["credential"]) == (401, "bearer")
    assert "ratelimit" in refused.headers


REFUSALS = {
    "another network": ("UPDATE instances SET networks = '[\"10.0.0.0/8\"]'", 403),
    "disabled": ("UPDATE instances SET status = 'disabled'", 401),
    "its key ended": ("UPDATE instance_keys SET expires_at = 1", 401),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_an_instance_that_is_refused_is_told_its_rate_and_charged_nothing(
    site: Any, shop: Deployment, refusal: str
) -> None:
    sql, status = REFUSALS[refusal]
    site.run(sql)
    for _ in range(3):
        refused = shop.ask("GET", "/auth/validate", headers=site.bearer("u_ada"))
        assert refused.status_code == status
        assert refused.headers["ratelimit"] == '"default";r=6000;t=0'
    forged = sign(Key(shop.key.kid, "A" * 43), "GET", f"{URL}/auth/validate", b"", {})
    assert "ratelimit" not in site.client.get("/auth/validate", headers=forged).headers


def test_a_key_in_a_field_is_one_order_covered_or_not(shop: Deployment) -> None:
    order = json.dumps({"amount": 1, "user": "u_ada"}).encode()
    keyed = JSON_BODY | {"idempotency-key": "k"}
    first = shop.ask("POST", CONSUME, body=order, headers=keyed)
    assert first.status_code == 200, first.text
    components = ["@method", "@authority", "@path", "@query", "content-digest", "idempotency-key", "content-type"]
    again = shop.ask("POST", CONSUME, body=order, headers=keyed, covered=components)
    assert again.json() == first.json()
    signed = sign(shop.key, "POST", URL + CONSUME, order, keyed, covered=components)
    changed = shop.site.client.post(CONSUME, content=order, headers=signed | {"idempotency-key": "l"})
    assert changed.status_code == 401


def test_leases_of_a_named_user(shop: Deployment) -> None:
    leases = "/api/quotas/voice_minutes/leases"
    held = spend(shop, {"amount": 2, "ttl_s": 60, "lease": "call", "user": "u_ada"}, leases)
    assert held.status_code == 201, held.text
    assert shop.ask("GET", f"{leases}/call?user=u_ada").json()["held"] == 2
    assert shop.ask("GET", f"{leases}/call?user=u_grace").status_code == 404
    assert shop.ask("GET", f"{leases}/call").status_code == 400
    assert spend(shop, {"ttl_s": 90, "user": "u_ada"}, f"{leases}/call/extend").status_code == 200
    assert spend(shop, {"amount": 1, "user": "u_ada"}, f"{leases}/call/commit").json()["state"] == "committed"
    assert spend(shop, {"user": "u_ada"}, f"{leases}/call/release").status_code == 409


def test_an_instances_keys_and_leases_are_its_own(site: Any, shop: Deployment) -> None:
    """Who is metered neither takes a key that the instance is going to use nor gives back what it holds."""
    ada, leases = site.bearer("u_ada"), "/api/quotas/voice_minutes/leases"
    call = {"amount": 2, "ttl_s": 60, "lease": "call", "user": "u_ada"}
    assert site.client.post(CONSUME, json={"amount": 1, "key": "order"}, headers=ada).status_code == 200
    assert spend(shop, {"amount": 3, "key": "order", "user": "u_ada"}).status_code == 200
    assert spend(shop, {"amount": 3, "key": "order"}, **ada).json()["used"] == 4, "also with her token: it is one order"
    held = spend(shop, call, leases)
    assert (held.status_code, held.json()["lease"]) == (201, "call")
    stored = "instance:i_shop%1Fcall"
    for name in ("call", stored):
        assert site.client.get(f"{leases}/{name}", headers=ada).status_code == 404
        released = site.client.post(f"{leases}/{name}/release", json={}, headers=ada)
        assert released.status_code == 404
    assert (
        spend(shop, {"user": "u_ada", "ttl_s": 60, "amount": 1, "key": "more"}, f"{leases}/call/extend").status_code
        == 200
    )
    assert spend(shop, {"amount": 1, "user": "u_ada"}, f"{leases}/call/commit").json()["state"] == "committed"
    taken = rows(site, "SELECT kind, instance FROM quota_ledger WHERE spender = 'user:u_ada' ORDER BY id DESC LIMIT 5")
    shops = [(kind, "i_shop") for kind in ("commit", "extend", "reserve", "consume")]
    assert taken == [*shops, ("consume", None)]
    told = site.call(partial(list_ledger, limit=5), site.node.database, "user:u_ada")
    assert [(each.key, each.lease, each.instance) for each in told][:4] == [
        (None, "call", "i_shop"),
        ("more", "call", "i_shop"),
        (None, "call", "i_shop"),
        ("order", None, "i_shop"),
    ]


def test_a_large_body_of_nobody_is_not_read(site: Any, shop: Deployment) -> None:
    """What follows the head is read of whoever signed it, and no more of it than of anybody."""
    body = b'{"amount": 1, "key": "' + b"x" * 70_000 + b'"}'
    assert spend(shop, {"amount": 1, "key": "x" * 70_000, "user": "u_ada"}).status_code == 413
    forged = sign(Key(shop.key.kid, "A" * 43), "POST", URL + CONSUME, body, JSON_BODY)
    assert site.client.post(CONSUME, content=body, headers=forged).status_code == 401


def test_a_fault_of_ours_says_how_often_it_may_be_asked_too(
    site: Any, shop: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(user: str) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(site.node, "user", broken)
    calm = TestClient(site.client.app, raise_server_exceptions=False)
    calm.portal, site.client = site.client.portal, calm
    answer = shop.ask("GET", "/auth/validate", headers=site.bearer("u_ada"))
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.headers["ratelimit"] == '"default";r=5999;t=1'
    assert answer.headers["ratelimit-policy"] == '"default";q=6000;w=60'
    answer = site.client.get("/api/document", headers=site.bearer("u_ada"))
    assert (answer.status_code, "ratelimit" in answer.headers) == (500, False)


def test_outcomes_are_counted(site: Any, shop: Deployment) -> None:
    spend(shop, {"amount": 1, "key": "k", "user": "u_ada"})
    shop.ask("GET", "/auth/validate", tag="other")
    text = site.client.get("/metrics").text
    assert 'gateway_signed_requests_total{outcome="accepted"} 1.0' in text
    assert 'gateway_signed_requests_total{outcome="malformed"} 1.0' in text
