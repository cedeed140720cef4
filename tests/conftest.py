from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import HealthCheck, settings

from gateway.store.database import Database
from tests.support.sqld import SqldServer

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


@pytest.fixture(scope="session")
def migrated_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of a libSQL server with the migrated database: what a server of one test begins with."""
    from gateway.store.migrate import migrate

    async def make(url: str) -> None:
        async with await Database.open(url) as opened:
            await migrate(opened)

    with SqldServer(tmp_path_factory.mktemp("migrated")) as server:
        asyncio.run(make(server.url))
        server.terminate()
    return server.data


class StartServer(Protocol):
    """Starts a libSQL server with an empty, migrated database for one test; with a name, each has a directory."""

    def __call__(self, name: str = "server") -> SqldServer: ...


@pytest.fixture
def start_server(migrated_server: Path, tmp_path: Path) -> Iterator[StartServer]:
    with ExitStack() as running:

        def start(name: str = "server") -> SqldServer:
            return running.enter_context(SqldServer(tmp_path / name, template=migrated_server))

        yield start


@pytest.fixture(params=["file", "server"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a database of one test is: in a file of its own, and on a libSQL server of its own."""
    if request.param == "file":
        return f"file:{tmp_path}/gateway.db"
    start_server: StartServer = request.getfixturevalue("start_server")
    return start_server().url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A fresh, migrated database."""
    from gateway.store.migrate import migrate

    async with await Database.open(database_url) as opened:
        await migrate(opened)
        yield opened
