"""The cookies of a browser's session, and what a page must show besides to write with them.

``__Host-`` cookies are bound to the origin's host, to TLS and to no path (RFC 6265bis §4.1.3). Their values are signed
for this one use: a stolen cookie is no bearer token, and a bearer token no cookie. A page of another site can make a
browser send them, but neither knows the CSRF token nor has a trusted origin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection
from starlette.responses import Response

from gateway.errors import Forbidden
from gateway.web.origins import Origins

if TYPE_CHECKING:
    from gateway.auth.signed import SignedValues

ACCESS = "__Host-gateway_access"
REFRESH = "__Host-gateway_refresh"
DEVICE = "__Host-gateway_device"
CSRF_HEADER = "X-CSRF-Token"
DEVICE_TTL_S = 180 * 86_400
READING = frozenset(("GET", "HEAD", "OPTIONS"))


class Cookies:
    """Reads and writes them. `access_ttl_s` and `refresh_ttl_s` bound how old a value may be."""

    def __init__(self, signed: SignedValues, origins: Origins, *, access_ttl_s: int, refresh_ttl_s: int) -> None:
        self._signed = signed
        self._origins = origins
        self._access_ttl_s = access_ttl_s
        self._refresh_ttl_s = refresh_ttl_s

    def access_token(self, request: HTTPConnection) -> str | None:
        """The access token in the cookie; None without a good one."""
        return self._text(request, ACCESS, "cookie.access", self._access_ttl_s)

    def refresh_token(self, request: HTTPConnection) -> str | None:
        """The refresh token in the cookie; None without a good one."""
        return self._text(request, REFRESH, "cookie.refresh", self._refresh_ttl_s)

    def device(self, request: HTTPConnection) -> str | None:
        """The mark of a browser that signed in before, as `Logins` gave it."""
        return request.cookies.get(DEVICE)

    def set_tokens(self, response: Response, access_token: str, refresh_token: str) -> None:
        """Let the browser keep the tokens of a login session; neither is shown to the page."""
        self._set(response, ACCESS, self._signed.dumps("cookie.access", access_token), self._access_ttl_s)
        self._set(response, REFRESH, self._signed.dumps("cookie.refresh", refresh_token), self._refresh_ttl_s)

    def set_device(self, response: Response, device: str) -> None:
        """Let the browser be known at its next login."""
        self._set(response, DEVICE, device, DEVICE_TTL_S)

    def clear(self, response: Response) -> None:
        """Let the browser forget its session; that it signed in before it still knows."""
        for name in (ACCESS, REFRESH):
            response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="lax")

    def csrf_token(self, session: str) -> str:
        """What a page of this login session has to send back in ``X-CSRF-Token`` with every write."""
        return self._signed.dumps("csrf", session)

    def check_origin(self, request: HTTPConnection) -> None:
        """A browser names the page's origin with every write: Forbidden when it is not a trusted one."""
        if not self._origins.trusts(request):
            raise Forbidden("This origin may not write with a cookie.")

    def check_write(self, request: HTTPConnection, session: str) -> None:
        """The request comes from a page of ours in this login session. Raises Forbidden."""
        self.check_origin(request)
        shown = request.headers.get(CSRF_HEADER, "")
        if self._signed.loads("csrf", shown, self._refresh_ttl_s) != session:
            raise Forbidden(f"A write with a cookie needs the session's CSRF token in {CSRF_HEADER}.")

    def _text(self, request: HTTPConnection, name: str, use: str, max_age_s: int) -> str | None:
        value = request.cookies.get(name)
        text = None if value is None else self._signed.loads(use, value, max_age_s)
        return text if isinstance(text, str) else None

    def _set(self, response: Response, name: str, value: str, max_age_s: int) -> None:
        response.set_cookie(name, value, max_age=max_age_s, path="/", secure=True, httponly=True, samesite="lax")
