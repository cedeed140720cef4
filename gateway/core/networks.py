"""Addresses and sets of networks, in which an IPv4 address is the same in whatever clothes it comes."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

MAX_NETWORKS = 64
"""In one list."""

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


def lets_in(networks: list[str] | None, address: str) -> bool:
    """Whether a list of networks lets an address in; one that can not be read (None) lets in nobody, an empty one
    everybody."""
    if networks is None:
        return False
    try:
        return not networks or address in Networks(networks)
    except ValueError:
        return False


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


def check_networks(value: list[str] | None) -> list[str]:
    """`value`, when each is a network in CIDR whose host bits are zero, or an address. Raises ValueError with one
    sentence, which never repeats the input."""
    if value is None or len(value) > MAX_NETWORKS:
        raise ValueError(f"networks must be a list of at most {MAX_NETWORKS}")
    for text in value:
        try:
            ip_network(text)
        except ValueError:
            raise ValueError("a network must be one such as 10.0.0.0/8, host bits zero, or an address") from None
    return value
