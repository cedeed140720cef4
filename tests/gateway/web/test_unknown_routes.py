from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.config import Config, DatabaseConfig


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(database=DatabaseConfig(url=f"file:{tmp_path / 'gateway.db'}"))


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("POST", "/", 404, "not_found"),
        ("POST", "/health", 405, "method_not_allowed"),
        ("GET", "/api/auth/validate", 405, "method_not_allowed"),
        ("GET", "/ws", 404, "not_found"),
    ],
)
def test_what_the_router_refuses_is_a_problem_too(
    config: Config, method: str, path: str, status: int, code: str
) -> None:
    with TestClient(create_app(config)) as client:
        answer = client.request(method, path)
    assert (answer.status_code, answer.json()["code"], answer.json()["status"]) == (status, code, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert ("allow" in answer.headers) == (status == 405)


def test_a_fault_of_ours_is_a_problem_that_tells_nothing(config: Config) -> None:
    async def fail(request: Request) -> Response:
        raise LookupError("secret detail")

    with TestClient(create_app(config), raise_server_exceptions=False) as client:
        client.app.router.routes.append(Route("/fails", fail))  # type: ignore[attr-defined]
        answer = client.get("/fails")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret detail" not in answer.text
