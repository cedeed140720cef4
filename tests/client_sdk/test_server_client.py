from __future__ import annotations

import http.server
import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from client_sdk import (
    AuthFailed,
    ConfigError,
    Disconnected,
    MalformedMessage,
    RateLimited,
    ServerClient,
    ServerConfig,
    Unavailable,
)

IDENTITY = {"id": "u_7f3k", "username": "ada", "can_use_voice": True, "can_fly": False, "sms_messages_remaining": None}
ETAG = '"2287efb0d9523f39"'


class HttpGateway:
    """A real HTTP server with the few routes that the client uses.

    `answers` replace the next ones: status, headers, body.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.identity: dict[str, Any] = IDENTITY
        self.etag = ETAG
        gateway = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                gateway.requests.append((self.command, self.path, headers))
                status, fields, body = gateway.answers.pop(0) if gateway.answers else gateway.route(self.path, headers)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **fields}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = answer

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def route(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if path == "/health":
            return 200, {}, b'{"status":"ok"}'
        if path == "/ready":
            return 503, {}, b'{"status":"not_ready","reasons":["draining"]}'
        if headers.get("authorization") != "Bearer t1":
            return 401, {}, b'{"code":"auth_failed","title":"Authentication failed","detail":"No."}'
        if path == "/api/auth/validate":
            return 200, {}, b'{"valid":true,"user_id":"u_7f3k","expires_at":"2026-11-21T21:00:00.000Z","session":"s"}'
        if headers.get("if-none-match") == self.etag:
            return 304, {"ETag": self.etag}, b""
        return 200, {"ETag": self.etag}, json.dumps(self.identity).encode()

    def paths(self) -> list[str]:
        return [path for _, path, _ in self.requests]


@pytest.fixture
def gateway() -> Iterator[HttpGateway]:
    running = HttpGateway()
    thread = threading.Thread(target=running.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.server.shutdown()
    thread.join()
    running.server.server_close()


class Time:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
async def client(gateway: HttpGateway, clock: Time) -> AsyncIterator[ServerClient]:
    async with ServerClient(gateway.url, "t1", cache_s=30.0, clock=clock) as opened:
        yield opened


async def test_health_and_readiness(client: ServerClient, gateway: HttpGateway) -> None:
    assert await client.health()
    ready, detail = await client.ready()
    assert not ready
    assert detail["reasons"] == ["draining"]
    gateway.answers = [(200, {}, b"OK"), (500, {}, b"")]
    assert await client.ready() == (True, {})
    assert not await client.health()
    assert all("authorization" not in headers for _, _, headers in gateway.requests)


async def test_nobody_answers() -> None:
    async with ServerClient("http://127.0.0.1:1", "t1") as client:
        assert not await client.health()
        with pytest.raises(Disconnected):
            await client.ready()
        with pytest.raises(Disconnected):
            await client.identity()


async def test_an_identity_is_asked_for_once_and_then_revalidated(
    client: ServerClient, gateway: HttpGateway, clock: Time
) -> None:
    identity = await client.identity()
    assert dict(identity) == IDENTITY
    assert (identity.rev, identity.can("can_use_voice"), identity.can("can_fly")) == ("2287efb0d9523f39", True, False)
    assert await client.identity() is identity
    assert len(gateway.requests) == 1
    clock.now += 30
    assert await client.identity() is identity
    assert gateway.requests[1][2]["if-none-match"] == ETAG
    clock.now += 29
    assert await client.identity() is identity
    assert len(gateway.requests) == 2


async def test_an_identity_that_changed_is_replaced(client: ServerClient, gateway: HttpGateway, clock: Time) -> None:
    await client.identity()
    gateway.identity, gateway.etag = {**IDENTITY, "can_use_voice": False}, '"0123456789abcdef"'
    assert (await client.identity()).can("can_use_voice")
    clock.now += 31
    identity = await client.identity()
    assert not identity.can("can_use_voice")
    assert identity.rev == "0123456789abcdef"


async def test_the_cache_can_be_emptied(client: ServerClient, gateway: HttpGateway) -> None:
    await client.identity()
    client.invalidate_cache()
    await client.identity()
    assert ["if-none-match" in headers for _, _, headers in gateway.requests] == [False, False]


async def test_a_refusal_empties_the_cache(client: ServerClient, gateway: HttpGateway, clock: Time) -> None:
    await client.identity()
    clock.now += 31
    gateway.answers = [(401, {}, b"")]
    with pytest.raises(AuthFailed):
        await client.identity()
    await client.identity()
    assert "if-none-match" not in gateway.requests[-1][2]


async def test_another_token_is_another_identity(gateway: HttpGateway, clock: Time) -> None:
    tokens = ["t1", "t2"]
    async with ServerClient(gateway.url, lambda: tokens.pop(0), clock=clock) as client:
        await client.identity()
        with pytest.raises(AuthFailed):
            await client.identity()


async def test_authenticating_checks_a_token_and_uses_it(gateway: HttpGateway) -> None:
    async with ServerClient(gateway.url) as client:
        with pytest.raises(ConfigError):
            await client.identity()
        with pytest.raises(AuthFailed, match=r"No\."):
            await client.authenticate("bad")
        authentication = await client.authenticate("t1")
        assert (authentication.user_id, authentication.session) == ("u_7f3k", "s")
        assert authentication.expires_at == "2026-11-21T21:00:00.000Z"
        assert (await client.identity())["username"] == "ada"
    assert gateway.paths() == ["/api/auth/validate", "/api/auth/validate", "/api/identity"]


@pytest.mark.parametrize(
    ("answer", "error", "retry_after_s"),
    [
        ((503, {"Retry-After": "3"}, b'{"code":"unavailable","detail":"Busy."}'), Unavailable, 3.0),
        ((502, {}, b"<html>"), Unavailable, None),
        ((429, {"Retry-After": "9"}, b""), RateLimited, 9.0),
        ((429, {"Retry-After": "9"}, b'{"code":"rate_limited","retry_after_s":8.5}'), RateLimited, 8.5),
        ((200, {}, b"<html>"), MalformedMessage, None),
        ((200, {}, b"[]"), MalformedMessage, None),
        ((200, {"Content-Encoding": "gzip"}, b"{}"), MalformedMessage, None),
    ],
)
async def test_failures_have_types(
    client: ServerClient,
    gateway: HttpGateway,
    answer: tuple[int, dict[str, str], bytes],
    error: type[Unavailable],
    retry_after_s: float | None,
) -> None:
    gateway.answers = [answer]
    with pytest.raises(error) as caught:
        await client.identity()
    assert caught.value.retry_after_s == retry_after_s


async def test_what_is_no_token_never_travels(gateway: HttpGateway) -> None:
    async with ServerClient(gateway.url) as client:
        with pytest.raises(ValueError, match="visible ASCII"):
            await client.authenticate("two\nlines")
    assert gateway.requests == []


async def test_a_gateway_whose_answers_can_not_be_read_is_not_healthy(
    client: ServerClient, gateway: HttpGateway
) -> None:
    gateway.answers = [(200, {"Content-Encoding": "gzip"}, b"no gzip")] * 2
    assert not await client.health()
    with pytest.raises(MalformedMessage):
        await client.ready()


@pytest.mark.parametrize(
    "server",
    [
        "http://[::1",
        "http://gateway:port",
        "http://gateway:99999",
        "http://gate\x00way",
        ServerConfig(host="gate\x00way"),
        ServerConfig(port=99_999),
    ],
)
def test_what_is_no_address_is_told_at_once(server: str | ServerConfig) -> None:
    with pytest.raises(ConfigError, match="is no address of a gateway"):
        ServerClient(server, "t1")


async def test_what_is_no_path_is_told() -> None:
    async with ServerClient(ServerConfig(api_base="/a\x00pi"), "t1") as client:
        with pytest.raises(ConfigError, match="api_base"):
            await client.identity()
