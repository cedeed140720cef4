"""The SDK against a real gateway: what its users see, under every fault that the network and the gateway can have."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from client_sdk import (
    AuthFailed,
    Channel,
    Disconnected,
    FreshnessState,
    Identity,
    NotFound,
    Revoked,
    ServerClient,
    SyncChannel,
    TokenExpired,
    testing,
)
from client_sdk.testing import Faults, RunningGateway
from tests.support.waiting import eventually

gateway = testing.gateway

LIVE, STALE, OFFLINE = FreshnessState.LIVE, FreshnessState.STALE, FreshnessState.OFFLINE
SUBPROTOCOLS = ("gateway.v1+json", "gateway.v1+msgpack")
IMPATIENT: dict[str, Any] = {
    "backoff_base_s": 0.02,
    "backoff_cap_s": 0.2,
    "ping_interval_s": 0.15,
    "pong_timeout_s": 0.4,
    "connect_timeout_s": 0.6,
    "greeting_timeout_s": 0.6,
    "request_timeout_s": 0.6,
}
"""Options for noticing in tenths of a second what takes many seconds by default."""


@pytest.fixture
def ada(gateway: RunningGateway) -> str:
    gateway.add_plan("pro", permissions=["can_use_voice"], quotas={"voice_minutes": 100})
    return gateway.add_user("ada", plan="pro", attributes={"persona": "boss"})


async def truth(gateway: RunningGateway, token: str) -> tuple[dict[str, Any], str]:
    """What ``GET /api/document`` gives, and its revision."""
    async with httpx2.AsyncClient() as http:
        answer = await http.get(f"{gateway.url}/api/document", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    body = answer.json()
    return body["data"], body["rev"]


async def is_true(gateway: RunningGateway, channel: Channel, token: str) -> None:
    """In the end the channel is live and holds what the gateway has."""
    await eventually(lambda: channel.freshness.state is LIVE)
    async with asyncio.timeout(10):
        await channel.wait_for(gateway.seq)
    data, rev = await truth(gateway, token)
    assert channel.document == data
    [held] = [change async for change in first(channel, 1)]
    assert held.rev == rev
    assert channel.freshness.state is LIVE


async def first(channel: Channel, count: int) -> AsyncIterator[Any]:
    changes = channel.changes()
    for _ in range(count):
        yield await anext(changes)


# --- what is held ---


@pytest.mark.parametrize("subprotocol", SUBPROTOCOLS)
@pytest.mark.parametrize("credential", ["header", "message"])
async def test_the_document_comes_and_follows_its_rows(
    gateway: RunningGateway, ada: str, subprotocol: Any, credential: Any
) -> None:
    token = gateway.token(ada)
    async with Channel(gateway.url, token, subprotocol=subprotocol, credential=credential) as channel:
        assert channel.principal == "user:u_ada"
        assert channel.freshness == (LIVE, 0.0, "")
        changes = channel.changes()
        assert (await anext(changes)).kind == "snapshot"
        gateway.sql("UPDATE users SET name = 'Ada King' WHERE id = ?", ada)
        change = await anext(changes)
        assert (change.kind, change.doc, change.causes) == ("update", "user:u_ada", ("profile",))
        assert change.patch["identity"].keys() == {"name", "updated_at"}
        gateway.deny(ada, "can_use_voice")
        change = await anext(changes)
        assert (change.patch, change.causes) == ({"permissions": {"can_use_voice": None}}, ("permissions",))
        seq = gateway.set_quota(ada, "voice_minutes", 50)
        change = await anext(changes)
        assert change.causes == ("quota_limit",)
        assert change.patch == {"quotas": {"voice_minutes": {"limit": 50, "remaining": 50}}}
        assert change.seq == channel.seq == seq
        await is_true(gateway, channel, token)
        assert channel.mismatches == 0
        assert 0 < await channel.ping() < 10


async def test_a_write_can_be_waited_for(gateway: RunningGateway, ada: str) -> None:
    bob = gateway.add_user("bob", plan="pro")
    async with Channel(gateway.url, gateway.token(ada)) as channel:
        for turn in range(5):
            allowed = turn % 2 == 0
            seq = gateway.allow(ada, "flag") if allowed else gateway.deny(ada, "flag")
            assert await channel.wait_for(seq) >= seq
            assert channel.can("flag") is allowed
        somebody_elses = gateway.allow(bob, "flag")
        async with asyncio.timeout(10):
            assert await channel.wait_for(somebody_elses) >= somebody_elses


async def test_other_documents_are_watched_refused_and_lost(gateway: RunningGateway, ada: str) -> None:
    grace = gateway.add_user("grace", permissions=["users.read"])
    async with Channel(gateway.url, gateway.token(grace)) as channel:
        watched = await channel.watch(["user:u_ada", "user:u_nobody"])
        assert watched.docs == ("user:u_ada",)
        assert isinstance(watched.refused["user:u_nobody"], NotFound)
        assert channel.documents["user:u_ada"] == (await truth(gateway, gateway.token(ada)))[0]
        gone = asyncio.ensure_future(next_gone(channel))
        gateway.deny(grace, "users.read")
        assert (await gone).doc == "user:u_ada"
        assert channel.documents.keys() == {"user:u_grace"}
        with pytest.raises(NotFound):
            await channel.watch("user:u_ada")


async def next_gone(channel: Channel) -> Any:
    async with asyncio.timeout(10):
        async for change in channel.changes():
            if change.kind == "gone":
                return change
    raise AssertionError("the channel ended")


async def test_a_row_that_can_not_be_read_makes_it_stale_and_its_repair_live(gateway: RunningGateway, ada: str) -> None:
    token = gateway.token(ada)
    async with Channel(gateway.url, token) as channel:
        held = channel.document
        gateway.sql("UPDATE users SET attributes = ? WHERE id = ?", '{"n": 1e999}', ada)
        await eventually(lambda: channel.freshness.state is STALE)
        assert channel.freshness.reason == "document"
        assert channel.document is held
        gateway.sql("UPDATE users SET attributes = ? WHERE id = ?", '{"n": 1}', ada)
        await eventually(lambda: channel.freshness.state is LIVE)
        await is_true(gateway, channel, token)
        assert channel.document["identity"]["attributes"] == {"n": 1}


async def test_a_cut_is_resumed_without_sending_the_document_again(gateway: RunningGateway, ada: str) -> None:
    states: list[FreshnessState] = []
    async with Channel(gateway.faults.url, gateway.token(ada), backoff_base_s=0.01) as channel:
        channel.on_freshness(lambda freshness: states.append(freshness.state))
        changes = channel.changes()
        await anext(changes)
        before, session = channel.document, channel.session_id
        gateway.faults.cut()
        await eventually(lambda: states[-1:] == [LIVE])
        assert states == [OFFLINE, STALE, LIVE]
        assert channel.document is before
        assert channel.session_id != session
        gateway.allow(ada, "a")
        assert (await anext(changes)).causes == ("permissions",)


async def test_offline_says_how_old_what_is_held_may_be(gateway: RunningGateway, ada: str) -> None:
    async with Channel(gateway.url, gateway.token(ada), **IMPATIENT) as channel:
        gateway.stop()
        await eventually(lambda: channel.freshness.state is OFFLINE)
        first_age = channel.freshness.age_s
        assert first_age is not None
        assert channel.can("can_use_voice")
        await eventually(lambda: (channel.freshness.age_s or 0) > first_age)
        with pytest.raises(Disconnected):
            await channel.ping()
        gateway.allow(ada, "while_stopped")
        gateway.start()
        await eventually(lambda: channel.freshness.state is LIVE)
        assert channel.can("while_stopped")


# --- faults ---


Fault = Callable[[RunningGateway], object]


def both(first: Callable[[Faults], None], second: Callable[[Faults], None]) -> Callable[[RunningGateway], None]:
    def happen(gateway: RunningGateway) -> None:
        first(gateway.faults)
        second(gateway.faults)

    return happen


FAULTS: dict[str, Fault] = {
    "nothing": lambda gateway: None,
    "a frame to the client is lost": lambda gateway: gateway.faults.drop("to_client", 1),
    "frames to the client are lost": lambda gateway: gateway.faults.drop("to_client"),
    "frames to the gateway are lost": lambda gateway: gateway.faults.drop("to_gateway"),
    "frames to the client come twice": lambda gateway: gateway.faults.duplicate("to_client"),
    "frames to the gateway come twice": lambda gateway: gateway.faults.duplicate("to_gateway"),
    "frames to the client come late": lambda gateway: gateway.faults.delay("to_client", 0.1),
    "frames to the gateway come late": lambda gateway: gateway.faults.delay("to_gateway", 0.1),
    "everything comes too late": lambda gateway: gateway.faults.delay("to_client", 0.5),
    "cut": lambda gateway: gateway.faults.cut(),
    "cut within a frame to the client": lambda gateway: gateway.faults.cut(within="to_client"),
    "cut within a frame to the gateway": lambda gateway: gateway.faults.cut(within="to_gateway"),
    "frozen": lambda gateway: gateway.faults.freeze(),
    "cut and frozen": both(lambda faults: faults.cut(), lambda faults: faults.freeze()),
    "frames come twice after a cut": both(lambda faults: faults.duplicate("to_client"), lambda faults: faults.cut()),
    "frames are lost after a cut": both(lambda faults: faults.drop("to_client", 2), lambda faults: faults.cut()),
    "restarted": lambda gateway: gateway.restart(),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_after_every_fault_the_document_is_what_the_gateway_has(
    gateway: RunningGateway, ada: str, fault: str
) -> None:
    token = gateway.token(ada)
    subprotocol: Any = SUBPROTOCOLS[len(fault) % 2]
    async with Channel(gateway.faults.url, token, subprotocol=subprotocol, **IMPATIENT) as channel:
        seqs: list[int] = []
        channel.on_change(lambda change: seqs.append(change.seq))
        gateway.allow(ada, "before")
        await asyncio.to_thread(FAULTS[fault], gateway)
        for turn in range(6):
            await asyncio.to_thread(gateway.set_quota, ada, "voice_minutes", 10 + turn)
            with contextlib.suppress(Disconnected, TimeoutError):
                async with asyncio.timeout(0.1):
                    await channel.ping()
        gateway.faults.heal()
        await asyncio.to_thread(gateway.deny, ada, "before")
        await is_true(gateway, channel, token)
        assert channel.quotas["voice_minutes"].limit == 15
        assert not channel.can("before")
        assert seqs == sorted(seqs)


async def test_every_fault_does_something(gateway: RunningGateway, ada: str) -> None:
    """The noise above is noise: each kind of it was counted."""
    async with Channel(gateway.faults.url, gateway.token(ada), **IMPATIENT) as channel:
        gateway.faults.drop("to_client", 1)
        gateway.faults.duplicate("to_gateway", 1)
        gateway.allow(ada, "a")
        await eventually(lambda: gateway.faults.counts["dropped"] and gateway.faults.counts["duplicated"])
        gateway.faults.cut(within="to_gateway")
        await eventually(lambda: gateway.faults.counts["cut"] and gateway.faults.counts["accepted"] > 1)
        gateway.faults.freeze()
        await eventually(lambda: channel.freshness.state is OFFLINE)


async def test_many_channels_come_back_after_a_restart_under_load(gateway: RunningGateway, ada: str) -> None:
    users = [ada, *(gateway.add_user(f"user{number}", plan="pro") for number in range(4))]
    tokens = {user: gateway.token(user) for user in users}
    async with contextlib.AsyncExitStack() as stack:
        channels = {
            user: await stack.enter_async_context(Channel(gateway.url, token, **IMPATIENT))
            for user, token in tokens.items()
        }
        restarting = asyncio.ensure_future(asyncio.to_thread(gateway.restart))
        turn = 0
        while not restarting.done():
            turn += 1
            for user in users:
                await asyncio.to_thread(gateway.set_quota, user, "voice_minutes", turn)
        await restarting
        for user, channel in channels.items():
            await is_true(gateway, channel, tokens[user])
            assert channel.quotas["voice_minutes"].limit == turn


# --- credentials ---


class Provider:
    """Gives the tokens in turn, the last one again and again."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)
        self.asked = 0

    async def __call__(self) -> str:
        self.asked += 1
        return self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]


async def test_a_token_is_renewed_on_the_live_session(gateway: RunningGateway, ada: str) -> None:
    provider = Provider(gateway.token(ada, expires_in_s=30), gateway.token(ada))
    async with Channel(gateway.url, provider) as channel:
        session = channel.session_id
        await eventually(lambda: channel.expires_at is None)
        assert provider.asked == 2
        assert channel.session_id == session
        assert channel.freshness.state is LIVE
        seq = gateway.allow(ada, "a")
        await channel.wait_for(seq)
        assert channel.can("a")


async def test_a_provider_that_blocks_is_asked_in_a_thread(gateway: RunningGateway, ada: str) -> None:
    asked_in: list[str] = []
    token = gateway.token(ada)

    def provide() -> str:
        asked_in.append(threading.current_thread().name)
        return token

    async with Channel(gateway.url, provide) as channel:
        assert channel.can("can_use_voice")
    assert asked_in != [threading.current_thread().name]


async def test_a_token_that_ended_is_replaced_by_the_providers_next(gateway: RunningGateway, ada: str) -> None:
    ending, next_one = gateway.token(ada), gateway.token(ada)
    provider = Provider(ending, next_one)
    async with Channel(gateway.url, provider, **IMPATIENT) as channel:
        session = channel.session_id
        await asyncio.to_thread(gateway.faults.expire, ending)
        await eventually(lambda: channel.session_id != session and channel.freshness.state is LIVE)
        assert isinstance(channel.trouble, TokenExpired)
        assert provider.asked == 2
        await is_true(gateway, channel, next_one)


async def test_a_token_that_ended_and_has_no_successor_is_not_tried_all_the_time(
    gateway: RunningGateway, ada: str
) -> None:
    token = gateway.token(ada)
    async with Channel(gateway.faults.url, token) as channel:
        gateway.expire(token)
        await eventually(lambda: channel.freshness.state is OFFLINE)
        assert isinstance(channel.trouble, TokenExpired)
        assert gateway.faults.counts["accepted"] == 1


@pytest.mark.parametrize("end", ["token", "disabled", "deleted"])
async def test_a_revocation_is_a_typed_end_without_a_return(gateway: RunningGateway, ada: str, end: str) -> None:
    token = gateway.token(ada)
    async with Channel(gateway.faults.url, token, **IMPATIENT) as channel:
        changes = channel.changes()
        await anext(changes)
        waiting = asyncio.ensure_future(channel.wait_for(10**9))
        if end == "token":
            gateway.revoke(token)
        elif end == "disabled":
            gateway.sql("UPDATE users SET status = 'disabled' WHERE id = ?", ada)
        else:
            gateway.sql("DELETE FROM users WHERE id = ?", ada)
        with pytest.raises(Revoked):
            await waiting
        assert (await anext(changes)).kind == "gone"
        with pytest.raises(Revoked):
            await anext(changes)
        assert channel.freshness.state is OFFLINE
        assert channel.documents == {}
        assert not channel.can("can_use_voice")
        with pytest.raises(Disconnected):
            await channel.ping()
        await eventually(lambda: gateway.faults.connections == 0)
    assert gateway.faults.counts["accepted"] == 1


async def test_a_bad_token_raises_at_once(gateway: RunningGateway, ada: str) -> None:
    revoked = gateway.token(ada)
    gateway.revoke(revoked)
    for token in (revoked, "gw_nonsense"):
        with pytest.raises(AuthFailed):
            await Channel(gateway.url, token).open()
        with pytest.raises(AuthFailed):
            await Channel(gateway.url, token, credential="message").open()


# --- without an event loop ---


def test_the_channel_without_an_event_loop(gateway: RunningGateway, ada: str) -> None:
    token = gateway.token(ada)
    with SyncChannel(gateway.faults.url, token, subprotocol="gateway.v1+msgpack", **IMPATIENT) as channel:
        changes = channel.changes()
        assert next(changes).kind == "snapshot"
        seq = gateway.allow(ada, "a")
        assert next(changes).causes == ("permissions",)
        assert channel.wait_for(seq, 10) >= seq
        assert channel.permissions == {"a", "can_use_voice"}
        live = threading.Event()
        channel.on_freshness(lambda freshness: live.set() if freshness.state is LIVE else None)
        gateway.faults.cut()
        assert live.wait(10)
        live.clear()
        gateway.restart()
        assert live.wait(10)
        assert channel.wait_for(gateway.set_quota(ada, "voice_minutes", 7), 10)
        assert channel.quotas["voice_minutes"].remaining == 7
        assert channel.sync()["quotas"]["voice_minutes"]["limit"] == 7
        gateway.revoke(token)
        with pytest.raises(Revoked):
            list(changes)


# --- HTTP ---


class Recorder(httpx2.AsyncHTTPTransport):
    """Notes the status of every answer."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: list[int] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        self.statuses.append(response.status_code)
        return response


async def test_an_identity_is_kept_and_confirmed_by_its_tag(gateway: RunningGateway, ada: str) -> None:
    recorder, now, token = Recorder(), [0.0], gateway.token(ada)
    async with ServerClient(gateway.url, token, transport=recorder, clock=lambda: now[0], cache_s=30.0) as server:
        identity = await server.identity()
        assert isinstance(identity, Identity)
        assert identity["voice_minutes_remaining"] == 100
        assert identity["persona"] == "boss"
        assert identity.can("can_use_voice")
        assert identity.rev == (await truth(gateway, token))[1]
        now[0] = 29.0
        assert await server.identity() is identity
        assert recorder.statuses == [200]
        now[0] = 30.0
        assert await server.identity() is identity
        assert recorder.statuses == [200, 304]
        gateway.deny(ada, "can_use_voice")
        assert (await server.identity()).can("can_use_voice")
        now[0] = 60.0
        assert not (await server.identity()).can("can_use_voice")
        assert recorder.statuses == [200, 304, 200]
        server.invalidate_cache()
        gateway.revoke(token)
        with pytest.raises(AuthFailed):
            await server.identity()


async def test_the_gateway_says_how_it_is(gateway: RunningGateway, ada: str) -> None:
    token = gateway.token(ada)
    async with ServerClient(gateway.url) as server:
        assert await server.health()
        readiness = await server.ready()
        assert readiness.ready
        assert readiness.detail["status"] == "ready"
        assert (await server.authenticate(token)).user_id == ada
        assert (await server.identity())["username"] == "ada"
        with pytest.raises(AuthFailed):
            await server.authenticate("gw_nonsense")
        await asyncio.to_thread(gateway.stop)
        assert not await server.health()
        with pytest.raises(Disconnected):
            await server.ready()


# --- the example ---


class VoiceClient:
    """The example program, as somebody runs it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def until(self, text: str) -> str:
        """The next line that holds `text`."""
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            async for line in self.process.stdout:
                self.lines.append(line.decode())
                if text in self.lines[-1]:
                    return self.lines[-1]
        raise AssertionError(f"{text!r} does not come: {self.lines}")


@contextlib.asynccontextmanager
async def voice_client(url: str, token: str, *arguments: str) -> AsyncIterator[VoiceClient]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "client_sdk.examples.voice_client", "--url", url, *arguments),
        env={"GATEWAY_AUTH_TOKEN": token, "PYTHONPATH": str(Path(__file__).parents[2]), "PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield VoiceClient(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_the_voice_client_lives_through_a_restart_and_ends_when_it_is_told(
    gateway: RunningGateway, ada: str
) -> None:
    token = gateway.token(ada)
    async with voice_client(gateway.url, token) as client:
        assert "can_use_voice" in await client.until("permissions:")
        gateway.deny(ada, "can_use_voice")
        assert "permissions: none" in await client.until("(permissions)")
        await asyncio.to_thread(gateway.restart)
        await client.until("offline (going_away)")
        await client.until("live")
        gateway.set_quota(ada, "voice_minutes", 5)
        assert "voice_minutes: 5" in await client.until("(quota_limit)")
        client.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(10):
            assert await client.process.wait() == 0
        assert "Traceback" not in "".join(client.lines)
        assert token not in "".join(client.lines)


async def test_the_voice_client_ends_when_its_token_is_revoked(gateway: RunningGateway, ada: str) -> None:
    token = gateway.token(ada)
    async with voice_client(gateway.url, token) as client:
        await client.until("live")
        gateway.revoke(token)
        await client.until("voice_client: The credential was revoked.")
        async with asyncio.timeout(10):
            assert await client.process.wait() == 1


async def test_the_voice_client_calls_while_there_are_minutes(gateway: RunningGateway, ada: str) -> None:
    gateway.set_quota(ada, "voice_minutes", 6)
    async with voice_client(gateway.url, gateway.token(ada), "--call", "0.2") as client:
        await client.until("call: begins")
        await asyncio.to_thread(gateway.restart)
        await client.until("call: low, 1 minutes left")
        await client.until("call: ended after 6 minutes, exhausted")
    [(used,)] = gateway.sql("SELECT used FROM quota_usage WHERE owner = ? AND quota = 'voice_minutes'", f"user:{ada}")
    assert used == 6


async def test_the_voice_client_stops_calling_when_it_may_not(gateway: RunningGateway, ada: str) -> None:
    async with voice_client(gateway.url, gateway.token(ada), "--call") as client:
        await client.until("call: begins")
        gateway.deny(ada, "can_use_voice")
        await client.until("call: ended after 1 minutes, forbidden")
