"""The gateway under measurement: a database of its own, ``gateway migrate`` and ``gateway serve`` as processes."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.bench import processes
from gateway.bench.broken import BenchBroken
from gateway.bench.child import environment, last_words, stop

HOST = "127.0.0.1"
MIGRATE_S = 60.0
READY_S = 60.0
ASK_S = 10.0
MASTER_KEY = "c2Vzc2lvbi1nYXRld2F5LWJlbmNobWFyay1rZXktMDE="
"""For gateways on a server, which need one, the same at every run. It seals nothing that anybody could want."""


def free_port() -> int:
    """A TCP port of the loopback interface that nobody has just now."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass(frozen=True)
class Place:
    """Where the data are: a file of the benchmark's own, or the libSQL server at `url`, with a read replica or none."""

    url: str = ""
    replica: str = ""

    @property
    def addresses(self) -> list[str]:
        """The server's, and the replica's."""
        return [url for url in (self.url, self.replica) if url]


class Server:
    """One gateway with `workers` processes on the database at `url`, with the default configuration but for `settings`;
    `close` ends it."""

    def __init__(
        self, directory: Path, workers: int, url: str, replica: str = "", *, settings: Mapping[str, str] | None = None
    ) -> None:
        self._settings = dict(settings or {})
        self.port = free_port()
        self._directory = directory
        self._log = directory / f"server-{self.port}.log"
        self._workers = workers
        self._url = url
        self._replica = replica
        self._process: subprocess.Popen[bytes] | None = None

    def migrate(self) -> None:
        """Make the database."""
        self._spawn("migrate")
        try:
            status = self._running.wait(MIGRATE_S)
        except subprocess.TimeoutExpired:
            raise BenchBroken("gateway migrate did not end in time") from None
        if status:
            raise BenchBroken(f"gateway migrate ended with status {status}{last_words(self._log)}")

    def start(self) -> None:
        """Serve, and return when `GET /ready` answers 200."""
        self.begin()
        deadline = time.monotonic() + READY_S
        while not self.is_ready():
            if time.monotonic() > deadline:
                raise BenchBroken(f"gateway serve was not ready in time{last_words(self._log)}")
            time.sleep(0.05)

    def begin(self) -> None:
        """Serve, and do not wait for it."""
        workers = ("--workers", str(self._workers)) if self._workers > 1 else ()
        self._spawn("serve", "--host", HOST, "--port", str(self.port), *workers)

    def is_ready(self) -> bool:
        """Whether `GET /ready` answers 200. Raises BenchBroken when the gateway ended."""
        if self._running.poll() is not None:
            raise BenchBroken(f"gateway serve ended with status {self._running.returncode}{last_words(self._log)}")
        return self._ask("/ready")[0] == 200

    def kill(self) -> None:
        """End all its processes at once (SIGKILL)."""
        for pid in reversed(self.pids()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._running.wait()

    def pids(self) -> list[int]:
        """The processes of the gateway."""
        return processes.tree(self._running.pid)

    def metric(self, name: str) -> float | None:
        """The sum of all samples of a metric, from `GET /metrics`; None when it has none. With several workers, one
        of them answers.
        """
        status, body = self._ask("/metrics")
        if status != 200:
            return None
        samples = [line for line in body.splitlines() if line.partition(" ")[0].partition("{")[0] == name]
        return sum(float(line.rpartition(" ")[2]) for line in samples) if samples else None

    def close(self) -> None:
        """End all its processes."""
        if self._process is None:
            return
        pids = processes.tree(self._process.pid) if self._process.poll() is None else []
        stop(self._process)
        for pid in pids[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise BenchBroken("the gateway was not started")
        return self._process

    def _spawn(self, *arguments: str) -> None:
        settings = {
            "GATEWAY_DATABASE_URL": self._url,
            "GATEWAY_DATABASE_REPLICA": self._replica,
            "GATEWAY_DATABASE_AUTH_TOKEN": os.environ.get("GATEWAY_DATABASE_AUTH_TOKEN", ""),
            "GATEWAY_AUTH_MASTER_KEY": os.environ.get("GATEWAY_AUTH_MASTER_KEY", MASTER_KEY),
            "GATEWAY_SERVER_PORT": str(self.port),
            "GATEWAY_SERVER_DRAIN_S": "0",
            "GATEWAY_LOGGING_LEVEL": "warning",
            **self._settings,
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", "gateway", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                env=environment(**settings),
                start_new_session=True,
            )

    def _ask(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=ASK_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()
