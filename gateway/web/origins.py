"""Which pages may open a channel or write with a cookie: those of the configured origins, else the gateway's own."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from gateway.core.networks import Networks
from gateway.web.peer import public_scheme


class Origins:
    """The origins (RFC 6454) whose pages are trusted; none configured: the gateway's own alone."""

    def __init__(self, allowed: Iterable[str], proxies: Networks) -> None:
        self._allowed = frozenset(allowed)
        self._proxies = proxies

    def trusts(self, request: HTTPConnection) -> bool:
        """Whether the one ``Origin`` of the request is among them; False for several, and for none."""
        origins = request.headers.getlist("origin")
        if len(origins) != 1:
            return False
        if self._allowed:
            return origins[0] in self._allowed
        hosts = request.headers.getlist("host")
        scheme = public_scheme(request, self._proxies)
        return scheme != "" and len(hosts) == 1 and is_own_origin(origins[0], scheme, hosts[0])


def is_own_origin(origin: str, scheme: str, host: str) -> bool:
    """Whether an origin is the one that the page of this very server has: same scheme, host and port."""
    try:
        parts = urlsplit(origin)
        own = urlsplit(f"{scheme}://{host}")
        same_port = (parts.port or _default_port(scheme)) == (own.port or _default_port(scheme))
    except ValueError:
        return False
    if parts.path or "?" in origin or "#" in origin or not parts.hostname:
        return False
    if parts.username is not None or own.username is not None:
        return False
    return parts.scheme == scheme and parts.hostname == own.hostname and same_port


def _default_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80
