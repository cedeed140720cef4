"""What the application's own functions may do to the channel that calls them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from client_sdk import Change, Channel, Disconnected
from tests.client_sdk.support.driver import SELF
from tests.client_sdk.support.scripted_server import ScriptedServer

QUICK: dict[str, Any] = {"backoff_base_s": 0.02, "backoff_cap_s": 0.05, "close_timeout_s": 0.2}
TIMEOUT_S = 5.0


class Halt(BaseException):
    """What no `except Exception` catches."""


async def test_requests_end_whose_answer_is_lost_with_what_failed_before_it(server: ScriptedServer) -> None:
    def halt(change: Change) -> None:
        raise Halt

    async with Channel(server.url, "t1", **QUICK) as channel:
        changes = aiter(channel)
        await anext(changes)
        waiting = asyncio.create_task(channel.wait_for(1000))
        channel.on_change(halt)
        server.documents[SELF] = {"identity": {"id": "u_ada"}}  # nobody was told
        async with asyncio.timeout(TIMEOUT_S):
            with pytest.raises(Disconnected) as caught:
                await channel.sync()
            assert caught.value.code == "closed"
            with pytest.raises(Disconnected):
                await waiting
            await (await server.peer()).closed.wait()
            assert (await anext(changes)).kind == "snapshot"
            with pytest.raises(Halt):
                await anext(changes)
            with pytest.raises(Disconnected):
                await channel.ping()


async def test_a_provider_may_close_the_channel_while_it_opens(server: ScriptedServer) -> None:
    after: list[str] = []

    async def provide() -> str:
        await channel.close()
        after.append("closed")
        return "t1"

    channel = Channel(server.url, provide, **QUICK)
    async with asyncio.timeout(TIMEOUT_S):
        with pytest.raises(Disconnected) as caught:
            await channel.open()
    assert (caught.value.code, after, server.handshakes) == ("closed", ["closed"], 0)


async def test_a_provider_may_close_the_channel_when_it_shall_renew(server: ScriptedServer) -> None:
    went_on = asyncio.Event()
    tokens: list[Callable[[], Awaitable[None]]] = []

    async def provide() -> str:
        if tokens:
            await tokens[0]()
            went_on.set()
        return "t2"

    async with asyncio.timeout(TIMEOUT_S), Channel(server.url, provide, **QUICK) as channel:
        tokens.append(channel.close)
        peer = await server.peer()
        await peer.send({"op": "expiring", "expires_at": "2026-11-21T20:15:00.000Z"})
        await went_on.wait()
        await peer.closed.wait()
        assert [message["op"] for message in peer.received] == []
        assert [change.doc async for change in channel] == [SELF]
    assert (peer.socket.close_code, len(server.peers)) == (1000, 1)


async def test_a_callback_may_have_the_channel_closed(server: ScriptedServer) -> None:
    closing: list[asyncio.Task[None]] = []
    async with asyncio.timeout(TIMEOUT_S), Channel(server.url, "t1", **QUICK) as channel:
        channel.on_change(lambda change: closing.append(asyncio.create_task(channel.close())))
        peer = await server.peer()
        await server.change(SELF, {"identity": {"name": "Ada"}}, "profile")
        await peer.closed.wait()
        await closing[0]
        assert channel.freshness.reason == "closed"
