"""A server instance of a running gateway: its rows are written by another program, and it asks over real sockets."""

from __future__ import annotations

import http.client
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.auth.instances import new_key
from gateway.core.sealing import Sealer, parse_master_keys
from tests.end_to_end.conftest import Connect
from tests.support.client import Client
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import MASTER_KEY, Answer, GatewayProcess
from tests.support.signing import Key, sign

_NUMBERS = itertools.count(1)


class Deployment:
    """An instance with one key. `columns` are those of its row."""

    def __init__(self, gateway: GatewayProcess, foreign: ForeignWriter, **columns: Any) -> None:
        self.gateway = gateway
        self.foreign = foreign
        self.id = f"i_{os.getpid()}_{next(_NUMBERS)}"
        row = {"id": self.id, "name": "Shop", **columns}
        foreign.execute(f"INSERT INTO instances({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", *row.values())
        self.key = self.add_key()

    @property
    def doc(self) -> str:
        return f"instance:{self.id}"

    def add_key(self, expires_at: int | None = None) -> Key:
        """Another key, sealed as the gateway seals it."""
        made = new_key(Sealer(parse_master_keys(MASTER_KEY)))
        self.gateway.secrets.append(made.secret)
        self.foreign.execute(
            "INSERT INTO instance_keys(id, instance_id, secret, expires_at)"
            f" VALUES (?, ?, x'{made.sealed.secret.hex()}', ?)",
            made.kid,
            self.id,
            expires_at,
        )
        return Key(made.kid, made.secret)

    def signed(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = {}, **how: Any
    ) -> dict[str, str]:
        """The headers of a request of this instance's; `how` as in `sign`, `key` and `at` (a gateway) besides."""
        at: GatewayProcess = how.pop("at", self.gateway)
        key: Key = how.pop("key", self.key)
        return sign(key, method, f"http://{at.address}{path}", body, headers, **how)

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = {}, **how: Any) -> Answer:
        """Ask for something, signed."""
        at: GatewayProcess = how.get("at", self.gateway)
        return send(at, method, path, body, self.signed(method, path, body, headers, **how).items())

    def validate(self, token: str, **how: Any) -> Answer:
        """Ask what a user's token stands for."""
        return self.ask("GET", "/auth/validate", headers={"authorization": f"Bearer {token}"}, **how)

    async def connect(self, connect: Connect, watch: Sequence[str] | None = None, **how: Any) -> Client:
        """A channel of this instance's, ready."""
        at: GatewayProcess = how.get("at", self.gateway)
        path = "/ws" + ("" if watch is None else "?" + "&".join(f"watch={name}" for name in watch))
        headers = list(self.signed("GET", path, **how).items())
        client = await connect(at=at, headers=headers, url=f"ws://{at.address}{path}")
        await client.until(lambda: client.replica.ready or client.replica.ended)
        return client


def send(
    gateway: GatewayProcess, method: str, path: str, body: bytes, headers: Any, *, host: str | None = None
) -> Answer:
    """One request on a connection of its own, with exactly these headers (pairs, in their order) and a ``Host``."""
    return send_to(gateway.port, gateway.address if host is None else host, method, path, body, headers)


def send_to(
    port: int, host: str, method: str, path: str, body: bytes, headers: Any, *, ip: str = "127.0.0.1"
) -> Answer:
    """As `send`, to a port of this machine."""
    connection = http.client.HTTPConnection(ip, port, timeout=20)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", host)
        for name, value in headers:
            connection.putheader(name, value)
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()
