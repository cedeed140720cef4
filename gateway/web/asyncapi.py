"""``GET /asyncapi.json``: the channel in AsyncAPI 3.0, made of the message types that the codecs read and write.

The gateway is the application that is described: it *receives* what clients send, and *sends* the rest. What AsyncAPI
has no words for stands in extensions: ``x-subprotocols``, ``x-close-codes`` and ``x-error-codes`` of the channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, get_args
from urllib.parse import urlsplit

import msgspec
from starlette.responses import Response

from gateway import __version__
from gateway.core.wire import CODECS, ClientMessage, ServerMessage
from gateway.errors import Ending, GatewayError
from gateway.web.operation import Call, Operation, Who
from gateway.web.published import published

Json = dict[str, Any]
Message = type[msgspec.Struct]

PATH = "/asyncapi.json"
JSON_TYPE = "application/json"
MESSAGEPACK_TYPE = "application/vnd.msgpack"
CLIENT_MESSAGES: Sequence[Message] = get_args(ClientMessage)
SERVER_MESSAGES: Sequence[Message] = ServerMessage.__subclasses__()

DESCRIPTION = (
    "One WebSocket, over which a client watches documents and holds exact copies of them. Every message is a map with"
    " `op`, alone in its frame. Fields without a value are left out, or null; others than described are ignored."
    " What can be asked by HTTP is described by `/openapi.json`."
)
SECURITY_SCHEMES: Json = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A token on the handshake; 401 if it is not good."},
    "signature": {
        "type": "httpApiKey",
        "in": "header",
        "name": "Signature",
        "description": "The signature of a server instance (RFC 9421), which `Signature-Input` describes; 401 if it is"
        " not good.",
    },
    "ticket": {
        "type": "httpApiKey",
        "in": "query",
        "name": "ticket",
        "description": "A ticket of `POST /auth/ticket`: good once, for 30 s; 401 if it is not.",
    },
    "message": {
        "type": "apiKey",
        "in": "password",
        "description": "The `token` of `auth`, the first message; `ended` `auth_failed` if it is not good.",
    },
}
_HANDSHAKE: Json = {
    "method": "GET",
    "query": {
        "type": "object",
        "properties": {
            "watch": {
                "type": "array",
                "items": {"type": "string"},
                "description": "What to watch, each `DOC` or `DOC@REV`, with a credential on the handshake.",
            },
            "ticket": {"type": "string"},
        },
    },
    "headers": {
        "type": "object",
        "properties": {
            "Authorization": {"type": "string"},
            "Signature-Input": {"type": "string"},
            "Signature": {"type": "string"},
            "Sec-WebSocket-Protocol": {"type": "string", "description": "One or more of `x-subprotocols`."},
        },
    },
    "bindingVersion": "0.1.0",
}


class AsyncApi:
    """The description of the channel at `path`; `issuer` is the gateway's public address."""

    def __init__(self, path: str, issuer: str) -> None:
        self._path = path
        self._issuer = issuer

    def operations(self) -> list[Operation]:
        """The operation that answers with the description."""
        return [
            Operation(
                *("GET", PATH, self.describe),
                summary="The channel's messages, in AsyncAPI 3.0",
                answers={200: dict[str, Any], 304: None},
                who=Who.ALL,
            )
        ]

    @cached_property
    def _content(self) -> bytes:
        return msgspec.json.encode(asyncapi(self._path, self._issuer))

    async def describe(self, call: Call) -> Response:
        """The document; public, and to be kept for minutes."""
        return published(self._content)


def operation_name(message: Message) -> str:
    """The `op` of a message type."""
    return str(message.__struct_config__.tag)


def asyncapi(path: str, issuer: str) -> Json:
    """The AsyncAPI 3.0 document of the channel at `path` of the gateway whose public address is `issuer`."""
    every = [*CLIENT_MESSAGES, *SERVER_MESSAGES]
    _, schemas = msgspec.json.schema_components(every, ref_template="#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Session gateway: the channel", "version": __version__, "description": DESCRIPTION},
        "defaultContentType": JSON_TYPE,
        "servers": {"gateway": _server(issuer)},
        "channels": {"channel": _channel(path, every)},
        "operations": {
            "fromClient": _operation("receive", "What clients say", CLIENT_MESSAGES),
            "toClient": _operation("send", "What the gateway says", SERVER_MESSAGES),
        },
        "components": {
            "messages": {operation_name(message): _message(message) for message in every},
            "schemas": schemas,
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def _server(issuer: str) -> Json:
    address = urlsplit(issuer)
    return {
        "host": address.netloc or issuer,
        "protocol": "ws" if address.scheme == "http" else "wss",
        "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in SECURITY_SCHEMES],
    }


def _channel(path: str, messages: Sequence[Message]) -> Json:
    return {
        "address": path,
        "messages": {
            operation_name(message): {"$ref": f"#/components/messages/{operation_name(message)}"}
            for message in messages
        },
        "bindings": {"ws": _HANDSHAKE},
        "x-subprotocols": {
            name: MESSAGEPACK_TYPE if codec.binary else JSON_TYPE for name, codec in sorted(CODECS.items())
        },
        "x-close-codes": [
            {
                "close": ending.close,
                "code": ending.code,
                "reconnect": ending.reconnect.value,
                "description": ending.value.message,
            }
            for ending in Ending
        ],
        "x-error-codes": [
            {"code": kind.code, "status": kind.status, "description": _first_paragraph(kind)}
            for kind in sorted(_failures(GatewayError), key=lambda kind: (kind.status, kind.code))
        ],
    }


def _failures(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _failures(subclass)


def _operation(action: str, summary: str, messages: Sequence[Message]) -> Json:
    return {
        "action": action,
        "summary": summary,
        "channel": {"$ref": "#/channels/channel"},
        "messages": [{"$ref": f"#/channels/channel/messages/{operation_name(message)}"} for message in messages],
    }


def _message(message: Message) -> Json:
    return {
        "name": operation_name(message),
        "title": message.__name__,
        "summary": _first_paragraph(message),
        "payload": {"$ref": f"#/components/schemas/{message.__name__}"},
    }


def _first_paragraph(documented: type) -> str:
    return " ".join((documented.__doc__ or "").partition("\n\n")[0].split())
