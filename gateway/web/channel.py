"""``GET /ws``: the handshake of the channel. What comes after it is `gateway.live.connection`'s."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.core.networks import Networks
from gateway.core.principal import Principal
from gateway.core.rate import Allowed
from gateway.core.signatures import SIGNATURE
from gateway.core.wire import CODECS, JSON, Codec
from gateway.errors import BadRequest, Ending, Forbidden, GatewayError, Unavailable
from gateway.live.connection import Connection
from gateway.live.hub import INSTANCE_SESSIONS
from gateway.live.node import Node
from gateway.live.transport import AsgiTransport
from gateway.web.origins import Origins
from gateway.web.peer import client_address
from gateway.web.problem import bearer_token, problem
from gateway.web.signing import Signing, rate_fields
from gateway.web.websocket import EXTENSION, ChannelProtocol

RETRY_AFTER_S = 2.0
NO_ROOM_RETRY_AFTER_S = 10.0
_NO_ROOM = f"The instance has {INSTANCE_SESSIONS} sessions on this node, which is as many as it may have."


class Channel:
    """The ASGI application behind ``/ws``."""

    def __init__(
        self,
        node: Node,
        signing: Signing,
        *,
        allowed_origins: Iterable[str],
        proxies: Networks,
        send_buffer_bytes: int,
    ) -> None:
        self._node = node
        self._signing = signing
        self._origins = Origins(allowed_origins, proxies)
        self._proxies = proxies
        self._send_buffer_bytes = send_buffer_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handshake = HTTPConnection(scope)
        await receive()
        fields: dict[str, str] = {}
        try:
            self._admit(handshake)
            codec, subprotocol = choose_codec(scope["subprotocols"])
            if self._signing.is_signed(handshake):
                principal: Principal | None = await self._signer(handshake, fields)
            else:
                credential = shown(handshake)
                principal = None if credential is None else await self._authenticate(handshake, credential)
        except GatewayError as error:
            self._node.handshakes[error.code] += 1
            response = problem(error)
            response.headers.update(fields)
            await refuse(response, scope, receive, send)
            return
        watch = handshake.query_params.getlist("watch")
        headers = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
        await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers})
        self._node.handshakes["accepted"] += 1
        await self._run(scope, receive, send, codec, principal, watch)

    async def _authenticate(self, handshake: HTTPConnection, credential: Shown) -> Principal:
        """Whose credential it is. A ticket is used up by this, so whatever else could be refused was refused before."""
        if credential.is_ticket:
            return await self._node.authenticator.redeem(credential.text)
        principal = await self._node.authenticator.authenticate(credential.text)
        # Meanwhile the node may have begun to drain, or filled up.
        self._admit(handshake)
        return principal

    async def _signer(self, handshake: HTTPConnection, fields: dict[str, str]) -> Principal:
        """The instance that signed the handshake, whose nonce is used up by this; `fields` takes what the answer says
        of its rate."""
        if "authorization" in handshake.headers or "ticket" in handshake.query_params:
            raise BadRequest("One credential is enough: a signature.")

        def told(allowed: Allowed) -> None:
            fields.update(rate_fields(allowed))

        address = client_address(handshake, self._proxies)
        principal = (await self._signing.signer(handshake, address, _no_body, told, handshake=True)).principal
        self._admit(handshake)
        if not self._node.hub.has_room(principal):
            raise Unavailable(_NO_ROOM, retry_after_s=NO_ROOM_RETRY_AFTER_S)
        return principal

    async def _run(
        self, scope: Scope, receive: Receive, send: Send, codec: Codec, principal: Principal | None, watch: list[str]
    ) -> None:
        address = client_address(HTTPConnection(scope), self._proxies)
        protocol: ChannelProtocol | None = scope.get("extensions", {}).get(EXTENSION)
        if protocol is not None:
            connection = self._node.connection(codec, protocol, address)
            protocol.take_over(connection, self._send_buffer_bytes)
            self._greet(connection, principal, watch)
            return
        transport = AsgiTransport(receive, send, self._send_buffer_bytes)
        connection = self._node.connection(codec, transport, address)
        self._greet(connection, principal, watch)
        await transport.run(connection)

    def _greet(self, connection: Connection, principal: Principal | None, watch: list[str]) -> None:
        if principal is not None and not self._node.authenticator.holds(principal):
            connection.greet(None, [])
            connection.end(Ending.REVOKED)  # since the token was checked
        elif principal is not None and not self._node.hub.has_room(principal):
            connection.greet(None, [])  # others came while this one was accepted
            connection.end(Ending.OVERLOADED, retry_after_s=NO_ROOM_RETRY_AFTER_S, message=_NO_ROOM)
        else:
            connection.greet(principal, watch)

    def _admit(self, handshake: HTTPConnection) -> None:
        shows = "authorization" in handshake.headers or SIGNATURE in handshake.headers
        stranger = not shows and "ticket" not in handshake.query_params
        if self._node.draining:
            raise Unavailable("This node is shutting down.", retry_after_s=RETRY_AFTER_S)
        if self._node.full(stranger=stranger):
            raise Unavailable("This node is full.", retry_after_s=RETRY_AFTER_S)
        if handshake.headers.getlist("origin") and not self._origins.trusts(handshake):
            raise Forbidden("This origin may not open a channel.")


async def _no_body() -> bytes:
    return b""


class Shown(NamedTuple):
    """The credential of a handshake: a bearer token, or a ticket."""

    text: str
    is_ticket: bool


def shown(handshake: HTTPConnection) -> Shown | None:
    """What the handshake shows, None for nothing: a stranger, who has some seconds for it.

    Raises `BadRequest` for two tickets or a ticket beside a token, `AuthFailed` for a header that is no bearer token.
    """
    tickets = handshake.query_params.getlist("ticket")
    if not tickets:
        token = bearer_token(handshake)
        return None if token is None else Shown(token, is_ticket=False)
    if len(tickets) > 1 or "authorization" in handshake.headers:
        raise BadRequest("One credential is enough: a ticket, or a token.")
    return Shown(tickets[0], is_ticket=True)


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
