"""A gateway in a thread of the test's own process, with a clock that the test sets. SQL comes from other processes here
too."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path

import uvicorn

from gateway.app import create_app
from gateway.config import load_config
from gateway.core.session import Instant
from gateway.live.clock import SystemClock
from gateway.serve import uvicorn_config
from tests.support.gateway_process import GatewayProcess, wait_for


class ShiftedClock:
    """The machine's clocks: the wall clock moved by `shift_ms`, and by what has passed, as both are, with `pass_by`."""

    def __init__(self) -> None:
        self.shift_ms = 0
        self._passed_s = 0

    def now(self) -> Instant:
        mono, wall = SystemClock().now()
        return Instant(mono + self._passed_s, wall + self._passed_s * 1000 + self.shift_ms)

    def cpu_s(self) -> float:
        return SystemClock().cpu_s()

    def pass_by(self, seconds: int) -> None:
        """Time passes, by every clock."""
        self._passed_s += seconds


class _Server(uvicorn.Server):
    """Says on which loop it runs."""

    loop: asyncio.AbstractEventLoop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)


class GatewayThread(GatewayProcess):
    """As `GatewayProcess`, without the process: it can be asked and stopped, not killed."""

    def __init__(self, directory: Path, **settings: object) -> None:
        super().__init__(directory, **settings)
        self.clock = ShiftedClock()

    def start(self, *, ready: bool = True) -> None:
        """Start it and return when ``GET /ready`` says so."""
        config = load_config(environ=self.environment)
        listener = socket.create_server(("127.0.0.1", self.port))
        self._app = create_app(config, clock=self.clock)
        self._server = _Server(uvicorn_config(config, self._app))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
        self._thread.start()
        if ready:
            wait_for(self._ready, what="the gateway is ready")

    def _ready(self) -> bool:
        try:
            return self.request("GET", "/ready", timeout_s=2.0).status == 200
        except OSError:
            return False

    def keep_house(self) -> None:
        """Do now what it does once a minute."""
        work = self._app.state.node.housekeeping.keep_house()
        asyncio.run_coroutine_threadsafe(work, self._server.loop).result(30)

    def end(self) -> None:
        """Stop it."""
        self._server.should_exit = True
        self._thread.join()

    def log(self) -> str:
        """Nothing: the process is the test's own."""
        return ""
