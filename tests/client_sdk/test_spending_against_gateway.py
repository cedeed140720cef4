"""Spending by the SDK against a real gateway, under faults: nothing is charged twice, and no lease is left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from client_sdk import (
    Balance,
    Channel,
    Conflict,
    LeaseExpired,
    Meter,
    MeterStopped,
    NotFound,
    QuotaExceeded,
    SyncChannel,
    SyncMeter,
    testing,
)
from client_sdk.testing import RunningGateway
from tests.client_sdk.support.clock import ManualClock
from tests.client_sdk.support.simulated_time import pass_on
from tests.support.waiting import eventually

gateway = testing.gateway

VOICE = "voice_minutes"
IMPATIENT: dict[str, Any] = {
    "backoff_base_s": 0.02,
    "backoff_cap_s": 0.2,
    "ping_interval_s": 0.15,
    "pong_timeout_s": 0.4,
    "connect_timeout_s": 0.6,
    "greeting_timeout_s": 0.6,
    "request_timeout_s": 0.3,
}
"""Options for noticing in tenths of a second what takes many seconds by default."""


@pytest.fixture
def token(gateway: RunningGateway) -> str:
    return gateway.token(gateway.add_user("ada", permissions=["can_use_voice"], quotas={VOICE: 100}))


def stands(gateway: RunningGateway) -> tuple[int, int]:
    """Used and reserved, by the row that everybody reads."""
    [(used, reserved)] = gateway.sql(
        "SELECT coalesce(sum(used), 0), coalesce(sum(reserved), 0) FROM quota_usage WHERE owner = 'user:u_ada'"
    )
    return used, reserved


@pytest.mark.parametrize("subprotocol", ["gateway.v1+json", "gateway.v1+msgpack"])
async def test_what_is_consumed_is_seen_on_the_same_channel(
    gateway: RunningGateway, token: str, subprotocol: Any
) -> None:
    async with Channel(gateway.url, token, subprotocol=subprotocol) as channel:
        balance = await channel.consume(VOICE, 30, key="k")
        assert (balance.quota, balance.used, balance.remaining, balance.limit) == (VOICE, 30, 70, 100)
        assert (balance.period, balance.hard, balance.level, balance.reserved) == ("month", True, "ok", 0)
        await channel.wait_for(balance.seq)
        seen = channel.quotas[VOICE]
        assert (seen.used, seen.remaining, seen.resets_at) == (30, 70, balance.resets_at)
        again = await channel.consume(VOICE, 30, key="k")
        assert (again.used, again.seq) == (30, balance.seq)
        with pytest.raises(Conflict):
            await channel.consume(VOICE, 31, key="k")
        with pytest.raises(QuotaExceeded) as exceeded:
            await channel.consume(VOICE, 71)
        error = exceeded.value
        assert (error.quota, error.remaining, error.resets_at) == (VOICE, 70, balance.resets_at)
        with pytest.raises(NotFound):
            await channel.consume("letters")
        with pytest.raises(NotFound):
            await channel.consume(VOICE, org="o_nobody")
    assert stands(gateway) == (30, 0)


@pytest.mark.parametrize("fault", ["answers are lost", "messages are lost", "cut", "cut within", "twice", "restart"])
async def test_every_fault_charges_once(gateway: RunningGateway, token: str, fault: str) -> None:
    faults = gateway.faults
    async with Channel(faults.url, token, **IMPATIENT) as channel:
        for _ in range(3):
            match fault:
                case "answers are lost":
                    faults.drop("to_client", 2)
                case "messages are lost":
                    faults.drop("to_gateway", 2)
                case "cut within":
                    faults.cut(within="to_client")
                case "twice":
                    faults.duplicate("to_gateway")
            asking = [asyncio.create_task(channel.consume(VOICE)) for _ in range(4)]
            if fault == "cut":
                await asyncio.sleep(0)
                faults.cut()
            if fault == "restart":
                await asyncio.to_thread(gateway.restart)
            balances = await asyncio.gather(*asking)
            assert all(isinstance(balance, Balance) for balance in balances)
    assert stands(gateway) == (12, 0)
    assert gateway.sql("SELECT count(*) FROM quota_ledger WHERE kind = 'consume'") == [(12,)]


async def test_two_channels_never_get_more_than_there_is(gateway: RunningGateway, token: str) -> None:
    gateway.set_quota("u_ada", VOICE, 7)
    async with Channel(gateway.url, token) as one, Channel(gateway.url, token) as other:
        asking = [channel.consume(VOICE) for channel in (one, other) for _ in range(10)]
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert sum(isinstance(outcome, Balance) for outcome in outcomes) == 7
    assert sum(isinstance(outcome, QuotaExceeded) for outcome in outcomes) == 13


async def test_more_than_the_allowance_of_messages_waits_and_the_connection_stays(
    gateway: RunningGateway, token: str
) -> None:
    gateway.set_quota("u_ada", VOICE, 1000)
    clock = ManualClock()
    async with Channel(gateway.url, token, clock=clock) as channel:
        session = channel.session_id
        asking = [asyncio.create_task(channel.consume(VOICE, timeout_s=5.0)) for _ in range(400)]
        await eventually(lambda: any(one.done() and one.exception() for one in asking))
        await pass_on(channel, clock, 5.0)
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
        taken = sum(isinstance(outcome, Balance) for outcome in outcomes)
        assert 100 <= taken <= 120
        assert {getattr(outcome, "code", "taken") for outcome in outcomes} == {"taken", "rate_limited"}
        assert all(getattr(outcome, "key", None) is None for outcome in outcomes)
        assert channel.session_id == session
        assert channel.freshness.state == "live"
    assert stands(gateway) == (taken, 0)


# --- leases ---


async def test_a_lease_holds_adds_extends_and_settles(gateway: RunningGateway, token: str) -> None:
    async with Channel(gateway.url, token) as channel:
        async with channel.lease(VOICE, 5, ttl_s=2.0) as lease:
            assert stands(gateway) == (0, 5)
            first = lease.expires_at
            await lease.add(3)
            assert (lease.held, stands(gateway)) == (8, (0, 8))
            await eventually(lambda: lease.expires_at != first)
            lease.use(4)
        assert stands(gateway) == (4, 0)
        assert (lease.balance.used, lease.balance.remaining) == (4, 96)
        await channel.wait_for(lease.balance.seq)
        assert channel.quotas[VOICE].used == 4
        with pytest.raises(Conflict):
            await channel.lease(VOICE, 5, name=lease.name).__aenter__()


@pytest.mark.parametrize("fault", ["answers are lost", "messages are lost", "cut", "restart"])
async def test_every_fault_settles_a_lease_once(gateway: RunningGateway, token: str, fault: str) -> None:
    faults = gateway.faults
    async with Channel(faults.url, token, **IMPATIENT) as channel:
        for _ in range(3):
            async with channel.lease(VOICE, 5) as lease:
                lease.use(2)
                match fault:
                    case "answers are lost":
                        faults.drop("to_client", 2)
                    case "messages are lost":
                        faults.drop("to_gateway", 2)
                    case "cut":
                        faults.cut(within="to_client")
                    case "restart":
                        await asyncio.to_thread(gateway.restart)
    assert stands(gateway) == (6, 0)


async def test_a_lease_that_ended_by_itself(gateway: RunningGateway, token: str) -> None:
    async with Channel(gateway.url, token) as channel:
        with pytest.raises(LeaseExpired):  # noqa: PT012  leaving fails
            async with channel.lease(VOICE, 5) as lease:
                lease.use(2)
                gateway.sql("UPDATE leases SET expires_at = 1 WHERE id = ?", lease.name)
        await eventually(lambda: stands(gateway) == (0, 0))


async def test_a_lease_that_nobody_settles_ends_by_itself(gateway: RunningGateway, token: str) -> None:
    async with Channel(gateway.url, token) as channel:
        lease = await channel.lease(VOICE, 5, ttl_s=1.0).__aenter__()
        lease.use(2)
    assert stands(gateway) == (0, 5)
    await eventually(lambda: stands(gateway) == (0, 0))


# --- meters ---


async def test_a_metered_call_lives_through_a_restart_and_ends_with_the_quota(
    gateway: RunningGateway, token: str
) -> None:
    gateway.set_quota("u_ada", VOICE, 6)
    low: list[str] = []
    async with Channel(gateway.faults.url, token, **IMPATIENT) as channel:
        meter = Meter(channel, VOICE, unit_s=0.2, permission="can_use_voice", on_low=lambda now: low.append(now.level))

        async def talk() -> None:
            async with meter:
                await asyncio.Event().wait()

        call = asyncio.create_task(talk())
        await eventually(lambda: meter.units == 2)
        await asyncio.to_thread(gateway.restart)
        with pytest.raises(MeterStopped) as stopped:
            await call
    assert (stopped.value.reason, meter.units, low) == ("exhausted", 6, ["low", "exhausted"])
    assert stands(gateway) == (6, 0)


async def test_a_metered_call_ends_with_the_permission(gateway: RunningGateway, token: str) -> None:
    async with Channel(gateway.url, token) as channel:
        meter = Meter(channel, VOICE, permission="can_use_voice")
        with pytest.raises(MeterStopped) as stopped:  # noqa: PT012  the body is what ends
            async with meter:
                gateway.deny("u_ada", "can_use_voice")
                await asyncio.Event().wait()
    assert stopped.value.reason == "forbidden"
    assert stands(gateway) == (1, 0)


def test_without_an_event_loop(gateway: RunningGateway, token: str) -> None:
    with SyncChannel(gateway.url, token) as channel:
        assert channel.consume(VOICE, 2).used == 2
        with channel.lease(VOICE, 5) as lease:
            lease.use(3)
        assert lease.balance.used == 5
        with pytest.raises(MeterStopped) as stopped, SyncMeter(channel, VOICE) as meter:  # noqa: PT012
            gateway.revoke(token)
            assert meter.wait(10)
        assert stopped.value.reason == "stopped"
    assert stands(gateway) == (6, 0)
