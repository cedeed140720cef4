"""The table of routes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from gateway.config import Config
from gateway.errors import GatewayError
from gateway.live.node import Node
from gateway.web.channel import Channel
from gateway.web.health import Health
from gateway.web.identity import Identity
from gateway.web.peer import Networks
from gateway.web.problem import problem

CHANNEL_PATH = "/ws"

Endpoint = Callable[[Request], Awaitable[Response]]


def channel(node: Node, config: Config) -> Channel:
    """The application behind the channel's path."""
    return Channel(
        node,
        allowed_origins=config.server.allowed_origins,
        proxies=Networks(config.server.trusted_proxies),
        send_buffer_bytes=config.channel.send_buffer_bytes,
    )


def routes(node: Node, config: Config) -> list[BaseRoute]:
    """All routes of the gateway."""
    proxies = Networks(config.server.trusted_proxies)
    health = Health(node, metrics_networks=Networks(config.admin.metrics_networks), proxies=proxies)
    identity = Identity(node)
    api = config.server.api_base

    def get(path: str, endpoint: Endpoint) -> Route:
        return Route(path, _measured(node, path, endpoint), methods=["GET"])

    return [
        WebSocketRoute(CHANNEL_PATH, channel(node, config)),
        get("/health", health.health),
        get("/ready", health.ready),
        get("/metrics", health.metrics),
        get(f"{api}/identity", identity.identity),
        get(f"{api}/document", identity.document),
        get(f"{api}/explain", identity.explain),
        Route(
            f"{api}/auth/validate",
            _measured(node, f"{api}/auth/validate", identity.validate),
            methods=["POST"],
        ),
    ]


def _measured(node: Node, path: str, endpoint: Endpoint) -> Endpoint:
    """The endpoint, timed, with its failures as problems."""

    async def run(request: Request) -> Response:
        began = time.perf_counter()
        try:
            response = await endpoint(request)
        except GatewayError as error:
            response = problem(error)
        node.metrics.observe_http(path, response.status_code, time.perf_counter() - began)
        return response

    return run
