"""What tests of an AuthProxy start from."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.client_sdk.support.scripted_gateway import ScriptedGateway


@pytest.fixture
async def gateway() -> AsyncIterator[ScriptedGateway]:
    async with ScriptedGateway() as listening:
        yield listening
