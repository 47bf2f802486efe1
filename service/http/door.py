"""Door: whom the service answers, by the Host a request names and the Origin it comes from.

A name that is not ours is refused (421), since a page of another site can have its own name point here (DNS rebinding).
A write that a page of another site sends is refused (403). A browser is let in from the configured origins (CORS).
"""

from __future__ import annotations

import ipaddress
import re

from starlette.responses import Response
from starlette.types import Scope

from service.http.problems import Problem

Headers = list[tuple[bytes, bytes]]

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
# Seconds that a browser remembers what a preflight said.
REMEMBERED = b"600"
# What probes ask under any name: an orchestrator names an address that nobody configures.
OPEN_PATHS = frozenset({"/livez", "/readyz"})

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/?#@\s]+?)\.?(?::(\d{0,5}))?")
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, \t-]{1,4096}")


def split_authority(text: str) -> tuple[str, str] | None:
    """`host[:port]` → name in lower case without brackets or final dot, and port or ""; None where it is neither."""
    found = _AUTHORITY.fullmatch(text.lower())
    return None if found is None else (found[1].strip("[]"), found[2] or "")


def address_of(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a name is, if it is one and no name."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def is_loopback(name: str) -> bool:
    """Whether a name means this machine wherever it is used."""
    address = address_of(name)
    if address is None:
        return name == "localhost" or name.endswith(".localhost")
    return address.is_loopback


class Hosts:
    """The names under which the service answers.

    configured: comma-separated, `*` for any name, `*.example.com` for all below one. Loopback names are always ours,
    and the name listened on. Beyond loopback, plain addresses are too: no page can have one for its name.
    """

    def __init__(self, configured: str, listen: str) -> None:
        names = [name.strip().lower() for name in configured.split(",") if name.strip()]
        self._any = "*" in names
        self._below = tuple(name[1:] for name in names if name.startswith("*."))
        self._named = {name for name in names if not name.startswith("*")}
        self._listen = listen.lower()
        self._addresses = not is_loopback(self._listen)

    def configured(self, name: str) -> bool:
        """Whether a name is ours because somebody said so."""
        return name in self._named or name.endswith(self._below) if self._below else name in self._named

    def ours(self, name: str) -> bool:
        if self._any or is_loopback(name) or self.configured(name) or name == self._listen:
            return True
        return self._addresses and address_of(name) is not None


class Door:
    """hosts: our names; origins: `scheme://host[:port]`, comma-separated, whose pages may call; `*` for all."""

    def __init__(self, hosts: Hosts, origins: str) -> None:
        self._hosts = hosts
        self._origins = frozenset(each for each in origins.split(",") if each)

    def check(self, scope: Scope, path: str) -> Response | None:
        """The answer to a preflight; None for other requests, which may go on. path: without a prefix.

        Raises Problem `malformed-http`, `misdirected`, `forbidden`.
        """
        host = self._host(scope, path)
        origin = _one(scope, b"origin")
        if scope["method"] == "OPTIONS" and origin is not None and _one(scope, b"access-control-request-method"):
            return self._preflight(scope, origin)
        if scope["method"] in SAFE or origin is None or self._trusts(origin, host):
            return None
        raise Problem("forbidden", "Pages of this Origin may not write here; see LOOKALIKE_CORS_ORIGINS")

    def headers(self, scope: Scope) -> Headers:
        """What every answer to this request carries for the browser's sake."""
        if not self._origins:
            return []
        if "*" in self._origins:
            allowed = b"*"
        else:
            origin = _one(scope, b"origin")
            if origin is None or origin.lower() not in self._origins:
                return [(b"vary", b"Origin")]
            allowed = origin.encode("latin-1")
        return [
            (b"access-control-allow-origin", allowed),
            (b"access-control-expose-headers", b"ETag, Location, Retry-After, Server-Timing, X-Request-ID"),
            (b"timing-allow-origin", allowed),  # else a page's own clock hides Server-Timing from it
            (b"vary", b"Origin"),
        ]

    def _host(self, scope: Scope, path: str) -> tuple[str, str] | None:
        given = [value for name, value in scope["headers"] if name == b"host"]
        host = split_authority(given[0].decode("latin-1")) if len(given) == 1 else None
        if path in OPEN_PATHS:
            return host
        if host is None:
            raise Problem("malformed-http", "Send one Host header, with a host's name and its port")
        if not self._hosts.ours(host[0]):
            raise Problem("misdirected", "This Host is not served here; name it in LOOKALIKE_ALLOWED_HOSTS")
        return host

    def _trusts(self, origin: str, host: tuple[str, str] | None) -> bool:
        if "*" in self._origins or origin.lower() in self._origins:
            return True
        _, found, authority = origin.partition("://")
        own = split_authority(authority) if found else None
        if own is None:  # `null`, or no origin at all
            return False
        if self._hosts.configured(own[0]):
            return True  # a proxy in front may name us otherwise than the browser does
        return host is not None and own[0] == host[0] and _port(own[1]) == _port(host[1])

    def _preflight(self, scope: Scope, origin: str) -> Response:
        if "*" not in self._origins and origin.lower() not in self._origins:
            raise Problem("forbidden", "Pages of this Origin may not call here; see LOOKALIKE_CORS_ORIGINS")
        response = Response(status_code=204)
        asked = next((value for name, value in scope["headers"] if name == b"access-control-request-headers"), b"")
        response.raw_headers = [
            (b"access-control-allow-methods", METHODS),
            (b"access-control-max-age", REMEMBERED),
            *([(b"access-control-allow-headers", asked)] if _HEADER_NAMES.fullmatch(asked) else []),
        ]
        if _one(scope, b"access-control-request-private-network") == "true":
            response.raw_headers.append((b"access-control-allow-private-network", b"true"))
        return response


def _one(scope: Scope, name: bytes) -> str | None:
    """A header's value. Sent twice, it is neither: then it is text that nothing matches."""
    values = [value.decode("latin-1") for key, value in scope["headers"] if key == name]
    return ", ".join(values) if values else None


def _port(text: str) -> str:
    """A port, those that an address may leave out as nothing."""
    return "" if text in ("80", "443") else text
