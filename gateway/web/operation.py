"""One thing that can be asked by HTTP: path, method, who may, what comes in and what goes out.

The routes are made of these, and so is the OpenAPI document: what is checked is what is described.
"""

from __future__ import annotations

import asyncio
import enum
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.auth.instances import BY_SIGNATURE
from gateway.core.networks import Networks
from gateway.core.principal import Principal
from gateway.core.rate import Allowed
from gateway.core.spending import KEY_LENGTH
from gateway.errors import (
    AuthFailed,
    BadRequest,
    GatewayError,
    NotFound,
    StoreUnavailable,
    StoreUncertain,
    TooLarge,
    Unavailable,
    Uncertain,
    Unprocessable,
    UnsupportedMediaType,
)
from gateway.metrics import Metrics
from gateway.store.audit import Store
from gateway.store.guarded import Guarded
from gateway.store.guards import Guard
from gateway.web.answer import unless_held
from gateway.web.caller import Caller, Callers, Rights
from gateway.web.peer import client_address
from gateway.web.problem import problem, tell_anyway
from gateway.web.signing import rate_fields

MAX_BODY_BYTES = 65_536
BODY_TIMEOUT_S = 10.0
MAX_USER_AGENT = 256
RETRY_AFTER_S = 1.0
CLIENT_LEFT = 499
"""What is counted where nobody is there to be answered; nginx says so too."""
JSON_TYPE = "application/json"
MERGE_PATCH_TYPE = "application/merge-patch+json"
TEXT_TYPE = "text/plain"
FORM_TYPE = "application/x-www-form-urlencoded"
INVALID_FORM = "invalid_request"
"""The `error` of a problem with a form, for clients that read OAuth's (RFC 6749 §5.2)."""

# What may stand in a path for the name of something: whatever is not of this form names nothing.
SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
# A lease is called as whoever reserves it likes; what has a slash can not be one part of a path.
LEASE_SEGMENT = re.compile(rf"[^/\x00-\x1f\x7f-\x9f]{{1,{KEY_LENGTH}}}")
# A file below a directory, at most four deep: no part begins with a dot, and none is empty.
FILE_PATH = re.compile(r"(?:[a-z0-9][A-Za-z0-9_-]{0,63}/){0,3}[a-z0-9][A-Za-z0-9_-]{0,63}(?:\.[a-z0-9]{1,15}){1,2}")


class Who(enum.Enum):
    """Who may ask at all; what they may do there is the endpoint's to decide."""

    ALL = "everybody"
    ALL_OR_INSTANCE = "everybody; where there is a signature, it has to be good"
    USER = "whoever shows a bearer token, or a browser's cookie"
    USER_OR_INSTANCE = "a user, or a server instance that signs, for itself or for a user whose token it shows"
    INSTANCE = "a server instance that signs"


SIGNED = frozenset((Who.ALL_OR_INSTANCE, Who.USER_OR_INSTANCE, Who.INSTANCE))
"""Where signatures are looked at; elsewhere they are not."""
_KNOWN = frozenset((Who.USER, Who.USER_OR_INSTANCE))
_FAULTS = (BadRequest, TooLarge, UnsupportedMediaType, Unprocessable)
"""What is wrong with a question, whoever asks."""


class Call:
    """One request, read and checked: what an endpoint works with.

    `path` has the path's parts by name, `query` and `body` are of the operation's types (None where it has none).
    `instance` is who signed the request, `user` who shows a token; both where an instance asks for a user.
    """

    __slots__ = ("_callers", "_judged", "address", "body", "content", "instance", "path", "query", "request", "user")

    def __init__(
        self, request: Request, callers: Callers, address: str, user: Caller | None, instance: Principal | None = None
    ) -> None:
        self.request = request
        self.address = address
        self.path: Mapping[str, str] = request.path_params
        self.query: Any = None
        self.body: Any = None
        self.content = b""
        self.user = user
        self.instance = instance
        self._callers = callers
        self._judged: Rights | None = None

    @property
    def actor(self) -> str:
        """As the audit trail names whoever asks; ``stranger`` without a credential."""
        if self.instance is not None:
            return self.instance.document
        return "stranger" if self.user is None else self.user.actor

    @property
    def caller(self) -> Caller:
        """Who asks. For operations that need a user's credential."""
        assert self.user is not None
        return self.user

    async def renew(self) -> None:
        """Judge the credential again, which may have ended while something took its time. Raises as at first."""
        self.user = await self._callers.caller(self.request)

    async def rights(self) -> Rights:
        """What the caller may do; reads the caller's document, if this node does not hold it."""
        self._judged = await self._callers.rights(self.caller)
        return self._judged

    def writing(self, database: Store) -> Guarded:
        """The database, whose writes hang on `standing`."""
        return Guarded(database, self.standing())

    def standing(self) -> list[Guard]:
        """What lets the caller write, as the database has it at that moment and not as this node remembers it: a
        credential that is good, and that an administrator is one.
        """
        return self._callers.standing(self.caller, self._judged)

    @property
    def members(self) -> dict[str, Any]:
        """What the body says by name, be it of the right types or not; nothing unless it is a JSON object."""
        try:
            said = msgspec.json.decode(self.content)
        except (ValueError, RecursionError):
            return {}
        return said if isinstance(said, dict) else {}

    @property
    def user_agent(self) -> str:
        """What the client calls itself, as it may be stored: printable, 256 characters at most."""
        return shown_user_agent(self.request.headers.get("user-agent", ""))


def shown_user_agent(text: str) -> str:
    """What a client calls itself, as it may be stored: printable, 256 characters at most."""
    return "".join(character if character.isprintable() else "?" for character in text[:MAX_USER_AGENT])


Endpoint = Callable[[Call], Awaitable[Response]]
Check = Callable[[Call], Awaitable[object]]


class Operation(NamedTuple):
    """One method of one path. `body`, `query` and `answers` (by status) are msgspec types; `errors` are those beside
    the ones that every operation of its kind has. A body whose fields all have defaults may be left out, unless this is
    `bodied`; `form` is for OAuth, whose bodies are forms (RFC 6749 appendix B). `writes`: every answer of success names
    the commit, in ``Gateway-Seq``. Who answers 304 sends and reads entity tags, who fails with `PreconditionFailed`
    reads them, who is `tagged` sends them. `keyed`: reads ``Idempotency-Key``. `media`: what an answer is that is a
    text and not JSON. `check` raises what the caller is refused with whatever the body says: who may not ask is not
    told what is wrong with the question. The endpoint judges the same, and so `check` is asked only where it found a
    fault.
    """

    method: str
    path: str
    endpoint: Endpoint
    summary: str
    answers: Mapping[int, Any]
    who: Who = Who.USER
    body: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    errors: tuple[type[GatewayError], ...] = ()
    form: bool = False
    writes: bool = False
    tagged: bool = False
    keyed: bool = False
    check: Check | None = None
    media: tuple[str, ...] = (TEXT_TYPE,)
    bodied: bool = False

    @property
    def needs_body(self) -> bool:
        """Whether it has a body that may not be left out."""
        kind = self.body
        return kind is not None and (self.bodied or any(field.required for field in msgspec.structs.fields(kind)))


def segment(name: str) -> re.Pattern[str]:
    """What the part of a path that has this name may be."""
    return {"lease": LEASE_SEGMENT, "path": FILE_PATH}.get(name, SEGMENT)


class WholeRoute(Route):
    """A route for the whole of a path: a line feed after it is a part of it, which Starlette's ``$`` would pass."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.path_regex = re.compile(self.path_regex.pattern.removesuffix("$") + r"\Z")


def operation_routes(
    operations: Iterable[Operation], callers: Callers, metrics: Metrics, proxies: Networks
) -> list[Route]:
    """The routes of these operations: one for each path, so that a wrong method is told which ones there are."""
    paths: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        methods = paths.setdefault(operation.path, {})
        assert operation.method not in methods, f"{operation.method} {operation.path} is there twice"
        methods[operation.method] = operation
    return [
        WholeRoute(
            path.replace("{path}", "{path:path}"),
            _endpoint(methods, callers, metrics, proxies),
            methods=list(methods),
        )
        for path, methods in paths.items()
    ]


def _endpoint(
    methods: Mapping[str, Operation], callers: Callers, metrics: Metrics, proxies: Networks
) -> Callable[[Request], Awaitable[Response]]:
    async def run(request: Request) -> Response:
        began, status = time.perf_counter(), GatewayError.status
        operation = methods["GET" if request.method == "HEAD" else request.method]
        try:
            response = await _settled(operation, request, callers, client_address(request, proxies))
            status = response.status_code
        finally:
            metrics.observe_http(operation.path, status, time.perf_counter() - began)
        return response

    return run


async def _settled(operation: Operation, request: Request, callers: Callers, address: str) -> Response:
    """The answer, or what an expected failure is answered with; a fault of ours passes, and is answered above the
    router, with what is told here of the rate."""
    rate: dict[str, str] = {}

    def told(allowed: Allowed) -> None:
        rate.update(rate_fields(allowed))
        tell_anyway(request, rate)

    try:
        response = unless_held(request, await _answer(operation, request, callers, address, told))
    except GatewayError as error:
        response = problem(error)
    except ClientDisconnect:
        response = Response(status_code=CLIENT_LEFT)
    except StoreUnavailable:
        response = problem(Unavailable("The database can not be reached now.", retry_after_s=RETRY_AFTER_S))
    except StoreUncertain:
        response = problem(Uncertain("It is not known whether this was done: look before you repeat it."))
    response.headers.update(rate)
    return response


async def _answer(
    operation: Operation, request: Request, callers: Callers, address: str, told: Callable[[Allowed], None]
) -> Response:
    content: bytes | None = None
    user = instance = None
    if operation.who in SIGNED and callers.signing.is_signed(request):
        instance, content = await callers.signing.signer(request, address, lambda: _read(request), told)
        user = await _behind(operation, request, callers)
    elif operation.who is Who.INSTANCE:
        raise AuthFailed("A signature is needed.", credential=BY_SIGNATURE)
    elif operation.who in _KNOWN:
        user = await callers.caller(request)
    call = Call(request, callers, address, user, instance)
    for name, part in call.path.items():
        if not segment(name).fullmatch(part):
            raise NotFound("No such resource.")
    try:
        return await _asked(operation, call, content)
    except _FAULTS:
        if operation.check is not None:
            await operation.check(call)
        raise


async def _asked(operation: Operation, call: Call, content: bytes | None) -> Response:
    """What the endpoint answers to query and body; `content` is the body where it was read already."""
    if operation.query is not None:
        call.query = _query(call.request, operation.query)
    if operation.body is not None:
        call.content = await _read(call.request) if content is None else content
        is_left_out = not call.content and not operation.needs_body
        kind, accepted = operation.body, media_types(operation)
        call.body = kind() if is_left_out else _body(call.request, call.content, kind, accepted)
        if call.user is not None and call.instance is None:  # the body may come slowly
            await call.renew()
    return await operation.endpoint(call)


async def _behind(operation: Operation, request: Request, callers: Callers) -> Caller | None:
    """The user for whom an instance asks. What is not signed must not say for whom: no cookie."""
    return await callers.behind(request) if operation.who is Who.USER_OR_INSTANCE else None


def _query(request: Request, kind: type[msgspec.Struct]) -> Any:
    """The query's parameters; those that nobody knows are ignored, one that is there twice is refused."""
    names = [name for name, _ in request.query_params.multi_items()]
    wanted = {field.encode_name for field in msgspec.structs.fields(kind)}
    for name in wanted:
        if names.count(name) > 1:
            raise BadRequest(f"The parameter {name} is there twice.")
    try:
        query = msgspec.convert(dict(request.query_params), kind, strict=False)
    except ValueError as error:
        raise BadRequest(_sentence("The query", error)) from None
    for field in msgspec.structs.fields(kind):
        # The converter takes the text null for no value; a parameter that is not there is just not there.
        if field.encode_name in names and getattr(query, field.name) is None:
            raise BadRequest(f"The parameter {field.encode_name} has no such value.")
    return query


def media_types(operation: Operation) -> tuple[str, ...]:
    """What the operation's body may be; a merge patch (RFC 7396) may say that it is one."""
    if operation.form:
        return (FORM_TYPE,)
    return (JSON_TYPE, MERGE_PATCH_TYPE) if operation.method == "PATCH" else (JSON_TYPE,)


def _body(request: Request, content: bytes, kind: type[msgspec.Struct], accepted: tuple[str, ...]) -> Any:
    codings = {coding.strip().lower() for coding in ",".join(request.headers.getlist("content-encoding")).split(",")}
    if codings - {"", "identity"}:
        raise UnsupportedMediaType("The body must not be encoded: send it without Content-Encoding.")
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in accepted:
        raise UnsupportedMediaType(f"The body has to be {' or '.join(accepted)}.")
    return _form(content, kind) if given == FORM_TYPE else _json(content, kind)


async def _read(request: Request) -> bytes:
    """The body. Raises `TooLarge` as soon as it is known to be, `BadRequest` when it does not come."""
    too_large = TooLarge(f"A body has at most {MAX_BODY_BYTES} bytes.")
    declared = request.headers.get("content-length", "0")
    if len(declared) > 9 or (declared.isdecimal() and int(declared) > MAX_BODY_BYTES):
        raise too_large
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                content += chunk
                if len(content) > MAX_BODY_BYTES:
                    raise too_large
    except (TimeoutError, ClientDisconnect):
        raise BadRequest("The body did not come.") from None
    return bytes(content)


def _json(content: bytes, kind: type[msgspec.Struct]) -> Any:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise Unprocessable(_sentence("The body", error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("The body is not JSON.") from None


def _form(content: bytes, kind: type[msgspec.Struct]) -> Any:
    """OAuth's parameters: one without a value is not there, none is there twice, unknown ones do not count (RFC 6749
    §3.2)."""
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    try:
        pairs = parse_qsl(content.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=32)
    except ValueError:
        raise BadRequest("The body is not a form.", error=INVALID_FORM) from None
    pairs = [(name, value) for name, value in pairs if name in known]
    if len(dict(pairs)) < len(pairs):
        raise BadRequest("A parameter is there twice.", error=INVALID_FORM)
    try:
        return msgspec.convert({name: value for name, value in pairs if value}, kind, strict=False)
    except ValueError as error:
        raise BadRequest(_sentence("The body", error), error=INVALID_FORM) from None


def _sentence(what: str, error: Exception) -> str:
    """What is wrong with it, in the words of the decoder, which names the place; never longer than a line."""
    text = str(error)
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return f"{what} is refused: {shown[:300]}"
