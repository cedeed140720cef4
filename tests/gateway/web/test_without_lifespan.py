from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.config import Config, DatabaseConfig


def _open(client: TestClient) -> None:
    with client.websocket_connect("/ws"):
        pass


@pytest.mark.parametrize(
    "ask", [_open, lambda client: client.get("/api/identity"), lambda client: client.get("/health")]
)
def test_an_application_that_was_never_started_says_so(tmp_path: Path, ask: Callable[[TestClient], Any]) -> None:
    """The test client without ``with``, a server with its lifespan off, the application mounted in another one."""
    path = tmp_path / "gateway.db"
    app = create_app(Config(database=DatabaseConfig(url=f"file:{path}")))
    with pytest.raises(RuntimeError, match=r"lifespan has not run.*with TestClient\(app\) as client"):
        ask(TestClient(app))
    assert not path.exists()
    with TestClient(app) as client:
        assert client.get("/health").status_code == 200
