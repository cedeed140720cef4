"""nginx with the shipped configuration: only addresses, ports and paths are those of the test."""

from __future__ import annotations

import os
import re
import shutil
import signal
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.certificates import Certificate
from tests.support.gateway_process import ROOT, GatewayProcess, free_port, wait_for
from tests.support.required import missing

SHIPPED = ROOT / "deploy" / "nginx.conf"
FETCHED = ROOT / ".venv" / "nginx" / "usr" / "sbin" / "nginx"
"""Where `make test` unpacks Debian's package when nginx is not installed."""


def nginx_program() -> Path:
    """The nginx to run; skips the test when there is none, fails it where everything is required."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    program = Path(found) if found else FETCHED
    if not program.is_file():
        missing("nginx is not installed, and could not be fetched by make test (on Debian: apt install nginx-light)")
    return program


def replaced(text: str, pattern: str, value: str) -> str:
    """`text` with `value` in place of what is there; an `AssertionError` when it is not."""
    changed, count = re.subn(pattern, lambda _: value, text)
    assert count > 0, f"nginx.conf has no {pattern}"
    return changed


class Nginx:
    """The proxy in front of gateways that listen on this machine. It speaks TLS on `port`, plain HTTP on `plain_port`.

    Has what clients of the tests ask of a gateway: `address`, `port`, `channel_url`, `tls`.
    """

    def __init__(self, directory: Path, gateways: Sequence[GatewayProcess], certificate: Certificate) -> None:
        self.directory = directory
        self.port, self.plain_port = free_port(), free_port()
        self.tls = ssl.create_default_context(cafile=str(certificate.path))
        self.access_log = directory / "access.log"
        self.error_log = directory / "error.log"
        self.configuration = directory / "nginx.conf"
        self.configuration.write_text(self._configuration(gateways, certificate))
        self.process: subprocess.Popen[bytes] | None = None

    def _configuration(self, gateways: Sequence[GatewayProcess], certificate: Certificate) -> str:
        text = SHIPPED.read_text(encoding="utf-8")
        for number, gateway in enumerate(gateways, start=1):
            text = replaced(text, rf"\bgateway-{number}:8787\b", gateway.address)
        text = replaced(text, r"/tmp/nginx", str(self.directory / "nginx"))
        text = replaced(text, r"/dev/stdout", str(self.access_log))
        text = replaced(text, r"\blisten 8080\b", f"listen 127.0.0.1:{self.plain_port}")
        text = replaced(text, r"\blisten 8443\b", f"listen 127.0.0.1:{self.port}")
        text = replaced(text, r"/etc/nginx/tls/cert\.pem", str(certificate.path))
        return replaced(text, r"/etc/nginx/tls/key\.pem", str(certificate.key))

    def command(self, *more: str) -> list[str]:
        """nginx in the foreground; as root its workers stay root, so that they may enter the test's directories."""
        user = "user root; " if os.geteuid() == 0 else ""
        directives = f"{user}daemon off;"
        return [str(nginx_program()), "-p", str(self.directory), "-c", str(self.configuration), "-g", directives, *more]

    def __enter__(self) -> Nginx:
        with self.error_log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(self._open_or_dead, what="nginx listens")
        assert self.process.poll() is None, self.error_log.read_text()
        return self

    def _open_or_dead(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None or (self.directory / "nginx.pid").exists()

    def __exit__(self, *exception: object) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def reload(self) -> None:
        """Read the configuration and the certificate anew; returns when new workers have begun."""
        assert self.process is not None
        before = self.workers()
        self.process.send_signal(signal.SIGHUP)
        wait_for(lambda: self.workers() - before, what="nginx has read its configuration anew")

    def workers(self) -> set[str]:
        """The process ids of those that serve."""
        assert self.process is not None
        pid = self.process.pid
        return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def channel_url(self) -> str:
        return f"wss://{self.address}/ws"
