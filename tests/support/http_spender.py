"""Quotas spent over HTTP, at a gateway that runs for itself."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Mapping
from typing import Any

from tests.support.gateway_process import Answer, GatewayProcess


def post(
    gateway: GatewayProcess, path: str, token: str | None, body: Any, headers: Mapping[str, str] | None = None
) -> Answer:
    """``POST`` below ``/api`` on a connection of its own; `body` is text as it is, or becomes JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)
    sent = {"Content-Type": "application/json", **(headers or {})}
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    try:
        connection.request("POST", f"/api{path}", body if isinstance(body, str) else json.dumps(body), sent)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


async def consume(gateway: GatewayProcess, token: str, quota: str, amount: Any, key: str, **more: Any) -> Answer:
    """Take units, leaving the event loop free."""
    body = {"amount": amount, **more}
    return await asyncio.to_thread(
        post, gateway, f"/quotas/{quota}/consume", token, body, {"Idempotency-Key": f'"{key}"'}
    )
