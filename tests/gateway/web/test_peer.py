from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from gateway.core.networks import Networks, parse_address
from gateway.web.peer import client_address, public_scheme

PROXIES = Networks(["10.0.0.0/8", "2001:db8:1::/48"])


def asked(peer: str | None, *forwarded: str, proxies: Networks = PROXIES) -> str:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    client = None if peer is None else (peer, 1)
    return client_address(HTTPConnection({"type": "http", "headers": headers, "client": client}), proxies)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["192.0.2.1"], "203.0.113.9"),
        ("::ffff:203.0.113.9", ["192.0.2.1"], "203.0.113.9"),
        ("10.0.0.1", ["::ffff:192.0.2.1"], "192.0.2.1"),
        ("::ffff:10.0.0.1", ["::FFFF:192.0.2.1, ::ffff:10.0.0.2"], "192.0.2.1"),
        ("fe80::1%eth0", [], "fe80::1%eth0"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("::ffff:10.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("2001:db8:1::5", ["2001:db8:9::1"], "2001:db8:9::1"),
        ("10.0.0.1", ["127.0.0.1, 192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["127.0.0.1, 192.0.2.1, 10.0.0.2"], "192.0.2.1"),
        ("10.0.0.1", ["127.0.0.1", "192.0.2.1 ,10.0.0.2"], "192.0.2.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["127.0.0.1, nonsense, 10.0.0.2"], ""),
        ("10.0.0.1", ["127.0.0.1, "], ""),
        ("10.0.0.1", ["192.0.2.1:4711"], ""),
        ("", ["192.0.2.1"], ""),
        (None, ["192.0.2.1"], ""),
    ],
)
def test_forwarding_counts_as_far_as_trusted_proxies_wrote_it(
    peer: str | None, forwarded: list[str], address: str
) -> None:
    assert asked(peer, *forwarded) == address


@given(peer=st.ip_addresses(), forwarded=st.lists(st.ip_addresses() | st.text("1.,:a \xff", max_size=5)))
def test_without_trusted_proxies_nobody_says_who_they_are(
    peer: IPv4Address | IPv6Address, forwarded: list[object]
) -> None:
    assert asked(str(peer), *map(str, forwarded), proxies=Networks([])) == str(parse_address(str(peer)))


@given(told=st.lists(st.ip_addresses().map(str)), client=st.ip_addresses(v=4, network="192.0.2.0/24").map(str))
def test_what_a_client_wrote_itself_never_counts(told: list[str], client: str) -> None:
    assert asked("10.0.0.1", ", ".join([*told, client])) == client
    assert asked("10.0.0.1", ", ".join([*told, client, "10.9.9.9"])) == client


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", IPv4Address("192.0.2.1")),
        ("::ffff:192.0.2.1", IPv4Address("192.0.2.1")),
        ("::FFFF:c000:0201", IPv4Address("192.0.2.1")),
        ("2001:db8::1", IPv6Address("2001:db8::1")),
        ("fe80::1%eth0", IPv6Address("fe80::1")),
        ("192.0.2.1 ", None),
        ("192.0.2", None),
        ("testclient", None),
        ("", None),
    ],
)
def test_addresses(text: str, address: IPv4Address | IPv6Address | None) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("networks", "address", "inside"),
    [
        (["127.0.0.0/8"], "127.255.0.1", True),
        (["127.0.0.0/8"], "::ffff:127.0.0.1", True),
        (["127.0.0.0/8"], "::1", False),
        (["::1/128"], "::1", True),
        (["::/0"], "192.0.2.1", False),
        (["0.0.0.0/0"], "2001:db8::1", False),
        (["::ffff:10.0.0.0/104"], "10.1.2.3", True),
        (["::ffff:10.0.0.0/104"], "::ffff:11.0.0.1", False),
        (["::ffff:0:0/95"], "10.1.2.3", False),
        (["192.0.2.77/24"], "192.0.2.1", True),
        ([], "127.0.0.1", False),
        (["0.0.0.0/0"], "testclient", False),
    ],
)
def test_networks(networks: list[str], address: str, inside: bool) -> None:
    assert (address in Networks(networks)) is inside


def scheme(peer: str | None, *written: str, own: str = "ws", proxies: Networks = PROXIES) -> str:
    headers = [(b"x-forwarded-proto", value.encode("latin-1")) for value in written]
    client = None if peer is None else (peer, 1)
    scope = {"type": "http", "scheme": own, "headers": headers, "client": client}
    return public_scheme(HTTPConnection(scope), proxies)


@pytest.mark.parametrize(
    ("written", "public"),
    [
        ([], "http"),
        (["https"], "https"),
        (["HTTPS"], "https"),
        (["wss"], "https"),
        (["http"], "http"),
        (["ws"], "http"),
        (["https, http"], "http"),
        (["http", "https"], "https"),
        (["http ,\thttps"], "https"),
        (["https,"], ""),
        ([""], ""),
        (["ftp"], ""),
        (["https x"], ""),
    ],
)
def test_a_trusted_proxy_says_last_by_which_scheme_it_was_asked(written: list[str], public: str) -> None:
    assert scheme("10.0.0.1", *written) == public
    assert scheme("::ffff:10.0.0.1", *written) == public


@given(written=st.lists(st.sampled_from(["https", "http", "wss", "ws", "", "https, https"])))
@pytest.mark.parametrize(
    ("own", "public"), [("ws", "http"), ("wss", "https"), ("http", "http"), ("https", "https"), ("", "")]
)
def test_nobody_else_says_which_scheme_it_was(own: str, public: str, written: list[str]) -> None:
    assert scheme("203.0.113.9", *written, own=own) == public
    assert scheme(None, *written, own=own) == public
    assert scheme("10.0.0.1", *written, own=own, proxies=Networks([])) == public
    assert scheme("10.0.0.1", own=own) == public
