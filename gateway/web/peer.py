"""Where a request comes from, and how: the peer's own address and scheme, or what a trusted proxy says of them."""

from __future__ import annotations

from ipaddress import IPv4Address

from starlette.requests import HTTPConnection

from gateway.core.networks import Networks, parse_address


def client_address(request: HTTPConnection, proxies: Networks) -> str:
    """The address that asked, IPv4 as IPv4 also where the socket is IPv6's. ``X-Forwarded-For`` is read from the
    right, and only as far as trusted proxies wrote it. Empty when a proxy wrote what is no address: that is nobody whom
    anything is allowed by address.
    """
    address = _plain(request.client.host) if request.client else ""
    if address not in proxies:
        return address
    forwarded = [part.strip() for value in request.headers.getlist("x-forwarded-for") for part in value.split(",")]
    for part in reversed(forwarded):
        if parse_address(part) is None:
            return ""
        address = _plain(part)
        if address not in proxies:
            return address
    return address


def public_scheme(request: HTTPConnection, proxies: Networks) -> str:
    """The scheme of the address that the client asked, ``http`` or ``https``: what a trusted proxy wrote last into
    ``X-Forwarded-Proto`` (``ws`` and ``wss`` are written too), else the connection's own. Empty when a trusted proxy
    wrote something else: that is no origin of ours.
    """
    scheme = request.scope["scheme"]
    if request.client is not None and request.client.host in proxies:
        written = request.headers.getlist("x-forwarded-proto")
        if written:
            scheme = written[-1].rpartition(",")[2].strip().lower()
    return {"http": "http", "ws": "http", "https": "https", "wss": "https"}.get(scheme, "")


def _plain(address: str) -> str:
    """As it is, but for an IPv4 address in IPv6 clothes (RFC 4291 §2.5.5.2)."""
    parsed = parse_address(address)
    return str(parsed) if isinstance(parsed, IPv4Address) else address
