"""``GET /ws``: the handshake of the channel. What comes after it is `gateway.live.connection`'s."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.core.principal import Principal
from gateway.core.wire import CODECS, JSON, Codec
from gateway.errors import BadRequest, Forbidden, GatewayError, Unavailable
from gateway.live.node import Node
from gateway.live.transport import AsgiTransport
from gateway.web.peer import Networks, client_address, public_scheme
from gateway.web.problem import bearer_token, problem
from gateway.web.websocket import EXTENSION, ChannelProtocol

RETRY_AFTER_S = 2.0


class Channel:
    """The ASGI application behind ``/ws``."""

    def __init__(
        self, node: Node, *, allowed_origins: Iterable[str], proxies: Networks, send_buffer_bytes: int
    ) -> None:
        self._node = node
        self._allowed_origins = frozenset(allowed_origins)
        self._proxies = proxies
        self._send_buffer_bytes = send_buffer_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handshake = HTTPConnection(scope)
        await receive()
        try:
            self._admit(handshake)
            codec, subprotocol = choose_codec(scope["subprotocols"])
            token = bearer_token(handshake)
            principal = None
            if token is not None:
                principal = await self._node.authenticator.authenticate(token)
                # Meanwhile the node may have begun to drain, or filled up.
                self._admit(handshake)
        except GatewayError as error:
            self._node.handshakes[error.code] += 1
            await refuse(problem(error), scope, receive, send)
            return
        watch = handshake.query_params.getlist("watch")
        await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})
        self._node.handshakes["accepted"] += 1
        await self._run(scope, receive, send, codec, principal, watch)

    async def _run(
        self, scope: Scope, receive: Receive, send: Send, codec: Codec, principal: Principal | None, watch: list[str]
    ) -> None:
        address = client_address(HTTPConnection(scope), self._proxies)
        protocol: ChannelProtocol | None = scope.get("extensions", {}).get(EXTENSION)
        if protocol is not None:
            connection = self._node.connection(codec, protocol, address)
            protocol.take_over(connection, self._send_buffer_bytes)
            connection.greet(principal, watch)
            return
        transport = AsgiTransport(receive, send, self._send_buffer_bytes)
        connection = self._node.connection(codec, transport, address)
        connection.greet(principal, watch)
        await transport.run(connection)

    def _admit(self, handshake: HTTPConnection) -> None:
        if self._node.draining:
            raise Unavailable("This node is shutting down.", retry_after_s=RETRY_AFTER_S)
        if self._node.full(stranger="authorization" not in handshake.headers):
            raise Unavailable("This node is full.", retry_after_s=RETRY_AFTER_S)
        origins = handshake.headers.getlist("origin")
        if origins and not (len(origins) == 1 and self._origin_allowed(origins[0], handshake)):
            raise Forbidden("This origin may not open a channel.")

    def _origin_allowed(self, origin: str, handshake: HTTPConnection) -> bool:
        if self._allowed_origins:
            return origin in self._allowed_origins
        hosts = handshake.headers.getlist("host")
        scheme = public_scheme(handshake, self._proxies)
        return scheme != "" and len(hosts) == 1 and is_own_origin(origin, scheme, hosts[0])


def is_own_origin(origin: str, scheme: str, host: str) -> bool:
    """Whether an origin (RFC 6454) is the one that the page of this very server has: same scheme, host and port."""
    try:
        parts = urlsplit(origin)
        own = urlsplit(f"{scheme}://{host}")
        same_port = (parts.port or _default_port(scheme)) == (own.port or _default_port(scheme))
    except ValueError:
        return False
    if parts.path or "?" in origin or "#" in origin or parts.username is not None or not parts.hostname:
        return False
    return parts.scheme == scheme and parts.hostname == own.hostname and same_port


def _default_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def choose_codec(offered: list[str]) -> tuple[Codec, str | None]:
    """The codec of the first subprotocol that both sides know; JSON, unselected, when none was offered."""
    for subprotocol in offered:
        if subprotocol in CODECS:
            return CODECS[subprotocol], subprotocol
    if offered:
        raise BadRequest(f"None of the subprotocols is known; known are {', '.join(CODECS)}.")
    return JSON, None


async def refuse(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a handshake with an HTTP response, or close it where the server can not."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": ""})
        return

    async def deny(message: Any) -> None:
        await send({**message, "type": "websocket." + message["type"]})

    await response({**scope, "type": "http"}, receive, deny)
