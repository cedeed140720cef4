from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from client_sdk import (
    Change,
    Channel,
    ClientInfo,
    Disconnected,
    Freshness,
    FreshnessState,
    NotFound,
    RequestTimeout,
    TooLarge,
)
from tests.client_sdk.support.clock import ManualClock
from tests.client_sdk.support.driver import ADA, SELF, revision_of
from tests.client_sdk.support.scripted_server import ScriptedServer
from tests.support.waiting import eventually

BOB: dict[str, Any] = {"identity": {"id": "u_bob"}, "permissions": {}, "quotas": {}, "organizations": {}}
OTHER = "user:u_bob"


def channel_to(server: ScriptedServer, **options: Any) -> Channel:
    return Channel(server.url, "t1", backoff_base_s=0.02, backoff_cap_s=0.05, close_timeout_s=0.3, **options)


async def test_what_the_user_may_do_is_there_when_the_channel_is_open(server: ScriptedServer) -> None:
    async with channel_to(server) as channel:
        assert channel.document == ADA
        assert channel.documents == {SELF: ADA}
        assert channel.permissions == {"can_use_voice", "can_use_sms"}
        assert channel.can("can_use_voice")
        assert not channel.can("can_fly")
        quota = channel.quotas["voice_minutes"]
        assert (quota.limit, quota.used, quota.reserved, quota.remaining, quota.level) == (500, 12, 5, 483, "ok")
        assert (channel.principal, channel.session_id, channel.seq) == (SELF, "s1", 10)
        assert channel.freshness == Freshness(FreshnessState.LIVE, 0.0, "")
        assert channel.trouble is None
    peer = await server.peer()
    assert (peer.authorization, peer.watch) == ("Bearer t1", ["self"])


async def test_nothing_is_known_before_it_is_open(server: ScriptedServer) -> None:
    channel = channel_to(server)
    assert channel.document == {}
    assert not channel.can("can_use_voice")
    assert channel.freshness == Freshness(FreshnessState.OFFLINE, None, "connecting")
    with pytest.raises(Disconnected):
        await channel.sync()
    await channel.close()


async def test_a_change_reaches_iterations_and_callbacks(server: ScriptedServer) -> None:
    everything: list[Change] = []
    own: list[Change] = []
    foreign: list[Change] = []
    async with channel_to(server) as channel:
        channel.on_change(everything.append)
        remove = channel.on_change(own.append, "self")
        channel.on_change(foreign.append, OTHER)
        changes = aiter(channel)
        first = await anext(changes)
        assert (first.kind, first.data) == ("snapshot", ADA)
        await server.change(SELF, {"permissions": {"can_use_sms": None}}, "permissions")
        second = await anext(changes)
        assert (second.kind, second.doc, second.causes) == ("update", SELF, ("permissions",))
        assert (second.before, second.data, second.seq) == (ADA, channel.document, 11)
        assert not channel.can("can_use_sms")
        remove()
        await server.change(SELF, {"permissions": {"can_use_sms": True}}, "permissions")
        await anext(changes)
    assert len(everything) == 2
    assert own == everything[:1]
    assert foreign == []


async def test_a_callback_that_fails_is_logged_and_harms_nobody(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(change: Change) -> None:
        raise RuntimeError("in the application")

    async with channel_to(server) as channel:
        channel.on_change(fail)
        changes = aiter(channel)
        await anext(changes)
        await server.change(SELF, {"identity": {"name": "Ada"}}, "profile")
        assert (await anext(changes)).causes == ("profile",)
    assert "in the application" in caplog.text


async def test_a_slow_reader_gets_one_larger_change(server: ScriptedServer) -> None:
    async with channel_to(server) as channel:
        changes = aiter(channel)
        await anext(changes)
        for used in range(13, 33):
            await server.change(SELF, {"quotas": {"voice_minutes": {"used": used}}}, "quota_usage")
        await server.change(SELF, {"identity": {"name": "Ada"}}, "profile")
        await eventually(lambda: channel.seq == 31)
        change = await anext(changes)
        assert (change.before, change.data, change.kind) == (ADA, channel.document, "update")
        assert change.causes == ("quota_usage", "profile")
        assert change.patch == {"quotas": {"voice_minutes": {"used": 32}}, "identity": {"name": "Ada"}}


async def test_closing_ends_iterations(server: ScriptedServer) -> None:
    channel = channel_to(server)
    await channel.open()

    async def read() -> list[str]:
        return [change.doc async for change in channel]

    reading = asyncio.create_task(read())
    peer = await server.peer()
    await channel.close()
    assert await reading == [SELF]
    await asyncio.wait_for(peer.closed.wait(), 5)
    assert peer.socket.close_code == 1000
    assert channel.document == ADA
    assert [change.doc async for change in channel] == [SELF]
    await channel.close()
    with pytest.raises(Disconnected) as caught:
        await channel.ping()
    assert caught.value.code == "closed"


async def test_a_channel_is_opened_once(server: ScriptedServer) -> None:
    async with channel_to(server) as channel:
        with pytest.raises(RuntimeError):
            await channel.open()


async def test_messagepack(server: ScriptedServer) -> None:
    async with channel_to(server, subprotocol="gateway.v1+msgpack") as channel:
        peer = await server.peer()
        assert peer.binary
        assert channel.document == ADA
        await channel.ping()
        changes = aiter(channel)
        await anext(changes)
        await server.change(SELF, {"identity": {"name": "Ada"}}, "profile")
        assert (await anext(changes)).data["identity"]["name"] == "Ada"


async def test_the_token_can_travel_in_the_first_message(server: ScriptedServer) -> None:
    client = ClientInfo("voice", "1.0")
    async with channel_to(server, credential="message", client=client) as channel:
        peer = await server.peer()
        assert peer.authorization is None
        assert peer.received[0] == {
            "op": "auth",
            "token": "t1",
            "watch": ["self"],
            "client": {"name": "voice", "version": "1.0"},
        }
        assert channel.document == ADA


# --- requests ---


async def test_watching_and_unwatching(server: ScriptedServer) -> None:
    server.documents[OTHER] = BOB
    async with channel_to(server) as channel:
        watched = await channel.watch([OTHER, "user:u_nobody"])
        assert watched.docs == (OTHER,)
        assert isinstance(watched.refused["user:u_nobody"], NotFound)
        assert channel.documents[OTHER] == BOB
        with pytest.raises(NotFound):
            await channel.watch("user:u_nobody")
        await channel.unwatch(OTHER)
        assert set(channel.documents) == {SELF}


async def test_what_is_watched_is_watched_again_after_a_reconnect(server: ScriptedServer) -> None:
    server.documents[OTHER] = BOB
    async with channel_to(server) as channel:
        await channel.watch(OTHER)
        (await server.peer()).cut()
        peer = await server.peer(2)
        assert peer.watch == [f"self@{revision_of(ADA)}", f"{OTHER}@{revision_of(BOB)}"]
        await eventually(lambda: channel.freshness.state is FreshnessState.LIVE)
        assert channel.documents == {SELF: ADA, OTHER: BOB}


async def test_watching_with_nothing_to_watch_is_a_mistake(server: ScriptedServer) -> None:
    async with channel_to(server) as channel:
        with pytest.raises(ValueError, match="at least one"):
            await channel.watch([])
        with pytest.raises(TooLarge):
            await channel.watch([f"user:u_{number}" for number in range(3000)])


async def test_sync_returns_the_document(server: ScriptedServer) -> None:
    async with channel_to(server) as channel:
        server.documents[SELF] = BOB  # nobody was told
        assert await channel.sync() == BOB == channel.document


async def test_a_ping_takes_time(server: ScriptedServer) -> None:
    async with channel_to(server) as channel:
        assert 0 < await channel.ping() < 5


async def test_a_silent_divergence_is_found_by_a_ping(server: ScriptedServer) -> None:
    async with channel_to(server) as channel:
        server.documents[SELF] = BOB  # nobody was told
        await channel.ping()
        await eventually(lambda: channel.document == BOB)


async def test_waiting_for_a_write(server: ScriptedServer) -> None:
    async with channel_to(server) as channel:
        assert await channel.wait_for(10) == 10
        waiting = asyncio.create_task(channel.wait_for(11))
        await server.change(SELF, {"identity": {"name": "Ada"}}, "profile")
        assert await waiting == 11
        assert channel.document["identity"]["name"] == "Ada"


async def test_waiting_for_a_write_that_changed_nothing(server: ScriptedServer) -> None:
    clock = ManualClock()
    async with channel_to(server, clock=clock) as channel:
        server.seq = 50
        waiting = asyncio.create_task(channel.wait_for(50))
        await asyncio.sleep(0)
        await clock.advance(0.3)
        assert await waiting == 50


async def test_requests_fail_when_the_connection_drops(server: ScriptedServer) -> None:
    async with channel_to(server) as channel:
        server.silent = True
        pinging = asyncio.create_task(channel.ping())
        peer = await server.peer()
        await server.message(peer, "ping")
        server.silent = False
        peer.cut()
        with pytest.raises(Disconnected):
            await pinging


async def test_requests_that_nobody_answers_fail(server: ScriptedServer) -> None:
    clock = ManualClock()
    async with channel_to(server, clock=clock) as channel:
        server.silent = True
        asking = asyncio.create_task(channel.sync())
        await server.message(await server.peer(), "sync")
        await clock.advance(9.9)
        assert not asking.done()
        await clock.advance(0.2)
        with pytest.raises(RequestTimeout):
            await asking


async def test_a_request_can_be_given_up(server: ScriptedServer) -> None:
    async with channel_to(server) as channel:
        waiting = asyncio.create_task(channel.wait_for(1000))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        peer = await server.peer()
        await channel.ping()
        assert [message["op"] for message in peer.received] == ["ping"]


# --- secrets and tasks ---


async def test_the_token_is_in_no_log_line(server: ScriptedServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with Channel(server.url, "gw_very_secret", credential="header") as channel:
            await channel.ping()
        async with Channel(server.url, "gw_very_secret", credential="message") as channel:
            await channel.ping()
    sdk = [record for record in caplog.records if not record.name.startswith("websockets.server")]
    assert "very_secret" not in "".join(record.getMessage() for record in sdk)


async def test_nothing_is_left_behind(server: ScriptedServer) -> None:
    before = asyncio.all_tasks()
    async with channel_to(server) as channel:
        await channel.ping()
    left = {task for task in asyncio.all_tasks() - before if "ScriptedServer" not in repr(task)}
    assert {task for task in left if "client_sdk" in repr(task.get_coro())} == set()
