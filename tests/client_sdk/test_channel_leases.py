from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from client_sdk import (
    Balance,
    Channel,
    Conflict,
    Lease,
    LeaseExpired,
    QuotaExceeded,
    RequestTimeout,
)
from tests.client_sdk.support.clock import ManualClock
from tests.client_sdk.support.options import OPTIONS, QUICK, VOICE
from tests.client_sdk.support.scripted_server import ScriptedServer
from tests.client_sdk.support.simulated_time import pass_on, until_live
from tests.support.waiting import eventually


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
            assert server.bank.sent("extend") == []
            await pass_on(channel, clock, 100.0)
            assert 9 <= len(server.bank.sent("extend")) <= 11
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


async def test_a_lease_that_was_long_in_coming_is_extended_before_it_is_entered(
    server: ScriptedServer, clock: ManualClock
) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        server.bank.refusals = [{"code": "unavailable", "retry_after_s": 9.0}]
        entering = asyncio.ensure_future(enter(channel, server))
        await eventually(lambda: server.bank.refusals == [])
        await pass_on(channel, clock, 10.0, answered=False)
        assert await entering == 1


async def enter(channel: Channel, server: ScriptedServer) -> int:
    """Enter a lease and use it at once; how often it was extended by then."""
    async with channel.lease(VOICE, 5, ttl_s=5.0) as lease:
        lease.use(4)
        return len(server.bank.sent("extend"))


async def test_a_lease_that_came_soon_is_entered_at_once(server: ScriptedServer, clock: ManualClock) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        assert await enter(channel, server) == 0


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
        assert len(server.bank.sent("extend")) == 1
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
    assert len(server.bank.sent("commit")) == 2


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


async def test_who_is_cancelled_leaves_soon_and_the_commit_goes_on(server: ScriptedServer, clock: ManualClock) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        body = asyncio.create_task(hold(channel.lease(VOICE, 5)))
        peer = await server.peer()
        await server.message(peer, "reserve")
        await channel.ping()
        server.silent = True
        body.cancel()
        await server.message(peer, "commit")
        await clock.advance(2.9)
        assert not body.done()
        await clock.advance(0.2)
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await asyncio.wait_for(body, 5)
        assert "still being settled" in cancelled.value.__notes__[0]
        server.silent = False
        await pass_on(channel, clock, 8.0, answered=False)
        await eventually(lambda: server.bank.reserved(VOICE) == 0)
    assert (server.bank.used(VOICE), server.bank.reserved(VOICE)) == (3, 0)


async def hold(lease: Lease) -> None:
    async with lease:
        lease.use(3)
        await asyncio.Event().wait()


async def test_a_commit_that_nobody_waits_for_and_fails_is_logged(
    server: ScriptedServer, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        lease = channel.lease(VOICE, 5, timeout_s=4.0)
        body = asyncio.create_task(hold(lease))
        peer = await server.peer()
        await server.message(peer, "reserve")
        await channel.ping()
        server.silent = True
        body.cancel()
        await server.message(peer, "commit")
        body.cancel()
        with pytest.raises(asyncio.CancelledError):
            await body
        await clock.advance(5.0)
        await eventually(lambda: f"{lease.name} was not settled" in caplog.text)


async def test_a_commit_that_the_end_of_the_program_cuts_short_is_logged(
    server: ScriptedServer, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        lease = channel.lease(VOICE, 5)
        body = asyncio.create_task(hold(lease))
        await server.message(await server.peer(), "reserve")
        await channel.ping()
        before = asyncio.all_tasks()
        server.silent = True
        body.cancel()
        await server.message(await server.peer(), "commit")
        [settling] = asyncio.all_tasks() - before
        body.cancel()
        with pytest.raises(asyncio.CancelledError):
            await body
        settling.cancel()
        await eventually(lambda: f"{lease.name} was not settled" in caplog.text)


@pytest.mark.parametrize(("name", "op"), [(None, "reserve"), ("call 7", "reserve"), ("call 7", "extend")])
async def test_who_is_cancelled_while_entering_holds_nothing(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture, name: str | None, op: str
) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        entering = await entered_until(op, server, channel.lease(VOICE, 5, name=name))
        assert server.bank.reserved(VOICE) == 5
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        await eventually(lambda: server.bank.reserved(VOICE) == 0)
        server.silent = False
        server.peers[0].cut()
        await eventually(lambda: len(server.bank.sent("release")) == 2)
        await channel.ping()
    assert "not settled" not in caplog.text


async def test_a_named_lease_that_could_not_be_extended_while_entering_is_given_back(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        lease = channel.lease(VOICE, 5, name="call 7", timeout_s=0.3)
        entering = await entered_until("extend", server, lease)
        with pytest.raises(RequestTimeout):
            await entering
        await eventually(lambda: server.bank.reserved(VOICE) == 0)


async def test_a_lease_that_was_refused_while_entering_is_left_alone(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel, channel.lease(VOICE, 5, name="call 7"):
        with pytest.raises(Conflict):
            await channel.lease(VOICE, 4, name="call 7").__aenter__()
        with pytest.raises(QuotaExceeded):
            await channel.lease(VOICE, 6).__aenter__()
        await channel.ping()
        assert (server.bank.reserved(VOICE), server.bank.sent("release")) == (5, [])


async def test_units_that_could_not_be_given_back_after_entering_was_cancelled_are_logged(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        lease = channel.lease(VOICE, 5)
        entering = await entered_until("reserve", server, lease)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        await eventually(lambda: server.bank.sent("release"))
    await eventually(lambda: f"{lease.name} was not settled" in caplog.text)


async def entered_until(op: str, server: ScriptedServer, lease: Lease) -> asyncio.Task[Lease]:
    """A task that enters the lease and got no answer to this request, which was carried out."""
    answer = server.bank.answer

    def fall_silent(message: dict[str, Any]) -> dict[str, Any]:
        server.silent = server.silent or message["op"] == op
        return answer(message)

    server.bank.answer = fall_silent  # type: ignore[method-assign]
    entering = asyncio.create_task(lease.__aenter__())
    await eventually(lambda: server.bank.sent(op))
    return entering


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
