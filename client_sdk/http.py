"""The gateway's HTTP API, as far as a client of the channel needs it besides."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import httpx2
import msgspec

from client_sdk.config import ConfigError, ServerConfig, http_url, load_token
from client_sdk.connection import parse_retry_after
from client_sdk.errors import ChannelError, Disconnected, MalformedMessage
from client_sdk.provider import TokenProvider, checked, provide
from client_sdk.settings import checked_settings, seconds, seconds_from_0
from client_sdk.version import VERSION
from client_sdk.wire import error_of_problem, parse_problem

T = TypeVar("T")

_CODES = {400: "bad_request", 401: "auth_failed", 403: "forbidden", 404: "not_found", 429: "rate_limited"}


class Authentication(msgspec.Struct, frozen=True):
    """What the gateway says of a good token. `expires_at` (RFC 3339, UTC) is None for one without end."""

    user_id: str
    expires_at: str | None = None
    session: str | None = None


class Readiness(NamedTuple):
    """Whether the gateway serves; `detail` is what it says about it."""

    ready: bool
    detail: Mapping[str, Any]


class Identity(Mapping[str, Any]):
    """The user document flattened: identity, attributes, each permission as a boolean, each quota as
    ``NAME_remaining``.

    `rev` is the revision of the document that it was made from.
    """

    __slots__ = ("_fields", "rev")

    def __init__(self, fields: Mapping[str, Any], rev: str | None) -> None:
        self._fields = dict(fields)
        self.rev = rev

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"Identity({self._fields.get('id')!r}, rev={self.rev!r})"

    def can(self, permission: str) -> bool:
        """Whether the user has this permission."""
        return self._fields.get(permission) is True


class _Cached(NamedTuple):
    token: str
    etag: str | None
    identity: Identity
    checked_at: float


def http_client(url: str, **options: Any) -> httpx2.AsyncClient:
    """A client of the gateway at `url`; the options are httpx2's. Raises `ConfigError` where that is no address."""
    try:
        return httpx2.AsyncClient(base_url=url, headers={"User-Agent": f"gateway-client-sdk/{VERSION}"}, **options)
    except httpx2.InvalidURL as exc:
        raise ConfigError(f"{url!r} is no address of a gateway: {exc}") from exc


class ServerClient:
    """Requests to one gateway with one token.

    async with ServerClient("https://gateway.example.org", token) as server: identity = await server.identity()

    `server` and `token` are those of `Channel`. An identity is kept for `cache_s` seconds (of `clock`, monotonic);
    after that the gateway is asked whether it changed. Errors are those of the channel: `AuthFailed`, `Unavailable`,
    `Disconnected` when there is no answer within `timeout_s`, `MalformedMessage` for one that can not be read, and
    `ConfigError` when `server` is no address.
    """

    def __init__(
        self,
        server: str | ServerConfig | None = None,
        token: str | TokenProvider | None = None,
        *,
        cache_s: float = 30.0,
        timeout_s: float = 10.0,
        transport: httpx2.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        url, self._api = http_url(server)
        checked_settings({"cache_s": seconds_from_0, "timeout_s": seconds}, cache_s=cache_s, timeout_s=timeout_s)
        self._token = token
        self._cache_s = cache_s
        self._clock = clock
        self._cached: _Cached | None = None
        self._asking = asyncio.Lock()
        self._http = http_client(url, timeout=timeout_s, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def health(self) -> bool:
        """Whether the gateway is alive."""
        try:
            return (await self._send("GET", "/health")).status_code == 200
        except (Disconnected, MalformedMessage):
            return False

    async def ready(self) -> Readiness:
        """Whether the gateway serves, and if not, why. Raises `Disconnected` and `MalformedMessage`."""
        response = await self._send("GET", "/ready")
        try:
            detail = msgspec.json.decode(response.content, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeError):
            detail = {}
        return Readiness(response.status_code == 200, detail)

    async def authenticate(self, token: str) -> Authentication:
        """Check a token; if it is good, use it from now on. Raises `AuthFailed`."""
        response = await self._send("POST", f"{self._api}/auth/validate", checked(token))
        authentication = parse_answer(raise_for_status(response), Authentication)
        self._token = token
        return authentication

    async def identity(self) -> Identity:
        """Who the user is and what they may do. At most `cache_s` old."""
        async with self._asking:
            token = await provide(load_token() if self._token is None else self._token)
            cached = self._cached if self._cached is not None and self._cached.token == token else None
            now = self._clock()
            if cached is not None and now - cached.checked_at < self._cache_s:
                return cached.identity
            self._cached = None
            self._cached = await self._revalidate(token, cached, now)
            return self._cached.identity

    def invalidate_cache(self) -> None:
        """Ask the gateway the next time, whatever is kept."""
        self._cached = None

    async def _revalidate(self, token: str, cached: _Cached | None, now: float) -> _Cached:
        etag = None if cached is None else cached.etag
        response = await self._send("GET", f"{self._api}/identity", token, etag)
        if response.status_code == 304 and cached is not None:
            return cached._replace(checked_at=now)
        fields = parse_answer(raise_for_status(response), dict[str, Any])
        etag = response.headers.get("ETag")
        rev = None if etag is None else etag.removeprefix("W/").strip('"')
        return _Cached(token, etag, Identity(fields, rev), now)

    async def _send(self, method: str, path: str, token: str | None = None, etag: str | None = None) -> httpx2.Response:
        headers = {}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if etag is not None:
            headers["If-None-Match"] = etag
        try:
            with failures_named():
                return await self._http.request(method, path, headers=headers)
        except httpx2.InvalidURL as exc:
            raise ConfigError(f"server.api_base: {path!r} is no path: {exc}") from exc


@contextlib.contextmanager
def failures_named() -> Iterator[None]:
    """Around one request: what fails on the way is `Disconnected`, and `MalformedMessage` what can not be unpacked."""
    try:
        yield
    except httpx2.DecodingError as exc:
        raise MalformedMessage(f"The gateway's answer can not be read: {exc}") from exc
    except httpx2.RequestError as exc:
        raise Disconnected(f"The gateway does not answer: {exc or type(exc).__name__}") from exc


def raise_for_status(response: httpx2.Response) -> httpx2.Response:
    """The answer of a request that succeeded; raises the error of one that failed."""
    if response.status_code in (200, 201):
        return response
    raise _error_of(response)


def _error_of(response: httpx2.Response) -> ChannelError:
    return error_of_problem(
        parse_problem(response.content),
        _CODES.get(response.status_code, "unavailable"),
        f"The gateway answered with status {response.status_code}.",
        parse_retry_after(response.headers.get("Retry-After")),
    )


def parse_answer(response: httpx2.Response, kind: type[T]) -> T:
    """The body as what it has to be. Raises `MalformedMessage`."""
    try:
        return msgspec.json.decode(response.content, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise MalformedMessage(f"The gateway's answer can not be read: {exc}") from exc
