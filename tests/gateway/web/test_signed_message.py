"""What of a request a signature is compared with, as the server has it."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import HTTPConnection

from gateway.core.networks import Networks
from gateway.core.rate import Allowed
from gateway.core.signatures import SignatureRefused, read_signature
from gateway.web.signing import rate_fields, signed_message
from tests.support.signing import Key, sign

KEY = Key("k_test", "A" * 43)


def connection(
    *hosts: str, scheme: str = "http", raw_path: bytes | None = b"/x", query: bytes = b"", **more: Any
) -> HTTPConnection:
    headers = [(b"host", host.encode()) for host in hosts] + more.pop("headers", [])
    scope = {"type": "http", "method": "GET", "scheme": scheme, "path": "/x", "query_string": query, "headers": headers}
    return HTTPConnection(scope | {"raw_path": raw_path, "client": ("127.0.0.1", 5)} | more)


NOBODY = Networks(())


@pytest.mark.parametrize(
    ("scheme", "host", "authority"),
    [
        ("http", "Gateway.Example.ORG", "gateway.example.org"),
        ("http", "gateway.example.org:80", "gateway.example.org"),
        ("https", "gateway.example.org:443", "gateway.example.org"),
        ("wss", "gateway.example.org:443", "gateway.example.org"),
        ("ws", "gateway.example.org:80", "gateway.example.org"),
        ("https", "gateway.example.org:80", "gateway.example.org:80"),
        ("http", "gateway.example.org:443", "gateway.example.org:443"),
        ("http", "[::1]:8787", "[::1]:8787"),
        ("http", "[::1]:80", "[::1]"),
        ("http", "a:8080", "a:8080"),
    ],
)
def test_the_authority_is_normalized(scheme: str, host: str, authority: str) -> None:
    assert signed_message(connection(host, scheme=scheme), NOBODY).authority == authority


def test_a_trusted_proxy_says_the_scheme() -> None:
    forwarded = [(b"x-forwarded-proto", b"https")]
    host = "gateway.example.org:443"
    trusted = signed_message(connection(host, headers=forwarded), Networks(("127.0.0.1",)))
    stranger = signed_message(connection(host, headers=forwarded), NOBODY)
    assert (trusted.authority, stranger.authority) == ("gateway.example.org", host)


@pytest.mark.parametrize("hosts", [(), ("a", "b"), ("a", "a")])
def test_without_one_host_nothing_is_good(hosts: tuple[str, ...]) -> None:
    headers = [(name.encode(), value.encode()) for name, value in sign(KEY, "GET", "http://a/x").items()]
    with pytest.raises(SignatureRefused):
        read_signature(signed_message(connection(*hosts, headers=headers), NOBODY))


def test_the_path_is_as_it_came() -> None:
    assert signed_message(connection("a", raw_path=b"/a%2Fb//%C3%A9"), NOBODY).path == "/a%2Fb//%C3%A9"
    assert signed_message(connection("a", raw_path=b""), NOBODY).path == "/x"
    assert signed_message(connection("a", raw_path=None, path="/ü x"), NOBODY).path == "/%C3%BC%20x"


def test_the_query_begins_with_its_mark() -> None:
    assert signed_message(connection("a"), NOBODY).query == "?"
    assert signed_message(connection("a", query=b"a=%20&b"), NOBODY).query == "?a=%20&b"


def test_the_fields_of_the_rate() -> None:
    told = {"RateLimit-Policy": '"default";q=100;w=60', "RateLimit": '"default";r=7;t=3'}
    assert rate_fields(Allowed(100, 7, 3)) == told
