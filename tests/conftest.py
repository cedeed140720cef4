from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest
from hypothesis import HealthCheck, settings

from gateway.store.database import Database
from tests.support.sqld import SqldReplica, SqldServer

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


STORAGES = ("file", "server")
"""On which databases a test is run that asks for one; ``pytest.mark.storages`` names others."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`storage` is ``file``, ``server`` (a libSQL server by HTTP), ``websocket`` (by WebSocket), or ``replica`` (with a
    read replica beside the node)."""
    if "storage" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("storages")
        metafunc.parametrize("storage", mark.args if mark else STORAGES, scope="module")


@pytest.fixture(scope="module")
def storage() -> str:
    """For who asks for a database in the middle of a test that does not name one of its own: a file."""
    return "file"


class StartServer(Protocol):
    """Starts a libSQL server with an empty, migrated database for one test; each needs another name."""

    def __call__(self, name: str = "server") -> SqldServer: ...


@pytest.fixture
def start_server(migrated_server: Path, tmp_path: Path) -> Iterator[StartServer]:
    with ExitStack() as running:

        def start(name: str = "server") -> SqldServer:
            return running.enter_context(SqldServer(tmp_path / name, template=migrated_server))

        yield start


class NewDatabase(Protocol):
    """Makes an empty database without tables; its address. Each needs another name."""

    def __call__(self, name: str = "empty") -> str: ...


@pytest.fixture
def new_database(storage: str, tmp_path: Path) -> Iterator[NewDatabase]:
    with ExitStack() as running:

        def make(name: str = "empty") -> str:
            if storage == "file":
                return f"file:{tmp_path}/{name}.db"
            server = running.enter_context(SqldServer(tmp_path / name))
            return server.websocket_url if storage == "websocket" else server.url

        yield make


class Place(NamedTuple):
    """Where a database is: its address, and that of the read replica, if it has one."""

    url: str
    replica: str | None = None

    def settings(self) -> dict[str, str]:
        """Those of a gateway that is to use it."""
        return {"database_url": self.url} | ({"database_replica": self.replica} if self.replica else {})


@pytest.fixture
def database_place(storage: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    """Where one test's database is: in a file, or on a libSQL server that has the tables already."""
    if storage == "file":
        yield Place(f"file:{tmp_path}/gateway.db")
        return
    start_server: StartServer = request.getfixturevalue("start_server")
    server = start_server()
    if storage != "replica":
        yield Place(server.url if storage == "server" else server.websocket_url)
        return
    with SqldReplica(server, tmp_path / "replica") as replica:
        yield Place(server.url, replica.url)


@pytest.fixture
async def database(database_place: Place) -> AsyncIterator[Database]:
    """A fresh, migrated database."""
    from gateway.store.migrate import migrate

    async with await Database.open(database_place.url, replica=database_place.replica) as opened:
        await migrate(opened)
        yield opened
