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


class ConditionFalse(PreconditionFailed):
    """What the client says of what stands there is not so: it is told so, and nothing is tried again."""


def unless_held(request: Request, response: Response) -> Response:
    """The answer to a request that reads; 304 in place of it where the client holds what its entity tag names already
    (RFC 9110 §13.1.2, weak comparison). Raises `ConditionFalse` where it asks for another (``If-Match``)."""
    etag = response.headers.get("etag")
    if request.method not in ("GET", "HEAD") or response.status_code != HTTPStatus.OK or etag is None:
        return response
    _require_meant(request, etag, stands=True)
    if not matches(request.headers.getlist("if-none-match"), etag):
        return response
    held = Response(status_code=HTTPStatus.NOT_MODIFIED, headers=response.headers)
    for name in _OF_CONTENT:
        del held.headers[name]
    return held


def require_match(request: Request, etag: str | None, *, stands: bool = True) -> None:
    """Let a write go on only if what its client says of what stands there is so: that it is this (``If-Match``, RFC
    9110 §13.1.1, strong comparison), or that it is not (``If-None-Match``, §13.1.2). `etag` None: what stands has no
    entity tag, and ``*`` alone means it; unless it `stands`, nothing means it. Raises `ConditionFalse`.
    """
    _require_meant(request, etag, stands=stands)
    if stands and matches(request.headers.getlist("if-none-match"), etag):
        raise ConditionFalse("What is not to stand there does.")


def matches(if_none_match: Sequence[str], etag: str | None) -> bool:
    """Whether an ``If-None-Match`` field (RFC 9110 §13.1.2) names this entity tag, by weak comparison; None: that of
    what has none."""
    return bool({"*", etag} & {name.removeprefix("W/") for name in _entity_tags(if_none_match)})


def _require_meant(request: Request, etag: str | None, *, stands: bool) -> None:
    fields = request.headers.getlist("if-match")
    if not fields or (stands and {"*", etag} & set(_entity_tags(fields))):
        return
    if not stands:
        raise ConditionFalse("Nothing stands there that could be meant.")
    if etag is None:
        raise ConditionFalse("What this changes has no entity tag: none can be named.")
    raise ConditionFalse("Somebody else changed it; read it again.")


def _entity_tags(fields: Sequence[str]) -> list[str]:
    return [name.strip() for value in fields for name in value.split(",")]
