"""Which IP addresses are public: everything that the registries of special addresses name is not.

An IPv6 address that carries an IPv4 one is as public as that is, whatever it looks like.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

# IANA's registries of special-purpose addresses, and what is reserved or multicast. Listed here because what
# `ipaddress` calls global has changed between versions of Python.
_PRIVATE_4 = tuple(
    IPv4Network(each)
    for each in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
# Global unicast is 2000::/3; these lie in it. Mapped addresses and NAT64's lie outside, and are what they carry.
_GLOBAL_6 = IPv6Network("2000::/3")
_PRIVATE_6 = tuple(
    IPv6Network(each)
    for each in (
        "2001::/23",
        "2001:db8::/32",
        "3fff::/20",
        "2620:4f:8000::/48",
    )
)
_MAPPED, _NAT64 = IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR, _TEREDO = IPv6Network("2002::/16"), IPv6Network("2001::/32")
_ISATAP = (0x00005EFE, 0x02005EFE)  # the interface identifier's first half, RFC 5214


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is one of the public internet, and every IPv4 address that it carries too."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _PRIVATE_4)
    if address.scope_id is not None:
        return False
    carried = list(_carried(address))
    if address in _MAPPED or address in _NAT64:
        return all(map(is_public, carried))
    return (
        address in _GLOBAL_6 and not any(address in network for network in _PRIVATE_6) and all(map(is_public, carried))
    )


def _carried(address: IPv6Address) -> Iterator[IPv4Address]:
    number = int(address)
    low = number & 0xFFFFFFFF
    if address in _MAPPED or address in _NAT64 or (number >> 32) & 0xFFFFFFFF in _ISATAP:
        yield IPv4Address(low)
    if address in _SIX_TO_FOUR:
        yield IPv4Address((number >> 80) & 0xFFFFFFFF)
    if address in _TEREDO:  # its server, and its client's address with every bit turned
        yield IPv4Address((number >> 64) & 0xFFFFFFFF)
        yield IPv4Address(low ^ 0xFFFFFFFF)


def parsed(text: str) -> IPv4Address | IPv6Address:
    """An address as a resolver gives it. Raises ValueError."""
    return ipaddress.ip_address(text)
