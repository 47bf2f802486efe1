"""The address of a picture as far as its text goes: scheme, host, port; and the private hosts that are let in by name.

What a host resolves to is looked at when it is connected to (`guard`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote, urljoin

import idna

from service.errors import UrlRefused

LONGEST = 2048  # characters, as of a query's `image_url`
PORTS = {"http": 80, "https": 443}
_URL = re.compile(r"(https?)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#.*)?", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+)(?::([0-9]{0,5}))?")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}$)(?:{_LABEL}\.)*{_LABEL}")
# A name whose last label is a number is an address to a resolver, in every spelling that inet_aton knows.
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\\]")
# Escaped on the way: what feeds hold as people read it, spaces and letters of any script. Escapes that are there stay.
_SAFE = "!$%&'()*+,/:;=?@~[]"


@dataclass(frozen=True, slots=True)
class Url:
    """An address that may be asked, by its text. host: in lower case, IPv6 without brackets; path: with its query."""

    scheme: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        """As the header Host has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class FetchHosts:
    """Hosts that may be fetched from although they are private, at other ports too.

    entries: `name`, `*.name` (all below it) or an address, each with a port, or None for any.
    """

    entries: Sequence[tuple[str, int | None]] = ()

    @classmethod
    def of(cls, text: str) -> FetchHosts:
        """From a list with commas, as of the settings. Raises ValueError."""
        return cls(tuple(_entry(each.strip()) for each in text.split(",") if each.strip()))

    def allow(self, host: str, port: int) -> bool:
        """Whether this host is let in at this port."""
        return any(
            allowed in (None, port) and (host == name or (name.startswith("*.") and host.endswith(name[1:])))
            for name, allowed in self.entries
        )


def checked(text: str, hosts: FetchHosts) -> Url:
    """An address from outside. Raises UrlRefused."""
    text = text.strip(" \t\r\n")
    if len(text) > LONGEST:
        raise UrlRefused(f"The address is longer than {LONGEST:,} characters")
    if _CONTROL.search(text):
        raise UrlRefused("The address holds characters that no address has")
    found = _URL.fullmatch(text)
    if found is None:
        raise UrlRefused("Only http and https addresses are fetched")
    scheme, authority, path, query = found[1].lower(), found[2], found[3], found[4]
    if "@" in authority:
        raise UrlRefused("The address holds a user name or password")
    host, number = _split(authority)
    port = PORTS[scheme] if number is None else number
    if port not in PORTS.values() and not hosts.allow(host, port):
        raise UrlRefused(f"Port {port} is not fetched from: 80 and 443 are, others of hosts in LOOKALIKE_FETCH_HOSTS")
    whole = quote(path or "/", safe=_SAFE) + ("" if query is None else f"?{quote(query, safe=_SAFE)}")
    return Url(scheme, host, port, whole)


def redirected(url: Url, location: str, hosts: FetchHosts) -> Url:
    """Where an answer leads to. Raises UrlRefused."""
    try:
        target = urljoin(str(url), location.strip())
    except ValueError:
        raise UrlRefused("It leads to what is no address") from None
    there = checked(target, hosts)
    if url.scheme == "https" and there.scheme == "http":
        raise UrlRefused("It leads from https to http")
    return there


def _split(authority: str) -> tuple[str, int | None]:
    """Host and port. Raises UrlRefused."""
    found = _AUTHORITY.fullmatch(authority)
    try:
        if found is None:
            raise ValueError
        host, port = _host(found[1]), int(found[2]) if found[2] else None
        if port is not None and not 0 < port < 65536:
            raise ValueError
    except ValueError:
        raise UrlRefused("The address has no host and port in their usual spelling") from None
    return host, port


def _host(text: str) -> str:
    """A host's name or address in its one spelling. Raises ValueError for others of an IPv4 address, too."""
    if text.startswith("["):
        return str(IPv6Address(text[1:-1]))
    host = text if text.isascii() else idna.encode(text, uts46=True).decode("ascii")
    host = host.lower().removesuffix(".")
    if _NUMBER.fullmatch(host):
        return str(IPv4Address(host))
    if not _NAME.fullmatch(host):
        raise ValueError(host)
    return host


def _entry(text: str) -> tuple[str, int | None]:
    below = text.startswith("*.")
    bare = text.removeprefix("*.")
    try:
        if bare.count(":") > 1 and not bare.startswith("["):
            return str(IPv6Address(bare)), None
        host, port = _split(bare)
    except (ValueError, UrlRefused):
        raise ValueError(f"{text} is no host; write a name or an address, :port behind it for one port alone") from None
    return (f"*.{host}" if below else host), port
