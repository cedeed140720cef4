from __future__ import annotations

from typing import Any

import pytest

from client_sdk import Channel, Meter
from tests.client_sdk.support.clock import ManualClock
from tests.client_sdk.support.scripted_server import ScriptedServer
from tests.client_sdk.support.simulated_time import pass_on

OPTIONS: dict[str, Any] = {"close_timeout_s": 0.2, "ping_interval_s": 1e6}
VOICE = "voice_minutes"
WALL_S = 1_795_000_000.0  # 40 seconds of its minute are over


@pytest.fixture
def clock(server: ScriptedServer) -> ManualClock:
    """The time of the channel and of the gateway."""
    clock = ManualClock()
    server.bank.clock = clock.time
    return clock


def paid(server: ScriptedServer) -> list[str]:
    return [key.rpartition(".")[2] for key in server.bank.charges]


@pytest.mark.parametrize(
    ("key", "first", "count"),
    [
        (f"{int(WALL_S * 1000):012x}0123456789abcdef", 0, 9),  # one of the SDK, made now
        ("call 7", int(WALL_S // 60), 10),
        ("ffffffffffff of somebody else's", int(WALL_S // 60), 10),
    ],
)
async def test_a_call_that_is_begun_again_and_again_pays_for_all_of_its_time(
    server: ScriptedServer, clock: ManualClock, key: str, first: int, count: int
) -> None:
    server.bank.limits[VOICE] = 60
    began = clock.time()
    for _ in range(6):
        async with (
            Channel(server.url, "t1", clock=clock, **OPTIONS) as channel,
            Meter(channel, VOICE, key=key, wall_clock=lambda: WALL_S + clock.time() - began),
        ):
            await pass_on(channel, clock, 89.0)
    assert list(server.bank.charges) == [f"{key}.{unit}" for unit in range(first, first + count)]


async def test_a_call_goes_on_under_the_key_that_the_sdk_made(server: ScriptedServer, clock: ManualClock) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        async with Meter(channel, VOICE, wall_clock=lambda: WALL_S) as meter:
            assert paid(server) == ["0"]
        async with Meter(channel, VOICE, key=meter.key, wall_clock=lambda: WALL_S + 150.0):
            await pass_on(channel, clock, 29.0)
            assert paid(server) == ["0", "2"]
            await pass_on(channel, clock, 2.0)
            assert paid(server) == ["0", "2", "3"]


@pytest.mark.parametrize("later_s", [0.0, -0.05, 59.0])
async def test_a_unit_is_not_paid_again_by_a_call_that_is_begun_again_within_it(
    server: ScriptedServer, clock: ManualClock, later_s: float
) -> None:
    """The clocks of two hosts are not quite alike: what comes later may be earlier."""
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        async with Meter(channel, VOICE, wall_clock=lambda: WALL_S) as meter:
            pass
        async with Meter(channel, VOICE, key=meter.key, wall_clock=lambda: WALL_S + later_s):
            pass
    assert server.bank.used(VOICE) == 1
