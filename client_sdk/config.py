"""Where the gateway is and which token to use: ``[server]`` of config.toml, and above it the environment."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

import msgspec

TOKEN_VARIABLES = ("GATEWAY_AUTH_TOKEN", "XSWARM_AUTH_TOKEN")
CHANNEL_PATH = "/ws"
# Addresses that a server listens on and nobody can connect to.
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104
_WEBSOCKET_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_HTTP_SCHEMES = {"ws": "http", "wss": "https", "http": "http", "https": "https"}


class ConfigError(ValueError):
    """A setting is missing or has a bad value; the text is one line that names it."""


class ServerConfig(msgspec.Struct, frozen=True):
    """The part of the gateway's ``[server]`` section that its clients need."""

    host: str = "127.0.0.1"
    port: int = 8787
    api_base: str = "/api"
    use_https: bool = False

    @property
    def url(self) -> str:
        """The gateway's HTTP address, without a path."""
        return f"{'https' if self.use_https else 'http'}://{self._authority}"

    @property
    def channel_url(self) -> str:
        """The channel's WebSocket address."""
        return f"{'wss' if self.use_https else 'ws'}://{self._authority}{CHANNEL_PATH}"

    @property
    def _authority(self) -> str:
        host = _ANY_ADDRESS.get(self.host, self.host)
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


def load_config(path: str | None = None, environ: Mapping[str, str] = os.environ) -> ServerConfig:
    """Read ``[server]`` of the file at `path`, else of ``GATEWAY_CONFIG``, else of ``config.toml`` if there is one.

    ``GATEWAY_SERVER_HOST``, ``_PORT``, ``_API_BASE`` and ``_USE_HTTPS`` count more. Raises `ConfigError`.
    """
    settings = _read(path or environ.get("GATEWAY_CONFIG"))
    for name in ServerConfig.__struct_fields__:
        variable = f"GATEWAY_SERVER_{name.upper()}"
        if variable in environ:
            settings[name] = environ[variable]
    known = {name: value for name, value in settings.items() if name in ServerConfig.__struct_fields__}
    try:
        config = msgspec.convert(known, ServerConfig, strict=False)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"server: {exc}") from exc
    if not 1 <= config.port <= 65535:
        raise ConfigError(f"server.port: {config.port} is no port that can be connected to")
    return config


def load_token(environ: Mapping[str, str] = os.environ) -> str:
    """The token of ``GATEWAY_AUTH_TOKEN``, else of ``XSWARM_AUTH_TOKEN``. Raises `ConfigError` when neither is set."""
    for variable in TOKEN_VARIABLES:
        if token := environ.get(variable, "").strip():
            return token
    raise ConfigError(f"no token: set {TOKEN_VARIABLES[0]}")


def channel_url(server: str | ServerConfig | None) -> str:
    """The channel's address: of a configuration, of an ``http(s)`` URL, of a ``ws(s)`` one, which may name another path
    than `/ws`, or of `load_config` when there is neither. Raises `ConfigError`.
    """
    if not isinstance(server, str):
        url = (server or load_config()).channel_url
        _split(url)
        return url
    parts = _split(server)
    if parts.scheme in ("http", "https"):
        _require_root(server, parts)
    path = CHANNEL_PATH if parts.path in ("", "/") else parts.path
    return urlunsplit((_WEBSOCKET_SCHEMES[parts.scheme], parts.netloc, path, parts.query, ""))


def http_url(server: str | ServerConfig | None) -> tuple[str, str]:
    """The gateway's HTTP address without a path, and where its API begins. Raises `ConfigError`, also for an address
    below a path: the gateway has its host and port to itself, and requests elsewhere than its channel help nobody.
    """
    if not isinstance(server, str):
        config = server or load_config()
        _split(config.url)
        return config.url, config.api_base.rstrip("/")
    parts = _split(server)
    _require_root(server, parts)
    return f"{_HTTP_SCHEMES[parts.scheme]}://{parts.netloc}", ServerConfig().api_base


def _require_root(server: str, parts: SplitResult) -> None:
    if parts.path not in ("", "/", CHANNEL_PATH):
        raise ConfigError(f"{server!r} has the path {parts.path!r}: a gateway is not below a path, leave it out")


def _split(server: str) -> SplitResult:
    try:
        parts = urlsplit(server)
        if parts.scheme in _HTTP_SCHEMES and "@" in parts.netloc:  # it would take the place of the token
            raise ConfigError("the address of a gateway has no user and no password in it")
        if parts.scheme in _HTTP_SCHEMES and parts.hostname and parts.port != 0:
            return parts
    except ConfigError:
        raise
    except ValueError:  # brackets that do not match, or a port that is none
        pass
    raise ConfigError(f"{server!r} is no address of a gateway")


def _read(path: str | None) -> dict[str, Any]:
    file = Path(path or "config.toml")
    if path is None and not file.exists():
        return {}
    try:
        section = tomllib.loads(file.read_text(encoding="utf-8")).get("server", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"{file}: {exc}") from exc
    if not isinstance(section, dict):
        raise ConfigError(f"{file}: server is no section")
    return dict(section)
