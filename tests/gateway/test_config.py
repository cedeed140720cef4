from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

from gateway.config import SECRETS, SECTIONS, Config, ServerConfig, environment_name, load_config
from gateway.errors import ConfigError
from gateway.store.address import FileAddress, ServerAddress, parse_address

TREE = Path(__file__).parents[2]
SHIPPED = TREE / "config.toml"
SETTINGS = [(section, field.name) for section, kind in SECTIONS.items() for field in msgspec.structs.fields(kind)]


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "other.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def refused(path: str | None, environ: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_shipped_file_says_what_the_code_says() -> None:
    assert load_config(None, {}) == Config()
    shipped = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    in_file = {(section, name): value for section, table in shipped.items() for name, value in table.items()}
    in_code = {
        (section, field.name): list(field.default) if isinstance(field.default, tuple) else field.default
        for section, kind in SECTIONS.items()
        for field in msgspec.structs.fields(kind)
        if f"{section}.{field.name}" not in SECRETS
    }
    assert in_file == in_code


@pytest.mark.parametrize(("section", "name"), [pair for pair in SETTINGS if ".".join(pair) not in SECRETS])
def test_every_setting_has_its_reason(section: str, name: str) -> None:
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    line = lines.index(f"[{section}]")
    while not lines[line].startswith(f"{name} = "):
        line += 1
    assert lines[line - 1].startswith("# ")


def test_the_sections_are_all_of_the_configuration() -> None:
    assert [field.name for field in msgspec.structs.fields(Config)] == list(SECTIONS)


def test_the_shipped_file_is_found_from_any_directory(tmp_path: Path) -> None:
    code = "from gateway.config import load_config, Config; assert load_config(None, {}) == Config()"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(TREE)}, check=True, timeout=30)


def test_a_file_named_by_the_caller_wins_over_the_environments(tmp_path: Path) -> None:
    path = written(tmp_path, '[server]\nport = 9001\nallowed_origins = ["https://app.example.org"]\n')
    server = load_config(path, {"GATEWAY_CONFIG": str(tmp_path / "absent.toml")}).server
    assert (server.port, server.allowed_origins) == (9001, ("https://app.example.org",))
    assert load_config(None, {"GATEWAY_CONFIG": path}).server.port == 9001
    assert load_config(None, {"GATEWAY_CONFIG": ""}) == Config()


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "[server]\nport = 9001\nuse_https = false\n[channel]\nheartbeat_s = 5\n")
    config = load_config(
        path,
        {
            "GATEWAY_SERVER_PORT": "9002",
            "GATEWAY_SERVER_TRUSTED_PROXIES": "10.0.0.0/8, 192.168.1.7,",
            "GATEWAY_ADMIN_METRICS_NETWORKS": "",
            "GATEWAY_DATABASE_URL": "libsql://example.turso.io",
            "GATEWAY_CHANNEL_EXPIRING_S": "2.5",
            "GATEWAY_LOGGING_FORMAT": "json",
            "GATEWAY_SERVER_USE_HTTPS": "true",
            "GATEWAY_SERVER_TLS_CERT": "cert.pem",
            "GATEWAY_SERVER_TLS_KEY": "key.pem",
            "GATEWAY_AUTH_TOKEN": "not a setting",
        },
    )
    assert (config.server.port, config.server.use_https) == (9002, True)
    assert config.server.trusted_proxies == ("10.0.0.0/8", "192.168.1.7")
    assert config.admin.metrics_networks == ()
    assert config.database.url == "libsql://example.turso.io"
    assert (config.channel.heartbeat_s, config.channel.expiring_s) == (5.0, 2.5)
    assert config.logging.format == "json"


@pytest.mark.parametrize(("section", "name"), SETTINGS)
def test_every_setting_can_be_set_and_refused_by_the_environment(section: str, name: str) -> None:
    default = getattr(getattr(Config(), section), name)
    text = ",".join(default) if isinstance(default, tuple) else str(default).lower()
    complete = {"GATEWAY_SERVER_TLS_CERT": "c", "GATEWAY_SERVER_TLS_KEY": "k"}
    if name not in ("tls_cert", "tls_key"):
        config = load_config(None, complete | {environment_name(section, name): text})
        assert getattr(getattr(config, section), name) == default
    if name not in ("host", "tls_cert", "tls_key", "tls_client_ca", "auth_token_file", "master_key_file"):
        message = refused(None, {environment_name(section, name): "gopher://\x00?"})
        assert f"{section}.{name}" in message
        assert environment_name(section, name) in message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[server]\nprot = 1\n", "unknown setting server.prot"),
        ("[sever]\nport = 1\n", "unknown section [sever]"),
        ("port = 1\n", "unknown section [port]"),
        ("server = 1\n", "server must be a section"),
        ("[server]\nport = 65536\n", "server.port: Expected `int` <= 65535"),
        ("[server]\nport = -1\n", "server.port"),
        ('[server]\nport = "8787"\n', "server.port: Expected `int`, got `str`"),
        ("[server]\nport = true\n", "server.port"),
        ("[server]\nworkers = 0\n", "server.workers"),
        ('[server]\nhost = ""\n', "server.host"),
        ('[server]\napi_base = "api"\n', "server.api_base"),
        ('[server]\napi_base = "/api/"\n', "server.api_base"),
        ('[server]\napi_base = "/"\n', "server.api_base"),
        ('[server]\ntls_min_version = "1.1"\n', "server.tls_min_version"),
        ("[server]\nuse_https = true\n", "server.use_https: needs server.tls_cert"),
        ('[server]\ntrusted_proxies = ["10.0.0.1/8"]\n', "server.trusted_proxies"),
        ('[server]\ntrusted_proxies = ["proxy.example.org"]\n', "server.trusted_proxies"),
        ('[server]\ntrusted_proxies = "10.0.0.0/8"\n', "server.trusted_proxies"),
        ("[channel]\nheartbeat_s = 0\n", "channel.heartbeat_s"),
        ("[channel]\nheartbeat_s = nan\n", "channel.heartbeat_s"),
        ("[channel]\nheartbeat_s = inf\n", "channel.heartbeat_s"),
        ("[channel]\nmax_frame_bytes = 100\n", "channel.max_frame_bytes"),
        ("[channel]\nmax_documents = 1.5\n", "channel.max_documents"),
        ("[changes]\npoll_ms = 0\n", "changes.poll_ms"),
        ('[admin]\nmetrics_networks = ["::1/64"]\n', "admin.metrics_networks"),
        ('[logging]\nlevel = "INFO"\n', "logging.level"),
        ('[database]\nurl = ""\n', "database.url"),
        ('[database]\nurl = "file:"\n', "database.url"),
        ('[database]\nurl = "postgres://host/db"\n', "database.url"),
        ('[database]\nurl = "file:a\\u0000b"\n', "database.url"),
        ('[database]\nurl = "http://[::1"\n', "database.url"),
        ("[server\n", "not TOML"),
        ("[server]\nport = 1\nport = 2\n", "not TOML"),
    ],
)
def test_what_can_not_be_used_is_named_with_its_file(tmp_path: Path, text: str, named: str) -> None:
    message = refused(written(tmp_path, text), {})
    assert named in message
    assert "other.toml" in message or "use_https" in message


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.org/",
        "https://App.example.org",
        "app.example.org",
        "https://app.example.org:443",
        "null",
        "*",
        "http://app.example.org:80",
        "https://app.example.org:65536",
        "https://user@app.example.org",
        "https://",
        "https://app.example.org?",
        "https://app.example.org:0443",
        " https://app.example.org",
    ],
)
def test_an_origin_that_no_browser_sends_is_refused(tmp_path: Path, origin: str) -> None:
    text = f'[server]\nallowed_origins = ["{origin}"]\n'
    assert "server.allowed_origins" in refused(written(tmp_path, text), {})


@pytest.mark.parametrize(
    "origin", ["https://app.example.org", "http://localhost:3000", "http://[::1]:8787", "capacitor://localhost"]
)
def test_an_origin_that_browsers_send_is_taken(tmp_path: Path, origin: str) -> None:
    path = written(tmp_path, f'[server]\nallowed_origins = ["{origin}"]\n')
    assert load_config(path, {}).server.allowed_origins == (origin,)


def test_an_unknown_variable_of_a_section_is_a_mistake() -> None:
    assert "GATEWAY_SERVER_PROT" in refused(None, {"GATEWAY_SERVER_PROT": "1"})


def test_files_that_can_not_be_read_are_named(tmp_path: Path) -> None:
    assert "absent.toml" in refused(str(tmp_path / "absent.toml"), {})
    assert "absent.toml" in refused(None, {"GATEWAY_CONFIG": str(tmp_path / "absent.toml")})
    assert str(tmp_path) in refused(str(tmp_path), {})
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'[server]\nhost = "\xe9"\n')
    assert "latin.toml: not UTF-8" in refused(str(latin), {})


def test_a_refused_value_is_never_repeated(tmp_path: Path) -> None:
    path = written(tmp_path, '[database]\nurl = "postgres://user:s3cret@host/db"\n')
    assert "s3cret" not in refused(path, {})
    assert "s3cret" not in refused(None, {"GATEWAY_DATABASE_URL": "postgres://user:s3cret@host/db"})


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(AttributeError):
        ServerConfig().port = 1  # type: ignore[misc]
    assert hash(load_config(None, {})) == hash(Config())


def test_a_secret_comes_from_the_environment_or_a_file_of_its_own(tmp_path: Path) -> None:
    settings = tmp_path / "config.toml"
    settings.write_text('[database]\nauth_token = "SECRET"\n')
    message = refused(str(settings), {})
    assert "database.auth_token is a secret; set GATEWAY_DATABASE_AUTH_TOKEN instead" in message
    assert "SECRET" not in message
    token = tmp_path / "token"
    token.write_text("from-the-file\n")
    named = {"GATEWAY_DATABASE_AUTH_TOKEN_FILE": str(token)}
    assert load_config(None, named).database.auth_token == "from-the-file"
    both = named | {"GATEWAY_DATABASE_AUTH_TOKEN": "from-the-environment"}
    assert load_config(None, both).database.auth_token == "from-the-environment"


def test_a_configuration_is_shown_without_secrets() -> None:
    named = {
        "GATEWAY_DATABASE_AUTH_TOKEN": "SECRET",
        "GATEWAY_DATABASE_URL": "http://db:8080?authToken=SECRET",
        "GATEWAY_DATABASE_REPLICA": "WS://near?authToken=SECRET",
    }
    shown = repr(load_config(None, named))
    assert "SECRET" not in shown
    assert "DatabaseConfig(url='http://db:8080', replica='WS://near', auth_token_file='', auth_token='set')" in shown
    assert "auth_token=''" in repr(Config())


@pytest.mark.parametrize("scheme", ["http", "HTTPS", "Ws", "wSS", "LIBSQL"])
def test_a_servers_scheme_may_be_written_in_any_case(scheme: str) -> None:
    """As the addresses themselves are read."""
    url = f"{scheme}://db"
    database = load_config(None, {"GATEWAY_DATABASE_URL": url, "GATEWAY_DATABASE_REPLICA": url}).database
    assert isinstance(parse_address(database.url), ServerAddress)
    assert parse_address(database.replica) == parse_address(url.lower())


def test_a_files_scheme_may_be_written_in_any_case() -> None:
    url = "FILE:///tmp/a.db"
    assert parse_address(load_config(None, {"GATEWAY_DATABASE_URL": url}).database.url) == FileAddress(
        Path("/tmp/a.db")
    )
    assert "database.replica" in refused(None, {"GATEWAY_DATABASE_REPLICA": url})
    assert "database.url" in refused(None, {"GATEWAY_DATABASE_URL": "FILE:///"})


@pytest.mark.parametrize("content", [b"", b"  \n", b"two\nlines", b"\xff", "schl\u00fcssel".encode(), b"x" * 20_000])
def test_a_token_file_without_a_token_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    assert "database.auth_token_file" in refused(None, {"GATEWAY_DATABASE_AUTH_TOKEN_FILE": str(tmp_path / "token")})


def test_a_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "database.auth_token_file" in refused(None, {"GATEWAY_DATABASE_AUTH_TOKEN_FILE": str(tmp_path / "none")})
