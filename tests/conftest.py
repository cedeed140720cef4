from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from gateway.store.database import Database

# A shared machine is no stopwatch, so no deadline; what ran once in CI runs again the same way.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") or os.environ.get("GATEWAY_REQUIRE_ALL") else "local")


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on what is set in the developer's shell."""
    for name in list(os.environ):
        if name.startswith("GATEWAY_") and name != "GATEWAY_REQUIRE_ALL":
            monkeypatch.delenv(name)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A fresh, migrated database in a file of its own."""
    from gateway.store.migrate import migrate

    async with await Database.open(f"file:{tmp_path}/gateway.db") as opened:
        await migrate(opened)
        yield opened
