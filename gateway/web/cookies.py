"""The cookies of a browser's session, and what a page must show besides to write with them.

``__Host-`` cookies are bound to the origin's host, to TLS and to no path (RFC 6265bis §4.1.3). Their values are signed,
each for its one use: a cookie is not taken where a bearer token is, nor a bearer token where a cookie is, nor one
cookie for the other. A page of another site can make a browser send them, but neither knows the CSRF token nor has a
trusted origin.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from starlette.requests import HTTPConnection
from starlette.responses import Response

from gateway.auth.logins import DEVICE_TTL_S
from gateway.auth.signed import SignedValues, Use
from gateway.errors import Forbidden
from gateway.web.origins import Origins

ACCESS = "__Host-gateway_access"
REFRESH = "__Host-gateway_refresh"
DEVICE = "__Host-gateway_device"
CSRF_HEADER = "X-CSRF-Token"
READING = frozenset(("GET", "HEAD", "OPTIONS"))
SAME_SITE: Any = "Lax"
"""As RFC 6265bis writes it; Starlette's type knows small letters alone, and its code any."""


class HeldRefresh(NamedTuple):
    """What the refresh cookie holds: the login session that its CSRF token is bound to, and the refresh token."""

    session: str
    token: str


class Cookies:
    """Reads and writes them. `access_ttl_s` and `refresh_ttl_s` bound how old a value may be."""

    def __init__(self, signed: SignedValues, origins: Origins, *, access_ttl_s: int, refresh_ttl_s: int) -> None:
        self._signed = signed
        self._origins = origins
        self._access_ttl_s = access_ttl_s
        self._refresh_ttl_s = refresh_ttl_s

    # --- what the browser sent ---

    def access_token(self, request: HTTPConnection) -> str | None:
        """The access token in the cookie; None without a good one."""
        value = self._value(request, ACCESS, "cookie.access", self._access_ttl_s)
        return value if isinstance(value, str) else None

    def refresh(self, request: HTTPConnection) -> HeldRefresh | None:
        """What is in the refresh cookie; None without a good one."""
        match self._value(request, REFRESH, "cookie.refresh", self._refresh_ttl_s):
            case [str(session), str(token)]:
                return HeldRefresh(session, token)
        return None

    def device(self, request: HTTPConnection) -> str | None:
        """The mark of a browser that signed in before, as `Logins` gave it; nobody has looked at it yet."""
        return request.cookies.get(DEVICE)

    def sent_any(self, request: HTTPConnection) -> bool:
        """Whether a cookie of a login session came, good or not."""
        return ACCESS in request.cookies or REFRESH in request.cookies

    # --- what the browser keeps ---

    def set_tokens(self, response: Response, session: str, access_token: str, refresh_token: str) -> None:
        """Let the browser keep the tokens of a login session; none of them is shown to the page."""
        self._set(response, ACCESS, self._signed.dumps("cookie.access", access_token), self._access_ttl_s)
        refresh = self._signed.dumps("cookie.refresh", [session, refresh_token])
        self._set(response, REFRESH, refresh, self._refresh_ttl_s)

    def set_device(self, response: Response, device: str) -> None:
        """Let the browser be known at its next login."""
        self._set(response, DEVICE, device, DEVICE_TTL_S)

    def clear(self, response: Response) -> None:
        """Let the browser forget its session; that it signed in before it still knows."""
        for name in (ACCESS, REFRESH):
            response.delete_cookie(name, path="/", secure=True, httponly=True, samesite=SAME_SITE)

    # --- what a page has to show ---

    def csrf_token(self, session: str) -> str:
        """What a page of this login session has to send back in ``X-CSRF-Token`` with every write."""
        return self._signed.dumps("csrf", session)

    def check_login(self, request: HTTPConnection) -> None:
        """A page that lets its browser sign in has a trusted origin; a program that keeps cookies has none at all.
        Raises Forbidden: a stranger's page must not sign its visitors in as somebody else.
        """
        if "origin" in request.headers:
            self._check_origin(request)

    def check_write(self, request: HTTPConnection, session: str) -> None:
        """The request comes from a page of ours in this login session. Raises Forbidden."""
        self._check_origin(request)
        shown = request.headers.getlist(CSRF_HEADER)
        if len(shown) != 1 or self._signed.loads("csrf", shown[0], self._refresh_ttl_s) != session:
            raise Forbidden(f"A write with a cookie needs the session's CSRF token in {CSRF_HEADER}.")

    def _check_origin(self, request: HTTPConnection) -> None:
        """A browser names the page's origin with every write (Fetch, §3.1)."""
        if not self._origins.trusts(request):
            raise Forbidden(
                "This origin may not write with a cookie; server.allowed_origins names those that may, and without it"
                " the gateway's own does."
            )

    def _value(self, request: HTTPConnection, name: str, use: Use, max_age_s: int) -> object:
        value = request.cookies.get(name)
        return None if value is None else self._signed.loads(use, value, max_age_s)

    def _set(self, response: Response, name: str, value: str, max_age_s: int) -> None:
        response.set_cookie(name, value, max_age=max_age_s, path="/", secure=True, httponly=True, samesite=SAME_SITE)
