"""`config.toml` and the environment become one frozen `Config`.

A setting's value comes from, in this order: ``GATEWAY_SECTION_NAME`` in the environment (lists comma separated), the
file that the caller or ``GATEWAY_CONFIG`` names, the default below. The shipped `config.toml` holds the same defaults,
each with its reason. Whatever is unknown or can not be used stops the start with a `ConfigError` of one line that names
the setting and where it was set, and never repeats the value: it may be a secret.
"""

from __future__ import annotations

import importlib.resources
import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from gateway.errors import ConfigError

Seconds = Annotated[float, Meta(gt=0, le=31_536_000)]
SecondsOrNone = Annotated[float, Meta(ge=0, le=31_536_000)]
Count = Annotated[int, Meta(ge=1, le=10_000_000)]
Bytes = Annotated[int, Meta(ge=1024, le=1_073_741_824)]


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where the gateway listens and whom it believes."""

    host: Annotated[str, Meta(min_length=1, max_length=255)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8787
    api_base: str = "/api"
    use_https: bool = False
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    tls_min_version: Literal["1.2", "1.3"] = "1.3"
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    drain_s: SecondsOrNone = 10.0
    trusted_proxies: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()


class DatabaseConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Which database. `auth_token` is a secret: never in a file of settings, nor in what is printed."""

    url: Annotated[str, Meta(min_length=1, max_length=4096)] = "file:data/gateway.db"
    replica: Annotated[str, Meta(max_length=4096)] = ""
    auth_token_file: str = ""
    auth_token: Annotated[str, Meta(max_length=16_384)] = ""

    def __repr__(self) -> str:
        """Without tokens, of which the addresses may carry one too: it stands in tracebacks and logs."""
        url, replica = (address.partition("?")[0] for address in (self.url, self.replica))
        token = "set" if self.auth_token else ""
        return (
            f"DatabaseConfig(url={url!r}, replica={replica!r}, auth_token_file={self.auth_token_file!r},"
            f" auth_token={token!r})"
        )


class AuthConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Logins and what they give. `master_key` is a secret, one or several of them: see `gateway.core.sealing`."""

    issuer: Annotated[str, Meta(min_length=1, max_length=255)] = "http://127.0.0.1:8787"
    audience: Annotated[str, Meta(min_length=1, max_length=255)] = "gateway"
    access_ttl_s: Annotated[int, Meta(ge=60, le=86_400)] = 900
    refresh_ttl_s: Annotated[int, Meta(ge=300, le=31_536_000)] = 604_800
    max_login_attempts: Annotated[int, Meta(ge=1, le=1000)] = 5
    lockout_s: Annotated[int, Meta(ge=1, le=86_400)] = 300
    max_address_failures: Count = 50
    max_failures: Count = 2_000
    min_password_length: Annotated[int, Meta(ge=8, le=1024)] = 15
    blocked_words: tuple[str, ...] = ()
    argon2_memory_kib: Annotated[int, Meta(ge=7_168, le=524_288)] = 19_456
    argon2_time: Annotated[int, Meta(ge=1, le=100)] = 2
    argon2_parallelism: Annotated[int, Meta(ge=1, le=16)] = 1
    argon2_workers: Annotated[int, Meta(ge=1, le=64)] = 2
    argon2_queue: Annotated[int, Meta(ge=1, le=100_000)] = 100
    audit_keep_s: Annotated[int, Meta(ge=3600, le=3_153_600_000)] = 31_536_000
    master_key_file: Annotated[str, Meta(max_length=4096)] = ""
    master_key: Annotated[str, Meta(max_length=16_384)] = ""

    def __repr__(self) -> str:
        """Without the key: it stands in tracebacks and logs."""
        return f"AuthConfig(issuer={self.issuer!r}, master_key={'set' if self.master_key else ''!r})"


class ChannelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of one connection and of one node."""

    heartbeat_s: Seconds = 25.0
    pong_timeout_s: Seconds = 10.0
    auth_timeout_s: Seconds = 10.0
    send_timeout_s: Seconds = 10.0
    max_frame_bytes: Bytes = 16_384
    max_sessions: Count = 50_000
    max_sessions_per_user: Count = 20
    max_documents: Count = 100
    messages_per_minute: Count = 120
    send_buffer_bytes: Bytes = 65_536
    expiring_s: Seconds = 60.0


class ChangesConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How the change log is followed and kept."""

    keep_s: Annotated[int, Meta(ge=1, le=31_536_000)] = 86_400
    sweep_s: Seconds = 600.0
    poll_ms: Annotated[int, Meta(ge=1, le=60_000)] = 25


class QuotasConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How long it is remembered what was spent."""

    keep_s: Annotated[int, Meta(ge=31_708_800, le=1_000_000_000)] = 34_560_000


class AdminConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What operators may reach."""

    metrics_networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128")


class LoggingConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How much is logged, and in which form."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set."""

    server: ServerConfig = msgspec.field(default_factory=ServerConfig)
    database: DatabaseConfig = msgspec.field(default_factory=DatabaseConfig)
    auth: AuthConfig = msgspec.field(default_factory=AuthConfig)
    channel: ChannelConfig = msgspec.field(default_factory=ChannelConfig)
    changes: ChangesConfig = msgspec.field(default_factory=ChangesConfig)
    quotas: QuotasConfig = msgspec.field(default_factory=QuotasConfig)
    admin: AdminConfig = msgspec.field(default_factory=AdminConfig)
    logging: LoggingConfig = msgspec.field(default_factory=LoggingConfig)


SECRETS = frozenset({"database.auth_token", "auth.master_key"})
"""Settings that the environment alone sets: a file of settings is copied, committed and shown around."""

NO_SETTINGS = frozenset({"GATEWAY_AUTH_TOKEN"})
"""Variables of the client SDK that look like settings."""

SECTIONS: Mapping[str, type[msgspec.Struct]] = {
    "server": ServerConfig,
    "database": DatabaseConfig,
    "auth": AuthConfig,
    "channel": ChannelConfig,
    "changes": ChangesConfig,
    "quotas": QuotasConfig,
    "admin": AdminConfig,
    "logging": LoggingConfig,
}


def environment_name(section: str, name: str) -> str:
    """The environment variable that sets `section.name`."""
    return f"GATEWAY_{section}_{name}".upper()


def load_config(path: str | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration of this process.

    `path` (or ``GATEWAY_CONFIG``) names the file and must then exist; without it the shipped `config.toml` is read.
    `ConfigError` when a key is unknown, a value can not be used, or the file can not be read.
    """
    path = path or environ.get("GATEWAY_CONFIG") or None
    source = path or "config.toml"
    text = _read(path) if path else _shipped()
    sections = _parse(text, source)
    built: dict[str, msgspec.Struct] = {}
    for section, kind in SECTIONS.items():
        values = _from_file(section, kind, sections.pop(section, {}), source)
        values.update(_from_environment(section, kind, environ))
        built[section] = kind(**values)
    if sections:
        raise ConfigError(f"{source}: unknown section [{_shown(next(iter(sections)))}]")
    built["database"] = _with_token(built["database"])
    config = Config(**built)  # type: ignore[arg-type]
    if config.server.use_https and not (config.server.tls_cert and config.server.tls_key):
        raise ConfigError("server.use_https: needs server.tls_cert and server.tls_key")
    return config


def _with_token(database: Any) -> DatabaseConfig:
    """The section with the token from its file, where one is named and the environment has none."""
    settings: DatabaseConfig = database
    if not settings.auth_token_file or settings.auth_token:
        return settings
    try:
        token = Path(settings.auth_token_file).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        raise ConfigError("database.auth_token_file: can not be read as text") from None
    if not token or not token.isprintable() or len(token) > 16_384:
        raise ConfigError("database.auth_token_file: holds no token")
    return msgspec.structs.replace(settings, auth_token=token)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{_shown(path)}: {error.strerror or 'can not be read'}") from error
    except ValueError as error:
        raise ConfigError(f"{_shown(path)}: not UTF-8 text") from error


def _shipped() -> str:
    """The `config.toml` in the wheel, else that of the source tree; the same defaults stand in the code."""
    packaged = importlib.resources.files("gateway") / "config.toml"
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    tree = Path(__file__).resolve().parent.parent
    return _read(str(tree / "config.toml")) if (tree / "pyproject.toml").is_file() else ""


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{source}: not TOML: {_shown(str(error) or 'nested too deeply')}") from error


def _from_file(section: str, kind: type[msgspec.Struct], table: Any, source: str) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ConfigError(f"{source}: {section} must be a section, [{section}]")
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    values = {}
    for name, value in table.items():
        if name not in fields:
            raise ConfigError(f"{source}: unknown setting {section}.{_shown(name)}")
        if f"{section}.{name}" in SECRETS:
            raise ConfigError(f"{source}: {section}.{name} is a secret; set {environment_name(section, name)} instead")
        values[name] = _checked(section, name, value, fields[name].type, source, strict=True)
    return values


def _from_environment(section: str, kind: type[msgspec.Struct], environ: Mapping[str, str]) -> dict[str, Any]:
    fields = {environment_name(section, field.name): field for field in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    for variable, text in environ.items():
        field = fields.get(variable)
        if field is not None:
            value = _items(text) if isinstance(field.default, tuple) else text
            source = f"environment {variable}"
            values[field.name] = _checked(section, field.name, value, field.type, source, strict=False)
        elif variable.startswith(environment_name(section, "")) and variable not in NO_SETTINGS:
            raise ConfigError(f"environment {_shown(variable)}: unknown setting of [{section}]")
    return values


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _checked(section: str, name: str, value: Any, kind: Any, source: str, *, strict: bool) -> Any:
    try:
        converted = msgspec.convert(value, kind, strict=strict)
        check = _CHECKS.get(f"{section}.{name}")
        if check is not None:
            check(converted)
    except ValueError as error:
        reason = str(error) if strict else str(error).removesuffix(", got `str`")
        raise ConfigError(f"{source}: {section}.{name}: {reason}") from None
    return converted


def _shown(text: str) -> str:
    """`text` as it may stand in a line of an error message."""
    return text.encode("unicode_escape").decode("ascii")[:200]


def _check_api_base(value: str) -> None:
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", value):
        raise ValueError("must be a path such as /api, without a slash at its end")


def _check_networks(value: tuple[str, ...]) -> None:
    for item in value:
        try:
            ipaddress.ip_network(item)
        except ValueError:
            raise ValueError("every entry must be an address or a network such as 10.0.0.0/8, host bits zero") from None


# An origin as browsers send it (RFC 6454 §6.2): lower case, no path, and never the scheme's own port.
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([1-9][0-9]{0,4}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def _check_origins(value: tuple[str, ...]) -> None:
    for item in value:
        match = _ORIGIN.fullmatch(item)
        port = int(match[3]) if match and match[3] else None
        if match is None or (port is not None and (port > 65535 or port == _DEFAULT_PORTS.get(match[1]))):
            raise ValueError("every entry must be scheme://host[:port]: lower case, no path, no default port")


def _check_replica(value: str) -> None:
    if value:
        _check_url(value)
        if value.partition("://")[0].lower() not in ("http", "https", "ws", "wss", "libsql"):
            raise ValueError("must be http(s)://, ws(s):// or libsql://")


def _check_token(value: str) -> None:
    if not value.isascii() or not value.isprintable():
        raise ValueError("must be printable ASCII")


def _check_issuer(value: str) -> None:
    """An address that others put paths behind (RFC 8414 §2); http is for machines that talk to themselves."""
    if re.fullmatch(r"https?://[A-Za-z0-9._~:\[\]-]+(/[A-Za-z0-9._~/-]*[A-Za-z0-9._~-])?", value) is None:
        raise ValueError("must be an address such as https://gateway.example.org, without a slash at its end")


def _check_printable(value: str) -> None:
    if not value.isprintable():
        raise ValueError("must not hold control characters")


def _check_words(value: tuple[str, ...]) -> None:
    for item in value:
        if not item.isprintable() or len(item) < 3:
            raise ValueError("every entry must be a word of three characters or more")


def _check_url(value: str) -> None:
    try:
        scheme = urlsplit(value).scheme
    except ValueError:
        raise ValueError("is not an address") from None
    if scheme not in ("", "file", "http", "https", "ws", "wss", "libsql"):
        raise ValueError("must be file:PATH, http(s)://, ws(s):// or libsql://")
    if scheme == "file" and not value[len("file:") :].lstrip("/"):
        raise ValueError("file: needs a path")
    if not value.isprintable():
        raise ValueError("must not hold control characters")


_CHECKS: Mapping[str, Callable[[Any], None]] = {
    "server.api_base": _check_api_base,
    "server.trusted_proxies": _check_networks,
    "server.allowed_origins": _check_origins,
    "database.url": _check_url,
    "database.replica": _check_replica,
    "database.auth_token": _check_token,
    "auth.issuer": _check_issuer,
    "auth.audience": _check_printable,
    "auth.blocked_words": _check_words,
    "auth.master_key": _check_token,
    "admin.metrics_networks": _check_networks,
}
