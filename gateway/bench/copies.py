"""Copies of an application behind the gateway: the sample of the SDK, a process each, behind an `AuthProxy`."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
from pathlib import Path

from gateway.auth.instances import new_key
from gateway.bench.broken import BenchBroken
from gateway.bench.child import Child, environment, last_words, stop
from gateway.bench.rig import Rig
from gateway.bench.server import HOST, MASTER_KEY, Server
from gateway.config import AuthConfig
from gateway.core.sealing import Sealer, parse_master_keys

PROGRAM = "client_sdk.examples.calls_server"
"""Of the SDK, which the gateway does not import."""
INSTANCE = "i_bench"
START_S = 30.0
_LISTENING = "listening on http://"


class Copy:
    """One copy, which talks to `server`; `close` ends it. `config` is the file with its key."""

    def __init__(self, directory: Path, config: Path, server: Server) -> None:
        self.server = server
        self._log = directory / f"copy-{config.stem}.log"
        words = ["--config", str(config), "--port", "0", "--host", HOST, "--issuer", AuthConfig().issuer]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and a program of this project
                [sys.executable, "-m", PROGRAM, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=directory,
                env=environment(),
                start_new_session=True,
            )
        self.port = 0

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def await_port(self) -> None:
        """Wait until it listens."""
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            line = self._process.stdout.readline().decode() if selector.select(START_S) else ""
        if not line.startswith(_LISTENING):
            raise BenchBroken(f"a copy of the application did not start{last_words(self._log)}")
        self.port = int(line.rpartition(":")[2])

    def close(self) -> None:
        """End it."""
        stop(self._process)
        if self._process.stdout is not None:
            self._process.stdout.close()


class Copies:
    """`count` copies beside a rig, talking to its nodes in turn, and `clients`, the process that asks them. They end
    with the rig.
    """

    def __init__(self, rig: Rig, count: int) -> None:
        self._rig = rig
        key = new_key(Sealer(parse_master_keys(os.environ.get("GATEWAY_AUTH_MASTER_KEY", MASTER_KEY))))
        rig.writer.call("add_instance", instance=INSTANCE, kid=key.kid, secret=key.sealed.secret.hex())
        self.all: list[Copy] = []
        for place in range(count):
            server = rig.servers[place % len(rig.servers)]
            config = rig.directory / f"instance-{place}.toml"
            fields = {"url": f"http://{HOST}:{server.port}", "instance": INSTANCE, "kid": key.kid, "secret": key.secret}
            config.write_text("[gateway]\n" + "".join(f'{name} = "{value}"\n' for name, value in fields.items()))
            copy = Copy(rig.directory, config, server)
            rig.ends_with(copy.close)
            self.all.append(copy)
        for copy in self.all:
            copy.await_port()
        ports = [str(copy.port) for copy in self.all]
        self.clients: Child = rig.child("gateway.bench.copy_clients", *ports)

    def pids(self) -> list[int]:
        """The copies' processes."""
        return [copy.pid for copy in self.all]

    def sign_in(self, password_hash: str) -> None:
        """Sign everybody in at the gateway."""
        rig = self._rig
        answer = rig.writer.call("add_logins", count=rig.size.sessions, password_hash=password_hash, within_s=300)
        with rig.display.stage("access tokens", rig.size.sessions) as done:
            self.clients.call(
                "sign_in",
                ports=rig.ports("gateway"),
                refresh_tokens=answer["refresh_tokens"],
                users=list(rig.all),
                within_s=600,
                on_progress=done,
            )

    def meet(self, *, sockets: bool) -> None:
        """Let everybody ask each copy once, and open a socket there."""
        with self._rig.display.stage("everybody asks every copy", self._rig.size.sessions * len(self.all)) as done:
            self.clients.call("meet", users=list(self._rig.all), sockets=sockets, within_s=600, on_progress=done)

    def asked(self) -> float:
        """How many signed requests the gateway's nodes have seen, handshakes among them."""
        return sum(server.metric("gateway_signed_requests_total") or 0.0 for server in self._rig.servers)

    def counted(self, name: str) -> dict[str, int]:
        """A counter of the copies', summed over them, by label."""
        counted: dict[str, int] = self.clients.call("counted", name=name)
        return counted
