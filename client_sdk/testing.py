"""A real gateway for the tests of whoever uses the SDK.

This is the only module of the SDK that imports the gateway, and it does so when one is started: no imitation would be
as true as the gateway itself, and a client that runs no tests does not need it. The `gateway` fixture runs one inside
the test's process, on a database of its own, and ends it after the test (pytest-asyncio runs the coroutines)::

    from client_sdk import Channel
    from client_sdk.testing import RunningGateway, gateway

    async def test_no_call_without_the_permission(gateway: RunningGateway) -> None:
        ada = gateway.add_user("ada", permissions=["can_use_voice"], quotas={"voice_minutes": 10})
        async with Channel(gateway.url, gateway.token(ada)) as channel:
            assert channel.can("can_use_voice")
            assert channel.quotas["voice_minutes"].remaining == 10
            await channel.wait_for(gateway.deny(ada, "can_use_voice"))
            assert not channel.can("can_use_voice")

    async def test_the_network_may_fail(gateway: RunningGateway) -> None:
        ada = gateway.add_user("ada")
        async with Channel(gateway.faults.url, gateway.token(ada)) as channel:
            gateway.faults.cut(within="to_client")
            await channel.wait_for(gateway.allow(ada, "can_use_sms"))
            assert channel.can("can_use_sms")

``pytest_plugins = ["client_sdk.testing"]`` makes the fixture known to all tests of a project. Whoever needs other
settings, or a gateway for longer than one test, uses `RunningGateway` as a context manager.
"""

from __future__ import annotations

import asyncio
import importlib
import secrets
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import pytest

from client_sdk.faults import Direction, FaultProxy
from client_sdk.loop_thread import LoopThread

if TYPE_CHECKING:
    import uvicorn

    from gateway.config import Config
    from gateway.store.database import Database

__all__ = ["Direction", "FaultProxy", "Faults", "GatewayMissing", "RunningGateway", "gateway"]

HOST = "127.0.0.1"
CALL_TIMEOUT_S = 30.0
POLL_S = 0.002
DEFAULT_PLAN = "default"
# Outside the range that systems give to outgoing connections, so that a gateway that is stopped keeps its port.
PORTS = range(20_000, 30_000)


class GatewayMissing(RuntimeError):
    """The gateway is not installed here, or something that it needs is not."""


class RunningGateway:
    """A gateway on a free port, with its database in the file `path`, and a proxy for faults in front of it.

    Use it as a context manager, or call `open` and `close`. Its methods block and may be called from any thread; in a
    coroutine they hold up the test's own event loop for the few milliseconds of a write (`restart` and `stop` take
    tenths of a second: ``await asyncio.to_thread(gateway.restart)`` lets the channels of the test go on meanwhile).

    What writes returns the `seq` of its commit, for `Channel.wait_for`. `sections` are settings of the gateway by
    section: ``RunningGateway(path, channel={"heartbeat_s": 1.0})``. Raises `GatewayMissing`.
    """

    def __init__(self, path: str | Path, **sections: Mapping[str, Any]) -> None:
        _require_gateway()
        self._port = _free_port()
        self._config = _config(Path(path), self._port, sections)
        self._host = LoopThread("client_sdk.testing", call_timeout_s=CALL_TIMEOUT_S, strict=True)
        self._database: Database | None = None
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self.faults = Faults(self)
        """The proxy: a client that connects to ``gateway.faults.url`` meets the faults that are asked for here."""

    # --- life ---

    def open(self) -> None:
        """Make the database, and start the proxy and the gateway."""
        self._host.start()
        try:
            self._host.call(self._open())
            self.start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop everything. Raises `RuntimeError` when something goes on running that should not."""
        try:
            self._host.call(self._close())
        finally:
            self._host.stop()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the gateway again after `stop`, at the same address and on the same database."""
        self._host.call(self._start())

    def stop(self) -> None:
        """Stop the gateway as SIGTERM does: its sessions are told, its port is closed. Rows can still be written."""
        self._host.call(self._stop())

    def restart(self) -> None:
        """`stop` and `start`."""
        self.stop()
        self.start()

    @property
    def url(self) -> str:
        """The gateway's address, for a `Channel` or a `ServerClient`."""
        return f"{'https' if self._config.server.use_https else 'http'}://{HOST}:{self._port}"

    # --- who there is ---

    def add_user(
        self,
        username: str,
        *,
        plan: str = DEFAULT_PLAN,
        permissions: Iterable[str] = (),
        quotas: Mapping[str, int | None] | None = None,
        **columns: Any,
    ) -> str:
        """Add a user and return the id. Permissions and quotas (a limit a month; None: unlimited) are granted to this
        user alone; a plan that does not exist is made. `columns` are other columns of `users`: ``attributes={...}``.
        """
        user = f"u_{username}"
        self._host.call(self._add_user(user, username, plan, columns))
        for permission in permissions:
            self.allow(user, permission)
        for quota, limit in (quotas or {}).items():
            self.set_quota(user, quota, limit)
        return user

    def add_plan(
        self, plan: str, *, permissions: Iterable[str] = (), quotas: Mapping[str, int | None] | None = None
    ) -> int:
        """Add a plan, or make one that exists exactly so; limits as for `add_user`."""
        from gateway.store.plans import Plan, PlanQuota, plan_statements

        limits = {quota: PlanQuota(limit) for quota, limit in (quotas or {}).items()}
        statements = plan_statements(Plan(plan, plan.title(), frozenset(permissions), limits))
        return self._host.call(self._opened.write(*statements)).seq

    def token(self, user: str, *, expires_in_s: float | None = None) -> str:
        """A new API token of a user; None: it never ends."""
        from gateway.core.tokens import hash_token, new_api_token
        from gateway.store.credentials import ApiToken, add_token

        token = new_api_token(secrets.token_bytes(32))
        expires_at = None if expires_in_s is None else _now_ms() + round(expires_in_s * 1000)
        row = ApiToken(id=f"t_{secrets.token_hex(8)}", user_id=user, expires_at=expires_at)
        self._host.call(add_token(self._opened, row, hash_token(token)))
        return token

    # --- what changes ---

    def allow(self, user: str, permission: str) -> int:
        """Grant a permission, whatever plan and roles say."""
        return self._set_permission(user, permission, allowed=True)

    def deny(self, user: str, permission: str) -> int:
        """Take a permission away, whatever plan and roles say."""
        return self._set_permission(user, permission, allowed=False)

    def set_quota(self, user: str, quota: str, limit: int | None, *, period: str = "month", hard: bool = True) -> int:
        """Give a user a quota of their own in place of the plan's; None: unlimited."""
        from gateway.store.grants import QuotaRow, set_quota

        return self._host.call(set_quota(self._opened, user, QuotaRow(quota, limit, period, hard)))

    def set_plan(self, user: str, plan: str) -> int:
        """Put a user on another plan, one that exists."""
        from gateway.store.accounts import set_plan

        return self._host.call(set_plan(self._opened, user, plan))

    def revoke(self, token: str) -> int:
        """Revoke a token: its sessions are ended at once and for good."""
        from gateway.auth.revoker import Revoker, TokenRevoked

        revoker = Revoker(self._opened, None, _now_ms)
        return self._host.call(revoker.revoke(TokenRevoked(self._token_id(token)))).seq

    def expire(self, token: str) -> int:
        """Let a token end now: its sessions are ended, and may begin again with another one."""
        from gateway.store.credentials import set_token_end

        return self._host.call(set_token_end(self._opened, self._token_id(token), _now_ms()))

    def sql(self, statement: str, *arguments: str | int | float | bytes | None) -> list[tuple[Any, ...]]:
        """Run one SQL statement in a transaction of its own and return its rows; `seq` is that of its commit then."""
        from gateway.store.database import Statement

        return self._host.call(self._opened.write(Statement(statement, arguments))).rows[0]

    @property
    def seq(self) -> int:
        """The position in the change log of the last commit."""
        from gateway.store.changes import last_seq

        return self._host.call(last_seq(self._opened))

    # --- in the loop of the gateway ---

    @property
    def _opened(self) -> Database:
        if self._database is None:
            raise RuntimeError("the gateway is not open")
        return self._database

    async def _open(self) -> None:
        from gateway.store.database import Database
        from gateway.store.migrate import migrate

        self._database = await Database.configured(self._config)
        await migrate(self._database)
        await self.faults.open()

    async def _close(self) -> None:
        await self.faults.close()
        await self._stop()
        if self._database is not None:
            await self._database.close()

    async def _start(self) -> None:
        if self._serving is not None:
            raise RuntimeError("the gateway runs already")
        self._server = _server(self._config)
        listener = _listen(self._port)
        self._serving = asyncio.create_task(self._server.serve([listener]))
        while not self._server.started:
            await asyncio.wait([self._serving], timeout=POLL_S)
            if self._serving.done():
                serving, self._serving = self._serving, None
                listener.close()
                raise RuntimeError("the gateway does not start; its log says why") from serving.exception()

    async def _stop(self) -> None:
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            serving, self._serving = self._serving, None
            await serving

    async def _add_user(self, user: str, username: str, plan: str, columns: Mapping[str, Any]) -> None:
        from gateway.store.accounts import User, insert_user
        from gateway.store.plans import Plan, list_plans, plan_statements

        known = [existing.id for existing in await list_plans(self._opened)]
        statements = [] if plan in known else plan_statements(Plan(plan, plan.title()))
        added = User(**{"id": user, "username": username, "name": username.title(), "plan": plan, **columns})
        await self._opened.write(*statements, insert_user(added))

    def _set_permission(self, user: str, permission: str, *, allowed: bool) -> int:
        from gateway.store.grants import set_permission

        return self._host.call(set_permission(self._opened, user, permission, "allow" if allowed else "deny"))

    def _token_id(self, token: str) -> str:
        from gateway.core.tokens import hash_token
        from gateway.store.credentials import find_token

        return self._host.call(find_token(self._opened, hash_token(token))).id


class Faults(FaultProxy):
    """The proxy in front of a `RunningGateway`, and what may happen to a credential besides."""

    def __init__(self, behind: RunningGateway) -> None:
        super().__init__(HOST, behind._port)
        self._behind = behind

    @property
    def url(self) -> str:
        """What a client connects to in place of the gateway's own address. Raises `RuntimeError` for one that speaks
        TLS: the proxy reads what passes.
        """
        if self._behind._config.server.use_https:
            raise RuntimeError("faults need a gateway without server.use_https")
        return super().url

    def expire(self, token: str) -> int:
        """Let a token end now, as `RunningGateway.expire`."""
        return self._behind.expire(token)

    def revoke(self, token: str) -> int:
        """Revoke a token now, as `RunningGateway.revoke`."""
        return self._behind.revoke(token)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    """A gateway of this test alone."""
    with RunningGateway(tmp_path / "gateway.db") as running:
        yield running


def _require_gateway() -> None:
    try:
        importlib.import_module("gateway.serve")
    except ModuleNotFoundError as missing:
        raise GatewayMissing(
            f"client_sdk.testing runs the gateway inside the test's process, and {missing.name} is not installed: "
            "pip install session-gateway"
        ) from missing


def _config(path: Path, port: int, sections: Mapping[str, Mapping[str, Any]]) -> Config:
    from gateway.config import SECTIONS, Config

    given: dict[str, dict[str, Any]] = {name: dict(values) for name, values in sections.items()}
    given["database"] = {"url": path.absolute().as_uri()}
    given["server"] = {"drain_s": 0.0, **given.get("server", {}), "host": HOST, "port": port}
    built = {name: SECTIONS[name](**values) for name, values in given.items()}
    return Config(**built)  # type: ignore[arg-type]


def _server(config: Config) -> uvicorn.Server:
    """The server that ``gateway serve`` runs, on this configuration."""
    from gateway.app import create_app
    from gateway.serve import Server, uvicorn_config

    return Server(uvicorn_config(config, create_app(config)), config.server.drain_s)


def _free_port() -> int:
    while True:
        port = PORTS[secrets.randbelow(len(PORTS))]
        try:
            _listen(port).close()
        except OSError:
            continue
        return port


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
    except OSError:
        listener.close()
        raise
    return listener


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
