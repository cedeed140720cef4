"""Signing in with a password, and renewing: where the tokens of a person's client come from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx2
import msgspec

from client_sdk.config import ConfigError, ServerConfig, http_url
from client_sdk.errors import AuthFailed, Disconnected
from client_sdk.http import failures_named, parse_answer, raise_for_status
from client_sdk.settings import checked_settings, seconds
from client_sdk.version import VERSION

AHEAD_S = 90.0
"""A token that lives no longer than this is renewed before it is given away: the gateway asks for another 60 s before
the end."""
ATTEMPT_S = 2.5
"""How long one attempt at a renewal may take."""
PAUSES_S = (0.2, 0.4)
"""Between attempts whose answer was lost. All of them fall into the 10 s in which the gateway gives the same successor
again; later it would take this client for a thief."""


class SignedIn(msgspec.Struct, frozen=True):
    """A login session and its tokens. The access token ends in `expires_in` seconds, at `expires_at`, the refresh token
    at `refresh_expires_at` (RFC 3339, UTC). `user` is there at login. `seq` is that of the commit.
    """

    access_token: str
    refresh_token: str
    expires_in: float
    session: str = ""
    expires_at: str = ""
    refresh_expires_at: str = ""
    user: Mapping[str, Any] = {}
    seq: int = 0

    def __repr__(self) -> str:
        """Without the tokens: it stands in tracebacks and logs."""
        return f"SignedIn(session={self.session!r}, expires_at={self.expires_at!r})"


class LoginProvider:
    """The access tokens of one login session: a `TokenProvider` for `Channel`, `SyncChannel` and `ServerClient`.

    channel = Channel("https://gateway.example.org", LoginProvider("https://gateway.example.org", "ada", password))

    It signs in when it is asked for the first time and renews from then on; the password is forgotten after that.
    With `refresh_token` in place of the password it goes on with a session of before. `on_refresh` is told each new
    refresh token, to be kept for that: it is called before the new access token is used, and may raise, which is what
    the caller gets then. One event loop may use it at a time.

    Asking raises `AuthFailed` when the password is wrong or the session has ended, `RateLimited` and `Unavailable`
    with `retry_after_s`, and `Disconnected` when there is no answer. `server` is that of `Channel`; `clock` is
    monotonic, in seconds.
    """

    def __init__(
        self,
        server: str | ServerConfig | None = None,
        username: str | None = None,
        password: str | None = None,
        *,
        refresh_token: str | None = None,
        on_refresh: Callable[[str], None] | None = None,
        timeout_s: float = 10.0,
        transport: httpx2.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if (refresh_token is None) == (username is None or password is None):
            raise ConfigError("login: a user name and a password, or a refresh token")
        self._url, _ = http_url(server)
        checked_settings({"timeout_s": seconds}, timeout_s=timeout_s)
        self._login = None if username is None else {"username": username, "password": password}
        self._on_refresh = on_refresh
        self._timeout_s = timeout_s
        self._transport = transport
        self._clock = clock
        self._renewing: asyncio.Task[str] | None = None
        self._access_token: str | None = None
        self._good_until = 0.0
        self.refresh_token = refresh_token
        """The present refresh token: a secret, good once. None before the first login, and after `sign_out`."""

    async def __call__(self) -> str:
        """An access token that is good for a while."""
        held = self._access_token
        if held is not None and self._clock() < self._good_until:
            return held
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew())
        # Whoever asks may give up; a renewal goes on, for its answer has the only token that is good from then on.
        return await asyncio.shield(self._renewing)

    def discard(self, token: str) -> None:
        """The gateway does not take this access token any more: the next one is another."""
        if token == self._access_token:
            self._access_token = None

    async def sign_out(self) -> None:
        """End the login session at the gateway, with everything that is connected by it. Errors are those of asking;
        a session that had ended already is none.
        """
        token = await self()
        response = await self._post("/auth/logout", None, {"Authorization": f"Bearer {token}"})
        if response.status_code != 401:
            raise_for_status(response)
        self._access_token = self.refresh_token = self._login = None

    async def _renew(self) -> str:
        asked_at = self._clock()
        if self.refresh_token is not None:
            answer = await self._refresh(self.refresh_token)
        elif self._login is not None:
            answer = await self._post("/auth/login", self._login)
        else:
            raise AuthFailed("Signed out.")
        tokens = parse_answer(raise_for_status(answer), SignedIn)
        self.refresh_token, self._login = tokens.refresh_token, None
        if self._on_refresh is not None:
            self._on_refresh(tokens.refresh_token)
        self._access_token = tokens.access_token
        self._good_until = asked_at + max(tokens.expires_in / 2, tokens.expires_in - AHEAD_S)
        return tokens.access_token

    async def _refresh(self, refresh_token: str) -> httpx2.Response:
        """A renewal whose answer may be lost: asked again soon, it has the same answer."""
        for pause_s in (*PAUSES_S, None):
            try:
                async with asyncio.timeout(min(ATTEMPT_S, self._timeout_s)):
                    return await self._post("/auth/refresh", {"refresh_token": refresh_token})
            except (Disconnected, TimeoutError) as error:
                if pause_s is None:
                    raise Disconnected("The gateway does not answer.") from error
            await asyncio.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    async def _post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> httpx2.Response:
        named = {"User-Agent": f"gateway-client-sdk/{VERSION}", **(headers or {})}
        content = b""
        if body is not None:
            content, named["Content-Type"] = msgspec.json.encode(body), "application/json"
        try:
            with failures_named():
                async with httpx2.AsyncClient(
                    base_url=self._url, timeout=self._timeout_s, transport=self._transport
                ) as client:
                    return await client.post(path, content=content, headers=named)
        except httpx2.InvalidURL as exc:
            raise ConfigError(f"{self._url!r} is no address of a gateway: {exc}") from exc
