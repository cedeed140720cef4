"""Failures over HTTP: ``application/problem+json`` (RFC 9457) with the stable `code`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from gateway.errors import AuthFailed, BadRequest, GatewayError, MethodNotAllowed, NotFound

MEDIA_TYPE = "application/problem+json"
HARMLESS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
"""A problem is data wherever it is opened: in the place of a script or of a page too."""
_ANYWAY = "fields_of_any_answer"


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
    headers = {"Cache-Control": "no-store", **HARMLESS}
    if error.retry_after_s is not None:
        body["retry_after_s"] = error.retry_after_s
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if isinstance(error, AuthFailed):
        headers["WWW-Authenticate"] = 'Bearer realm="gateway"'
    return Response(msgspec.json.encode(body), error.status, headers, MEDIA_TYPE)


async def http_problem(request: Request, exc: Exception) -> Response:
    """What the router itself refuses: no such path, or not with this method."""
    assert isinstance(exc, HTTPException)
    if exc.status_code == MethodNotAllowed.status:
        response = problem(MethodNotAllowed("This resource does not know this method."))
    elif exc.status_code == NotFound.status:
        response = problem(NotFound("No such resource."))
    else:
        response = problem(BadRequest("The request can not be answered."))
    response.headers.update(exc.headers or {})
    return response


async def internal_problem(request: Request, exc: Exception) -> Response:
    """A fault of ours; the server logs it."""
    response = problem(GatewayError("The gateway failed; the fault is logged."))
    response.headers.update(getattr(request.state, _ANYWAY, {}))
    return response


def tell_anyway(request: Request, fields: Mapping[str, str]) -> None:
    """Fields that the answer has also when answering fails by a fault of ours."""
    setattr(request.state, _ANYWAY, fields)


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
