"""Is the process alive, is it of use, and what does it count."""

from __future__ import annotations

from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.responses import Response

from gateway.core.networks import Networks
from gateway.errors import Forbidden
from gateway.live.node import Node
from gateway.web.answer import answer
from gateway.web.operation import Call, Operation, Who


class Health:
    """``/health``, ``/ready`` and ``/metrics``."""

    def __init__(self, node: Node, *, metrics_networks: Networks) -> None:
        self._node = node
        self._metrics_networks = metrics_networks

    def operations(self) -> list[Operation]:
        """All of them."""
        return [
            Operation(*("GET", "/health", self.health), "The process lives", {200: dict[str, str]}, Who.ALL),
            Operation(
                *("GET", "/ready", self.ready),
                "Of use to new clients, or why not",
                {200: dict[str, Any], 503: dict[str, Any]},
                Who.ALL,
            ),
            Operation(
                *("GET", "/metrics", self.metrics),
                "Figures for Prometheus, for the configured networks",
                {200: str},
                Who.ALL,
                errors=(Forbidden,),
            ),
        ]

    async def health(self, call: Call) -> Response:
        """Alive: the event loop answers."""
        return answer({"status": "ok", "node": self._node.name})

    async def ready(self, call: Call) -> Response:
        """Of use: the database can be read, the feed follows it, and the node is not draining; 503 with the reasons
        otherwise.
        """
        reasons = self._node.not_ready()
        body: dict[str, Any] = {"status": "ready" if not reasons else "not_ready", "node": self._node.name}
        if reasons:
            body["reasons"] = reasons
        return answer(body, status=200 if not reasons else 503)

    async def metrics(self, call: Call) -> Response:
        """Prometheus' text format, for the configured networks."""
        if call.address not in self._metrics_networks:
            raise Forbidden("Metrics are not for this address.")
        exposition = await self._node.metrics.scraped()
        return Response(exposition, headers={"Cache-Control": "no-store"}, media_type=CONTENT_TYPE_LATEST)
