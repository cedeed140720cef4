"""Where a request comes from, and how: the peer's own address and scheme, or what a trusted proxy says of them."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.requests import HTTPConnection

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Networks:
    """A set of networks, given as CIDR; an IPv4 address or network in IPv6 clothes counts as the IPv4 one."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(map(parse_network, networks))

    def __contains__(self, address: str) -> bool:
        if not self._networks:
            return False
        parsed = parse_address(address)
        return parsed is not None and any(
            parsed.version == network.version and parsed in network for network in self._networks
        )


def parse_network(text: str) -> Network:
    """A network, unmapped as `parse_address` does; raises ValueError for anything else."""
    network = ip_network(text, strict=False)
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return network if mapped is None or network.prefixlen < 96 else ip_network((mapped, network.prefixlen - 96))


def parse_address(text: str) -> Address | None:
    """An address, unmapped (RFC 4291 §2.5.5.2) and without a zone; None for anything else."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def client_address(request: HTTPConnection, proxies: Networks) -> str:
    """The address that asked. ``X-Forwarded-For`` is read from the right, and only as far as trusted proxies wrote
    it. Empty when a proxy wrote what is no address: that is nobody whom anything is allowed by address.
    """
    address = request.client.host if request.client else ""
    if address not in proxies:
        return address
    forwarded = [part.strip() for value in request.headers.getlist("x-forwarded-for") for part in value.split(",")]
    for part in reversed(forwarded):
        if parse_address(part) is None:
            return ""
        address = part
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
