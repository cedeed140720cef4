"""Where a gateway is, seen from this machine."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from gateway.config import ServerConfig
from gateway.errors import BadRequest

# Addresses that one listens on and nobody can connect to.
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
_CHANNEL_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def own_url(server: ServerConfig) -> str:
    """The address at which the gateway of this configuration answers."""
    host = _ANY.get(server.host, server.host)
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if server.use_https else 'http'}://{shown}:{server.port}"


def channel_address(url: str) -> str:
    """The channel of the gateway at `url`: ``http://host`` becomes ``ws://host/ws``. Raises BadRequest."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        usable = parts.scheme in _CHANNEL_SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise BadRequest("The address must be http(s)://HOST[:PORT] or ws(s)://HOST[:PORT].")
    path = parts.path if parts.path not in ("", "/") else "/ws"
    return urlunsplit((_CHANNEL_SCHEMES[parts.scheme], parts.netloc, path, "", ""))
