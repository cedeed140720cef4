"""``GET /openapi.json``: the HTTP side in OpenAPI 3.1, made of the table of operations and of nothing else.

What an operation may fail with beside its own `errors` follows from its kind, and `failures` is the one place that says
so. JSON Schemas are msgspec's, of the very types that read the bodies and write the answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

from gateway import __version__
from gateway.errors import (
    AuthFailed,
    BadRequest,
    Forbidden,
    GatewayError,
    NotFound,
    PreconditionFailed,
    RateLimited,
    TooLarge,
    Unavailable,
    Uncertain,
    Unprocessable,
    UnsupportedMediaType,
)
from gateway.web.answer import SEQ_HEADER
from gateway.web.cookies import ACCESS, CSRF_HEADER, READING
from gateway.web.idempotency import KEY_HEADER, KEY_PATTERN
from gateway.web.operation import JSON_TYPE, SIGNED, Call, Operation, Who, media_types, segment
from gateway.web.problem import MEDIA_TYPE
from gateway.web.published import published

Json = dict[str, Any]

COOKIES = frozenset((Who.USER, Who.USER_OR_INSTANCE))
"""Where a browser's cookie is looked at."""
PATH = "/openapi.json"
_SCHEMAS = "#/components/schemas/{name}"
_PART = re.compile(r"{(\w+)}")

DESCRIPTION = (
    "JSON in, JSON out. Failures are `application/problem+json` (RFC 9457) with a stable `code`. Times are RFC 3339 in"
    " UTC with milliseconds. A write names the position of its commit in `Gateway-Seq`. What is not public is answered"
    " with `Cache-Control: no-store`. A method that a path does not have is answered with 405 and `Allow`. The channel,"
    " `/ws`, is described by `/asyncapi.json`."
)
SECURITY_SCHEMES: Json = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API token (`gw_…`) or an access token (a JWT, RFC 9068).",
    },
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": ACCESS,
        "description": "A browser's login session. A write needs the CSRF token and a trusted `Origin` besides.",
    },
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "Signature",
        "description": "The signature of a server instance (RFC 9421), which `Signature-Input` describes; the user's"
        " token beside it, where there is one, is covered.",
    },
    "csrf": {
        "type": "apiKey",
        "in": "header",
        "name": CSRF_HEADER,
        "description": "The CSRF token of the login session that the cookie belongs to.",
    },
}
PROBLEM: Json = {
    "type": "object",
    "description": "Why a request failed (RFC 9457). More members may say more, by `code`.",
    "properties": {
        "type": {"type": "string", "description": "`urn:gateway:problem:` and the code"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "one sentence about this very failure"},
        "code": {"type": "string", "description": "stable: what programs decide by"},
        "retry_after_s": {"type": "number", "minimum": 0, "description": "when trying again can help"},
        "credential": {
            "enum": ["signature", "bearer"],
            "description": "with `auth_failed`, of a request that may be signed: which credential was not good",
        },
        "quota": {"type": "string", "description": "with `quota_exceeded`: the quota"},
        "remaining": {"type": "integer", "minimum": 0, "description": "with `quota_exceeded`: what it leaves"},
        "resets_at": {
            "type": "string",
            "description": "with `quota_exceeded`: when its next period begins; absent where there is none",
        },
    },
    "required": ["type", "title", "status", "detail", "code"],
}
HEADERS: Json = {
    SEQ_HEADER: {
        "description": "The position of the request's commit in the change log.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    },
    "ETag": {
        "description": "The entity tag of what is answered (RFC 9110 §8.8.3).",
        "required": True,
        "schema": {"type": "string"},
    },
    "Location": {
        "description": "Where what was made is to be found (RFC 9110 §10.2.2).",
        "schema": {"type": "string"},
    },
    "WWW-Authenticate": {
        "description": "How to authenticate (RFC 6750 §3).",
        "required": True,
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds after which trying again can help (RFC 9110 §10.2.3).",
        "schema": {"type": "integer", "minimum": 0},
    },
}
_IF_MATCH = "Go on only if this entity tag is still the resource's (RFC 9110 §13.1.1); 412 otherwise."
_UNLESS_HELD = "Answer 304 while this entity tag is still the right one (RFC 9110 §13.1.2)."
_UNLESS_THERE = "Go on only if this entity tag is not the resource's (RFC 9110 §13.1.2); 412 otherwise."
KEY_PARAMETER: Json = {
    "name": KEY_HEADER,
    "in": "header",
    "description": "The same key with the same request is the same request, answered alike and done once. The body may"
    " say it instead.",
    "schema": {"type": "string", "pattern": f"^({KEY_PATTERN})$"},
}


class OpenApi:
    """The description of a table of operations, and of itself."""

    def __init__(self, table: Iterable[Operation]) -> None:
        own = Operation(
            *("GET", PATH, self.describe),
            summary="This document",
            answers={200: dict[str, Any], 304: None},
            who=Who.ALL,
        )
        self._own = [own]
        self._table = [*table, own]

    def operations(self) -> list[Operation]:
        """The operation that answers with the description."""
        return self._own

    @cached_property
    def _content(self) -> bytes:
        return msgspec.json.encode(openapi(self._table))

    async def describe(self, call: Call) -> Response:
        """The document; public, and to be kept for minutes."""
        return published(self._content)


def failures(operation: Operation) -> list[type[GatewayError]]:
    """All that this operation may fail with, by what it reads and who may ask; `GatewayError` itself is a fault of
    ours.
    """
    found: set[type[GatewayError]] = {GatewayError, *operation.errors}
    if operation.who is not Who.ALL:
        found |= {AuthFailed, Unavailable}
    if operation.who in COOKIES and operation.method not in READING:
        found.add(Forbidden)  # a cookie without its CSRF token, or from a foreign origin
    if operation.who in SIGNED:
        # An instance from a foreign address, or that asks too often; a body that nobody reads is signed all the same.
        found |= {Forbidden, RateLimited, BadRequest, TooLarge}
    if _PART.search(operation.path):
        found.add(NotFound)
    if operation.query is not None:
        found.add(BadRequest)
    if operation.body is not None:
        found |= {BadRequest, TooLarge, UnsupportedMediaType}
        if not operation.form:
            found.add(Unprocessable)
    if 304 in operation.answers:
        found.add(PreconditionFailed)
    if operation.body is not None or operation.writes:
        found.add(Unavailable)
    if operation.writes:
        found.add(Uncertain)
    return sorted(found, key=lambda kind: (kind.status, kind.code))


def openapi(table: Sequence[Operation]) -> Json:
    """The OpenAPI 3.1 document of these operations."""
    schemas = _Schemas(table)
    paths: dict[str, Json] = {}
    responses: Json = {}
    for operation in table:
        path = paths.setdefault(operation.path, _path_item(operation.path))
        path[operation.method.lower()] = _operation(operation, schemas, responses)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Session gateway", "version": __version__, "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {**schemas.components, "Problem": PROBLEM},
            "responses": dict(sorted(responses.items())),
            "headers": HEADERS,
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


class _Schemas:
    """The JSON Schemas of every type in the table; `of` finds that of a type, `fields` those of a query's fields."""

    def __init__(self, table: Iterable[Operation]) -> None:
        types: list[Any] = []
        for operation in table:
            types += [kind for kind in operation.answers.values() if kind is not None]
            types += [operation.body] if operation.body is not None else []
            if operation.query is not None:
                types += [field.type for field in msgspec.structs.fields(operation.query)]
        made, self.components = msgspec.json.schema_components(types, ref_template=_SCHEMAS)
        self._made = list(zip(types, made, strict=True))

    def of(self, kind: Any) -> Json:
        return next(schema for known, schema in self._made if known is kind or known == kind)

    def fields(self, kind: type[msgspec.Struct]) -> list[tuple[msgspec.structs.FieldInfo, Json]]:
        return [(field, _never_null(self.of(field.type))) for field in msgspec.structs.fields(kind)]


def _never_null(schema: Json) -> Json:
    """Without null: a parameter is there or is not."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    return schema if not kinds else kinds[0] if len(kinds) == 1 else {**schema, "anyOf": kinds}


def _path_item(path: str) -> Json:
    parts = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": f"^{segment(name).pattern}$"},
        }
        for name in _PART.findall(path)
    ]
    return {"parameters": parts} if parts else {}


def _operation(operation: Operation, schemas: _Schemas, responses: Json) -> Json:
    described: Json = {
        "operationId": _id(operation),
        "summary": operation.summary,
        "tags": [next((part for part in operation.path.split("/") if part), "root")],
        "security": _security(operation),
    }
    parameters = [*_query(operation, schemas), *_conditions(operation), *([KEY_PARAMETER] if operation.keyed else [])]
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        described["requestBody"] = {
            "required": operation.needs_body,
            "content": {kind: {"schema": schemas.of(operation.body)} for kind in media_types(operation)},
        }
    answered = _answers(operation, schemas) | _problems(operation, responses)
    described["responses"] = dict(sorted(answered.items()))
    return described


def _id(operation: Operation) -> str:
    name = re.sub(r"[^A-Za-z0-9]+", "_", operation.path).strip("_")
    return f"{operation.method.lower()}_{name or 'root'}"


def _security(operation: Operation) -> list[Json]:
    cookie: Json = {"cookie": []} if operation.method in READING else {"cookie": [], "csrf": []}
    signed: list[Json] = [{"signature": []}] if operation.who in SIGNED else []
    if operation.who is Who.INSTANCE:
        return [{"signature": [], "bearer": []}]  # both: the token is what is asked about
    if operation.who in COOKIES:
        return [{"bearer": []}, cookie, *signed]
    return [{}, *signed] if operation.who is Who.ALL_OR_INSTANCE else signed


def _query(operation: Operation, schemas: _Schemas) -> list[Json]:
    if operation.query is None:
        return []
    return [
        {
            "name": field.encode_name,
            "in": "query",
            **({"required": True} if field.required else {}),
            "schema": schema
            if field.required or field.default in (None, msgspec.NODEFAULT, msgspec.UNSET)
            else {**schema, "default": msgspec.to_builtins(field.default)},
        }
        for field, schema in schemas.fields(operation.query)
    ]


def _conditions(operation: Operation) -> list[Json]:
    if PreconditionFailed not in failures(operation):
        return []
    unless = _UNLESS_HELD if 304 in operation.answers else _UNLESS_THERE
    return [
        {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}
        for name, description in (("If-Match", _IF_MATCH), ("If-None-Match", unless))
    ]


def _answers(operation: Operation, schemas: _Schemas) -> Json:
    is_tagged = operation.tagged or 304 in operation.answers
    described: Json = {}
    for status, kind in operation.answers.items():
        headers = [
            *([SEQ_HEADER] if operation.writes and status < 300 else []),
            *(["ETag"] if status < 400 and is_tagged else []),
            *(["Location"] if status == HTTPStatus.CREATED else []),
        ]
        response: Json = {"description": HTTPStatus(status).phrase}
        if headers:
            response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
        if kind is not None:
            media = operation.media if kind is str else (JSON_TYPE,)
            response["content"] = {name: {"schema": schemas.of(kind)} for name in media}
        described[str(status)] = response
    return described


def _problems(operation: Operation, responses: Json) -> Json:
    """What the failures look like, one response for each status; those that say the same stand in `responses` once."""
    by_status: dict[int, list[type[GatewayError]]] = {}
    for kind in failures(operation):
        if kind.status not in operation.answers:
            by_status.setdefault(kind.status, []).append(kind)
    described: Json = {}
    for status, kinds in by_status.items():
        name = ".".join(kind.code for kind in kinds)
        responses.setdefault(name, _problem(status, kinds))
        described[str(status)] = {"$ref": f"#/components/responses/{name}"}
    return described


def _problem(status: int, kinds: Sequence[type[GatewayError]]) -> Json:
    told: Json = {"status": {"const": status}, "code": {"enum": [kind.code for kind in kinds]}}
    headers = [
        *(["WWW-Authenticate"] if AuthFailed in kinds else []),
        *(["Retry-After"] if {RateLimited, Unavailable} & set(kinds) else []),
    ]
    response: Json = {
        "description": ", or ".join(kind.title for kind in kinds),
        "content": {
            MEDIA_TYPE: {"schema": {"allOf": [{"$ref": _SCHEMAS.format(name="Problem")}, {"properties": told}]}}
        },
    }
    if headers:
        response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    return response
