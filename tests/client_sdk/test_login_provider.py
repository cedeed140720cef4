from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from client_sdk import AuthFailed, ConfigError, Disconnected, LoginProvider, MalformedMessage, Unavailable
from client_sdk.login import ATTEMPT_S, PAUSES_S
from client_sdk.provider import provide


class Gateway:
    """Answers logins and renewals as the gateway does, counting; `lost` answers never arrive."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.lost = 0
        self.status = 200
        self.number = 0
        self.now = 100.0

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content) if request.content else None
        self.asked.append((request.url.path, body))
        if self.status != 200:
            problem = {"code": "auth_failed" if self.status == 401 else "unavailable", "detail": "No."}
            return httpx2.Response(self.status, json=problem, headers={"Retry-After": "7"})
        if request.url.path == "/auth/refresh" and body["refresh_token"] != f"r{self.number}":
            # Shown again within the grace: the same successor.
            assert body["refresh_token"] == f"r{self.number - 1}"
        else:
            self.number += 1
        if self.lost:
            self.lost -= 1
            raise httpx2.ReadTimeout("lost")
        tokens = {"access_token": f"a{self.number}", "refresh_token": f"r{self.number}", "expires_in": 900, "seq": 1}
        return httpx2.Response(200, json=tokens)

    def provider(self, **arguments: Any) -> LoginProvider:
        if "refresh_token" not in arguments:
            arguments = {"username": "ada", "password": "a password", **arguments}
        transport = httpx2.MockTransport(self)
        return LoginProvider("http://gateway.test", transport=transport, clock=lambda: self.now, **arguments)


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client_sdk.login.PAUSES_S", (0, 0))


async def test_it_signs_in_once_and_renews_before_the_end(gateway: Gateway) -> None:
    provider = gateway.provider()
    assert [await provider(), await provider()] == ["a1", "a1"]
    gateway.now += 809
    assert await provider() == "a1"
    gateway.now += 1  # 90 s before its end
    assert await provider() == "a2"
    assert gateway.asked == [
        ("/auth/login", {"username": "ada", "password": "a password"}),
        ("/auth/refresh", {"refresh_token": "r1"}),
    ]
    assert provider.refresh_token == "r2"


async def test_a_session_of_before_goes_on_and_each_new_refresh_token_is_told_first(gateway: Gateway) -> None:
    kept: list[str] = []
    gateway.number = 5
    provider = gateway.provider(refresh_token="r5", on_refresh=kept.append)
    assert await provider() == "a6"
    assert kept == ["r6"]


async def test_many_who_ask_at_once_share_one_renewal(gateway: Gateway) -> None:
    provider = gateway.provider()
    assert set(await asyncio.gather(*(provider() for _ in range(50)))) == {"a1"}
    assert len(gateway.asked) == 1


async def test_whoever_gives_up_does_not_stop_the_renewal(gateway: Gateway) -> None:
    provider = gateway.provider()
    asking = asyncio.create_task(provide(provider))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await provider() == "a1"
    assert len(gateway.asked) == 1


@pytest.mark.usefixtures("at_once")
async def test_a_lost_answer_is_asked_for_again(gateway: Gateway) -> None:
    provider = gateway.provider()
    await provider()
    gateway.now, gateway.lost = gateway.now + 900, 2
    assert await provider() == "a2"
    assert provider.refresh_token == "r2"


@pytest.mark.usefixtures("at_once")
async def test_a_gateway_that_stays_away_is_disconnected_and_found_again(gateway: Gateway) -> None:
    provider = gateway.provider()
    await provider()
    gateway.now, gateway.lost = gateway.now + 900, 3
    with pytest.raises(Disconnected):
        await provider()
    assert await provider() == "a2"


def test_all_attempts_fall_into_the_grace() -> None:
    """10 s after its first use a token that is shown again ends the session."""
    assert (len(PAUSES_S) + 1) * ATTEMPT_S + sum(PAUSES_S) < 9


@pytest.mark.usefixtures("at_once")
async def test_an_attempt_that_takes_too_long_is_given_up_and_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client_sdk.login.ATTEMPT_S", 0.05)
    shown: list[str] = []

    async def answer(request: httpx2.Request) -> httpx2.Response:
        shown.append(json.loads(request.content)["refresh_token"])
        if len(shown) == 1:
            await asyncio.Event().wait()
        return httpx2.Response(200, json={"access_token": "a", "refresh_token": "r2", "expires_in": 900})

    transport = httpx2.MockTransport(answer)
    provider = LoginProvider("http://gateway.test", refresh_token="r1", transport=transport)
    assert await provider() == "a"
    assert shown == ["r1", "r1"]


async def test_tokens_that_do_not_last_are_not_asked_for_all_the_time() -> None:
    asked = 0

    def answer(request: httpx2.Request) -> httpx2.Response:
        nonlocal asked
        asked += 1
        return httpx2.Response(200, json={"access_token": f"a{asked}", "refresh_token": "r", "expires_in": 0})

    provider = LoginProvider("http://gateway.test", "ada", "p", transport=httpx2.MockTransport(answer))
    assert [await provider(), await provider()] == ["a1", "a2"]


async def test_a_refused_token_is_not_given_again(gateway: Gateway) -> None:
    provider = gateway.provider()
    assert await provide(provider) == "a1"
    assert await provide(provider, "another") == "a1"
    assert await provide(provider, "a1") == "a2"


@pytest.mark.parametrize(("status", "error"), [(401, AuthFailed), (503, Unavailable)])
async def test_refusals_have_their_names(gateway: Gateway, status: int, error: type[Exception]) -> None:
    gateway.status = status
    with pytest.raises(error) as raised:
        await gateway.provider()()
    assert getattr(raised.value, "retry_after_s", None) == 7


async def test_signing_out_ends_it(gateway: Gateway) -> None:
    provider = gateway.provider()
    await provider()
    await provider.sign_out()
    assert gateway.asked[-1] == ("/auth/logout", None)
    assert provider.refresh_token is None
    with pytest.raises(AuthFailed):
        await provider()


async def test_an_answer_that_is_none_is_said(gateway: Gateway) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=b"<html>")

    provider = LoginProvider("http://gateway.test", "ada", "a password", transport=httpx2.MockTransport(answer))
    with pytest.raises(MalformedMessage):
        await provider()


@pytest.mark.parametrize(
    "make",
    [
        lambda: LoginProvider("http://gateway.test"),
        lambda: LoginProvider("http://gateway.test", "ada"),
        lambda: LoginProvider("http://gateway.test", "ada", "p", refresh_token="r"),
    ],
)
def test_one_of_password_and_refresh_token_is_needed(make: Callable[[], LoginProvider]) -> None:
    with pytest.raises(ConfigError):
        make()
