"""The ASGI middleware: who sends a request is known before the application sees it."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Collection, Iterable
from http.cookies import CookieError, SimpleCookie
from types import TracebackType
from typing import ClassVar, Self, Unpack

from msgspec.structs import asdict

from client_sdk.auth_proxy.answers import (
    FORBIDDEN,
    GuardedSocket,
    Message,
    Problem,
    Receive,
    Scope,
    Send,
    answer_http,
    close_code,
    close_reason,
    forbidden,
    refusal,
    refuse_socket,
)
from client_sdk.auth_proxy.complaint import Complaint
from client_sdk.auth_proxy.counters import Counters, PrometheusCollector
from client_sdk.auth_proxy.decider import Decider
from client_sdk.auth_proxy.decision import Decision, User
from client_sdk.auth_proxy.facts import UNAVAILABLE, RuleOptions, Rules
from client_sdk.auth_proxy.modes import Comparison, Difference, Mode, OwnCheck, own_decision
from client_sdk.auth_proxy.settings import SETTINGS
from client_sdk.auth_proxy.storage import Storage
from client_sdk.config import ConfigError, ServerConfig, http_url
from client_sdk.instance_key import InstanceKeys, InstanceSettings, KeySource
from client_sdk.settings import checked_settings, shown

logger = logging.getLogger("client_sdk.auth_proxy")

App = Callable[[Scope, Receive, Send], Awaitable[None]]
Token = Callable[[Scope], str | None]
FORGED = b"x-user-"
"""Header fields of requests that begin so come from nobody but a client that wants to be somebody else."""


def token_of(scope: Scope, cookie: str | None = None) -> str | None:
    """The bearer token of the Authorization field, else the value of a cookie; an empty text for a field that is no
    bearer token, and for a field or a cookie that is there twice.
    """
    fields = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
    if fields:
        kind, _, token = fields[0].decode("latin-1").strip(" \t").partition(" ")
        return token.strip(" ") if len(fields) == 1 and kind.lower() == "bearer" else ""
    if cookie is None:
        return None
    crumbs = "; ".join(value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"cookie")
    if sum(crumb.partition("=")[0].strip() == cookie for crumb in crumbs.split(";")) > 1:
        return ""
    try:
        found = SimpleCookie(crumbs).get(cookie)
    except CookieError:
        return None
    return None if found is None or not found.value else found.value


def is_from_here(scope: Scope, origins: Collection[str] = ()) -> bool:
    """Whether a page of this very origin, or of one of `origins`, sends this; or it is no socket, and a method that
    changes nothing. A browser sends cookies for other pages too.
    """
    if scope["type"] == "http" and scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return True
    origin = _field(scope, b"origin")
    if origin is None:
        return _field(scope, b"sec-fetch-site") == "same-origin"
    return origin in origins or origin == own_origin(scope)


def own_origin(scope: Scope) -> str:
    """The origin of the pages of this application, as far as its server knows."""
    scheme = {"ws": "http", "wss": "https"}.get(scope.get("scheme", ""), scope.get("scheme", "http"))
    return f"{scheme}://{_field(scope, b'host') or ''}"


class AuthProxy:
    """Lets requests through to `app` whose sender the gateway vouches for; see docs/auth-proxy.md.

    app = AuthProxy(app, load_instance("gateway.toml"))

    `gateway` is an address, or the whole `InstanceSettings`, with the keys, which are read again when the gateway takes
    none of them. The application finds ``scope["user"]``, a `User`. Paths that `public` names (exactly, or all below
    one that ends with ``/``; ``/`` is the front page alone) are let through also without a token; there
    ``scope["user"]`` may be None. The token comes from the Authorization field, else from the `cookie` of that name, or
    from wherever `token` finds it in a scope. By a cookie nothing is changed and no socket opened but from a page of
    the application's own origin or of one of `origins` (``https://shop.example.org``).

    `mode`: ``remote`` asks the gateway; ``local`` the application's `own_check` alone; ``both`` answers with the own
    check, asks the gateway beside it, and tells `on_difference` of every `Difference`.

    It starts and ends with the application's lifespan, or with ``async with``. `rules` are the fields of `Rules`.
    Raises `ConfigError`, which names the setting that can not be.
    """

    _new_decider: ClassVar[Callable[..., Decider]] = Decider  # where time or the network is another, another one

    def __init__(
        self,
        app: App,
        gateway: str | ServerConfig | InstanceSettings | None,
        keys: InstanceKeys | KeySource | None = None,
        *,
        mode: Mode = "remote",
        own_check: OwnCheck | None = None,
        on_difference: Callable[[Difference], object] | None = None,
        public: Iterable[str] = (),
        cookie: str | None = None,
        origins: Iterable[str] = (),
        token: Token | None = None,
        storage: Storage | None = None,
        fetch_s: float = 2.0,
        idle_s: float = 900.0,
        ssl: ssl.SSLContext | None = None,
        **rules: Unpack[RuleOptions],
    ) -> None:
        checked_settings(SETTINGS, mode=mode, own_check=own_check, on_difference=on_difference)
        if mode != "remote" and own_check is None:
            raise ConfigError(f"own_check: mode {mode} needs the application's own check")
        instance = None
        if isinstance(gateway, InstanceSettings):
            instance, keys, gateway = gateway.instance, keys or gateway.source or gateway.keys, gateway.url
        if keys is None:
            raise ConfigError("keys: an AuthProxy needs the keys of its instance")
        rules.setdefault("issuer", http_url(gateway)[0])
        decides_by = Rules(**rules)
        checked_settings(SETTINGS, storage=storage, fetch_s=fetch_s, idle_s=idle_s, ssl=ssl, **asdict(decides_by))
        self._app, self._mode, self._own_check = app, mode, own_check
        door = checked_settings(SETTINGS, public=public, origins=origins, cookie=cookie, token=token)
        self._public, self._origins = door["public"], door["origins"]
        self._cookie = cookie if token is None else None
        self._token = token or (lambda scope: token_of(scope, cookie))
        self._strangers = Complaint("a request that was signed in by its cookie alone was refused")
        self.decider = self._new_decider(
            gateway, keys, decides_by, storage=storage, fetch_s=fetch_s, idle_s=idle_s, ssl=ssl, instance=instance
        )
        self._comparison = Comparison(self.decider, self.decider.counters, on_difference)

    # --- life ---

    async def __aenter__(self) -> Self:
        if self._mode != "local":
            await self.decider.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._comparison.close()
        await self.decider.stop()

    @property
    def counters(self) -> Counters:
        """What was done, counted."""
        return self.decider.counters

    def sizes(self) -> dict[str, float]:
        """How much is held: users, tokens, sockets; and `live`, whether the channel is."""
        return self.decider.sizes()

    def collector(self) -> PrometheusCollector:
        """For ``prometheus_client.REGISTRY.register``."""
        return PrometheusCollector(self.counters, self.sizes)

    # --- requests ---

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if self._mode != "local":
            await self.decider.start()
        scope = {**scope, "headers": [field for field in scope["headers"] if not _is_forged(field[0])]}
        token = self._token(scope)
        if token and self._cookie is not None and token_of(scope) is None and not is_from_here(scope, self._origins):
            if scope["path"] not in self._public:
                self._tell_of_stranger(scope)
                await _answer(scope, send, forbidden("This origin may not do this."), FORBIDDEN)
                return
            token = None
        decision = await self._decide(token, scope)
        if not decision.allowed and scope["path"] not in self._public:
            await _refuse(scope, send, decision)
            return
        scope["user"] = User(decision) if decision.allowed else None
        if scope["type"] == "websocket" and decision.allowed and self._mode == "remote" and token is not None:
            await self._guard(scope, receive, send, token, decision)
        else:
            await self._app(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Begin and end with the application; where it knows nothing of that, answer in its place."""
        heard: set[str] = set()
        told: set[str] = set()

        async def hear() -> Message:
            message = await receive()
            heard.add(message["type"])
            return message

        async def tell(message: Message) -> None:
            told.add(message["type"])
            await send(message)

        await self.__aenter__()
        try:
            await self._app(scope, hear, tell)
        except asyncio.CancelledError:
            await self.__aexit__(None, None, None)
            raise
        except Exception as error:
            if told:
                raise
            logger.info("the application knows no lifespan: %s", error)
        finally:
            if "lifespan.shutdown" in heard or "lifespan.startup.failed" in told:
                await self.__aexit__(None, None, None)
        if not told:
            if not heard:
                await receive()
            await send({"type": "lifespan.startup.complete"})
            while "lifespan.shutdown" not in heard:
                await hear()
            await self.__aexit__(None, None, None)
            await send({"type": "lifespan.shutdown.complete"})

    async def _decide(self, token: str | None, scope: Scope) -> Decision:
        if self._mode == "remote" or self._own_check is None:
            return await self.decider.decide(token)
        own = own_decision(await self._own_check(token, scope), token=token)
        if self._mode == "both":
            self._comparison.begin(own, token, scope["path"])
        return own

    def _tell_of_stranger(self, scope: Scope) -> None:
        """Whoever runs the application may have forgotten an origin, or its server may not know its own."""
        origin, own = shown(_field(scope, b"origin")), shown(own_origin(scope))
        why = f"its Origin is {origin}, the application's own is {own}, and the setting origins does not name it"
        self._strangers.happened(why, self.decider.now())

    async def _guard(self, scope: Scope, receive: Receive, send: Send, token: str, decision: Decision) -> None:
        """Run the application on a socket that is closed as soon as its token is not good any more."""
        guarded = GuardedSocket(receive, send)
        socket = self.decider.sockets.open(
            token, decision, lambda ended: guarded.end(close_code(ended), close_reason(ended))
        )
        if socket is None:
            await _refuse(scope, send, UNAVAILABLE)
            return
        try:
            await self._app(scope, guarded.receive, guarded.send)
        finally:
            self.decider.sockets.shut(socket)
            await guarded.finish()


async def _refuse(scope: Scope, send: Send, decision: Decision) -> None:
    await _answer(scope, send, refusal(decision), close_code(decision))


async def _answer(scope: Scope, send: Send, answer: Problem, code: int) -> None:
    if scope["type"] == "http":
        await answer_http(send, answer)
    else:
        await refuse_socket(scope, send, answer, code)


def _field(scope: Scope, name: bytes) -> str | None:
    """A header field; the last of several."""
    found = next((value for key, value in reversed(scope["headers"]) if key.lower() == name), None)
    return None if found is None else found.decode("latin-1")


def _is_forged(name: bytes) -> bool:
    # Servers behind gateways of the old kind take a line for a hyphen.
    return name.lower().replace(b"_", b"-").startswith(FORGED)
