"""Gateways on one database, with wires that can be cut, for tests of faults."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.foreign_writer import ForeignServerWriter, ForeignWriter
from tests.support.gateway_process import ROOT, GatewayProcess
from tests.support.noise import Endpoint, patient
from tests.support.seed import Seed
from tests.support.sqld import SqldReplica, SqldServer
from tests.support.tcp_proxy import TcpProxy

SCALE = int(os.environ.get("FAULT_SCALE", "1"))
"""How many times as long, as often and with as many sessions the faults are tried: 1 in the suite, 10 by hand.

It is read when the tests are collected: no test sees what is set in the developer's shell.
"""

TRANSPORT = os.environ.get("FAULT_TRANSPORT", "http")
"""By which transport the gateways speak to a server: ``http``, or ``ws`` by hand."""


def scaled(small: float, large: float) -> float:
    """A figure of a test: the small one in the suite, growing up to the large one at ten times the scale."""
    return min(large, small + (large - small) * (SCALE - 1) / 9)


def report(request: pytest.FixtureRequest, **figures: object) -> None:
    """Print what a long run is made for; in the suite nobody sees it."""
    load = os.getloadavg()[0]
    said = ", ".join(
        f"{name} {value:.1f}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()
    )
    print(f"\nFIGURES {request.node.name}: {said} (load {load:.1f})")


def percentiles(values: Sequence[float]) -> str:
    """Median, 99th percentile and maximum."""
    ordered = sorted(values)
    at = [ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99)]
    return f"p50 {at[0]:.1f} p99 {at[1]:.1f} max {ordered[-1]:.1f} of {len(ordered)}"


class Site:
    """One database. On a server, `server` is the primary, `wire` the way of the gateways to it."""

    def __init__(self, directory: Path, stack: ExitStack, template: Path | None) -> None:
        self.directory = directory
        self.nodes: list[GatewayProcess] = []
        self._stack = stack
        self._server: SqldServer | None = None
        self._wire: TcpProxy | None = None
        self._foreign: ForeignWriter | None = None
        self._seed: Seed | None = None
        if template is not None:
            self._server = stack.enter_context(SqldServer(directory / "primary", template=template))
            self._wire = stack.enter_context(TcpProxy(self._server.port))

    @property
    def server(self) -> SqldServer:
        assert self._server is not None, "the database is a file"
        return self._server

    @property
    def wire(self) -> TcpProxy:
        assert self._wire is not None, "the database is a file"
        return self._wire

    def replica(self) -> SqldReplica:
        return self._stack.enter_context(SqldReplica(self.server, self.directory / "replica"))

    @property
    def url(self) -> str:
        """The database's address for gateways: through the wire."""
        if self._wire is None:
            return f"file:{self.directory}/gateway.db"
        return f"{TRANSPORT}://127.0.0.1:{self._wire.port}"

    def add(self, **settings: object) -> GatewayProcess:
        """Start one more gateway."""
        directory = self.directory / f"node{len(self.nodes)}"
        directory.mkdir()
        node = GatewayProcess(directory, database=self.directory / "gateway.db", database_url=self.url, **settings)  # type: ignore[arg-type]
        self.nodes.append(self._stack.enter_context(node))
        return node

    @property
    def foreign(self) -> ForeignWriter:
        """Somebody who writes SQL, past the wire."""
        if self._foreign is None:
            self._foreign = self._stack.enter_context(self.writer())
        return self._foreign

    def writer(self) -> ForeignWriter:
        return ForeignServerWriter(self.server.url) if self._server else ForeignWriter(self.directory / "gateway.db")

    @property
    def seed(self) -> Seed:
        """The first one: what it made has numbers that no other knows of."""
        if self._seed is None:
            self._seed = Seed(self.foreign, self.nodes[0].secrets)
        return self._seed

    def endpoint(self) -> Endpoint:
        """One more way for noise, past the wire."""
        return patient(self.server.url) if self._server else self.writer()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of the gateway's, past the wire."""
        url = self.server.url if self._server else f"file:{self.directory}/gateway.db"
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "GATEWAY_DATABASE_URL": url}
        return subprocess.run(
            [sys.executable, "-m", "gateway", *arguments], env=environment, capture_output=True, text=True, timeout=60
        )


@contextmanager
def a_site(directory: Path, template: Path | None) -> Iterator[Site]:
    """`template`: the data of a migrated server; None: the database is a file."""
    with ExitStack() as stack:
        site = Site(directory, stack, template)
        yield site
    for node in site.nodes:
        node.check_log()
