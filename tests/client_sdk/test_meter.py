from __future__ import annotations

import asyncio
from typing import Any

import pytest

from client_sdk import (
    Balance,
    Channel,
    Disconnected,
    Meter,
    MeterStopped,
    NotFound,
    QuotaExceeded,
    RateLimited,
    Revoked,
)
from tests.client_sdk.support.clock import ManualClock
from tests.client_sdk.support.driver import SELF
from tests.client_sdk.support.scripted_server import ScriptedServer
from tests.client_sdk.support.simulated_time import pass_on, until_live
from tests.support.waiting import eventually

OPTIONS: dict[str, Any] = {
    "backoff_base_s": 0.02,
    "backoff_cap_s": 0.05,
    "close_timeout_s": 0.2,
    "ping_interval_s": 1e6,
    "request_timeout_s": 5.0,
}
VOICE = "voice_minutes"


class Call:
    """A call that goes on until somebody hangs up, in a task of its own."""

    def __init__(self, channel: Channel, **options: Any) -> None:
        self.meter = Meter(channel, VOICE, **options)
        self.talking = False
        self.hung_up = asyncio.Event()
        self.task = asyncio.create_task(self.talk())

    async def talk(self) -> None:
        async with self.meter:
            self.talking = True
            await self.hung_up.wait()

    async def begin(self) -> Call:
        await eventually(lambda: self.talking or self.task.done())
        return self

    async def end(self) -> MeterStopped:
        """What stopped it."""
        with pytest.raises(MeterStopped) as stopped:
            await asyncio.wait_for(self.task, 5)
        assert self.meter.stopped in (None, stopped.value)
        return stopped.value


def keys(server: ScriptedServer) -> list[str]:
    return [message["key"] for message in server.bank.received if message["op"] == "consume"]


async def test_a_unit_is_taken_at_the_start_of_each_minute(server: ScriptedServer, clock: ManualClock) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        call = await Call(channel, permission="can_use_voice").begin()
        assert (call.meter.units, server.bank.used(VOICE)) == (1, 1)
        await pass_on(channel, clock, 59.5)
        assert server.bank.used(VOICE) == 1
        await pass_on(channel, clock, 1.0)
        assert server.bank.used(VOICE) == 2
        await pass_on(channel, clock, 120.0)
        assert call.meter.balance is not None
        assert (call.meter.units, call.meter.balance.used, server.bank.used(VOICE)) == (4, 4, 4)
        call.hung_up.set()
        await call.task
        await pass_on(channel, clock, 300.0)
        assert server.bank.used(VOICE) == 4
        assert call.meter.stopped is None
    assert keys(server) == [f"{call.meter.key}.{number}" for number in range(4)]


async def test_units_may_be_of_any_length_and_size(server: ScriptedServer, clock: ManualClock) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        call = await Call(channel, unit_s=6.0, amount=2, org="o_acme").begin()
        await pass_on(channel, clock, 12.5)
        call.hung_up.set()
        await call.task
    asked = [(message["amount"], message["org"], message["key"]) for message in server.bank.received]
    assert asked == [(2, "o_acme", f"{call.meter.key}.{number}") for number in range(3)]


async def test_a_call_ends_when_the_units_do_and_is_warned_before(server: ScriptedServer, clock: ManualClock) -> None:
    warnings: list[Balance] = []
    server.bank.limits[VOICE] = 5
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        call = await Call(channel, on_low=warnings.append).begin()
        await pass_on(channel, clock, 250.0)
        assert [(balance.level, balance.remaining) for balance in warnings] == [("low", 1), ("exhausted", 0)]
        assert not call.task.done()
        await pass_on(channel, clock, 60.0)
        stopped = await call.end()
    assert (stopped.reason, type(stopped.__cause__)) == ("exhausted", QuotaExceeded)
    assert (call.meter.units, server.bank.used(VOICE)) == (5, 5)


async def test_a_warning_that_fails_is_logged_and_the_call_goes_on(
    server: ScriptedServer, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(balance: Balance) -> None:
        raise RuntimeError("in the application")

    server.bank.limits[VOICE] = 1
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        call = await Call(channel, on_low=fail).begin()
        assert not call.task.done()
        call.hung_up.set()
        await call.task
    assert "in the application" in caplog.text


async def test_a_call_does_not_begin_without_a_unit(server: ScriptedServer) -> None:
    server.bank.limits[VOICE] = 0
    async with Channel(server.url, "t1", **OPTIONS) as channel:
        call = await Call(channel).begin()
        assert (await call.end()).reason == "exhausted"
    assert not call.talking


async def test_a_call_does_not_begin_without_the_permission(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **OPTIONS) as channel:
        call = await Call(channel, permission="can_fly").begin()
        assert (await call.end()).reason == "forbidden"
    assert keys(server) == []


async def test_a_quota_that_is_not_there_is_forbidden(server: ScriptedServer) -> None:
    server.bank.limits.clear()
    async with Channel(server.url, "t1", **OPTIONS) as channel:
        stopped = await (await Call(channel).begin()).end()
    assert (stopped.reason, type(stopped.__cause__)) == ("forbidden", NotFound)


async def test_a_call_ends_with_the_permission_in_mid_minute(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **OPTIONS) as channel:
        call = await Call(channel, permission="can_use_voice").begin()
        await server.change(SELF, {"permissions": {"can_use_sms": None}}, "permissions")
        await eventually(lambda: not channel.can("can_use_sms"))
        assert not call.task.done()
        await server.change(SELF, {"permissions": {"can_use_voice": None}}, "permissions")
        assert (await call.end()).reason == "forbidden"
    assert len(keys(server)) == 1


@pytest.mark.parametrize("permission", [None, "can_use_voice"])
async def test_a_call_ends_with_the_channel(server: ScriptedServer, permission: str | None) -> None:
    async with Channel(server.url, "t1", **OPTIONS) as channel:
        call = await Call(channel, permission=permission).begin()
        await server.peers[0].end("revoked", "never", 4500)
        stopped = await call.end()
    assert (stopped.reason, type(stopped.__cause__)) == ("stopped", Revoked)


async def test_a_call_ends_when_the_application_closes_the_channel(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **OPTIONS) as channel:
        call = await Call(channel).begin()
        await channel.close()
        stopped = await call.end()
    assert (stopped.reason, stopped.__cause__) == ("stopped", None)


async def test_a_restart_in_mid_call_is_not_noticed_and_charges_nothing_twice(
    server: ScriptedServer, clock: ManualClock
) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        call = await Call(channel).begin()
        await pass_on(channel, clock, 59.0)
        server.silent = True  # the unit is taken, and the answer lost
        await pass_on(channel, clock, 2.0, answered=False)
        await server.message(server.peers[0], "consume", 2)
        server.silent = False
        await server.stop()
        await eventually(lambda: channel.freshness.state == "offline")
        await pass_on(channel, clock, 20.0, answered=False)
        await server.start()
        await until_live(channel, clock)
        await eventually(lambda: call.meter.units == 2)
        assert server.bank.used(VOICE) == 2
        await pass_on(channel, clock, 40.0)
        assert call.meter.units == 3
        call.hung_up.set()
        await call.task
    assert keys(server).count(f"{call.meter.key}.1") >= 2


async def test_a_call_is_not_cut_before_its_grace_is_over(server: ScriptedServer, clock: ManualClock) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        call = await Call(channel, grace_s=15.0).begin()
        await server.stop()
        await eventually(lambda: channel.freshness.state == "offline")
        await pass_on(channel, clock, 14.0, answered=False)
        assert not call.task.done()
        await pass_on(channel, clock, 2.0, answered=False)
        stopped = await call.end()
    assert (stopped.reason, type(stopped.__cause__)) == ("offline", Disconnected)


async def test_an_outage_that_is_over_in_time_counts_from_new(server: ScriptedServer, clock: ManualClock) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        call = await Call(channel, grace_s=15.0).begin()
        for _ in range(3):
            await server.stop()
            await eventually(lambda: channel.freshness.state == "offline")
            await pass_on(channel, clock, 10.0, answered=False)
            await server.start()
            await until_live(channel, clock)
        assert not call.task.done()
        call.hung_up.set()
        await call.task


async def test_a_gateway_that_can_not_take_the_unit_ends_the_call_after_the_grace(
    server: ScriptedServer, clock: ManualClock
) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        call = await Call(channel, grace_s=15.0).begin()
        server.bank.refusals = [{"code": "unavailable", "retry_after_s": 1.0}] * 100
        await pass_on(channel, clock, 74.0)
        assert not call.task.done()
        await pass_on(channel, clock, 2.0)
        assert (await call.end()).reason == "offline"


async def test_a_gateway_that_asks_for_more_patience_than_there_is_gets_what_there_is(
    server: ScriptedServer, clock: ManualClock
) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        call = await Call(channel, grace_s=15.0).begin()
        server.bank.refusals = [{"code": "rate_limited", "retry_after_s": 40.0}]
        await pass_on(channel, clock, 74.0)
        assert not call.task.done()
        await pass_on(channel, clock, 2.0)
        stopped = await call.end()
    assert (stopped.reason, type(stopped.__cause__)) == ("offline", RateLimited)


# --- faults of the program itself ---


@pytest.mark.parametrize("fault", [RuntimeError("a fault within"), asyncio.CancelledError()])
async def test_a_meter_that_fails_stops_what_nobody_would_pay_for(
    server: ScriptedServer,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: BaseException,
) -> None:
    async def fail(*arguments: object, **options: object) -> Balance:
        raise fault

    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        call = await Call(channel).begin()
        monkeypatch.setattr(channel, "consume", fail)
        await pass_on(channel, clock, 61.0)
        stopped = await call.end()
    expected = fault if isinstance(fault, RuntimeError) else None
    assert (stopped.reason, stopped.__cause__, call.meter.units) == ("stopped", expected, 1)
    assert ("a fault within" in caplog.text) == (expected is not None)


async def test_a_balance_that_can_not_be_read_stops_the_call_too(
    server: ScriptedServer, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def consume(*arguments: object, **options: object) -> object:
        return object()

    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        call = await Call(channel).begin()
        monkeypatch.setattr(channel, "consume", consume)
        await pass_on(channel, clock, 61.0)
        stopped = await call.end()
    assert (stopped.reason, type(stopped.__cause__)) == ("stopped", AttributeError)


# --- as asyncio.timeout does ---


async def test_who_cancels_the_call_gets_a_cancellation(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **OPTIONS) as channel:
        call = await Call(channel).begin()
        call.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.task


async def test_a_cancellation_from_outside_goes_before_a_stop(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **OPTIONS) as channel:
        call = await Call(channel, permission="can_use_voice").begin()
        channel.on_change(lambda change: call.task.cancel())
        await server.change(SELF, {"permissions": {"can_use_voice": None}}, "permissions")
        with pytest.raises(asyncio.CancelledError):
            await call.task


async def test_an_error_of_the_body_goes_before_a_stop(server: ScriptedServer) -> None:
    async def talk(channel: Channel) -> None:
        async with Meter(channel, VOICE, permission="can_use_voice"):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise RuntimeError("hung up in the middle") from None

    async with Channel(server.url, "t1", **OPTIONS) as channel:
        talking = asyncio.create_task(talk(channel))
        await eventually(lambda: keys(server))
        await server.change(SELF, {"permissions": {"can_use_voice": None}}, "permissions")
        with pytest.raises(RuntimeError, match="hung up"):
            await talking
        assert talking.cancelling() == 0


async def test_after_a_stop_the_task_goes_on_as_if_nobody_had_cancelled_it(server: ScriptedServer) -> None:
    async def talk(channel: Channel) -> str:
        with pytest.raises(MeterStopped):
            async with Meter(channel, VOICE, permission="can_use_voice"):
                await asyncio.Event().wait()
        async with asyncio.timeout(5):
            return f"{await channel.ping() > 0} {asyncio.current_task().cancelling()}"  # type: ignore[union-attr]

    async with Channel(server.url, "t1", **OPTIONS) as channel:
        talking = asyncio.create_task(talk(channel))
        await eventually(lambda: keys(server))
        await server.change(SELF, {"permissions": {"can_use_voice": None}}, "permissions")
        assert await talking == "True 0"


async def test_a_meter_leaves_nothing_behind(server: ScriptedServer, clock: ManualClock) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        before = asyncio.all_tasks()
        async with Meter(channel, VOICE, grace_s=5.0) as meter:
            with pytest.raises(RuntimeError):
                await meter.__aenter__()
        await eventually(lambda: asyncio.all_tasks() == before)
        await server.stop()
        await eventually(lambda: channel.freshness.state == "offline")
        await pass_on(channel, clock, 60.0, answered=False)
        assert len(keys(server)) == 1
        await server.start()


@pytest.mark.parametrize(
    "options", [{"unit_s": 0}, {"amount": 0}, {"grace_s": -1}, {"key": "k" * 117}, {"key": ""}, {"org": "\n"}]
)
def test_a_meter_that_can_not_be_is_a_mistake_of_the_program(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  each says what it is about
        Meter(Channel("ws://127.0.0.1:1", "t1"), VOICE, **options)
