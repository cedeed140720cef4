from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.store.address import FileAddress, ServerAddress, parse_address
from gateway.store.database import Database


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:data/gateway.db", "data/gateway.db"),
        ("file:/srv/gateway.db", "/srv/gateway.db"),
        ("file:///srv/gateway.db", "/srv/gateway.db"),
        ("file://localhost/srv/gateway.db", "/srv/gateway.db"),
        ("file:with%20space.db", "with space.db"),
        ("data/gateway.db", "data/gateway.db"),
        ("odd?name.db", "odd?name.db"),
    ],
)
def test_a_file(url: str, path: str) -> None:
    assert parse_address(url) == FileAddress(Path(path))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8080", ServerAddress("http", "http://127.0.0.1:8080", None)),
        ("http://db:8080/", ServerAddress("http", "http://db:8080", None)),
        ("https://db.example/path/", ServerAddress("http", "https://db.example/path", None)),
        ("libsql://db.turso.io", ServerAddress("http", "https://db.turso.io", None)),
        ("LIBSQL://db.turso.io", ServerAddress("http", "https://db.turso.io", None)),
        ("libsql://db:8080?tls=0", ServerAddress("http", "http://db:8080", None)),
        ("libsql://db?tls=1&authToken=T", ServerAddress("http", "https://db", "T")),
        ("https://db?authToken=a.b-c_d", ServerAddress("http", "https://db", "a.b-c_d")),
        ("ws://[::1]:8080", ServerAddress("ws", "ws://[::1]:8080", None)),
        ("wss://db?authToken=T", ServerAddress("ws", "wss://db", "T")),
    ],
)
def test_a_server(url: str, expected: ServerAddress) -> None:
    assert parse_address(url) == expected


def test_an_address_is_shown_without_its_token() -> None:
    assert str(parse_address("libsql://db.turso.io?authToken=SECRET")) == "https://db.turso.io"
    assert str(parse_address("data/gateway.db")) == "file:data/gateway.db"
    shown = repr(parse_address("wss://db.turso.io?authToken=SECRET"))
    assert shown == "ServerAddress('ws', 'wss://db.turso.io', token=set)"
    assert repr(parse_address("http://db")) == "ServerAddress('http', 'http://db', token=None)"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "file:",
        ":memory:",
        "file::memory:",
        "file:a.db?mode=memory",
        "file://host/a.db",
        "file:a.db?authToken=SECRET",
        "file:a.db#SECRET",
        "file://SECRET@host/a.db",
        "file://[SECRET",
        "a\0b",
        "x://SECRET",
        "http//SECRET:8080",
        "libsql/SECRET",
        "//SECRET:8080",
        "libsql:x?authToken=SECRET",
        "libsql:/x?authToken=SECRET",
        "libsql://",
        "https:///path",
        "https://x:port",
        "https://x:99999",
        "https://SECRET@x",
        "https://x:SECRET@x",
        "https://x#SECRET",
        "https://x?tls=0",
        "libsql://x?tls=SECRET",
        "https://x?SECRET=1",
        "ws://[SECRET",
    ],
)
async def test_what_names_no_database_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        await Database.open(url)
    assert str(caught.value).startswith("database.url: ")
    assert "\n" not in str(caught.value)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host:8080", "http://host:8080"),
        ("ws://host:8080", "http://host:8080"),
        ("wss://host/db", "https://host/db"),
        ("libsql://ws.example.org", "https://ws.example.org"),
    ],
)
def test_every_server_has_an_address_by_http(url: str, expected: str) -> None:
    address = parse_address(url)
    assert isinstance(address, ServerAddress)
    assert address.http_url == expected


@pytest.mark.parametrize("replica", ["file:a.db", "a.db"])
async def test_a_replica_is_a_server_of_a_server(tmp_path: Path, replica: str) -> None:
    with pytest.raises(ConfigError, match=r"database\.replica"):
        await Database.open("http://127.0.0.1:1", replica=replica)
    with pytest.raises(ConfigError, match=r"database\.replica"):
        await Database.open(str(tmp_path / "a.db"), replica="http://127.0.0.1:1")
