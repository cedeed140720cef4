"""Lets the time of a channel pass, without waiting for it."""

from __future__ import annotations

import asyncio

from client_sdk import Channel
from tests.client_sdk.support.clock import ManualClock
from tests.support.waiting import eventually


async def pass_on(channel: Channel, clock: ManualClock, seconds: float, *, answered: bool = True) -> None:
    """Let time pass in steps. `answered`: each step lasts until everything that was asked in it is answered."""
    under_way = channel._session._talk.spending.under_way
    until = clock.time() + seconds
    while clock.time() < until:
        await clock.advance(min(1.0, until - clock.time()))
        for _ in range(5):
            await asyncio.sleep(0)
        if answered:
            await eventually(lambda: not under_way)


async def until_live(channel: Channel, clock: ManualClock) -> None:
    """Let time pass while the channel waits before an attempt to connect, and stand still while it makes one."""
    while channel.freshness.state != "live":
        await eventually(lambda: clock.next < 1 or channel.freshness.state == "live")
        if clock.next < 1:
            await clock.advance(clock.next)
