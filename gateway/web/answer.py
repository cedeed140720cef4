"""Answers in JSON, and the entity tags by which clients name what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.core.document import revision
from gateway.errors import PreconditionFailed

SEQ_HEADER = "Gateway-Seq"
_OF_CONTENT = ("Content-Type", "Content-Length", "Content-Encoding")


def answer(
    body: Any, *, status: int = 200, seq: int | None = None, etag: str | None = None, headers: Mapping[str, str] = {}
) -> Response:
    """A JSON answer that nobody may store. `seq` is that of the commit which the request made; `body` has it too."""
    named = {"Cache-Control": "no-store", **headers}
    if seq is not None:
        named[SEQ_HEADER] = str(seq)
    if etag is not None:
        named["ETag"] = etag
    return Response(msgspec.json.encode(body), status, named, "application/json")


def etag_of(representation: Mapping[str, Any] | msgspec.Struct) -> str:
    """The entity tag of what a client is shown: same content, same tag, on every node."""
    shown = {name: value for name, value in msgspec.to_builtins(representation).items() if value is not None}
    return f'"{revision(msgspec.json.encode(shown, order="sorted"))}"'


def unless_held(request: Request, response: Response) -> Response:
    """The answer to a request that reads; 304 in place of it where the client holds what its entity tag names already
    (RFC 9110 §13.1.2, weak comparison)."""
    etag = response.headers.get("etag")
    if request.method not in ("GET", "HEAD") or response.status_code != HTTPStatus.OK or etag is None:
        return response
    if not matches(request.headers.getlist("if-none-match"), etag):
        return response
    held = Response(status_code=HTTPStatus.NOT_MODIFIED, headers=response.headers)
    for name in _OF_CONTENT:
        del held.headers[name]
    return held


def require_match(request: Request, etag: str | None) -> None:
    """Go on only if the client means what stands now, when it says what it means (RFC 9110 §13.1.1, strong
    comparison); None: what stands has no entity tag, and ``*`` alone means it. Raises `PreconditionFailed`.
    """
    fields = request.headers.getlist("if-match")
    if not fields or {"*", etag} & set(_entity_tags(fields)):
        return
    if etag is None:
        raise PreconditionFailed("What this changes has no entity tag: none can be named.")
    raise PreconditionFailed("Somebody else changed it; read it again.")


def matches(if_none_match: Sequence[str], etag: str) -> bool:
    """Whether an ``If-None-Match`` field (RFC 9110 §13.1.2) names this entity tag, by weak comparison."""
    return bool({"*", etag} & {name.removeprefix("W/") for name in _entity_tags(if_none_match)})


def _entity_tags(fields: Sequence[str]) -> list[str]:
    return [name.strip() for value in fields for name in value.split(",")]
