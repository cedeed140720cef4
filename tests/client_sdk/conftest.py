from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.client_sdk.support.scripted_server import ScriptedServer


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """A scripted gateway that listens."""
    async with ScriptedServer() as listening:
        yield listening
