"""Failures over HTTP: ``application/problem+json`` (RFC 9457) with the stable `code`."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from starlette.requests import HTTPConnection
from starlette.responses import Response

from gateway.errors import AuthFailed, GatewayError

MEDIA_TYPE = "application/problem+json"


def problem(error: GatewayError) -> Response:
    """The answer to a request that failed with this error."""
    body: dict[str, Any] = {
        "type": f"urn:gateway:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.message,
        "code": error.code,
        **error.details,
    }
    headers = {"Cache-Control": "no-store"}
    if error.retry_after_s is not None:
        body["retry_after_s"] = error.retry_after_s
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if isinstance(error, AuthFailed):
        headers["WWW-Authenticate"] = 'Bearer realm="gateway"'
    return Response(msgspec.json.encode(body), error.status, headers, MEDIA_TYPE)


def bearer_token(request: HTTPConnection) -> str | None:
    """The token of the ``Authorization`` header (RFC 6750 §2.1); None without one. Any other scheme, or two headers,
    is refused.
    """
    values = request.headers.getlist("authorization")
    if not values:
        return None
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise AuthFailed("Authorization has to be one bearer token.")
    return token.strip()
