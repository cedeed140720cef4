"""Which pages may open a channel or write with a cookie: those of the configured origins, else the gateway's own."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from gateway.core.networks import Networks
from gateway.web.peer import public_scheme

_DEFAULT_PORTS = {"http": 80, "https": 443}


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
    """Whether an origin is, to the letter, the one that a browser writes for the page of this very server (RFC 6454
    §6.2): of ``Host`` in lower case, and without the port that the scheme has anyway.
    """
    try:
        own = urlsplit(f"{scheme}://{host}")
        port = own.port
    except ValueError:
        return False
    if not own.hostname or own.username is not None or own.path or own.query or own.fragment:
        return False
    name = f"[{own.hostname}]" if ":" in own.hostname else own.hostname
    return origin == f"{scheme}://{name}" + ("" if port in (None, _DEFAULT_PORTS[scheme]) else f":{port}")
