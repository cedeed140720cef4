"""Attacks on signed requests, each with its outcome: a real gateway, real sockets."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gateway.core.signatures import AGE_MS, SKEW_MS
from tests.end_to_end.conftest import Connect
from tests.support.client import Refused
from tests.support.deployment import Deployment, send
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import Answer, GatewayProcess
from tests.support.seed import Person, Seed, now_ms
from tests.support.signing import Key, content_digest, new_nonce, sign

VALIDATE = "/auth/validate"
INTROSPECT = "/oauth/introspect"
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def shop(gateway: GatewayProcess, foreign: ForeignWriter) -> Deployment:
    return Deployment(gateway, foreign)


@pytest.fixture(scope="module")
def ada(seed: Seed) -> Person:
    return seed.person()


def bearer(person: Person) -> dict[str, str]:
    return {"authorization": f"Bearer {person.token}"}


def refused(answer: Answer, status: int = 401, code: str = "auth_failed") -> None:
    """Refused, and nothing told beside that."""
    assert (answer.status, answer.json()["code"]) == (status, code), answer
    if code == "auth_failed":
        assert answer.json()["credential"] == "signature"
        assert "ratelimit" not in answer.headers or answer.json()["detail"] != "The signature is not valid."


def nonces(shop: Deployment, key: Key) -> int:
    return len(shop.foreign.execute("SELECT nonce FROM nonces WHERE kid = ?", key.kid))


# --- replay ---


def test_a_request_is_good_once(shop: Deployment, ada: Person) -> None:
    headers = shop.signed("GET", VALIDATE, headers=bearer(ada)).items()
    assert send(shop.gateway, "GET", VALIDATE, b"", headers).json()["active"] is True
    for _ in range(3):  # in the same second
        refused(send(shop.gateway, "GET", VALIDATE, b"", headers))


def test_a_nonce_is_good_once_whatever_it_signs(shop: Deployment, ada: Person) -> None:
    nonce = new_nonce()
    assert shop.validate(ada.token, nonce=nonce).status == 200
    refused(shop.validate(ada.token, nonce=nonce))
    refused(shop.ask("POST", INTROSPECT, b"token=x", FORM, nonce=nonce))
    assert shop.validate(ada.token, nonce=nonce, key=shop.add_key()).status == 200


def test_of_many_at_once_one_is_good(shop: Deployment, ada: Person) -> None:
    headers = shop.signed("GET", VALIDATE, headers=bearer(ada)).items()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: send(shop.gateway, "GET", VALIDATE, b"", headers).status, range(16)))
    assert sorted(answers) == [200] + [401] * 15


def test_another_node_knows_the_nonce_and_so_does_a_restarted_one(shop: Deployment, ada: Person) -> None:
    """The second node is at another port, so what was signed for the first is shown it under the first one's Host."""
    headers = shop.signed("GET", VALIDATE, headers=bearer(ada)).items()
    assert send(shop.gateway, "GET", VALIDATE, b"", headers).status == 200
    with shop.gateway.sibling() as other:
        refused(send(other, "GET", VALIDATE, b"", headers, host=shop.gateway.address))
        refused(send(other, "GET", VALIDATE, b"", headers))
        fresh = shop.signed("GET", VALIDATE, headers=bearer(ada)).items()
        assert send(other, "GET", VALIDATE, b"", fresh, host=shop.gateway.address).status == 200
        refused(send(shop.gateway, "GET", VALIDATE, b"", fresh))
    shop.gateway.restart()
    refused(send(shop.gateway, "GET", VALIDATE, b"", headers))
    refused(send(shop.gateway, "GET", VALIDATE, b"", fresh))


# --- nonces ---


def test_a_bad_signature_does_not_use_up_a_victims_nonce(shop: Deployment, ada: Person) -> None:
    nonce = new_nonce()
    stranger = Key(shop.key.kid, new_nonce() + "A" * 11)
    refused(shop.validate(ada.token, nonce=nonce, key=stranger))
    assert shop.validate(ada.token, nonce=nonce).status == 200


def test_a_flood_of_nonces_stops_its_key_alone(gateway: GatewayProcess, foreign: ForeignWriter, ada: Person) -> None:
    flooded, other = Deployment(gateway, foreign), Deployment(gateway, foreign)
    foreign.execute("INSERT INTO nonces VALUES (?, 'first', ?)", flooded.key.kid, now_ms() + 150_000)
    foreign.execute("UPDATE nonce_counts SET remembered = 100000 WHERE kid = ?", flooded.key.kid)
    full = flooded.validate(ada.token)
    refused(full, 429, "rate_limited")
    assert int(full.headers["retry-after"]) > 0
    assert nonces(flooded, flooded.key) == 1, "nothing is forgotten to make room"
    assert other.validate(ada.token).status == 200
    assert flooded.validate(ada.token, key=flooded.add_key()).status == 200


@pytest.mark.parametrize("nonce", ["x" * 129, "with space 123456", "", 'quo"te1234567890123', "back\\slash"])
def test_a_nonce_has_its_form(shop: Deployment, ada: Person, nonce: str) -> None:
    refused(shop.validate(ada.token, nonce=nonce))


@pytest.mark.parametrize("nonce", ["b3k2pp5k7z-50gnwp.yemd", "q+Zk/0Rk2mGh5s==", "1795288200000", "x" * 128])
def test_a_nonce_is_any_token_that_is_used_once(shop: Deployment, ada: Person, nonce: str) -> None:
    assert shop.validate(ada.token, nonce=nonce).status == 200
    refused(shop.validate(ada.token, nonce=nonce))


# --- what is signed is what is asked ---


def test_what_is_changed_on_the_way_is_refused(shop: Deployment, ada: Person, seed: Seed) -> None:
    body = f"token={ada.token}".encode()
    other = f"token={seed.person().token}".encode()

    def signed(**how: Any) -> dict[str, str]:
        return shop.signed("POST", INTROSPECT, body, FORM, **how)

    assert send(shop.gateway, "POST", INTROSPECT, body, signed().items()).status == 200
    changes: dict[str, tuple[str, str, bytes, dict[str, str]]] = {
        "body": ("POST", INTROSPECT, other, signed()),
        "no body": ("POST", INTROSPECT, b"", signed()),
        "digest": ("POST", INTROSPECT, other, signed() | {"content-digest": content_digest(other)}),
        "method": ("PUT", INTROSPECT, body, signed()),
        "path": ("POST", "/oauth/revoke", body, signed()),
        "path, encoded otherwise": ("POST", "/oauth/%69ntrospect", body, signed()),
        "query": ("POST", INTROSPECT + "?x=1", body, signed()),
        "another user's token": ("POST", INTROSPECT, body, signed() | bearer(ada)),
    }
    for what, (method, path, content, headers) in changes.items():
        answer = send(shop.gateway, method, path, content, headers.items())
        assert answer.status in (401, 405), (what, answer)
    elsewhere = signed()
    for host in ("gateway.example.org", f"127.0.0.1:{shop.gateway.port + 1}", "127.0.0.1"):
        refused(send(shop.gateway, "POST", INTROSPECT, body, elsewhere.items(), host=host))
    for what, headers in (*((what, headers) for what, (*_, headers) in changes.items()), ("host", elsewhere)):
        whole = {name: value for name, value in headers.items() if name != "authorization"}
        whole["content-digest"] = content_digest(body)
        answer = send(shop.gateway, "POST", INTROSPECT, body, whole.items())
        assert (answer.status, answer.json()["active"]) == (200, True), f"{what}: the nonce was used up"
        refused(send(shop.gateway, "POST", INTROSPECT, body, whole.items()))


def test_a_body_without_a_digest_and_a_digest_without_a_body(shop: Deployment, ada: Person) -> None:
    body = f"token={ada.token}".encode()
    without = sign(shop.key, "POST", f"http://{shop.gateway.address}{INTROSPECT}", b"", FORM)
    refused(send(shop.gateway, "POST", INTROSPECT, body, without.items()))
    for said, status in ((b"", 200), (b"x", 401)):
        digest = shop.signed("GET", VALIDATE, headers=bearer(ada) | {"content-digest": content_digest(said)})
        assert send(shop.gateway, "GET", VALIDATE, b"", digest.items()).status == status
    unsigned = shop.signed("POST", INTROSPECT, b"", FORM) | {"content-digest": content_digest(body)}
    refused(send(shop.gateway, "POST", INTROSPECT, body, unsigned.items()))


DIGESTS = [
    "sha-256=:AAAA:", "md5=:1B2M2Y8AsgTpgAmY7PhCfg==:", "sha-256=AAAA", "", "sha-256=:" + "A" * 42 + "B=:",
    "sha-512=:" + "A" * 43 + "=:",
]  # fmt: skip


@pytest.mark.parametrize("digest", DIGESTS)
def test_a_digest_that_proves_nothing_is_refused(shop: Deployment, digest: str) -> None:
    refused(shop.ask("POST", INTROSPECT, b"token=x", FORM | {"content-digest": digest}))


def test_two_digests_are_one_too_many(shop: Deployment) -> None:
    both = f"{content_digest(b'token=x')}, {content_digest(b'token=y', 'sha-512')}"
    refused(shop.ask("POST", INTROSPECT, b"token=x", FORM | {"content-digest": both}))
    one = content_digest(b"token=x", "sha-512")
    assert shop.ask("POST", INTROSPECT, b"token=x", FORM | {"content-digest": one}).status == 200


COVERED = [
    [],
    ["@method"],
    ["@method", "@authority", "@path"],
    ["@method", "@authority", "@path", "@query"],
    ["@method", "@authority", "@path", "@query", "authorization", "x-not-there"],
    ["@method", "@authority", "@path", "@query", "authorization", "@scheme"],
    ["@method", "@authority", "@path", "@query", "authorization", "@method"],
    ["@method", "@target-uri", "authorization"],
    ["@request-target", "@authority", "@method", "@query", "authorization"],
]


@pytest.mark.parametrize("covered", COVERED, ids=lambda names: "+".join(names) or "nothing")
def test_less_than_has_to_be_covered_is_refused(shop: Deployment, ada: Person, covered: list[str]) -> None:
    refused(shop.validate(ada.token, covered=covered))


def test_the_order_and_the_label_are_free(shop: Deployment, ada: Person) -> None:
    covered = ["authorization", "@query", "@path", "@authority", "@method"]
    assert shop.validate(ada.token, covered=covered, label="sig1", alg="hmac-sha256").status == 200


def test_two_labels_are_refused(shop: Deployment, ada: Person) -> None:
    one = shop.signed("GET", VALIDATE, headers=bearer(ada))
    two = shop.signed("GET", VALIDATE, headers=bearer(ada), label="other", tag="elsewhere")
    both = one | {name: f"{one[name]}, {two[name]}" for name in ("signature", "signature-input")}
    refused(send(shop.gateway, "GET", VALIDATE, b"", both.items()))
    lines = [*one.items(), *((name, two[name]) for name in ("signature", "signature-input"))]
    refused(send(shop.gateway, "GET", VALIDATE, b"", lines))
    mixed = one | {"signature": two["signature"]}
    refused(send(shop.gateway, "GET", VALIDATE, b"", mixed.items()))


def test_half_a_signature_is_no_way_around(shop: Deployment, ada: Person) -> None:
    """Where users are let in too, whoever shows a part of a signature has to show all of it."""
    whole = shop.signed("POST", INTROSPECT, b"token=x", FORM)
    for name in ("signature", "signature-input"):
        part = {key: value for key, value in whole.items() if key != name} | bearer(ada)
        refused(send(shop.gateway, "POST", INTROSPECT, b"token=x", part.items()))


PARAMETERS: list[dict[str, Any]] = [
    {"tag": "other"},
    {"drop": ["tag"]},
    {"drop": ["nonce"]},
    {"drop": ["created"]},
    {"drop": ["keyid"]},
    {"alg": "rsa-v1_5-sha256"},
    {"alg": "none"},
    {"context": "x"},
    {"created": "1795288200"},
    {"created": -1},
    {"created": 10**16},
    {"keyid": "k' OR '1'='1"},
    {"keyid": "../../etc/passwd"},
    {"keyid": "k" * 65},
    {"keyid": "k" * 10_000},
]


@pytest.mark.parametrize("how", PARAMETERS, ids=str)
def test_other_parameters_are_refused(shop: Deployment, ada: Person, how: dict[str, Any]) -> None:
    refused(shop.validate(ada.token, **how))


# --- time ---


def test_age_and_skew(shop: Deployment, ada: Person) -> None:
    for offset_s in (-AGE_MS // 1000 - 2, SKEW_MS // 1000 + 3, -86_400, 86_400):
        refused(shop.validate(ada.token, created=int(time.time()) + offset_s))
    for offset_s in (-AGE_MS // 1000 + 5, SKEW_MS // 1000 - 3):
        assert shop.validate(ada.token, created=int(time.time()) + offset_s).status == 200


def test_expires_is_obeyed(shop: Deployment, ada: Person) -> None:
    now = int(time.time())
    assert shop.validate(ada.token, expires=now + 20).status == 200
    refused(shop.validate(ada.token, expires=now - 1))


# --- keys ---


def test_an_old_key_is_refused_and_a_new_one_taken(shop: Deployment, ada: Person) -> None:
    old, new = shop.add_key(now_ms() + 60_000), shop.add_key()
    assert shop.validate(ada.token, key=old).status == shop.validate(ada.token, key=new).status == 200
    shop.foreign.execute("UPDATE instance_keys SET expires_at = ? WHERE id = ?", now_ms() - 1, old.kid)
    refused(shop.validate(ada.token, key=old))
    shop.foreign.execute("DELETE FROM instance_keys WHERE id = ?", new.kid)
    refused(shop.validate(ada.token, key=new))


def test_an_unknown_key_is_answered_like_a_bad_signature(shop: Deployment, ada: Person) -> None:
    unknown = shop.validate(ada.token, key=Key("k_nobody", shop.key.secret))
    forged = shop.validate(ada.token, key=Key(shop.key.kid, Key("k", "A" * 43).secret))
    refused(unknown)
    assert unknown.json() == forged.json()


def test_a_key_whose_secret_is_another_keys_does_not_open(
    shop: Deployment, ada: Person, foreign: ForeignWriter
) -> None:
    """A sealed secret that somebody copied into another row by SQL is bound to its own."""
    other = Deployment(shop.gateway, foreign)
    foreign.execute(
        "UPDATE instance_keys SET secret = (SELECT secret FROM instance_keys WHERE id = ?) WHERE id = ?",
        shop.key.kid,
        other.key.kid,
    )
    refused(other.validate(ada.token, key=Key(other.key.kid, shop.key.secret)))


# --- addresses ---


def test_forwarding_headers_of_nobody_are_not_believed(
    gateway: GatewayProcess, foreign: ForeignWriter, ada: Person
) -> None:
    inside = Deployment(gateway, foreign, networks='["10.0.0.0/8"]')
    forged = {"x-forwarded-for": "10.1.2.3", "forwarded": "for=10.1.2.3", "x-real-ip": "10.1.2.3"}
    headers = inside.signed("GET", VALIDATE, headers=bearer(ada)) | forged
    refused(send(gateway, "GET", VALIDATE, b"", headers.items()), 403, "forbidden")
    assert nonces(inside, inside.key) == 0


@pytest.mark.parametrize("networks", ['["127.0.0.1"]', '["::ffff:127.0.0.1/128"]', '["::ffff:127.0.0.0/104"]', "[]"])
def test_networks_let_in(gateway: GatewayProcess, foreign: ForeignWriter, ada: Person, networks: str) -> None:
    assert Deployment(gateway, foreign, networks=networks).validate(ada.token).status == 200


@pytest.mark.parametrize("networks", ['["::1"]', '["128.0.0.0/8"]', "[1]", '["nonsense"]', '["127.0.0.1", "nonsense"]'])
def test_networks_keep_out(gateway: GatewayProcess, foreign: ForeignWriter, ada: Person, networks: str) -> None:
    """A list that can not be read lets nobody in."""
    refused(Deployment(gateway, foreign, networks=networks).validate(ada.token), 403, "forbidden")


# --- rate ---


def test_the_rate_is_told_and_kept(gateway: GatewayProcess, foreign: ForeignWriter, ada: Person) -> None:
    slow = Deployment(gateway, foreign, requests_per_minute=3)
    told = [slow.validate(ada.token) for _ in range(4)]
    assert [answer.status for answer in told] == [200, 200, 200, 429]
    assert [answer.headers["ratelimit"].split(";")[1] for answer in told] == ["r=2", "r=1", "r=0", "r=0"]
    assert {answer.headers["ratelimit-policy"] for answer in told} == {'"default";q=3;w=60'}
    assert 0 < int(told[-1].headers["retry-after"]) <= 20
    assert nonces(slow, slow.key) == 3
    forged = slow.validate(ada.token, key=Key(slow.key.kid, "A" * 43))
    assert forged.status == 401, "who does not sign is not told how much is left"
    assert "ratelimit" not in forged.headers


def test_strangers_do_not_use_up_an_instances_rate(
    gateway: GatewayProcess, foreign: ForeignWriter, ada: Person
) -> None:
    slow = Deployment(gateway, foreign, requests_per_minute=1)
    for _ in range(5):
        refused(slow.validate(ada.token, key=Key(slow.key.kid, "A" * 43)))
    assert slow.validate(ada.token).status == 200


# --- elsewhere ---


def test_who_sends_a_request_again_does_not_use_up_its_instances_rate(
    gateway: GatewayProcess, foreign: ForeignWriter, ada: Person
) -> None:
    shop, nonce = Deployment(gateway, foreign, requests_per_minute=5), new_nonce()
    assert shop.validate(ada.token, nonce=nonce).status == 200
    for _ in range(10):
        refused(shop.validate(ada.token, nonce=nonce))
    assert [shop.validate(ada.token).status for _ in range(3)] == [200, 200, 200]


def test_a_signature_is_no_users_credential(shop: Deployment) -> None:
    for path in ("/api/identity", "/users", "/instances", "/audit"):
        assert shop.ask("GET", path).status == 401


def test_a_cookie_says_nothing_beside_a_signature(shop: Deployment, ada: Person) -> None:
    headers = shop.signed("POST", "/api/quotas/calls/consume", b'{"amount": 1, "key": "k"}',
                          {"content-type": "application/json"})  # fmt: skip
    headers["cookie"] = f"__Host-gateway_access={ada.token}"
    answer = send(shop.gateway, "POST", "/api/quotas/calls/consume", b'{"amount": 1, "key": "k"}', headers.items())
    assert answer.status == 400, "whose quota it is was not signed"


async def test_an_instance_that_asked_too_often_gets_its_channel(
    gateway: GatewayProcess, foreign: ForeignWriter, connect: Connect, ada: Person
) -> None:
    slow = Deployment(gateway, foreign, requests_per_minute=2)
    assert [slow.validate(ada.token).status for _ in range(3)] == [200, 200, 429]
    await slow.connect(connect, ["revocations"])
    assert slow.validate(ada.token).status == 429


async def test_the_handshake_obeys_the_same_rules(shop: Deployment, connect: Connect) -> None:
    ways: list[dict[str, Any]] = [
        {"created": int(time.time()) - 3600},
        {"tag": "x"},
        {"covered": []},
        {"key": Key("k_x", "A" * 43)},
    ]
    for how in ways:
        with pytest.raises(Refused) as answer:
            await shop.connect(connect, **how)
        assert answer.value.answer.status == 401


def test_nothing_of_a_stranger_is_in_the_log(shop: Deployment, ada: Person) -> None:
    shop.validate(ada.token, key=Key("k_made_up_by_a_stranger", "A" * 43))
    shop.validate(ada.token, keyid="k_made_up_by_a_stranger\tgateway: all is well")
    log = shop.gateway.log()
    assert "k_made_up_by_a_stranger" not in log
