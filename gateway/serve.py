"""Runs the application under uvicorn: the drain before uvicorn's own shutdown, and several processes on one port."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import multiprocessing
import os
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from ctypes import c_byte
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette

from gateway.app import create_app
from gateway.auth.services import Accounts
from gateway.config import Config
from gateway.errors import ConfigError
from gateway.live.node import Node
from gateway.log import configure_logging
from gateway.metrics import SharedMetrics
from gateway.store.database import Database, wall_clock
from gateway.store.migrate import migrate
from gateway.web.request import RequestProtocol
from gateway.web.websocket import ChannelProtocol

log = logging.getLogger("gateway.serve")

BACKLOG = 4096
SIGNAL_ECHO_S = 0.5
GC_THRESHOLDS = (20_000, 20, 100)
"""Most of what a change makes is gone before the next: looking for cycles after every 700 objects finds nothing."""
RESTART_DELAY_S = 1.0
STOP_GRACE_S = 10.0
SWITCH_INTERVAL_S = 0.0005
"""How long the database's writer thread may keep the event loop waiting for the interpreter (the default of 5 ms
shows in latencies).
"""


class Server(uvicorn.Server):
    """uvicorn's server, which drains before it shuts down and leaves the exit code alone. `interrupted` says whether
    somebody at a terminal waits for the end.
    """

    def __init__(self, config: uvicorn.Config, drain_s: float, interrupted: Callable[[], bool] = lambda: False) -> None:
        super().__init__(config)
        self._drain_s = drain_s
        self._interrupted = interrupted
        self._told = (0, 0.0)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, SIGINT without a window; a second one does not wait, unless it is the same one told
        twice: by a supervisor to its group, and by the parent to its worker.
        """
        if not self.should_exit:
            self.should_exit, self._told = True, (sig, time.monotonic())
        elif sig != self._told[0] or time.monotonic() - self._told[1] >= SIGNAL_ECHO_S:
            self.force_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        node: Node | None = getattr(self.config.loaded_app.state, "node", None) if self.started else None
        if node is not None and not self.force_exit:
            at_once = self._told[0] == signal.SIGINT or self._interrupted()
            draining = asyncio.create_task(node.drain(0.0 if at_once else self._drain_s))
            while not draining.done() and not self.force_exit:
                await asyncio.wait((draining,), timeout=0.1)
            draining.cancel()
        await super().shutdown(sockets)
        if self.force_exit:
            # uvicorn leaves this out then, and the application behind with an open database.
            await self.lifespan.shutdown()


def serve(config: Config, *, started: Callable[[str], None] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the process's exit code. `started` is told the address once the port is open.

    Raises `ConfigError` when the address can not be bound or the TLS files can not be read, and `StoreError` when the
    database can not be used.
    """
    _check_tls(config)
    asyncio.run(_prepare_database(config))
    workers = config.server.workers
    sockets = [_bind(config, config.server.port, shared=workers > 1)]
    port = sockets[0].getsockname()[1]
    sockets += [_bind(config, port, shared=True) for _ in range(workers - 1)]
    scheme = "https" if config.server.use_https else "http"
    if started is not None:
        started(f"{scheme}://{_host(config.server.host)}:{port}")
    if workers == 1:
        return _run(config, sockets[0], None)
    with tempfile.TemporaryDirectory(prefix="gateway-metrics-") as directory:
        return _Supervisor(config, sockets, directory).run()


def uvicorn_config(config: Config, app: Starlette) -> uvicorn.Config:
    """How uvicorn serves the application: the protocols, their limits, and TLS.

    The TLS files are read when the server loads this; `ConfigError` when they can not be used then.
    """
    settings: dict[str, Any] = {
        "http": functools.partial(RequestProtocol, head_timeout_s=config.channel.auth_timeout_s),
    }
    if config.server.use_https:
        settings["ssl_context_factory"] = lambda _config, _default: _tls_context(config)
    return uvicorn.Config(
        app,
        ws=ChannelProtocol,
        ws_max_size=config.channel.max_frame_bytes,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        proxy_headers=False,
        server_header=False,
        log_config=None,
        lifespan="on",
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(STOP_GRACE_S),
        **settings,
    )


async def _prepare_database(config: Config) -> None:
    """Bring the database up to date, and see that the master key is its own: what is wrong is said before anybody can
    connect, and once for all processes.
    """
    async with await Database.configured(config) as database:
        await migrate(database)
        (await Accounts.open(config, database, wall_clock)).close()


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _bind(config: Config, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.server.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((config.server.host, port))
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        raise ConfigError(f"server.host, server.port: can not listen there: {exc.strerror}") from exc
    return listener


def _check_tls(config: Config) -> None:
    if config.server.use_https:
        _tls_context(config)


def _tls_context(config: Config) -> ssl.SSLContext:
    server = config.server
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if server.tls_min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(server.tls_cert, server.tls_key or None)
        if server.tls_client_ca:
            context.load_verify_locations(server.tls_client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(f"server.tls_cert, server.tls_key, server.tls_client_ca: can not be used: {exc}") from exc
    return context


def _run(
    config: Config,
    listener: socket.socket,
    shared_metrics: SharedMetrics | None,
    interrupted: Callable[[], bool] = lambda: False,
) -> int:
    configure_logging(config.logging)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(*GC_THRESHOLDS)
    app = create_app(config, shared_metrics=shared_metrics)
    server = Server(uvicorn_config(config, app), config.server.drain_s, interrupted)
    server.run(sockets=[listener])
    return 0 if server.started else 1


class _Supervisor:
    """Keeps one process a listener running, and passes the signal to stop on to them."""

    def __init__(self, config: Config, listeners: list[socket.socket], metrics_directory: str) -> None:
        self._config = config
        self._listeners = listeners
        self._metrics_directory = metrics_directory
        self._context = multiprocessing.get_context("spawn")
        self._interrupted = self._context.RawValue("b", 0)
        self._workers: dict[int, SpawnProcess] = {}
        self._stopping = False

    def run(self) -> int:
        """Start a worker for each listener, and another one for each that ends by itself, until SIGTERM or SIGINT.
        Either one reaches the workers as SIGTERM, a second one too, and `_interrupted` tells them which it was; SIGINT
        itself, which a terminal sends to all processes, is blocked in them. Returns 0 when every worker that was told
        to stop did so properly, else 1.
        """
        configure_logging(self._config.logging)
        for sig in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sig, self._stop)
        for index in range(len(self._listeners)):
            if not self._stopping:
                self._start(index)
        while not self._stopping:
            wait([worker.sentinel for worker in self._workers.values()], timeout=RESTART_DELAY_S)
            self._restart_dead()
        return self._join()

    def _start(self, index: int) -> None:
        """Start the worker of a listener. One that the signal to stop found half started is stopped here."""
        shared = SharedMetrics(self._metrics_directory, str(index))
        worker = self._context.Process(
            target=_work, args=(self._config, self._listeners[index], shared, self._interrupted)
        )
        # Started first: it would unblock the signal. The worker inherits the block, which no handler undoes.
        resource_tracker.ensure_running()
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            worker.start()
            self._workers[index] = worker
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        if self._stopping:
            worker.terminate()

    def _restart_dead(self) -> None:
        for index, worker in tuple(self._workers.items()):
            if worker.exitcode is not None and not self._stopping:
                log.error("a worker died and is started again", extra={"exit_code": worker.exitcode})
                del self._workers[index]
                time.sleep(RESTART_DELAY_S)
                if not self._stopping:
                    self._start(index)

    def _stop(self, sig: int, frame: FrameType | None) -> None:
        if not self._stopping and sig == signal.SIGINT:
            self._interrupted.value = 1
        self._stopping = True
        for worker in tuple(self._workers.values()):
            if worker.pid is not None and worker.exitcode is None:
                worker.terminate()

    def _join(self) -> int:
        deadline = time.monotonic() + self._config.server.drain_s + 2 * STOP_GRACE_S
        for worker in self._workers.values():
            worker.join(max(0.0, deadline - time.monotonic()))
            if worker.exitcode is None:
                worker.kill()
                worker.join()
        # SIGTERM itself ends a worker that was still being started.
        return 0 if all(worker.exitcode in (0, -signal.SIGTERM) for worker in self._workers.values()) else 1


def _work(config: Config, listener: socket.socket, shared_metrics: SharedMetrics, interrupted: c_byte) -> None:
    threading.Thread(target=_follow_parent, name="parent", daemon=True).start()
    sys.exit(_run(config, listener, shared_metrics, lambda: bool(interrupted.value)))


def _follow_parent() -> None:
    """Nobody would ever stop a worker whose parent was killed: it goes as if told to."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
