from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient, WebSocketDenialResponse

from gateway.app import create_app
from gateway.config import ChannelConfig, Config, DatabaseConfig


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(database=DatabaseConfig(url=f"file:{tmp_path / 'gateway.db'}"))


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("POST", "/nothing", 404, "not_found"),
        ("POST", "/", 405, "method_not_allowed"),
        ("POST", "/health", 405, "method_not_allowed"),
        ("GET", "/api/auth/validate", 405, "method_not_allowed"),
        ("GET", "/ws", 426, "upgrade_required"),
        ("HEAD", "/ws", 426, ""),
        ("POST", "/ws", 405, "method_not_allowed"),
        ("POST", "/dashboard", 405, "method_not_allowed"),
        ("GET", "/ws/", 404, "not_found"),
    ],
)
def test_what_the_router_refuses_is_a_problem_too(
    config: Config, method: str, path: str, status: int, code: str
) -> None:
    with TestClient(create_app(config)) as client:
        answer = client.request(method, path)
    assert answer.status_code == status
    if method != "HEAD":
        assert (answer.json()["code"], answer.json()["status"]) == (code, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert ("allow" in answer.headers) == (status == 405)
    assert (answer.headers.get("upgrade") == "websocket") == (status == 426)


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/"])
def test_what_looks_like_the_dashboards_address_leads_there(config: Config, path: str) -> None:
    with TestClient(create_app(config), follow_redirects=False) as client:
        answer = client.get(path, headers={"Host": "evil.example"})
        assert (answer.status_code, answer.headers["location"]) == (308, "/")
        assert client.get(answer.headers["location"]).headers["content-type"].startswith("text/html")


def test_a_fault_of_ours_is_a_problem_that_tells_nothing(config: Config) -> None:
    async def fail(request: Request) -> Response:
        raise LookupError("secret detail")

    with TestClient(create_app(config), raise_server_exceptions=False) as client:
        client.app.router.routes.append(Route("/fails", fail))  # type: ignore[attr-defined]
        answer = client.get("/fails")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret detail" not in answer.text


def test_a_trailing_slash_is_another_path_and_never_a_redirect(config: Config) -> None:
    with TestClient(create_app(config), follow_redirects=False) as client:
        answer = client.get("/api/identity/", headers={"Host": "evil.example"})
    assert answer.status_code == 404
    assert "location" not in answer.headers


def test_who_shows_no_credential_can_not_fill_the_node(tmp_path: Path) -> None:
    address = DatabaseConfig(url=f"file:{tmp_path / 'gateway.db'}")
    config = Config(database=address, channel=ChannelConfig(max_sessions=101, auth_timeout_s=30))
    with TestClient(create_app(config)) as client, contextlib.ExitStack() as strangers:
        for _ in range(100):
            socket = strangers.enter_context(client.websocket_connect("/ws"))
            assert socket.receive_json()["op"] == "hello"
        with pytest.raises(WebSocketDenialResponse) as refusal:
            strangers.enter_context(client.websocket_connect("/ws"))
        assert refusal.value.status_code == 503
        with pytest.raises(WebSocketDenialResponse) as refusal:
            strangers.enter_context(client.websocket_connect("/ws", headers={"Authorization": "Bearer gw_no"}))
        assert refusal.value.status_code == 401
        assert client.get("/ready").status_code == 200
