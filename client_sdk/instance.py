"""Requests of an application's server to the gateway, each signed with a key of the instance."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import httpx2
import msgspec

from client_sdk.config import ConfigError, ServerConfig, http_url
from client_sdk.errors import AuthFailed, ChannelError, Disconnected, Forbidden, LoginFailed, RateLimited, Unavailable
from client_sdk.http import failures_named, http_client, parse_answer, raise_for_status
from client_sdk.instance_key import (
    SKEW_S,
    InstanceKeys,
    InstanceSettings,
    KeySource,
    clock_ahead_s,
    dates_wrong,
    told,
)
from client_sdk.instance_spending import InstanceSpending
from client_sdk.login import SignedIn
from client_sdk.provider import checked
from client_sdk.rate_limit import RateLimit, read_rate_limit
from client_sdk.reconnect import CLOCK_OFF
from client_sdk.settings import checked_settings, count, seconds
from client_sdk.wire import parse_problem

LOGIN, REFRESH = "/auth/login", "/auth/refresh"
BOUNDS = {"timeout_s": seconds, "attempts": count()}


class Validation(msgspec.Struct, frozen=True):
    """What the gateway says of a user's token. `active` false: the token is not good, and nothing else is told.

    `session` is the id of the login session or API token, `expires_at` (RFC 3339, UTC) None for one without end.
    `document` is the user's, at revision `rev`, exact up to `seq`.
    """

    active: bool
    session: str | None = None
    expires_at: str | None = None
    document: Mapping[str, Any] = {}
    rev: str | None = None
    seq: int = 0
    scopes: tuple[str, ...] | None = None


class InstanceClient(InstanceSpending):
    """Requests to the gateway as an instance.

    async with InstanceClient("https://gateway.example.org", keys) as gateway: await gateway.validate(token)

    `keys` are those of the instance: `InstanceKeys`, or what makes them; `server` may be the whole `InstanceSettings`,
    with the keys. `ssl` may be a context, as `pinned` gives.
    Requests that may be made twice are made up to `attempts` times within `timeout_s` seconds, each time signed anew,
    when the gateway is away or asks to wait. A key that is not taken gives way to the next one.

    Errors are those of `ServerClient`: `Disconnected` without an answer, `Unavailable`, `RateLimited`, `AuthFailed`
    when the gateway takes no key of this instance or not from this address, and so on.
    """

    def __init__(
        self,
        server: str | ServerConfig | InstanceSettings | None,
        keys: InstanceKeys | KeySource | None = None,
        *,
        timeout_s: float = 5.0,
        attempts: int = 3,
        ssl: ssl.SSLContext | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
        wall: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        if isinstance(server, InstanceSettings):
            keys, server = keys or server.source or server.keys, server.url
        if keys is None:
            raise ConfigError("keys: requests of an instance need its keys")
        self.keys = keys if isinstance(keys, InstanceKeys) else InstanceKeys(keys, wall=wall)
        self._url, self._api = http_url(server)
        checked_settings(BOUNDS, timeout_s=timeout_s, attempts=attempts)
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._wall = wall
        self._chance = chance
        self.requests = 0
        """How many requests went out, with those that were made again."""
        self.rate_limit: RateLimit | None = None
        """How much it may still ask, as the last answer said that said so."""
        verify = True if ssl is None else ssl
        self._http = http_client(self._url, timeout=timeout_s, transport=transport, verify=verify)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._http.is_closed

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # --- requests ---

    async def validate(self, token: str) -> Validation:
        """What a user's access token or API token stands for now, with the user's document."""
        headers = {"Authorization": f"Bearer {checked(token)}"}
        return parse_answer(await self._send("GET", "/auth/validate", headers), Validation)

    async def introspect(self, token: str) -> Mapping[str, Any]:
        """The members of RFC 7662 for a token; ``{"active": False}`` for one that stands for nothing."""
        return parse_answer(await self._form("/oauth/introspect", token), dict[str, Any])

    async def revoke(self, token: str) -> None:
        """End what a token stands for (RFC 7009); one that stands for nothing is no error."""
        await self._form("/oauth/revoke", token)

    async def login(self, username: str, password: str, *, address: str | None, user_agent: str = "") -> SignedIn:
        """Sign somebody in who sent this application a user name (or an e-mail address) and a password, from `address`:
        the IP address against which the gateway counts what fails. With None all who come by this application share
        one count, and whoever guesses stops everybody.

        One attempt: raises `LoginFailed` for a wrong password, `RateLimited` with `retry_after_s` for an address from
        which too many were wrong, and what every request does.
        """
        fields = {"username": username, "password": password}
        return await self._sign_in(LOGIN, fields, address, user_agent, attempts=1)

    async def refresh(self, refresh_token: str, *, address: str | None, user_agent: str = "") -> SignedIn:
        """New tokens for a refresh token, which is good once: keep the new one in its place. Raises `LoginFailed` when
        it is not good. To sign out is `revoke`."""
        fields = {"refresh_token": checked(refresh_token)}
        return await self._sign_in(REFRESH, fields, address, user_agent, attempts=self._attempts)

    async def _sign_in(
        self, path: str, fields: Mapping[str, Any], address: str | None, user_agent: str, *, attempts: int
    ) -> SignedIn:
        if address is not None:
            fields = {**fields, "client": {"address": address, "user_agent": user_agent}}
        return parse_answer(await self._json(path, fields, attempts=attempts), SignedIn)

    async def _form(self, path: str, token: str) -> httpx2.Response:
        body = urlencode({"token": checked(token)}).encode()
        return await self._send("POST", path, {"Content-Type": "application/x-www-form-urlencoded"}, body)

    async def _json(self, path: str, fields: Mapping[str, Any], *, attempts: int | None = None) -> httpx2.Response:
        body = msgspec.json.encode(fields)
        return await self._send("POST", path, {"Content-Type": "application/json"}, body, attempts=attempts)

    # --- attempts ---

    async def _send(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"", *, attempts: int | None = None
    ) -> httpx2.Response:
        """One request, made up to `attempts` times (None: as this client may), and once more for each key that is not
        taken; the answer of the attempt that succeeded, or the last error."""
        until = time.monotonic() + self._timeout_s
        left = self._attempts if attempts is None else attempts
        while True:
            left -= 1
            key = self.keys.present
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    return await self._once(method, path, headers, body, key.kid)
            except TimeoutError as error:
                raise Disconnected(f"The gateway did not answer within {self._timeout_s:g} s.") from error
            except LoginFailed:
                raise
            except AuthFailed as error:
                if error.code == CLOCK_OFF or not self.keys.refuse(key.kid) or time.monotonic() >= until:
                    raise error
                left += 1
                pause_s = 0.0
            except (Disconnected, Unavailable, RateLimited) as error:
                pause_s = (error.retry_after_s or 0.0) + 0.1 * 2 ** (self._attempts - left) * self._chance()
                if left <= 0 or time.monotonic() + pause_s >= until:
                    raise
            await asyncio.sleep(pause_s)

    async def _once(self, method: str, path: str, headers: Mapping[str, str], body: bytes, kid: str) -> httpx2.Response:
        url = self._url + path
        signed = self.keys.headers(method, url, authorization=headers.get("Authorization"), body=body, kid=kid)
        self.requests += 1
        try:
            with failures_named():
                response = await self._http.request(method, url, content=body, headers={**headers, **signed})
        except httpx2.InvalidURL as exc:
            raise ConfigError(f"{url!r} is no address of a gateway: {exc}") from exc
        self.rate_limit = read_rate_limit(response.headers) or self.rate_limit
        try:
            return raise_for_status(response)
        except AuthFailed as error:
            if path in (LOGIN, REFRESH) and parse_problem(response.content).credential != "signature":
                raise LoginFailed(error.message) from None
            raise self._explained(error, response) from None
        except Forbidden as error:
            if not parse_problem(response.content).code:  # somebody on the way said so, which passes
                raise Unavailable(error.message, retry_after_s=error.retry_after_s) from None
            raise

    def _explained(self, error: AuthFailed, response: httpx2.Response) -> ChannelError:
        """A refusal, with a word about the clock where that may be why."""
        off_s = clock_ahead_s(response.headers.get("Date"), self._wall())
        if off_s is None or abs(off_s) < SKEW_S:
            return error
        return AuthFailed(f"{error.message} {told(off_s)}", code=CLOCK_OFF if dates_wrong(off_s) else error.code)
