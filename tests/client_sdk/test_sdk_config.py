from __future__ import annotations

from pathlib import Path

import pytest

from client_sdk.config import ConfigError, ServerConfig, channel_url, http_url, load_config, load_token
from client_sdk.options import Options, SessionOptions, make_options
from client_sdk.version import VERSION
from client_sdk.wire import ClientInfo


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text('[server]\nhost = "gw.example.org"\nport = 9000\nuse_https = true\nworkers = 4\n[log]\na=1\n')
    return path


def test_the_file_of_the_gateway_says_where_it_is(file: Path) -> None:
    config = load_config(str(file), {})
    assert config == ServerConfig("gw.example.org", 9000, "/api", True)
    assert config.channel_url == "wss://gw.example.org:9000/ws"
    assert config.url == "https://gw.example.org:9000"


def test_the_environment_counts_more(file: Path) -> None:
    environ = {
        "GATEWAY_CONFIG": str(file),
        "GATEWAY_SERVER_HOST": "::",
        "GATEWAY_SERVER_PORT": "81",
        "GATEWAY_SERVER_USE_HTTPS": "false",
        "GATEWAY_SERVER_API_BASE": "/v1",
    }
    config = load_config(environ=environ)
    assert config.channel_url == "ws://[::1]:81/ws"
    assert http_url(config) == ("http://[::1]:81", "/v1")


def test_without_a_file_the_defaults_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(environ={}) == ServerConfig()
    assert channel_url(None) == "ws://127.0.0.1:8787/ws"


def test_a_file_beside_is_found(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    assert load_config(environ={}).port == 9000


@pytest.mark.parametrize(
    ("content", "environ", "named"),
    [
        ('[server]\nport = "x"\n', {}, "port"),
        ("[server]\nport = 0\n", {}, "server.port"),
        ("", {"GATEWAY_SERVER_PORT": "eighty"}, "port"),
        ("server = 1\n", {}, "server"),
        ("[server\n", {}, "config.toml"),
    ],
)
def test_a_bad_setting_is_named_on_one_line(tmp_path: Path, content: str, environ: dict[str, str], named: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=named) as caught:
        load_config(str(path), environ)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        load_config(str(tmp_path / "nowhere.toml"), {})


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("http://gw:81", "ws://gw:81/ws"),
        ("https://gw/", "wss://gw/ws"),
        ("https://gw/ws", "wss://gw/ws"),
        ("wss://gw/other?x=1", "wss://gw/other?x=1"),
        (ServerConfig("0.0.0.0", 1), "ws://127.0.0.1:1/ws"),
    ],
)
def test_addresses_of_the_channel(server: str | ServerConfig, url: str) -> None:
    assert channel_url(server) == url


@pytest.mark.parametrize(
    "server",
    ["gw:81", "ftp://gw", "http://", "/ws", "http://[::1", "http://gw:x", "ws://gw:65536", ServerConfig(port=0)],
)
def test_what_is_no_address_is_refused(server: str | ServerConfig) -> None:
    with pytest.raises(ConfigError):
        channel_url(server)
    with pytest.raises(ConfigError):
        http_url(server)


@pytest.mark.parametrize("server", ["https://gw/gateway", "http://gw:81/api", "https://gw/gateway/"])
def test_an_address_below_a_path_is_none_of_a_gateway(server: str) -> None:
    """Requests would go elsewhere than the channel."""
    for address in (channel_url, http_url):
        with pytest.raises(ConfigError, match="path"):
            address(server)


@pytest.mark.parametrize("server", ["https://gw", "https://gw/", "wss://gw/ws", "https://gw/ws"])
def test_requests_go_where_the_channel_is(server: str) -> None:
    assert (channel_url(server), http_url(server)[0]) == ("wss://gw/ws", "https://gw")


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    """It would be sent in place of the token."""
    for address in (channel_url, http_url):
        with pytest.raises(ConfigError, match="no password") as caught:
            address("https://shop:secret@gw")
        assert "secret" not in str(caught.value)


def test_another_path_is_for_a_channel_alone() -> None:
    with pytest.raises(ConfigError, match="'/other'"):
        http_url("wss://gw/other")


def test_the_token_comes_from_the_environment() -> None:
    assert load_token({"GATEWAY_AUTH_TOKEN": " a ", "XSWARM_AUTH_TOKEN": "b"}) == "a"
    assert load_token({"GATEWAY_AUTH_TOKEN": "", "XSWARM_AUTH_TOKEN": "b"}) == "b"
    with pytest.raises(ConfigError, match="GATEWAY_AUTH_TOKEN"):
        load_token({})


def test_the_keyword_arguments_are_the_fields_of_the_options() -> None:
    assert set(SessionOptions.__annotations__) == set(Options.__struct_fields__)
    assert make_options({"watch": ("a",), "backoff_cap_s": 3.0}) == Options(watch=("a",), backoff_cap_s=3.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"watch": ()},
        {"watch": 5},
        {"watch": ("self@0123456789abcdef",)},
        {"watch": ["user:\ud800"]},
        {"client": {"name": "", "version": "1"}},
        {"client": {"name": "x" * 65, "version": "1"}},
        {"client": {"name": "x", "version": "1\n"}},
        {"client": {"name": "\udfff", "version": "1"}},
        {"client": {"name": "x"}},
        {"backoff_base_s": 0.0},
        {"backoff_cap_s": float("inf")},
        {"pong_timeout_s": float("nan")},
        {"subprotocol": "soap"},
        {"unknown": 1},
    ],
)
def test_a_bad_option_is_refused(fields: SessionOptions) -> None:
    with pytest.raises(ValueError, match="channel"):
        make_options(fields)


def test_documents_are_named_by_a_text_or_by_any_number_of_them() -> None:
    assert make_options({"watch": "self"}).watch == ("self",)
    assert make_options({"watch": (name for name in ("self", "org:a"))}).watch == ("self", "org:a")
    assert make_options({"client": ClientInfo("\U0001f600" * 64, "1")}).client == ClientInfo("\U0001f600" * 64, "1")


def test_the_sdk_has_the_version_of_the_gateway_that_it_comes_with() -> None:
    source = (Path(__file__).parents[2] / "gateway" / "__init__.py").read_text(encoding="utf-8")
    assert f'__version__ = "{VERSION}"' in source
