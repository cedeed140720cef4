from __future__ import annotations

import asyncio
import http
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from websockets.datastructures import Headers
from websockets.http11 import Response

from client_sdk import (
    Channel,
    Disconnected,
    FreshnessState,
    events,
)
from tests.client_sdk.support.clock import ManualClock
from tests.client_sdk.support.driver import ADA, SELF, revision_of
from tests.client_sdk.support.scripted_server import ScriptedServer
from tests.support.waiting import eventually

REV = revision_of(ADA)
QUICK: dict[str, Any] = {"backoff_base_s": 0.02, "backoff_cap_s": 0.05, "close_timeout_s": 0.2}


def refusal(status: int, code: str = "", retry_after: str | None = None, **members: Any) -> Response:
    headers = Headers({"Content-Type": "application/problem+json", "Connection": "close"})
    if retry_after is not None:
        headers["Retry-After"] = retry_after
    body = msgspec.json.encode({"code": code, "detail": "Refused.", **members}) if code else b"<html>"
    headers["Content-Length"] = str(len(body))
    return Response(status, http.HTTPStatus(status).phrase, headers, body)


async def live(channel: Channel) -> None:
    await eventually(lambda: channel.freshness.state is FreshnessState.LIVE)


async def offline(channel: Channel) -> None:
    await eventually(lambda: channel.freshness.state is FreshnessState.OFFLINE)


# --- the connection ---


async def test_a_cut_connection_comes_back_and_resumes(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        changes = aiter(channel)
        await anext(changes)
        (await server.peer()).cut()
        peer = await server.peer(2)
        assert peer.watch == [f"self@{REV}"]
        await live(channel)
        assert channel.session_id == "s2"
        await server.change(SELF, {"identity": {"name": "Ada"}}, "profile")
        assert (await anext(changes)).causes == ("profile",)


async def test_what_changed_meanwhile_is_one_change(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        changes = aiter(channel)
        await anext(changes)
        (await server.peer()).cut()
        await server.change(SELF, {"permissions": {"can_use_sms": None}}, "permissions")
        change = await anext(changes)
        assert (change.kind, change.patch) == ("snapshot", {"permissions": {"can_use_sms": None}})


async def test_a_restart_of_the_gateway_is_survived(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        await server.stop()
        await offline(channel)
        assert channel.can("can_use_voice")
        age = channel.freshness.age_s
        assert age is not None
        assert age >= 0
        await server.start()
        await live(channel)


async def test_cut_in_the_middle_of_a_frame(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        (await server.peer()).cut(after=b'\x81\x7e\x10\x00{"op":"snapshot","doc":"')
        await server.peer(2)
        await live(channel)
        assert channel.document == ADA


async def test_frames_that_come_twice(server: ScriptedServer) -> None:
    server.duplicate = True
    async with Channel(server.url, "t1", **QUICK) as channel:
        for used in range(13, 23):
            await server.change(SELF, {"quotas": {"voice_minutes": {"used": used}}}, "quota_usage")
        await eventually(lambda: channel.document == server.documents[SELF])
        await live(channel)
        assert channel.mismatches == 0


async def test_frames_that_come_late(server: ScriptedServer) -> None:
    server.delay_s = 0.01
    async with Channel(server.url, "t1", **QUICK) as channel:
        await server.change(SELF, {"identity": {"name": "Ada"}}, "profile")
        await eventually(lambda: channel.document == server.documents[SELF])


async def test_frames_that_are_lost(server: ScriptedServer) -> None:
    clock = ManualClock()
    async with Channel(server.url, "t1", clock=clock, **QUICK) as channel:
        server.silent = True
        await server.change(SELF, {"identity": {"name": "Ada"}}, "profile")
        server.silent = False
        await clock.advance(clock.next)
        await eventually(lambda: channel.document == server.documents[SELF])
        await live(channel)


async def test_a_frame_that_is_no_message(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        peer = await server.peer()
        await peer.socket.send("{")
        await peer.closed.wait()
        assert peer.socket.close_code == 1002
        await server.peer(2)
        await live(channel)
        assert isinstance(channel.trouble, Disconnected)
        assert channel.trouble.code == "malformed_message"


async def test_a_message_that_is_too_large_ends_the_connection(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", max_message_bytes=2000, **QUICK) as channel:
        peer = await server.peer()
        await peer.send({"op": "later", "filling": "x" * 3000})
        await peer.closed.wait()
        assert peer.socket.close_code == 1009
        await server.peer(2)
        await live(channel)


async def test_a_dead_network_is_found_and_left(server: ScriptedServer) -> None:
    clock = ManualClock()
    async with Channel(server.url, "t1", clock=clock, **QUICK) as channel:
        server.silent = True
        await clock.advance(clock.next)
        await server.message(await server.peer(), "ping")
        await clock.advance(9.9)
        assert channel.freshness.state is FreshnessState.LIVE
        await clock.advance(0.2)
        await offline(channel)
        server.silent = False
        await clock.advance(1.0)
        await server.peer(2)
        await live(channel)


async def test_a_socket_that_takes_nothing_does_not_hold_up_the_end(server: ScriptedServer) -> None:
    channel = Channel(server.url, "t1", **QUICK)
    await channel.open()
    peer = await server.peer()
    peer.socket.transport.pause_reading()
    async with asyncio.timeout(5):
        await channel.close()


@pytest.fixture
async def mute_port() -> AsyncIterator[int]:
    """A port that accepts and never says a word."""
    over = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield listening.sockets[0].getsockname()[1]
    over.set()
    listening.close()
    await listening.wait_closed()


async def test_a_handshake_that_nobody_answers(mute_port: int) -> None:
    channel = Channel(f"ws://127.0.0.1:{mute_port}", "t1", connect_timeout_s=0.03, open_timeout_s=0.3, **QUICK)
    with pytest.raises(Disconnected, match=r"No session within 0\.3 s"):
        await channel.open()
    assert channel.trouble is not None
    assert channel.trouble.message == "The gateway did not answer in time."


async def test_nobody_listens(mute_port: int) -> None:
    channel = Channel("ws://127.0.0.1:1", "t1", open_timeout_s=0.1, **QUICK)
    with pytest.raises(Disconnected, match="No session") as caught:
        await channel.open()
    assert isinstance(caught.value.__cause__, Disconnected)


async def test_a_gateway_that_comes_later_is_waited_for() -> None:
    server = ScriptedServer()
    await server.start()
    await server.stop()
    channel = Channel(server.url, "t1", open_timeout_s=None, **QUICK)
    opening = asyncio.create_task(channel.open())
    await eventually(lambda: channel.trouble is not None)
    await server.start()
    await asyncio.wait_for(opening, 5)
    assert channel.document == ADA
    await channel.close()
    await server.stop()


async def test_an_opening_that_is_given_up_leaves_nothing(mute_port: int) -> None:
    channel = Channel(f"ws://127.0.0.1:{mute_port}", "t1", **QUICK)
    opening = asyncio.create_task(channel.open())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    with pytest.raises(Disconnected):
        await channel.ping()


# --- waiting, with a clock that moves when told to ---


async def test_the_gateway_says_how_long_to_wait(server: ScriptedServer) -> None:
    clock = ManualClock()
    async with Channel(server.url, "t1", clock=clock) as channel:
        await (await server.peer()).end("going_away", "now", 1001, retry_after_s=7.0)
        await offline(channel)
        assert channel.freshness.reason == "going_away"
        await clock.advance(6.9)
        assert server.handshakes == 1
        await clock.advance(1.0)
        await server.peer(2)
        await live(channel)


@pytest.mark.parametrize(("field", "members"), [("17", {}), ("18", {"retry_after_s": 17.0})])
async def test_retry_after_of_a_refused_handshake_is_obeyed(
    server: ScriptedServer, field: str, members: dict[str, float]
) -> None:
    clock = ManualClock()
    server.refusals = [refusal(503, "unavailable", field, **members)]
    channel = Channel(server.url, "t1", clock=clock)
    opening = asyncio.create_task(channel.open())
    await eventually(lambda: channel.trouble is not None)
    assert channel.trouble is not None
    assert (channel.trouble.code, channel.trouble.retry_after_s) == ("unavailable", 17.0)
    assert 17.0 < clock.next < 20.0
    await clock.advance(clock.next)
    await opening
    await channel.close()


async def test_a_close_code_counts_when_the_message_is_lost(server: ScriptedServer) -> None:
    clock = ManualClock()
    async with Channel(server.url, "t1", clock=clock) as channel:
        await (await server.peer()).socket.close(4004)
        await offline(channel)
        assert channel.freshness.reason == "overloaded"
        assert channel.can("can_use_voice")


async def test_a_gateway_that_ends_every_session_is_not_hammered(server: ScriptedServer) -> None:
    clock = ManualClock()
    began = clock.time()
    async with Channel(server.url, "t1", clock=clock, chance=lambda: 0.5) as channel:
        for number in range(1, 12):
            await (await server.peer(number)).end("going_away", "now", 1001)
            await offline(channel)
            await clock.advance(clock.next)
            await live(channel)
    assert clock.time() - began > 60


# --- faults of the program itself ---


async def test_a_fault_inside_ends_the_channel_instead_of_leaving_half_of_it(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    dice: list[float] = [0.5] * 1000

    def throw() -> float:
        return dice.pop()

    async with Channel(server.url, "t1", chance=throw, **QUICK) as channel:
        changes = aiter(channel)
        await anext(changes)
        waiting = asyncio.create_task(channel.wait_for(1000))
        await asyncio.sleep(0)
        dice.clear()
        peer = await server.peer()
        await server.change(SELF, {"identity": {"name": "Ada"}}, "profile")
        with pytest.raises(IndexError):
            await anext(changes)
        with pytest.raises(Disconnected):
            await waiting
        await asyncio.wait_for(peer.closed.wait(), 5)
    assert "the channel failed" in caplog.text


@pytest.mark.parametrize("again", [False, True])
async def test_a_fault_inside_tells_of_what_was_spent_what_is_known(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    def fail(event: events.Event, now: float, chance: float) -> list[events.Effect]:
        if again or not isinstance(event, events.Stop):
            raise RuntimeError("a fault within")
        return handle(event, now, chance)

    async with Channel(server.url, "t1", clock=ManualClock(), **QUICK) as channel:
        peer = await server.peer()
        server.bank.refusals = [{"code": "unavailable", "retry_after_s": 9.0}]
        refused = asyncio.create_task(channel.consume("voice_minutes", key="refused"))
        await server.message(peer, "consume")
        await channel.ping()
        server.silent = True
        unknown = asyncio.create_task(channel.consume("voice_minutes", key="unknown"))
        await server.message(peer, "consume", 2)
        server.silent = False
        handle = channel._session.handle
        monkeypatch.setattr(channel._session, "handle", fail)
        await server.change(SELF, {"identity": {"name": "Ada"}}, "profile")
        keys = []
        for asking in (refused, unknown):
            with pytest.raises(Disconnected) as closed:
                await asking
            keys.append((closed.value.code, closed.value.key))
    assert keys == [("closed", "refused" if again else None), ("closed", "unknown")]
