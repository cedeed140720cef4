"""Signed requests of an instance, against a gateway that a test scripts."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import msgspec
import pytest
from http_message_signatures import HTTPMessageVerifier, MappingKeyResolver
from http_message_signatures.algorithms import HMAC_SHA256

from client_sdk import AuthFailed, ConfigError, Disconnected, Forbidden, QuotaExceeded, Unavailable
from client_sdk.instance import InstanceClient
from client_sdk.instance_key import InstanceKey, InstanceKeys, instance_key, keys_of_file, load_instance

FIRST, SECOND = InstanceKey("ik_first", bytes(range(32))), InstanceKey("ik_second", bytes(32))
KEYS = {key.kid: key.secret for key in (FIRST, SECOND)}
URL = "http://gateway.example.org:8787"


class Script:
    """Answers, one each; the last one again and again. Every request's signature is verified and its nonce is new."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []
        self.kids: list[str] = []
        self.nonces: set[str] = set()

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        signed = SimpleNamespace(
            method=request.method, url=str(request.url), headers=dict(request.headers), body=request.content
        )
        keys = MappingKeyResolver(public_keys=KEYS, private_keys={})
        [result] = HTTPMessageVerifier(signature_algorithm=HMAC_SHA256, key_resolver=keys).verify(
            signed, expect_tag="gateway"
        )
        self.kids.append(str(result.parameters["keyid"]))
        nonce = str(result.parameters["nonce"])
        assert nonce not in self.nonces
        self.nonces.add(nonce)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        status, body, *headers = answer
        return httpx2.Response(status, content=msgspec.json.encode(body), headers=headers[0] if headers else {})


def client(script: Script, *keys: InstanceKey, **options: Any) -> InstanceClient:
    transport = httpx2.MockTransport(script)
    return InstanceClient(URL, InstanceKeys(keys or [FIRST]), transport=transport, chance=lambda: 0.0, **options)


ACTIVE = {"active": True, "session": "t_1", "document": {"identity": {"id": "u_ada"}}, "rev": "0" * 16, "seq": 7}


async def test_a_token_is_asked_about() -> None:
    script = Script((200, ACTIVE))
    async with client(script) as gateway:
        told = await gateway.validate("gw_token")
    assert (told.active, told.session, told.expires_at, told.seq) == (True, "t_1", None, 7)
    [request] = script.requests
    assert (request.method, request.url.path) == ("GET", "/auth/validate")
    assert request.headers["Authorization"] == "Bearer gw_token"
    assert '"authorization"' in request.headers["Signature-Input"]


async def test_bodies_are_digested() -> None:
    script = Script((200, {"active": False}))
    async with client(script) as gateway:
        assert await gateway.introspect("gw_a b".replace(" ", "+")) == {"active": False}
        await gateway.revoke("gw_token")
    assert [request.url.path for request in script.requests] == ["/oauth/introspect", "/oauth/revoke"]
    assert script.requests[0].content == b"token=gw_a%2Bb"
    assert all('"content-digest"' in request.headers["Signature-Input"] for request in script.requests)


async def test_quota_is_spent_in_a_users_name() -> None:
    balance = {"quota": "voice minutes", "used": 3, "limit": 10, "remaining": 7, "period": "month", "seq": 9}
    script = Script((200, balance))
    async with client(script) as gateway:
        left = await gateway.consume("voice minutes", 3, user="u_ada", key="k1", org="o_acme")
    assert (left.remaining, left.seq) == (7, 9)
    [request] = script.requests
    assert request.url.raw_path == b"/api/quotas/voice%20minutes/consume"
    assert msgspec.json.decode(request.content) == {"amount": 3, "key": "k1", "user": "u_ada", "org": "o_acme"}


async def test_what_may_be_asked_twice_is_with_the_same_key_and_another_signature() -> None:
    script = Script(httpx2.ConnectError("no"), (503, {"code": "unavailable"}), (200, {"quota": "q", "used": 1}))
    async with client(script) as gateway:
        await gateway.consume("q", user="u_ada")
    assert len(script.nonces) == 3
    assert len({request.content for request in script.requests}) == 1


async def test_an_error_says_with_which_key_to_ask_again() -> None:
    script = Script(httpx2.ConnectError("no"))
    async with client(script) as gateway:
        with pytest.raises(Disconnected) as lost:
            await gateway.consume("q", user="u_ada", key="k1")
        assert lost.value.key == "k1"
        assert len(script.requests) == 3
    async with client(Script((409, {"code": "quota_exceeded", "detail": "No."}))) as gateway:
        with pytest.raises(QuotaExceeded) as refused:
            await gateway.consume("q", user="u_ada", key="k1")
        assert refused.value.key is None


async def test_it_waits_no_longer_than_it_may() -> None:
    script = Script((503, {"code": "unavailable"}, {"Retry-After": "30"}))
    async with client(script, timeout_s=1.0) as gateway:
        started = time.monotonic()
        with pytest.raises(Unavailable):
            await gateway.validate("gw_token")
        assert time.monotonic() - started < 1.0
    assert len(script.requests) == 1


async def test_a_key_that_is_not_taken_gives_way() -> None:
    script = Script((401, {"code": "auth_failed"}), (200, ACTIVE))
    async with client(script, FIRST, SECOND) as gateway:
        assert (await gateway.validate("gw_token")).active
        assert (await gateway.validate("gw_token")).active
    assert script.kids == ["ik_first", "ik_second", "ik_second"]


async def test_the_only_key_is_not_tried_over_and_over() -> None:
    script = Script((401, {"code": "auth_failed", "detail": "The signature is not valid."}))
    async with client(script) as gateway:
        with pytest.raises(AuthFailed, match="not valid"):
            await gateway.validate("gw_token")
    assert len(script.requests) == 1


async def test_a_clock_that_is_off_is_named() -> None:
    date = formatdate(time.time() + 95, usegmt=True)
    script = Script((401, {"code": "auth_failed", "detail": "The signature is not valid."}, {"Date": date}))
    async with client(script) as gateway:
        with pytest.raises(AuthFailed, match=r"not valid\. The clock here is 9\d s behind the gateway's"):
            await gateway.validate("gw_token")


async def test_another_address_is_forbidden_and_not_tried_again() -> None:
    script = Script((403, {"code": "forbidden"}))
    async with client(script, FIRST, SECOND) as gateway:
        with pytest.raises(Forbidden):
            await gateway.validate("gw_token")
    assert script.kids == ["ik_first"]


# --- settings ---

BLOCK = """[gateway]
url = "https://gateway.example.org"
instance = "i_shop"
kid = "ik_first"
secret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
"""


def test_settings_of_a_file_and_of_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(BLOCK)
    settings = load_instance(str(file), {})
    assert (settings.url, settings.instance, settings.keys) == ("https://gateway.example.org", "i_shop", (FIRST,))
    secret = "A" * 43
    environ = {"GATEWAY_INSTANCE_KID": "ik_second", "GATEWAY_INSTANCE_SECRET": secret}
    assert load_instance(str(file), environ).keys == (SECOND,)
    everything = {**environ, "GATEWAY_URL": "http://g", "GATEWAY_INSTANCE": "i_1"}
    assert load_instance(None, everything) == ("http://g", "i_1", (SECOND,))


def test_another_key_to_go_over_to(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(BLOCK)
    keys = InstanceKeys(keys_of_file(str(file)))
    file.write_text(f'{BLOCK}[[gateway.keys]]\nkid = "ik_second"\nsecret = "{"A" * 43}"\n')
    assert keys.reload() == FIRST
    assert keys.refuse("ik_first")
    assert keys.present == SECOND


def missing(name: str) -> Callable[[str], str]:
    return lambda block: "\n".join(line for line in block.splitlines() if not line.startswith(name))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (missing("url"), "gateway.url"),
        (missing("secret"), "gateway.secret"),
        (lambda block: block.replace("AAEC", "!!!!"), "secret"),
        (lambda block: block.replace("AAECAwQF", ""), "secret"),
        (lambda block: block.replace('"ik_first"', "7"), "gateway.kid"),
        (lambda block: block + "[[gateway.keys]]\nkid = 'a'\n", "gateway.keys"),
        (lambda block: "gateway = 7", "no section"),
        (lambda block: "[", "gateway.toml"),
    ],
)
def test_a_setting_that_can_not_be_is_named(tmp_path: Path, change: Callable[[str], str], named: str) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(change(BLOCK))
    with pytest.raises(ConfigError, match=named):
        load_instance(str(file), {})


def test_a_secret_is_named_in_no_error() -> None:
    with pytest.raises(ConfigError) as raised:
        instance_key("ik_1", "short-secret")
    assert "short-secret" not in str(raised.value)


def test_a_file_that_is_half_written_changes_no_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    secret = "A" * 43
    whole = '[gateway]\nurl = "http://127.0.0.1:1"\ninstance = "shop"\nkid = "{}"\nsecret = "' + secret + '"\n'
    file = tmp_path / "gateway.toml"
    file.write_text(whole.format("ik_1"))
    keys = InstanceKeys(keys_of_file(str(file)), reload_every_s=0.0)
    file.write_text(whole.format("ik_2")[:40])
    assert [keys.refuse("ik_1"), keys.refuse("ik_1")] == [False, False]
    assert keys.present.kid == "ik_1"
    assert [record.name for record in caplog.records] == ["client_sdk.instance"]
    with pytest.raises(ConfigError):
        keys.reload()
    file.write_text(whole.format("ik_2"))
    assert keys.refuse("ik_1")
    assert keys.present.kid == "ik_2"
