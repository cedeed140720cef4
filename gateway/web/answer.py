"""Answers in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response


def answer(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer that nobody may store."""
    return Response(
        msgspec.json.encode(body), status, {"Cache-Control": "no-store", **(headers or {})}, "application/json"
    )
