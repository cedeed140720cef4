"""Signed requests of an instance, against a gateway that a test scripts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import msgspec
import pytest
from http_message_signatures import HTTPMessageVerifier, MappingKeyResolver
from http_message_signatures.algorithms import HMAC_SHA256

from client_sdk import (
    AuthFailed,
    ConfigError,
    Disconnected,
    Forbidden,
    LoginFailed,
    QuotaExceeded,
    RateLimited,
    Unavailable,
)
from client_sdk.instance import InstanceClient
from client_sdk.instance_key import InstanceKey, InstanceKeys, instance_key, keys_of_file, load_instance

FIRST, SECOND = InstanceKey("ik_first", bytes(range(32))), InstanceKey("ik_second", bytes(32))
THIRD = InstanceKey("ik_third", bytes(range(1, 33)))
KEYS = {key.kid: key.secret for key in (FIRST, SECOND, THIRD)}
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


HELD = {
    "quota": "voice minutes",
    "lease": "call 1?",
    "held": 3,
    "state": "open",
    "expires_at": "2030-01-01T00:00:00.000Z",
}


async def test_a_lease_is_named_in_the_path_and_its_user_in_the_body() -> None:
    script = Script((201, HELD))
    async with client(script) as gateway:
        held = await gateway.reserve("voice minutes", 3, user="u_ada", ttl_s=30, name="call 1?", org="o_acme")
        assert (held.lease, held.held, held.user) == ("call 1?", 3, "u_ada")
        await gateway.extend(held)
        await gateway.extend(held, ttl_s=60, amount=2, key="k1")
        await gateway.commit(held, 0)
        await gateway.release(held)
    lease = b"/api/quotas/voice%20minutes/leases/call%201%3F"
    asked = [(request.url.raw_path, msgspec.json.decode(request.content)) for request in script.requests]
    assert asked == [
        (
            b"/api/quotas/voice%20minutes/leases",
            {"amount": 3, "ttl_s": 30, "lease": "call 1?", "user": "u_ada", "org": "o_acme"},
        ),
        (lease + b"/extend", {"ttl_s": 60.0, "user": "u_ada"}),
        (lease + b"/extend", {"ttl_s": 60, "user": "u_ada", "amount": 2, "key": "k1"}),
        (lease + b"/commit", {"amount": 0, "user": "u_ada"}),
        (lease + b"/release", {"user": "u_ada"}),
    ]


async def test_an_error_says_which_lease_may_be_held() -> None:
    script = Script(httpx2.ConnectError("no"))
    async with client(script) as gateway:
        with pytest.raises(Disconnected) as lost:
            await gateway.reserve("q", 1, user="u_ada")
        names = {msgspec.json.decode(request.content)["lease"] for request in script.requests}
        assert names == {lost.value.key}
        for name in ("a/b", ".", "..", "", "x" * 129):
            with pytest.raises(ValueError, match="name of a lease"):
                await gateway.reserve("q", 1, user="u_ada", name=name)


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


async def test_a_no_that_is_not_the_gateways_passes() -> None:
    script = Script((403, "<html>Blocked by the firewall</html>"), (200, ACTIVE))
    async with client(script) as gateway:
        assert (await gateway.validate("gw_token")).active


async def test_every_key_is_tried_in_one_attempt() -> None:
    script = Script((401, {"code": "auth_failed"}), (401, {"code": "auth_failed"}), (200, ACTIVE))
    async with client(script, FIRST, SECOND, THIRD, attempts=1) as gateway:
        assert (await gateway.validate("gw_token")).active
    assert script.kids == ["ik_first", "ik_second", "ik_third"]


@pytest.mark.parametrize(
    ("off_s", "keys", "code"), [(95, 1, "clock_off"), (-40, 1, "clock_off"), (40, 2, "auth_failed")]
)
async def test_a_clock_that_is_off_says_nothing_of_a_key(off_s: float, keys: int, code: str) -> None:
    date = formatdate(time.time() + off_s, usegmt=True)
    script = Script((401, {"code": "auth_failed", "detail": "Too old."}, {"Date": date}))
    async with client(script, FIRST, SECOND) as gateway:
        with pytest.raises(AuthFailed) as refused:
            await gateway.validate("gw_token")
    assert (refused.value.code, len(script.requests)) == (code, keys)


async def test_an_answer_drop_by_drop_takes_no_longer_than_a_call_may() -> None:
    class Drip(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                yield b" "
                await asyncio.sleep(0.01)

    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, stream=Drip()))
    async with InstanceClient(URL, FIRST, transport=transport, timeout_s=0.1) as gateway:
        async with asyncio.timeout(5):
            with pytest.raises(Disconnected, match="did not answer within"):
                await gateway.validate("gw_token")


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
    assert load_instance(None, everything) == ("http://g", "i_1", (SECOND,), ())


@pytest.mark.parametrize("fixed", [False, True])
def test_settings_know_where_their_keys_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fixed: bool
) -> None:
    """A key of the environment stays; and the program may have gone elsewhere since."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "gateway.toml"
    file.write_text(BLOCK)
    environ = {"GATEWAY_INSTANCE_KID": "ik_first", "GATEWAY_INSTANCE_SECRET": BLOCK[-45:-2]} if fixed else {}
    settings = load_instance("gateway.toml", environ)
    environ.clear()
    assert BLOCK[-45:-2] not in repr(settings)
    keys = InstanceKeys(settings.source, reload_every_s=0.0)
    monkeypatch.chdir("/")
    file.write_text(BLOCK.replace("ik_first", "ik_second"))
    assert keys.refuse("ik_first") is not fixed
    assert keys.present.kid == ("ik_first" if fixed else "ik_second")


async def test_a_client_of_settings_takes_a_key_that_is_written_meanwhile(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(BLOCK)
    script = Script((401, {"code": "auth_failed"}), (200, ACTIVE))
    transport = httpx2.MockTransport(script)
    async with InstanceClient(load_instance(str(file), {}), transport=transport) as gateway:
        gateway.keys._reload_every_s = 0.0
        file.write_text(BLOCK.replace("ik_first", "ik_second").replace(BLOCK[-45:-2], "A" * 43))
        assert (await gateway.validate("gw_token")).active
    assert script.kids == ["ik_first", "ik_second"]
    with pytest.raises(ConfigError, match="keys"):
        InstanceClient(URL)


def test_a_file_of_an_editor_that_marks_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(BLOCK, encoding="utf-8-sig")
    assert load_instance(str(file), {}).keys == (FIRST,)


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


# --- people who sign in at the application ---

SIGNED_IN = {
    **{"session": "s_1", "access_token": "a.b.c", "token_type": "Bearer", "expires_in": 900, "seq": 9},
    **{"expires_at": "2026-11-21T19:25:00.000Z", "refresh_expires_at": "2026-11-28T19:10:00.000Z"},
    **{"refresh_token": "gr_1", "user": {"id": "u_ada"}},
}
NO_KEY = (401, {"code": "auth_failed", "detail": "The signature is not valid.", "credential": "signature"})


async def test_somebody_is_signed_in_from_where_they_are() -> None:
    script = Script((200, SIGNED_IN))
    async with client(script) as gateway:
        told = await gateway.login("ada", "moons of jupiter", address="203.0.113.9", user_agent="Browser/1")
        await gateway.login("ada@example.org", "moons of jupiter", address=None)
        renewed = await gateway.refresh(told.refresh_token, address="203.0.113.9")
    assert (told.session, told.access_token, told.user["id"], told.expires_in) == ("s_1", "a.b.c", "u_ada", 900)
    assert "a.b.c" not in repr(renewed)
    assert "gr_1" not in repr(renewed)
    assert [(request.url.path, msgspec.json.decode(request.content)) for request in script.requests] == [
        (
            "/auth/login",
            {
                **{"username": "ada", "password": "moons of jupiter"},
                "client": {"address": "203.0.113.9", "user_agent": "Browser/1"},
            },
        ),
        ("/auth/login", {"username": "ada@example.org", "password": "moons of jupiter"}),
        ("/auth/refresh", {"refresh_token": "gr_1", "client": {"address": "203.0.113.9", "user_agent": ""}}),
    ]


async def test_a_wrong_password_is_not_the_keys_fault() -> None:
    script = Script((401, {"code": "auth_failed", "detail": "The user name or password is wrong."}))
    async with client(script, FIRST, SECOND) as gateway:
        with pytest.raises(LoginFailed, match="wrong"):
            await gateway.login("ada", "x", address="203.0.113.9")
        with pytest.raises(LoginFailed):
            await gateway.refresh("gr_1", address="203.0.113.9")
    assert script.kids == ["ik_first", "ik_first"]


async def test_a_login_with_a_key_that_is_not_taken_is_made_with_the_next() -> None:
    script = Script(NO_KEY, (200, SIGNED_IN))
    async with client(script, FIRST, SECOND) as gateway:
        assert (await gateway.login("ada", "x", address="203.0.113.9")).session == "s_1"
    assert script.kids == ["ik_first", "ik_second"]
    async with client(Script(NO_KEY), FIRST, SECOND) as gateway:
        with pytest.raises(AuthFailed, match="signature") as refused:
            await gateway.login("ada", "x", address="203.0.113.9")
        assert not isinstance(refused.value, LoginFailed)


@pytest.mark.parametrize(
    ("answer", "error", "wait_s"),
    [
        (httpx2.ConnectError("no"), Disconnected, None),
        ((503, {"code": "unavailable"}, {"Retry-After": "1"}), Unavailable, 1.0),
        ((429, {"code": "rate_limited"}, {"Retry-After": "240"}), RateLimited, 240.0),
    ],
)
async def test_a_login_is_tried_once(answer: Any, error: type[Exception], wait_s: float | None) -> None:
    script = Script(answer)
    async with client(script) as gateway:
        with pytest.raises(error) as failed:
            await gateway.login("ada", "x", address="203.0.113.9")
    assert failed.value.retry_after_s == wait_s  # type: ignore[attr-defined]
    assert len(script.requests) == 1


async def test_a_renewal_whose_answer_was_lost_is_asked_again() -> None:
    script = Script(httpx2.ReadError("cut"), (200, SIGNED_IN))
    async with client(script) as gateway:
        assert (await gateway.refresh("gr_1", address=None)).refresh_token == "gr_1"
    assert len(script.requests) == 2
