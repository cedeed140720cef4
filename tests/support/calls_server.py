"""Copies of the sample application, as processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from websockets.asyncio.client import ClientConnection, connect

ROOT = Path(__file__).parents[2]
ISSUER = "http://127.0.0.1:8787"


class CallsServer:
    """One copy. `key` is the one of its instance, `gateway_url` the node that it talks to."""

    def __init__(self, directory: Path, gateway_url: str, instance: str, kid: str, secret: str, *words: str) -> None:
        self._config = directory / f"{instance}-{time.monotonic_ns()}.toml"
        self.write_key(gateway_url, instance, kid, secret)
        self._log = self._config.with_suffix(".log")
        module = [sys.executable, "-m", "client_sdk.examples.calls_server"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*module, "--config", str(self._config), "--port", "0", "--issuer", ISSUER, *words],
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip().removeprefix("listening on ")
        assert self.url.startswith("http://"), self._log.read_text()

    def write_key(self, gateway_url: str, instance: str, kid: str, secret: str) -> None:
        """What it is to sign with; a running copy reads that when its key is not taken any more."""
        fields = {"url": gateway_url, "instance": instance, "kid": kid, "secret": secret}
        text = "[gateway]\n" + "".join(f'{name} = "{value}"\n' for name, value in fields.items())
        self._config.write_text(text)

    async def get(self, path: str, token: str | None = None, method: str = "GET") -> httpx2.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(base_url=self.url, timeout=20) as client:
            return await client.request(method, path, headers=headers)

    async def socket(self, token: str) -> ClientConnection:
        headers = {"Authorization": f"Bearer {token}"}
        socket = await connect(f"{self.url.replace('http', 'ws')}/live", additional_headers=headers, proxy=None)
        await socket.recv()
        return socket

    async def counted(self, name: str) -> dict[str, int]:
        counters: dict[str, Any] = (await self.get("/stats")).json()["counters"]
        found: dict[str, int] = counters[name]
        return found

    async def is_live(self) -> bool:
        return bool((await self.get("/stats")).json()["sizes"]["live"])

    def end(self) -> str:
        """End it; what it wrote."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return self._log.read_text()


@contextmanager
def copies(*servers: CallsServer) -> Iterator[tuple[CallsServer, ...]]:
    """They run as long as this."""
    try:
        yield servers
    finally:
        logs = [server.end() for server in servers]
        assert not any("Traceback" in log for log in logs), "\n".join(logs)
