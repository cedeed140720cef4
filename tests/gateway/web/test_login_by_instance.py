"""People who sign in at an application's form: the application passes it on, signed, and says whose it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.store.audit import AuditRow, list_audit
from gateway.store.instances import Instance, add_instance
from tests.gateway.web.conftest import Json, Site, StartSite, one, opened
from tests.support.api_caller import ApiCaller, rows
from tests.support.signed_in import DEVICE, PASSWORD, Browser, bearer, cheap_hash, set_cookies, sign_in
from tests.support.signing import Key, sign

HERS = "203.0.113.9"
SHOP = "192.0.2.7"
URL = "https://testserver"
WRONG = "wrong horse battery"


class Shop:
    """The form of an application that signs."""

    def __init__(self, site: Site, name: str = "i_shop") -> None:
        self.site = site
        made = site.accounts.instances.new_key()
        self.key = Key(made.kid, made.secret)
        site.call(add_instance, site.node.database, Instance(id=name, name="Shop"), made.sealed)

    def post(self, path: str, fields: Json, **headers: str) -> Any:
        body = json.dumps(fields).encode()
        sent = sign(self.key, "POST", URL + path, body, {"content-type": "application/json", **headers})
        return self.site.client.post(path, content=body, headers=sent)

    def login(self, username: str = "ada", password: str = PASSWORD, **fields: Any) -> Any:
        return self.post("/auth/login", {"username": username, "password": password, **fields})

    def signed_in(self, username: str = "ada", address: str = HERS) -> Json:
        answer = self.login(username, client={"address": address, "user_agent": "Browser/1"})
        assert answer.status_code == 200, answer.text
        told: Json = answer.json()
        return told


def started(start_site: StartSite, **auth: Any) -> Site:
    site = start_site(base_url=URL, address=SHOP, auth=auth)
    site.run("UPDATE users SET password_hash = ?", cheap_hash())
    return site


@pytest.fixture
def site(start_site: StartSite) -> Site:
    return started(start_site)


@pytest.fixture
def shop(site: Site) -> Shop:
    return Shop(site)


def trail(site: Site, action: str) -> list[AuditRow]:
    async def read() -> list[AuditRow]:
        return await list_audit(site.node.database, action=action)

    found: list[AuditRow] = site.call(read)
    return found


def sessions(site: Site) -> list[Any]:
    return rows(site, "SELECT id, instance_id, ip, user_agent FROM login_sessions ORDER BY created_at, id")


# --- whose session it is ---


def test_the_session_says_by_whom_and_from_where(site: Site, shop: Shop) -> None:
    told = shop.signed_in()
    assert sessions(site) == [(told["session"], "i_shop", HERS, "Browser/1")]
    assert site.client.get("/api/identity", headers=bearer(told)).json()["id"] == "u_ada"
    [shown] = site.client.get("/auth/sessions", headers=bearer(told)).json()["items"]
    assert (shown["instance_id"], shown["ip"], shown["user_agent"]) == ("i_shop", HERS, "Browser/1")
    [row] = trail(site, "session.login")
    assert (row.actor, row.address) == ("user:u_ada", HERS)
    assert row.after == {"id": told["session"], "instance": "i_shop"}


def test_without_a_client_it_comes_from_the_instance(site: Site, shop: Shop) -> None:
    answer = shop.login()
    assert answer.status_code == 200
    assert answer.headers["ratelimit"] == '"default";r=5999;t=1'
    [(_, instance, ip, _)] = sessions(site)
    assert (instance, ip) == ("i_shop", SHOP)


def test_a_renewal_keeps_the_instance_and_moves_the_address(site: Site, shop: Shop) -> None:
    told = shop.signed_in()
    elsewhere = {"address": "203.0.113.10", "user_agent": "Browser/2"}
    renewed = shop.post("/auth/refresh", {"refresh_token": told["refresh_token"], "client": elsewhere})
    assert renewed.status_code == 200, renewed.text
    assert sessions(site) == [(told["session"], "i_shop", "203.0.113.10", "Browser/2")]
    plain = site.client.post("/auth/refresh", json={"refresh_token": renewed.json()["refresh_token"]})
    assert plain.status_code == 200
    assert [row[:3] for row in sessions(site)] == [(told["session"], "i_shop", SHOP)]


def test_the_trail_says_who_named_the_address_of_a_token_that_was_used_before(site: Site, shop: Shop) -> None:
    told = shop.signed_in()
    renewal = {"refresh_token": told["refresh_token"], "client": {"address": "203.0.113.10"}}
    assert shop.post("/auth/refresh", renewal).status_code == 200
    site.run("UPDATE refresh_tokens SET used_at = used_at - 10000 WHERE used_at IS NOT NULL")
    assert shop.post("/auth/refresh", renewal).status_code == 401
    [row] = trail(site, "session.refresh_reused")
    assert (row.address, row.after) == ("203.0.113.10", {"id": told["session"], "instance": "i_shop"})


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("::ffff:203.0.113.9", HERS),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_an_address_is_written_in_one_way(site: Site, shop: Shop, said: str, meant: str) -> None:
    shop.signed_in(address=said)
    assert sessions(site)[0][2] == meant


def test_what_a_client_calls_itself_can_be_shown(site: Site, shop: Shop) -> None:
    shop.login(client={"address": HERS, "user_agent": "a\nb" + "x" * 400})
    assert sessions(site)[0][3] == "a?b" + "x" * 253


# --- what is refused ---


@pytest.mark.parametrize(
    "client",
    [
        {},
        {"address": ""},
        {"address": "ada.example.org"},
        {"address": "203.0.113.9, 10.0.0.1"},
        {"address": "203.0.113.0/24"},
        {"address": "1" * 65},
        {"address": 7},
        {"address": HERS, "user_agent": None},
        {"address": HERS, "instance": "i_other"},
        HERS,
    ],
)
def test_what_is_no_client_is_told_so(site: Site, shop: Shop, client: Any) -> None:
    for path, fields in (
        ("/auth/login", {"username": "ada", "password": PASSWORD}),
        ("/auth/refresh", {"refresh_token": "gr_x"}),
    ):
        answer = shop.post(path, {**fields, "client": client})
        assert (answer.status_code, answer.json()["code"]) == (422, "unprocessable")
    assert sessions(site) == []


def test_only_what_is_signed_says_who_the_client_is(site: Site, shop: Shop) -> None:
    client = {"address": HERS}
    asked = {"username": "ada", "password": PASSWORD, "client": client}
    answer = site.client.post("/auth/login", json=asked)
    assert (answer.status_code, answer.json()["code"]) == (422, "unprocessable")
    told = shop.signed_in()
    renewal = {"refresh_token": told["refresh_token"], "client": client}
    assert site.client.post("/auth/refresh", json=renewal).status_code == 422
    body = json.dumps(asked).encode()
    forged = sign(Key(shop.key.kid, "A" * 43), "POST", f"{URL}/auth/login", body, {"content-type": "application/json"})
    refused = site.client.post("/auth/login", content=body, headers=forged)
    assert (refused.status_code, refused.json()["credential"]) == (401, "signature")
    assert len(sessions(site)) == 1


def test_an_instance_has_no_cookies(site: Site, shop: Shop) -> None:
    refused = shop.login(cookie=True)
    assert (refused.status_code, refused.json()["code"]) == (422, "unprocessable")
    browser = Browser(site.client)
    browser.sign_in()
    held = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    assert DEVICE in held
    renewed = shop.post("/auth/refresh", {}, cookie=held, origin=URL, **{"x-csrf-token": browser.csrf or ""})
    assert (renewed.status_code, "set-cookie" in renewed.headers) == (401, False)
    site.run("DELETE FROM login_failures")
    for _ in range(5):
        assert shop.login(password=WRONG).status_code == 401
    known = shop.post("/auth/login", {"username": "ada", "password": PASSWORD}, cookie=held)
    assert known.status_code == 401, "a device cookie is not signed: it opens no lock"
    assert set_cookies(shop.login("grace")) == {}


def test_a_failed_login_is_not_taken_for_a_bad_signature(shop: Shop) -> None:
    for answer in (shop.login(password=WRONG), shop.post("/auth/refresh", {"refresh_token": "gr_wrong"})):
        assert answer.status_code == 401
        assert "credential" not in answer.json()
        assert "ratelimit" in answer.headers


# --- what failures count against ---


def test_failures_count_against_the_client_and_stop_nobody_else(start_site: StartSite) -> None:
    site = started(start_site, max_address_failures=3)
    shop = Shop(site)
    for number in range(3):
        failed = shop.login(f"nobody{number}", client={"address": f"::ffff:{HERS}"})
        assert failed.status_code == 401
    stopped = shop.login(client={"address": HERS})
    assert (stopped.status_code, stopped.json()["code"]) == (429, "rate_limited")
    assert 1 <= int(stopped.headers["retry-after"]) <= 300
    assert shop.login(client={"address": "203.0.113.10"}).status_code == 200
    assert shop.login().status_code == 200
    assert sign_in(site.client).status_code == 200, "nor those who come to the gateway from the shop's address"
    assert {(row.address, str(row.after)) for row in trail(site, "session.login_failed")} == {
        (HERS, "{'instance': 'i_shop'}")
    }


def test_addresses_that_an_instance_makes_up_stop_nobody_else(start_site: StartSite) -> None:
    site = started(start_site, max_address_failures=3, max_failures=6)
    shop, other = Shop(site), Shop(site, "i_other")
    for number in range(3):
        assert shop.login(f"nobody{number}", client={"address": SHOP}).status_code == 401
    assert shop.login(client={"address": SHOP}).status_code == 429
    assert sign_in(site.client).status_code == 200, "who comes from that address to the gateway itself"
    assert other.login(client={"address": SHOP}).status_code == 200
    for number in range(3):
        assert shop.login(f"nobody{number}", client={"address": f"198.51.100.{number}"}).status_code == 401
    assert shop.login(client={"address": HERS}).status_code == 429
    assert other.login(client={"address": HERS}).status_code == 200
    assert sign_in(site.client).status_code == 200


def test_without_a_client_all_of_an_instances_share_one_count(start_site: StartSite) -> None:
    site = started(start_site, max_address_failures=3)
    shop = Shop(site)
    for number in range(3):
        assert shop.login(f"nobody{number}").status_code == 401
    assert shop.login().status_code == 429
    assert shop.login(client={"address": HERS}).status_code == 200
    assert sign_in(site.client).status_code == 200, "from the same address, to the gateway itself"


# --- the end ---


def test_what_an_instance_began_is_voided_alone(site: Site, shop: Shop) -> None:
    other = Shop(site, "i_other")
    hers, theirs, own = shop.signed_in(), other.signed_in(), sign_in(site.client).json()
    again = shop.post("/auth/refresh", {"refresh_token": hers["refresh_token"]}).json()
    admin = ApiCaller(site, "u_admin")
    with site.connect(bearer(again)) as ending, site.connect(bearer(theirs)) as staying:
        opened(ending)
        opened(staying)
        assert admin.done("POST", "/admin/revoke-before", {"instance": "i_shop"})["revoked"] == 1
        assert one(ending, "ended")["code"] == "revoked"
        for token, status in ((hers, 401), (again, 401), (theirs, 200), (own, 200)):
            assert site.client.get("/api/identity", headers=bearer(token)).status_code == status
    assert site.client.post("/auth/refresh", json={"refresh_token": again["refresh_token"]}).status_code == 401
    assert rows(site, "SELECT id FROM revocations") == [(hers["session"],)], "instances are told of it"
    assert admin.done("POST", "/admin/revoke-before", {"instance": "i_shop"})["revoked"] == 0


def test_sessions_outlive_their_instance_and_are_voided_by_its_name(site: Site, shop: Shop) -> None:
    told = shop.signed_in()
    site.run("UPDATE instances SET id = 'i_store' WHERE id = 'i_shop'")
    assert sessions(site)[0][1] == "i_store"
    site.run("DELETE FROM instances")
    assert site.client.get("/api/identity", headers=bearer(told)).status_code == 200
    assert ApiCaller(site, "u_admin").done("POST", "/admin/revoke-before", {"instance": "i_store"})["revoked"] == 1
    assert site.client.get("/api/identity", headers=bearer(told)).status_code == 401


CUTS = {
    "disabled": "UPDATE instances SET status = 'disabled'",
    "deleted": "DELETE FROM instances",
    "its key deleted": "DELETE FROM instance_keys",
    "its key ended": "UPDATE instance_keys SET expires_at = 1",
}


@pytest.mark.parametrize("cut", CUTS)
def test_an_instance_that_is_cut_off_while_a_password_is_looked_at_signs_nobody_in(
    site: Site, shop: Shop, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    passwords = site.accounts.logins._passwords
    verify = passwords.verify

    async def slowly(*arguments: Any) -> Any:
        verdict = await verify(*arguments)
        await site.node.database.script(CUTS[cut])
        return verdict

    monkeypatch.setattr(passwords, "verify", slowly)
    refused = shop.login(client={"address": HERS})
    assert (refused.status_code, refused.json()["credential"]) == (401, "signature")
    assert sessions(site) == []
    assert trail(site, "session.login") == []
