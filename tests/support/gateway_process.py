"""A real gateway as a child process: started, waited for, killed, stopped, continued and restarted by process id."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.foreign_writer import ForeignServerWriter, ForeignWriter

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 20.0
MASTER_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
"""What all gateways of the tests have: several on one database need the same."""


class Answer(NamedTuple):
    """An HTTP answer; the names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def free_port() -> int:
    """A port that nobody listens on, outside the range that outgoing connections are given."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def wait_for(
    condition: Callable[[], object], timeout_s: float = 10.0, what: str = "the condition", *, every_s: float = 0.01
) -> None:
    """Return as soon as `condition()` is true; `TimeoutError` when it is not within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s} s")
        time.sleep(every_s)


class GatewayProcess:
    """One gateway, on the file `database` (one in `directory`) or on the database at `database_url`. Settings are named
    ``section_name`` (``channel_heartbeat_s=1``).

    What the process writes goes to `log_path`, through restarts too. `secrets` are texts that must not occur there.
    """

    def __init__(
        self,
        directory: Path,
        *,
        database: Path | None = None,
        database_url: str | None = None,
        tls_ca: Path | None = None,
        **settings: object,
    ) -> None:
        self.directory = directory
        self.database = database or directory / "gateway.db"
        self.database_url = database_url or f"file:{self.database}"
        self.port = free_port()
        self.log_path = directory / f"gateway-{self.port}.log"
        self.secrets: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._tls = ssl.create_default_context(cafile=str(tls_ca)) if tls_ca else None
        self.environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.environment |= {
            "PYTHONPATH": str(ROOT),
            "GATEWAY_DATABASE_URL": self.database_url,
            "GATEWAY_SERVER_PORT": str(self.port),
            "GATEWAY_SERVER_DRAIN_S": "0.5",
        }
        if not settings.keys() & {"auth_master_key", "auth_master_key_file"}:
            self.environment["GATEWAY_AUTH_MASTER_KEY"] = MASTER_KEY
        self.environment |= {f"GATEWAY_{name.upper()}": str(value) for name, value in settings.items()}

    def __enter__(self) -> GatewayProcess:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()

    def sibling(self, **settings: object) -> GatewayProcess:
        """Another gateway on the same database, not started."""
        replica = self.environment.get("GATEWAY_DATABASE_REPLICA")
        if replica is not None:
            settings = {"database_replica": replica, **settings}
        return GatewayProcess(self.directory, database=self.database, database_url=self.database_url, **settings)  # type: ignore[arg-type]

    def foreign_writer(self) -> ForeignWriter:
        """Another program that writes to its database."""
        if self.database_url.startswith("file:"):
            return ForeignWriter(self.database)
        url = self.database_url.replace("ws://", "http://")
        return ForeignServerWriter(url, self.environment.get("GATEWAY_DATABASE_AUTH_TOKEN"))

    # --- life ---

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self, *, ready: bool = True) -> None:
        """Start it and return when ``GET /ready`` says so. Raises `RuntimeError` with the log when it does not live."""
        assert self.process is None or self.process.returncode is not None, "it runs already"
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "serve"],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        if not ready:
            return
        try:
            wait_for(self._ready_or_dead, START_TIMEOUT_S, "the gateway is ready")
        except TimeoutError:
            self.kill()
            raise RuntimeError(f"the gateway is not ready:\n{self.log()}") from None
        if self.process.poll() is not None:
            raise RuntimeError(f"the gateway ended with {self.process.returncode}:\n{self.log()}")

    def _ready_or_dead(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            return True
        try:
            return self.request("GET", "/ready", timeout_s=2.0).status == 200
        except OSError:
            return False

    def signal(self, number: int) -> None:
        """Send a signal to the process itself."""
        os.kill(self.pid, number)

    def terminate(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """SIGTERM, and wait; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait for the end; the exit code, negative for a signal. Raises `subprocess.TimeoutExpired`."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL, to the process and to the workers it has."""
        assert self.process is not None
        workers = self.workers()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for worker in workers:
            try:
                os.kill(worker, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def restart(self) -> None:
        """Kill it without warning and start it again on the same port."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: it does nothing until `resume`; what comes meanwhile waits in its sockets."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def end(self) -> None:
        """End it if it runs, whatever it does."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.kill()

    def workers(self) -> list[int]:
        """The process ids of its worker processes."""
        return [pid for pid in _children(self.pid) if "spawn_main" in _command_line(pid)]

    def resident_kib(self) -> int:
        """Resident memory of the process."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1])

    # --- what it writes ---

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def check_log(self) -> None:
        """No traceback and no secret in any line that it wrote."""
        log = self.log()
        assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:4000]
        for secret in self.secrets:
            assert secret not in log, f"the log holds a secret: …{log[max(0, log.index(secret) - 200) :][:200]}…"

    # --- HTTP ---

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def channel_url(self) -> str:
        return f"{'wss' if self._tls else 'ws'}://{self.address}/ws"

    @property
    def tls(self) -> ssl.SSLContext | None:
        return self._tls

    def request(
        self,
        method: str,
        path: str,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float = 10.0,
    ) -> Answer:
        """One request on a connection of its own. Raises `OSError`."""
        if self._tls is not None:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=timeout_s, context=self._tls
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        try:
            connection.request(method, path, headers=sent)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        except http.client.HTTPException as error:
            raise OSError(f"no HTTP answer: {error!r}") from error
        finally:
            connection.close()

    async def fetch(self, method: str, path: str, token: str | None = None, **options: Any) -> Answer:
        """As `request`, leaving the event loop free."""
        return await asyncio.to_thread(self.request, method, path, token, **options)

    def metric(self, name: str, **labels: str) -> float:
        """A figure of ``GET /metrics``; 0 when it is not there (yet). A counter's name ends in ``_total``."""
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        for line in self.request("GET", "/metrics").body.decode().splitlines():
            series, _, value = line.rpartition(" ")
            found, _, rest = series.partition("{")
            if found == name and wanted <= set(rest.rstrip("}").split(",")):
                return float(value)
        return 0.0


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
