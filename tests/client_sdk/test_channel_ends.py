from __future__ import annotations

import asyncio
import http
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Response

from client_sdk import (
    AuthFailed,
    Channel,
    ChannelError,
    Disconnected,
    Forbidden,
    FreshnessState,
    PrincipalChanged,
    Revoked,
    TokenUnavailable,
)
from tests.client_sdk.support.driver import ADA
from tests.client_sdk.support.scripted_server import ScriptedServer
from tests.support.waiting import eventually

QUICK: dict[str, Any] = {"backoff_base_s": 0.02, "backoff_cap_s": 0.05, "close_timeout_s": 0.2}


def refusal(status: int, code: str = "", retry_after: str | None = None) -> Response:
    headers = Headers({"Content-Type": "application/problem+json", "Connection": "close"})
    if retry_after is not None:
        headers["Retry-After"] = retry_after
    body = f'{{"code":"{code}","detail":"Refused."}}'.encode() if code else b"<html>"
    headers["Content-Length"] = str(len(body))
    return Response(status, http.HTTPStatus(status).phrase, headers, body)


async def live(channel: Channel) -> None:
    await eventually(lambda: channel.freshness.state is FreshnessState.LIVE)


async def offline(channel: Channel) -> None:
    await eventually(lambda: channel.freshness.state is FreshnessState.OFFLINE)


# --- credentials ---


async def test_a_bad_token_is_told_at_once(server: ScriptedServer) -> None:
    server.refusals = [refusal(401, "auth_failed")]
    with pytest.raises(AuthFailed, match="Refused"):
        await Channel(server.url, "t1", **QUICK).open()
    assert server.handshakes == 1


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [(403, "forbidden", Forbidden), (401, "revoked", Revoked), (400, "bad_request", ChannelError)],
)
async def test_a_refusal_for_good_is_told_at_once(
    server: ScriptedServer, status: int, code: str, error: type[ChannelError]
) -> None:
    server.refusals = [refusal(status, code)]
    with pytest.raises(error):
        await Channel(server.url, "t1", **QUICK).open()


async def test_a_page_of_a_proxy_is_no_verdict(server: ScriptedServer) -> None:
    server.refusals = [refusal(403), refusal(502), refusal(404)]
    async with Channel(server.url, "t1", **QUICK) as channel:
        assert channel.document == ADA
    assert server.handshakes == 4


def blocking_provider(tokens: list[str]) -> Callable[[], str]:
    def provide() -> str:
        assert threading.current_thread() is not threading.main_thread()
        return tokens.pop(0)

    return provide


def coroutine_provider(tokens: list[str]) -> Callable[[], Awaitable[str]]:
    async def provide() -> str:
        await asyncio.sleep(0)
        return tokens.pop(0)

    return provide


def awaitable_provider(tokens: list[str]) -> Callable[[], Awaitable[str]]:
    provide = coroutine_provider(tokens)
    return lambda: provide()


class ObjectProvider:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens

    async def __call__(self) -> str:
        return self.tokens.pop(0)


@pytest.mark.parametrize("make", [blocking_provider, coroutine_provider, awaitable_provider, ObjectProvider])
async def test_the_provider_is_asked_before_every_connection(server: ScriptedServer, make: Any) -> None:
    async with Channel(server.url, make(["t1", "t2"]), **QUICK) as channel:
        (await server.peer()).cut()
        await server.peer(2)
        await live(channel)
    assert [peer.authorization for peer in server.peers] == ["Bearer t1", "Bearer t2"]


async def test_the_credential_is_renewed_on_the_live_session(server: ScriptedServer) -> None:
    async with Channel(server.url, coroutine_provider(["t1", "t2"]), **QUICK) as channel:
        peer = await server.peer()
        await peer.send({"op": "expiring", "expires_at": "2026-11-21T20:15:00.000Z"})
        auth = await server.message(peer, "auth")
        assert auth["token"] == "t2"
        await channel.ping()
        assert channel.session_id == "s1"
        assert len(server.peers) == 1


async def test_an_expired_token_is_replaced(server: ScriptedServer) -> None:
    async with Channel(server.url, coroutine_provider(["t1", "t2"]), **QUICK) as channel:
        await (await server.peer()).end("token_expired", "new_credential", 4100)
        assert (await server.peer(2)).authorization == "Bearer t2"
        await live(channel)


async def test_a_refused_token_after_a_good_one_asks_the_provider_again(server: ScriptedServer) -> None:
    async with Channel(server.url, coroutine_provider(["t1", "bad", "t2"]), **QUICK) as channel:
        server.refusals = [refusal(401, "auth_failed")]
        (await server.peer()).cut()
        assert (await server.peer(2)).authorization == "Bearer t2"
        await live(channel)


@pytest.mark.parametrize("bad", ["", "two words", "line\nbreak", "ümlaut", None, 7])
async def test_what_is_no_token_never_travels(server: ScriptedServer, bad: Any) -> None:
    channel = Channel(server.url, lambda: bad, open_timeout_s=0.1, **QUICK)
    with pytest.raises(Disconnected) as caught:
        await channel.open()
    assert isinstance(caught.value.__cause__, TokenUnavailable)
    assert str(bad or "nothing") not in str(caught.value.__cause__)
    assert server.handshakes == 0


async def test_a_provider_that_fails_is_asked_again(server: ScriptedServer) -> None:
    answers: list[Any] = [OSError("no network"), "t1"]

    async def provide() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    async with Channel(server.url, provide, **QUICK) as channel:
        assert isinstance(channel.trouble, TokenUnavailable)
        assert isinstance(channel.trouble.__cause__, OSError)


# --- the end ---


async def test_a_revoked_channel_does_not_come_back(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        changes = aiter(channel)
        await anext(changes)
        await (await server.peer()).end("revoked", "never", 4500)
        assert (await anext(changes)).kind == "gone"
        with pytest.raises(Revoked):
            await anext(changes)
        assert not channel.can("can_use_voice")
        assert channel.documents == {}
        assert channel.freshness.reason == "revoked"
        with pytest.raises(Disconnected):
            await channel.ping()
        with pytest.raises(Revoked):
            await anext(aiter(channel))
    assert server.handshakes == 1


async def test_somebody_elses_token_ends_the_channel(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        changes = aiter(channel)
        await anext(changes)
        server.principal = "user:u_other"
        (await server.peer()).cut()
        assert (await anext(changes)).kind == "gone"
        with pytest.raises(PrincipalChanged):
            await anext(changes)


async def test_freshness_is_told(server: ScriptedServer) -> None:
    states: list[str] = []
    channel = Channel(server.url, "t1", **QUICK)
    channel.on_freshness(lambda freshness: states.append(freshness.state))
    async with channel:
        peer = await server.peer()
        status = {"op": "status", "since": "2026-11-21T20:00:00.000Z", "age_s": 1.5}
        await peer.send({**status, "store": "stale"})
        await eventually(lambda: channel.freshness.state is FreshnessState.STALE)
        age = channel.freshness.age_s
        assert age is not None
        assert age >= 1.5
        await peer.send({**status, "store": "fresh"})
        await live(channel)
        peer.cut()
        await offline(channel)
        await live(channel)
    assert states == ["stale", "live", "stale", "live", "offline", "stale", "live", "offline"]
