"""The application under Starlette's test client, on a database with the demo's people in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient, WebSocketTestSession

from gateway.app import create_app
from gateway.auth.services import Accounts
from gateway.cli.demo import DEMO_USER, demo_statements
from gateway.config import AdminConfig, AuthConfig, ChannelConfig, Config, DatabaseConfig, ServerConfig
from gateway.live.node import Node
from gateway.store.database import Statement
from tests.support.people import add_token, token_text

Json = dict[str, Any]
CHEAP: Json = {"argon2_memory_kib": 7168, "argon2_time": 1}


class Site:
    """A running application: what its HTTP client gets, its sockets, and its database."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    @property
    def node(self) -> Node:
        node = self.client.app.state.node  # type: ignore[attr-defined]
        assert isinstance(node, Node)
        return node

    @property
    def accounts(self) -> Accounts:
        accounts = self.client.app.state.accounts  # type: ignore[attr-defined]
        assert isinstance(accounts, Accounts)
        return accounts

    def write(self, *statements: Statement) -> int:
        """Commit through the application's own database; the commit's `seq`."""
        return self.call(self.node.database.write, *statements).seq  # type: ignore[no-any-return]

    def run(self, sql: str, *args: Any) -> int:
        """Commit one statement; its `seq`."""
        return self.write(Statement(sql, args))

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Await `function` on the application's event loop."""
        assert self.client.portal is not None
        return self.client.portal.call(function, *args)

    def token(self, user: str = DEMO_USER, **columns: Any) -> str:
        """A new API token of a user."""
        text = token_text()
        self.write(add_token(user, text, **{"id": f"t_{text[-12:]}", **columns}))
        return text

    def bearer(self, user: str = DEMO_USER, **columns: Any) -> dict[str, str]:
        """The header that shows a new token of a user."""
        return {"authorization": f"Bearer {self.token(user, **columns)}"}

    def connect(
        self, headers: Any = None, *, path: str = "/ws", subprotocols: list[str] | None = None
    ) -> WebSocketTestSession:
        return self.client.websocket_connect(
            path, subprotocols=subprotocols, headers={} if headers is None else headers
        )


def take(socket: WebSocketTestSession, *ops: str) -> list[Json]:
    """The next messages, which have to be these."""
    messages = [socket.receive_json() for _ in ops]
    assert [message["op"] for message in messages] == list(ops)
    return messages


def one(socket: WebSocketTestSession, op: str) -> Json:
    """The next message."""
    return take(socket, op)[0]


def opened(socket: WebSocketTestSession) -> Json:
    """The snapshot that comes after hello and ready."""
    return take(socket, "hello", "ready", "snapshot")[2]


StartSite = Callable[..., Site]


@pytest.fixture
def start_site(tmp_path: Path) -> Iterator[StartSite]:
    """Starts an application; `auth`, `channel`, `server` and `admin` are the fields of these sections that are set.
    Passwords are hashed as cheaply as the settings allow. `base_url`: how clients reach it.
    """
    with ExitStack() as stack:

        def start(
            *,
            auth: Json | None = None,
            channel: Json | None = None,
            server: Json | None = None,
            admin: Json | None = None,
            address: str = "127.0.0.1",
            base_url: str = "http://testserver",
        ) -> Site:
            config = Config(
                database=DatabaseConfig(url=f"file:{tmp_path / 'gateway.db'}"),
                auth=AuthConfig(**CHEAP | (auth or {})),
                channel=ChannelConfig(**channel or {}),
                server=ServerConfig(**server or {}),
                admin=AdminConfig(**admin or {}),
            )
            client = stack.enter_context(TestClient(create_app(config), base_url, client=(address, 50_000)))
            site = Site(client)
            site.write(*demo_statements("root"))
            return site

        yield start


@pytest.fixture
def site(start_site: StartSite) -> Site:
    return start_site()
