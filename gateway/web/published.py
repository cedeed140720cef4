"""What everybody may read and keep for a while: descriptions of the gateway, and public keys."""

from __future__ import annotations

import hashlib

from starlette.responses import Response

MAX_AGE_S = 300


def published(content: bytes) -> Response:
    """JSON that any cache may keep for `MAX_AGE_S` seconds."""
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"Cache-Control": f"public, max-age={MAX_AGE_S}", "ETag": etag}
    return Response(content, headers=headers, media_type="application/json")
