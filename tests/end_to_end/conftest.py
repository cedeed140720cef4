"""Real gateways for the tests here: a module's gateway is shared by its tests, with the settings that it names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_websocket import RawWebSocket
from tests.support.seed import Seed
from tests.support.sqld import SqldReplica, SqldServer
from tests.support.waiting import eventually


@contextmanager
def _database(storage: str, directory: Path) -> Iterator[dict[str, Any]]:
    """The settings of a gateway that are about its database. A server is as empty as a file that is not there."""
    if storage == "file":
        yield {}
        return
    with SqldServer(directory / "server") as server:
        if storage != "replica":
            yield {"database_url": server.url if storage == "server" else server.websocket_url}
            return
        with SqldReplica(server, directory / "replica") as replica:
            yield {"database_url": server.url, "database_replica": replica.url}


@pytest.fixture(scope="module")
def gateway(
    storage: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """The module's gateway on each kind of database; `SETTINGS` of the module are its settings."""
    settings: dict[str, Any] = getattr(request.module, "SETTINGS", {})
    directory = tmp_path_factory.mktemp("gateway")
    with _database(storage, directory) as place:
        with GatewayProcess(directory, **place, **settings) as process:
            yield process
        process.check_log()


@pytest.fixture(scope="module")
def foreign(gateway: GatewayProcess) -> Iterator[ForeignWriter]:
    """Another program that writes to the module's database."""
    with gateway.foreign_writer() as writer:
        yield writer


@pytest.fixture(scope="module")
def seed(gateway: GatewayProcess, foreign: ForeignWriter) -> Seed:
    return Seed(foreign, gateway.secrets)


async def caught_up(gateway: GatewayProcess, seed: Seed) -> None:
    """Wait until the gateway has seen every commit so far: beside a read replica that takes some milliseconds."""
    position = seed.last_seq()
    await eventually(lambda: gateway.metric("gateway_feed_position") >= position)


Connect = Callable[..., Awaitable[Client]]
ConnectRaw = Callable[..., Awaitable[RawWebSocket]]


@pytest.fixture
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Opens connections (`Client.connect`), to the module's gateway unless `at` is another one; closes them at the end,
    when what the oracle found is raised."""
    clients: list[Client] = []

    async def open_client(*arguments: Any, at: GatewayProcess | None = None, **options: Any) -> Client:
        client = await Client.connect(at or request.getfixturevalue("gateway"), *arguments, **options)
        clients.append(client)
        return client

    yield open_client
    for client in clients:
        await client.close()


@pytest.fixture
async def connect_raw(request: pytest.FixtureRequest) -> AsyncIterator[ConnectRaw]:
    """Opens connections by hand (`RawWebSocket.connect`), to the module's gateway unless `at` is another one."""
    sockets: list[RawWebSocket] = []

    async def open_raw(*arguments: Any, at: GatewayProcess | None = None, **options: Any) -> RawWebSocket:
        raw = await RawWebSocket.connect(at or request.getfixturevalue("gateway"), *arguments, **options)
        sockets.append(raw)
        return raw

    yield open_raw
    for raw in sockets:
        raw.close()


class OwnGateway:
    """A gateway of one test alone, with a foreign writer and seed rows."""

    def __init__(self, process: GatewayProcess) -> None:
        self.process = process
        self.foreign = process.foreign_writer()
        self.seed = Seed(self.foreign, process.secrets)


StartGateway = Callable[..., OwnGateway]


@pytest.fixture
def own_gateway(storage: str, tmp_path: Path) -> Iterator[StartGateway]:
    """Starts a gateway with settings for this test alone."""
    started: list[OwnGateway] = []
    processes: list[GatewayProcess] = []

    with _database(storage, tmp_path) as place:

        def start(**settings: Any) -> OwnGateway:
            process = GatewayProcess(tmp_path, **(place | settings))
            processes.append(process)
            process.start()
            own = OwnGateway(process)
            started.append(own)
            return own

        yield start
        for own in started:
            own.foreign.close()
        for process in processes:
            process.end()
    for process in processes:
        process.check_log()
