from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.client_sdk.support.clock import ManualClock
from tests.client_sdk.support.scripted_server import ScriptedServer


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """A scripted gateway that listens."""
    async with ScriptedServer() as listening:
        yield listening


@pytest.fixture
def clock(server: ScriptedServer) -> ManualClock:
    """The time of the channel and of the gateway."""
    clock = ManualClock()
    server.bank.clock = clock.time
    return clock
