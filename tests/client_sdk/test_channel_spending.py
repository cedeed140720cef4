from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from client_sdk import (
    Balance,
    Channel,
    Conflict,
    Disconnected,
    LeaseExpired,
    NotFound,
    QuotaExceeded,
    RequestTimeout,
)
from client_sdk.keys import new_key
from tests.client_sdk.support.clock import ManualClock
from tests.client_sdk.support.scripted_server import ScriptedServer
from tests.client_sdk.support.simulated_time import pass_on, until_live
from tests.support.waiting import eventually

QUICK: dict[str, Any] = {"backoff_base_s": 0.02, "backoff_cap_s": 0.05, "close_timeout_s": 0.2}
OPTIONS: dict[str, Any] = {**QUICK, "ping_interval_s": 1e6}
VOICE = "voice_minutes"


@pytest.fixture
def clock(server: ScriptedServer) -> ManualClock:
    """The time of the channel and of the gateway."""
    clock = ManualClock()
    server.bank.clock = clock.time
    return clock


def sent(server: ScriptedServer, op: str) -> list[dict[str, Any]]:
    return [message for message in server.bank.received if message["op"] == op]


# --- consume ---


async def test_consuming_returns_what_is_left(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        balance = await channel.consume(VOICE)
        assert (balance.quota, balance.org, balance.used, balance.remaining, balance.limit) == (VOICE, None, 1, 9, 10)
        assert (balance.hard, balance.level, balance.seq) == (True, "ok", 101)
        await channel.consume(VOICE, 7, key="a key of ours", org="o_acme")
        with pytest.raises(QuotaExceeded) as exceeded:
            await channel.consume(VOICE, 3)
        assert (exceeded.value.quota, exceeded.value.remaining, exceeded.value.key) == (VOICE, 2, None)
        with pytest.raises(Conflict):
            await channel.consume(VOICE, 6, key="a key of ours")
        with pytest.raises(NotFound):
            await channel.consume("letters")
    first, second = sent(server, "consume")[:2]
    assert set(first) == {"op", "id", "quota", "amount", "key"}
    assert (second["key"], second["org"], second["amount"]) == ("a key of ours", "o_acme", 7)


async def test_a_cut_within_the_answer_charges_once(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        server.silent = True
        asking = asyncio.create_task(channel.consume(VOICE, 4))
        await server.message(await server.peer(), "consume")
        server.silent = False
        (await server.peer()).cut()
        assert (await asking).used == 4
    assert len(server.bank.charges) == 1
    assert len(sent(server, "consume")) == 2


async def test_a_restart_of_the_gateway_charges_once(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        await server.stop()
        asking = [asyncio.create_task(channel.consume(VOICE)) for _ in range(5)]
        await server.start()
        assert sorted([(await one).used for one in asking]) == [1, 2, 3, 4, 5]
    assert server.bank.used(VOICE) == 5


async def test_a_caller_that_waited_too_long_can_ask_with_the_same_key(
    server: ScriptedServer, clock: ManualClock
) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        server.silent = True
        asking = asyncio.create_task(channel.consume(VOICE, 4, timeout_s=3.0))
        await server.message(await server.peer(), "consume")
        await clock.advance(3.0)
        with pytest.raises(RequestTimeout) as timeout:
            await asking
        server.silent = False
        assert (await channel.consume(VOICE, 4, key=timeout.value.key)).used == 4


async def test_who_closes_the_channel_is_told_what_is_not_known(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        server.silent = True
        asking = asyncio.create_task(channel.consume(VOICE, key="k"))
        await server.message(await server.peer(), "consume")
    with pytest.raises(Disconnected) as closed:
        await asking
    assert (closed.value.code, closed.value.key) == ("closed", "k")


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("",), {}),
        (("\ud800",), {}),
        (("a\n",), {}),
        ((VOICE, 0), {}),
        ((VOICE, True), {}),
        ((VOICE, 2**31 + 1), {}),
        ((VOICE, 1.0), {}),
        ((VOICE,), {"key": "k" * 129}),
        ((VOICE,), {"key": ""}),
        ((VOICE,), {"org": "\x00"}),
        ((VOICE,), {"timeout_s": 0}),
        ((VOICE,), {"timeout_s": math.nan}),
    ],
)
async def test_what_can_not_be_asked_is_a_mistake_of_the_program(
    server: ScriptedServer, arguments: tuple[Any, ...], options: dict[str, Any]
) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        with pytest.raises(ValueError):  # noqa: PT011  each says what it is about
            await channel.consume(*arguments, **options)
        assert (await channel.consume(VOICE)).used == 1


def test_keys_grow_with_time_and_are_not_guessed() -> None:
    keys = [new_key() for _ in range(1000)]
    assert len(set(keys)) == 1000
    assert [key[:12] for key in keys] == sorted(key[:12] for key in keys)
    assert {len(key) for key in keys} == {28}


# --- leases ---


async def test_a_lease_commits_what_was_used_and_gives_back_the_rest(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        async with channel.lease(VOICE, 5) as lease:
            assert (lease.held, lease.used, lease.left, lease.balance.reserved) == (5, 0, 5, 5)
            lease.use()
            lease.use(2)
            assert (lease.used, lease.left) == (3, 2)
        assert (lease.balance.used, lease.balance.reserved, lease.balance.remaining) == (3, 0, 7)
        assert isinstance(lease.balance, Balance)
        with pytest.raises(RuntimeError):
            lease.use()
    assert [message["op"] for message in server.bank.received] == ["reserve", "commit"]


async def test_a_lease_of_which_nothing_was_used_is_released(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel, channel.lease(VOICE, 5, org="o_acme") as lease:
        assert lease.expires_at is not None
    assert [message["op"] for message in server.bank.received] == ["reserve", "release"]
    assert server.bank.received[0]["org"] == "o_acme"


async def test_more_can_be_held_and_no_more_than_that_is_used(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        async with channel.lease(VOICE, 2) as lease:
            lease.use(2)
            with pytest.raises(QuotaExceeded) as exceeded:
                lease.use()
            assert exceeded.value.remaining == 0
            assert (await lease.add(5)).reserved == 7
            lease.use(5)
            with pytest.raises(QuotaExceeded) as exceeded:
                await lease.add(4)
            assert exceeded.value.remaining == 3
        assert lease.balance.used == 7


async def test_a_lease_that_can_not_be_had_is_not_entered(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        with pytest.raises(QuotaExceeded):
            async with channel.lease(VOICE, 11):
                raise AssertionError("entered")


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
async def test_a_body_that_fails_pays_for_what_it_used(server: ScriptedServer, error: type[BaseException]) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        with pytest.raises(error):  # noqa: PT012  the body is what fails
            async with channel.lease(VOICE, 5) as lease:
                lease.use(2)
                raise error
        assert (server.bank.used(VOICE), server.bank.reserved(VOICE)) == (2, 0)


async def test_a_lease_extends_itself_at_half_its_time(server: ScriptedServer, clock: ManualClock) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        async with channel.lease(VOICE, 5, ttl_s=20.0) as lease:
            await pass_on(channel, clock, 9.5)
            assert sent(server, "extend") == []
            await pass_on(channel, clock, 100.0)
            assert 9 <= len(sent(server, "extend")) <= 11
            lease.use(3)
        assert lease.balance.used == 3


async def test_a_lease_lives_through_a_cut_that_is_shorter_than_half_its_time(
    server: ScriptedServer, clock: ManualClock
) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        async with channel.lease(VOICE, 5, ttl_s=20.0) as lease:
            server.silent = True
            await pass_on(channel, clock, 15.0, answered=False)
            server.silent = False
            server.peers[-1].cut()
            await eventually(lambda: channel.freshness.state == "offline")
            await until_live(channel, clock)
            await pass_on(channel, clock, 8.0)
            lease.use(4)
        assert lease.balance.used == 4


async def test_a_lease_that_was_not_extended_in_time_is_not_used_further(
    server: ScriptedServer, clock: ManualClock
) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        with pytest.raises(LeaseExpired) as caught:  # noqa: PT012  where in it is told by what was counted
            async with channel.lease(VOICE, 5, ttl_s=20.0) as lease:
                lease.use(4)
                server.bank.refusals = [{"code": "unavailable", "retry_after_s": 30.0}] * 100
                await pass_on(channel, clock, 19.5)
                lease.use(1)
                server.bank.refusals.clear()
                await pass_on(channel, clock, 1.0)
                lease.use(1)
        assert lease.used == 5
        assert "not settled" in caught.value.__notes__[0]
    assert (server.bank.used(VOICE), server.bank.reserved(VOICE)) == (0, 0)


async def test_a_lease_that_can_not_be_extended_now_is_extended_a_little_later(
    server: ScriptedServer, clock: ManualClock
) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        async with channel.lease(VOICE, 5, ttl_s=20.0) as lease:
            server.bank.refusals = [{"code": "unavailable", "retry_after_s": 30.0}] * 3
            await pass_on(channel, clock, 100.0)
            assert server.bank.refusals == []
            lease.use(5)
        assert lease.balance.used == 5


async def test_a_lease_that_may_not_be_extended_is_used_until_its_end(
    server: ScriptedServer, clock: ManualClock
) -> None:
    async with (
        Channel(server.url, "t1", clock=clock, **OPTIONS) as channel,
        channel.lease(VOICE, 5, ttl_s=20.0) as lease,
    ):
        server.bank.refusals = [{"code": "forbidden"}]
        await pass_on(channel, clock, 19.0)
        assert len(sent(server, "extend")) == 1
        lease.use(1)
    assert lease.balance.used == 1


async def test_a_lease_that_ended_says_so_at_the_end_when_it_was_used(
    server: ScriptedServer, clock: ManualClock
) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        with pytest.raises(LeaseExpired):  # noqa: PT012  leaving fails
            async with channel.lease(VOICE, 5, ttl_s=20.0) as lease:
                lease.use(4)
                server.bank.leases[lease.name].expires_at = clock.time()
        async with channel.lease(VOICE, 5, ttl_s=20.0) as lease:
            server.bank.leases[lease.name].expires_at = clock.time()


async def test_a_lease_that_the_gateway_ended_is_noticed_at_the_next_extension(
    server: ScriptedServer, clock: ManualClock
) -> None:
    async with (
        Channel(server.url, "t1", clock=clock, **OPTIONS) as channel,
        channel.lease(VOICE, 5, ttl_s=20.0) as lease,
    ):
        server.bank.leases[lease.name].state = "released"
        await pass_on(channel, clock, 11.0)
        with pytest.raises(LeaseExpired) as caught:
            lease.use()
        assert isinstance(caught.value.__cause__, Conflict)
        with pytest.raises(LeaseExpired):
            await lease.add(1)


async def test_the_answer_to_a_commit_may_be_lost(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        async with channel.lease(VOICE, 5) as lease:
            lease.use(3)
            server.silent = True
            cutting = asyncio.create_task(server.message(await server.peer(), "commit"))
            cutting.add_done_callback(lambda _: (setattr(server, "silent", False), server.peers[0].cut()))
        assert lease.balance.used == 3
    assert len(sent(server, "commit")) == 2


async def test_a_lease_that_could_not_be_settled_can_be_settled_later(
    server: ScriptedServer, clock: ManualClock
) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        lease = channel.lease(VOICE, 5, timeout_s=3.0)
        await lease.__aenter__()
        lease.use(3)
        server.silent = True
        leaving = asyncio.create_task(lease.__aexit__(None, None, None))
        await server.message(await server.peer(), "commit")
        await clock.advance(3.0)
        with pytest.raises(RequestTimeout) as timeout:
            await leaving
        assert timeout.value.key == lease.name
        server.silent = False
        assert (await lease.settle()).used == 3


async def test_who_is_cancelled_while_leaving_leaves_and_the_commit_goes_on(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        lease = channel.lease(VOICE, 5)
        await lease.__aenter__()
        lease.use(3)
        await server.stop()
        leaving = asyncio.create_task(lease.__aexit__(None, None, None))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        await server.start()
        await eventually(lambda: server.bank.used(VOICE) == 3)


async def test_a_named_lease_is_taken_up_again(server: ScriptedServer, clock: ManualClock) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        await channel.lease(VOICE, 5, name="call 7").__aenter__()
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        await pass_on(channel, clock, 29.0)
        async with channel.lease(VOICE, 5, name="call 7") as lease:
            assert server.bank.leases["call 7"].expires_at == clock.time() + 60
            lease.use(2)
    assert (server.bank.used(VOICE), server.bank.reserved(VOICE)) == (2, 0)


@pytest.mark.parametrize(
    "options", [{"ttl_s": 0.5}, {"ttl_s": 3601}, {"ttl_s": math.nan}, {"name": ""}, {"org": ""}, {"timeout_s": -1}]
)
async def test_a_lease_that_can_not_be_is_a_mistake_of_the_program(
    server: ScriptedServer, options: dict[str, Any]
) -> None:
    channel = Channel(server.url, "t1", **QUICK)
    with pytest.raises(ValueError):  # noqa: PT011  each says what it is about
        channel.lease(VOICE, 1, **options)


async def test_a_lease_is_used_inside_of_its_with_and_entered_once(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        lease = channel.lease(VOICE, 5)
        with pytest.raises(RuntimeError):
            lease.use()
        async with lease:
            with pytest.raises(RuntimeError):
                await lease.__aenter__()
