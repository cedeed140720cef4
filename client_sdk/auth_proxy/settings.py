"""What each setting of an `AuthProxy` may be."""

from __future__ import annotations

import inspect
import re
import ssl
from collections.abc import Iterable, Mapping
from typing import Any

from client_sdk.auth_proxy.modes import MODES
from client_sdk.auth_proxy.public_paths import PublicPaths
from client_sdk.auth_proxy.storage import Storage
from client_sdk.settings import (
    Check,
    count,
    function,
    one_of,
    or_none,
    seconds,
    seconds_from_0,
    shown,
    text,
)

MOST_USERS = 9_900
"""Users on one channel, which takes 10,000 documents: the others are what is always watched, and those that come before
others were given up.
"""
STORAGE_METHODS = tuple(
    name for name, value in vars(Storage).items() if inspect.isfunction(value) and not name.startswith("_")
)
_PATH = re.compile(r"/[^?#]*")
# As browsers send it (RFC 6454 §6.2): lower case, no path, and never the scheme's own port.
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([1-9][0-9]{0,4}))?")
_OWN_PORTS = {"http": "80", "https": "443"}
_COOKIE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token (RFC 6265 §4.1.1, RFC 9110 §5.6.2)


def _several(what: str, value: Any) -> list[Any]:
    # A text is an iterable too, of its characters: of a path that would be one that begins with "/", and all below.
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise ValueError(f"{shown(value)} is no list: give a list of {what}")
    return list(value)


def paths(value: Any) -> PublicPaths:
    """Paths of this application."""
    found = _several("paths", value)
    for path in found:
        if not isinstance(path, str) or _PATH.fullmatch(path) is None:
            raise ValueError(f"{shown(path)} is no path: it begins with /, and has no ? and no #")
    return PublicPaths(found)


def origins(value: Any) -> frozenset[str]:
    """Origins, as browsers send them."""
    return frozenset(map(_origin, _several("origins", value)))


def _origin(value: Any) -> str:
    match = _ORIGIN.fullmatch(value.lower()) if isinstance(value, str) and value.isascii() else None
    if match is None or int(match[3] or 0) > 65535:
        raise ValueError(f"{shown(value)} is no origin: scheme://host or scheme://host:port, without a path")
    scheme, host, port = match.groups()
    return f"{scheme}://{host}" if port in (None, _OWN_PORTS.get(scheme)) else f"{scheme}://{host}:{port}"


def _cookie(value: Any) -> str:
    if not isinstance(value, str) or _COOKIE.fullmatch(value) is None:
        raise ValueError(f"{shown(value)} is no name of a cookie")
    return value


def _storage(value: Any) -> Any:
    if isinstance(value, type):
        raise ValueError(f"give a Storage, not the class {value.__name__}")
    if lacking := [name for name in STORAGE_METHODS if not callable(getattr(value, name, None))]:
        raise ValueError(f"give a Storage, not a {type(value).__name__} without {', '.join(lacking)}")
    return value


def _context(value: Any) -> ssl.SSLContext:
    if not isinstance(value, ssl.SSLContext):
        raise ValueError(f"give an ssl.SSLContext, not a {type(value).__name__}")
    return value


SETTINGS: Mapping[str, Check] = {
    "mode": one_of(*MODES),
    "own_check": or_none(function),
    "on_difference": or_none(function),
    "public": paths,
    "cookie": or_none(_cookie),
    "origins": origins,
    "token": or_none(function),
    "storage": or_none(_storage),
    "fetch_s": seconds,
    "idle_s": seconds,
    "ssl": or_none(_context),
    "issuer": text,
    "audience": text,
    "max_stale_s": seconds_from_0,
    "negative_s": seconds_from_0,
    "recheck_s": seconds,
    "max_users": count(MOST_USERS),
    "max_socket_users": count(MOST_USERS),
    "max_tokens": count(),
    "max_negatives": count(),
}
"""Every setting, and what it may be."""
