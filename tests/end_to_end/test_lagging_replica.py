"""A replica that the primary's changes do not reach any more: the node that reads it must not fall behind with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.crowd import Crowd
from tests.support.fault_rig import SCALE, Site, a_site, percentiles, report, scaled
from tests.support.gateway_process import GatewayProcess
from tests.support.noise import Noise, numbered_people, patient
from tests.support.sqld import SqldReplica, SqldServer
from tests.support.tcp_proxy import TcpProxy

pytestmark = pytest.mark.timeout(60 * SCALE)

LONGEST_S = 3.0
"""The primary is asked for its position within 1 s, a replica is given 0.4 s to come up to it or 1 s to answer at all,
and the machine is a slow one. By nothing but its own writes, a node would learn it only every 5 s."""


class WiredReplica(SqldReplica):
    """Follows its primary through a wire."""

    def __init__(self, primary: SqldServer, directory: Path, wire: TcpProxy) -> None:
        super().__init__(primary, directory)
        self.wire = wire

    def _arguments(self) -> list[str]:
        return ["--primary-grpc-url", self.wire.url, "--http-primary-url", self.primary.url]


class Lagging(NamedTuple):
    site: Site
    wire: TcpProxy
    node: GatewayProcess


@pytest.fixture
def lagging(tmp_path: Path, migrated_server: Path) -> Iterator[Lagging]:
    with (
        a_site(tmp_path, migrated_server) as site,
        TcpProxy(site.server.grpc_port) as wire,
        WiredReplica(site.server, tmp_path / "replica", wire) as replica,
    ):
        yield Lagging(site, wire, site.add(database_replica=replica.url))


@pytest.mark.parametrize("kind", ["reset", "silent"])
async def test_its_node_follows_the_primary(kind: str, lagging: Lagging, request: pytest.FixtureRequest) -> None:
    site, wire, node = lagging
    people = numbered_people(site.seed, 5)
    async with Crowd(people, [node]) as crowd:
        wire.cut(silent=kind == "silent")
        lags: list[float] = []
        client = crowd.of(people[0]).client
        deadline = time.monotonic() + scaled(6, 60)
        while time.monotonic() < deadline:
            await asyncio.sleep(0.3)  # now and then something changes, as far as possible from a sign of life
            email = f"e{len(lags)}@example.org"
            await site.foreign.run("UPDATE users SET email = ? WHERE id = ?", email, people[0].id)
            began = time.monotonic()
            await client.until(lambda e=email: client.data["identity"].get("email") == e, 10.0)
            lags.append(time.monotonic() - began)
        with Noise(people, [patient(site.server.url)], per_s=50) as noise:
            await asyncio.sleep(scaled(1, 10))
            wire.restore()
            await asyncio.sleep(scaled(1, 10))
        await crowd.settle(site.writer, noise.acknowledged)
        assert crowd.reconnects == 0
        report(request, lag_ms=percentiles([lag * 1000 for lag in lags]), commits=noise.commits)
        assert max(lags) < LONGEST_S
