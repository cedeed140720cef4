"""Real gateways for the tests here: a module's gateway is shared by its tests, with the settings that it names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.seed import Seed


@pytest.fixture(scope="module")
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The module's gateway; `SETTINGS` of the module are its settings."""
    settings: dict[str, Any] = getattr(request.module, "SETTINGS", {})
    with GatewayProcess(tmp_path_factory.mktemp("gateway"), **settings) as process:
        yield process
    process.check_log()


@pytest.fixture(scope="module")
def foreign(gateway: GatewayProcess) -> Iterator[ForeignWriter]:
    """Another program that writes to the module's database."""
    with ForeignWriter(gateway.database) as writer:
        yield writer


@pytest.fixture(scope="module")
def seed(gateway: GatewayProcess, foreign: ForeignWriter) -> Seed:
    return Seed(foreign, gateway.secrets)


Connect = Callable[..., Awaitable[Client]]


@pytest.fixture
async def connect(gateway: GatewayProcess) -> AsyncIterator[Connect]:
    """Opens connections (`Client.connect`); at the end all are closed, and what the oracle found is raised."""
    clients: list[Client] = []

    async def open_client(*arguments: Any, at: GatewayProcess | None = None, **options: Any) -> Client:
        client = await Client.connect(at or gateway, *arguments, **options)
        clients.append(client)
        return client

    yield open_client
    for client in clients:
        await client.close()


class OwnGateway:
    """A gateway of one test alone, with a foreign writer and seed rows."""

    def __init__(self, process: GatewayProcess) -> None:
        self.process = process
        self.foreign = ForeignWriter(process.database)
        self.seed = Seed(self.foreign, process.secrets)


@pytest.fixture
def own_gateway(tmp_path: Path) -> Iterator[Callable[..., OwnGateway]]:
    """Starts a gateway with settings for this test alone."""
    started: list[OwnGateway] = []
    processes: list[GatewayProcess] = []

    def start(**settings: Any) -> OwnGateway:
        process = GatewayProcess(tmp_path, **settings)
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
