"""Database addresses: a local file, or a libSQL server by HTTP or by WebSocket."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit

from gateway.errors import ConfigError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,15}")
_TRANSPORTS: dict[str, Literal["http", "ws"]] = {
    "libsql": "http",
    "http": "http",
    "https": "http",
    "ws": "ws",
    "wss": "ws",
}


class FileAddress(NamedTuple):
    """A file on this machine."""

    path: Path

    def __str__(self) -> str:
        return f"file:{self.path}"


class ServerAddress(NamedTuple):
    """A libSQL server: `url` is ``http://``, ``https://``, ``ws://`` or ``wss://`` with no secret in it; `token` is the
    one that the address carried, if any."""

    transport: Literal["http", "ws"]
    url: str
    token: str | None

    @property
    def http_url(self) -> str:
        """Where the same server answers by HTTP, which every one does."""
        return self.url if self.transport == "http" else "http" + self.url.removeprefix("ws")

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        """Without the token: it stands in tracebacks and logs."""
        return f"ServerAddress({self.transport!r}, {self.url!r}, token={'set' if self.token else None})"


Address: TypeAlias = FileAddress | ServerAddress


def parse_address(url: str, setting: str = "database.url") -> Address:
    """What an address names: ``file:PATH`` or a plain path, ``http(s)://``, ``ws(s)://``, or ``libsql://`` (HTTPS;
    HTTP with ``?tls=0``). A server's may carry ``?authToken=``.

    Raises `ConfigError` for everything else; it repeats no more of the address than its scheme: the rest may hold a
    token.
    """
    scheme = url.partition(":")[0].lower()
    if scheme in _TRANSPORTS:
        return _server(url, setting)
    if scheme != "file" and "://" in url:
        named = f"the scheme {scheme}" if _SCHEME.fullmatch(scheme) else "this address"
        raise ConfigError(f"{setting}: {named} is not supported; use file:PATH, http(s)://, ws(s):// or libsql://")
    if scheme != "file" and (url.startswith("//") or url.partition("/")[0].lower() in _TRANSPORTS):
        raise ConfigError(
            f"{setting}: it looks like a server's address with its scheme cut off; file:PATH names a file"
        )
    return FileAddress(_path(url, setting))


def _path(url: str, setting: str) -> Path:
    name = url
    if url[:5].lower() == "file:":
        parts = _split(url, setting)
        if parts.query or parts.fragment:
            raise ConfigError(f"{setting}: parameters are not supported after file:PATH")
        if parts.netloc not in ("", "localhost"):
            raise ConfigError(f"{setting}: it names a host; write file:relative/path or file:///absolute/path")
        name = unquote(parts.path)
    if not name or name == ":memory:" or "\0" in name:
        raise ConfigError(f"{setting}: it does not name a file")
    return Path(name)


def _server(url: str, setting: str) -> ServerAddress:
    parts = _split(url, setting)
    scheme = parts.scheme.lower()
    if not parts.hostname or not url[len(scheme) :].startswith("://"):
        raise ConfigError(f"{setting}: it does not name a host; write {scheme}://HOST")
    if parts.username is not None or parts.fragment:
        raise ConfigError(f"{setting}: user names and fragments are not supported; give the token separately")
    tls, token = scheme not in ("http", "ws"), None
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name == "authToken":
            token = value or None
        elif name == "tls" and scheme == "libsql" and value in ("0", "1"):
            tls = value == "1"
        else:
            raise ConfigError(f"{setting}: only authToken, and tls=0 or tls=1 after libsql://, may follow the address")
    transport = _TRANSPORTS[scheme]
    return ServerAddress(
        transport, urlunsplit((transport + "s" * tls, parts.netloc, parts.path.rstrip("/"), "", "")), token
    )


def _split(url: str, setting: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for what is no port
    except ValueError:
        raise ConfigError(f"{setting}: is not an address") from None
    return parts
