"""What everybody may read and keep for a while: descriptions of the gateway, and public keys."""

from __future__ import annotations

import hashlib

from starlette.requests import Request
from starlette.responses import Response

from gateway.web.answer import matches

MAX_AGE_S = 300


def published(request: Request, content: bytes) -> Response:
    """JSON that any cache may keep for `MAX_AGE_S` seconds; 304 for whoever holds it already (RFC 9110 §13.1.2)."""
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"Cache-Control": f"public, max-age={MAX_AGE_S}", "ETag": etag}
    if matches(request.headers.getlist("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type="application/json")
