from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.testclient import TestClient

from gateway.core.networks import Networks
from gateway.errors import Conflict, StoreCorrupt, StoreUnavailable, StoreUncertain
from gateway.metrics import Metrics
from gateway.web.operation import Call, Operation, Who, operation_routes
from gateway.web.problem import internal_problem


class Failing:
    """An application whose one operation fails as it is told, and what it counts."""

    def __init__(self, failure: Exception) -> None:
        async def fail(call: Call) -> Response:
            raise failure

        operation = Operation("POST", "/thing", fail, "Fails", {200: dict[str, Any]}, Who.ALL)
        self.metrics = Metrics()
        routes = operation_routes([operation], None, self.metrics, Networks(()))  # type: ignore[arg-type]
        app = Starlette(routes=routes, exception_handlers={Exception: internal_problem})
        self.client = TestClient(app, raise_server_exceptions=False)

    def counted(self, status: int) -> bool:
        line = f'gateway_http_request_seconds_count{{route="/thing",status="{status}"}} 1.0'
        return line in self.metrics.exposition().decode()


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (Conflict("Taken."), 409, "conflict"),
        (StoreUnavailable("away"), 503, "unavailable"),
        (StoreUncertain("cut off"), 503, "uncertain"),
        (StoreCorrupt("a page of rubbish"), 500, "internal"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a row"), 500, "internal"),
    ],
)
def test_a_failure_is_a_problem_and_is_counted(failure: Exception, status: int, code: str) -> None:
    failing = Failing(failure)
    answer = failing.client.post("/thing")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert failing.counted(status)
    assert str(failure) not in answer.text or code == "conflict"
    # Whoever does not know whether it was done is not invited to do it again.
    assert ("retry-after" in answer.headers) is (code == "unavailable")
