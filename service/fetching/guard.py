"""The guard between a client and the network: a connection goes to an address that was looked at, or is not made.

A name is resolved once, all that it resolves to must be public, and one of these very addresses is connected to; TLS
and the header Host keep the name. So a name that resolves otherwise the next time changes nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable

import httpcore
from httpcore import SOCKET_OPTION, AsyncNetworkBackend, AsyncNetworkStream

from service.errors import UrlRefused
from service.fetching.addresses import is_public, parsed
from service.fetching.urls import FetchHosts


class Unresolved(Exception):
    """A host's name leads to no address. passing: whether it may the next time."""

    def __init__(self, passing: bool) -> None:
        super().__init__("the host's name leads to no address")
        self.passing = passing


class GuardedNetwork(AsyncNetworkBackend):
    """Connections of an `httpcore` pool. hosts: whose addresses may be private."""

    def __init__(self, hosts: FetchHosts) -> None:
        self._hosts = hosts
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's own interface)
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        """Raises UrlRefused, Unresolved, and httpcore's errors of connecting."""
        addresses = await self.resolved(host, port)
        failed: httpcore.NetworkError | httpcore.TimeoutException | None = None
        for address in addresses:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed or Unresolved(passing=False)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        raise UrlRefused("No address leads to a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def resolved(self, host: str, port: int) -> list[str]:
        """The addresses of a host, each once. Raises UrlRefused where one of them is not public, and Unresolved."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise Unresolved(passing=error.errno == socket.EAI_AGAIN) from None
        except UnicodeError:
            raise Unresolved(passing=False) from None
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        if not self._hosts.allow(host, port) and not all(is_public(parsed(each)) for each in addresses):
            raise UrlRefused("The host is on a private network; LOOKALIKE_FETCH_HOSTS lets hosts in by name")
        return addresses
