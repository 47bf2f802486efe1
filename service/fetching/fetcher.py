"""The Fetcher: a picture's bytes from an address that somebody else named, within limits and past no guard.

What may pass is tried again; a picture that has not changed since its last validators is not sent again.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import certifi
import httpcore
import tenacity

from service.errors import UrlFailed, UrlRefused, UrlTooLarge
from service.fetching.guard import GuardedNetwork, Unresolved
from service.fetching.politeness import Politeness, seconds_of
from service.fetching.urls import FetchHosts, Url, checked, redirected

REDIRECTS = 3
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
_ACCEPT = b"image/jpeg,image/png,image/webp,image/*;q=0.8,*/*;q=0.1"


@dataclass(frozen=True, slots=True)
class Limits:
    """seconds: of one try, redirects included; attempts: tries in all; patience: longest rest before another try.

    at_once: requests under way; per_host: to one host.
    """

    seconds: float = 30.0
    attempts: int = 4
    patience: float = 30.0
    first_pause: float = 0.5
    at_once: int = 16
    per_host: int = 6


# Of a search, somebody waits for the answer.
IMPATIENT = Limits(seconds=10.0, attempts=1)


@dataclass(frozen=True, slots=True)
class Validators:
    """What a server said of a picture's version, to ask later whether it is still that. sha256: of its bytes."""

    sha256: str
    etag: str = ""
    modified: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A picture's bytes; None where it is still what the validators say. etag, modified: as the server says them."""

    data: bytes | None
    etag: str = ""
    modified: str = ""


class _MayPass(Exception):
    """A failure that may be gone the next time. after: seconds that the server asks to wait, None where it does not."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Fetcher:
    """Lives on one event loop; `close` it. enabled: LOOKALIKE_FETCH_URLS. hosts: whose addresses may be private."""

    def __init__(self, *, enabled: bool, hosts: FetchHosts | None = None, trust: ssl.SSLContext | None = None) -> None:
        self.enabled = enabled
        self._hosts = hosts or FetchHosts()
        self._trust = trust
        self._pool: httpcore.AsyncConnectionPool | None = None
        self._politeness = Politeness(Limits().per_host)
        self._turns = asyncio.Semaphore(Limits().at_once)

    async def fetch(
        self, address: str, *, max_bytes: int, validators: Validators | None = None, limits: Limits | None = None
    ) -> Fetched:
        """The bytes at an address, at most `max_bytes`. Raises UrlRefused, UrlFailed."""
        limits = limits or Limits()
        if not self.enabled:
            raise UrlRefused(
                "Pictures are not fetched from addresses here: send the picture, or set LOOKALIKE_FETCH_URLS=true"
            )
        url = checked(address, self._hosts)
        pauses = tenacity.wait_random_exponential(multiplier=limits.first_pause, max=limits.patience)

        def pause(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            return max(pauses(state), (error.after or 0.0) if isinstance(error, _MayPass) else 0.0)

        tries = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(limits.attempts),
            wait=pause,
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, _MayPass) and _worth(error, limits)),
            reraise=True,
        )
        try:
            return await tries(self._once, url, max_bytes, validators, limits)
        except _MayPass as error:
            raise UrlFailed(str(error)) from None

    async def close(self) -> None:
        """Closes the connections that are kept."""
        if self._pool is not None:
            await self._pool.aclose()

    async def _once(self, url: Url, max_bytes: int, validators: Validators | None, limits: Limits) -> Fetched:
        for _ in range(REDIRECTS + 1):
            # The host's turn first: who waits for a slow host keeps nobody from the others.
            async with self._politeness.turn(url.host), self._turns:
                try:
                    async with asyncio.timeout(limits.seconds):
                        got = await self._asked(url, max_bytes, validators)
                except (TimeoutError, httpcore.TimeoutException):
                    raise _MayPass(f"{url.host} did not send it within {limits.seconds:g} seconds") from None
                except Unresolved as error:
                    if error.passing:
                        raise _MayPass(f"{url.host}: {error}") from None
                    raise UrlFailed(f"{url.host}: {error}") from None
                except (httpcore.NetworkError, httpcore.RemoteProtocolError) as error:
                    if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                        raise UrlFailed(f"the certificate of {url.host} is not trusted") from None
                    raise _MayPass(f"the connection to {url.host} failed{_why(error)}") from None
                except (httpcore.ProtocolError, httpcore.UnsupportedProtocol):
                    raise UrlFailed(f"{url.host} does not speak HTTP as it should") from None
            if isinstance(got, Fetched):
                return got
            url = got
        raise UrlFailed(f"it leads on more than {REDIRECTS} times")

    async def _asked(self, url: Url, max_bytes: int, validators: Validators | None) -> Fetched | Url:
        """One request's outcome: the bytes, or where they are instead."""
        async with self._opened().stream(
            "GET", httpcore.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.path),
            headers=_headers(url, validators), extensions={"timeout": {"connect": 10.0}},
        ) as response:  # fmt: skip
            said = {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
            status = response.status
            if status == 304 and validators is not None:
                return Fetched(None)
            if status in _REDIRECTS and "location" in said:
                return redirected(url, _utf8(said["location"]), self._hosts)
            if status in _PASSING:
                after = seconds_of(said.get("retry-after"))
                if after:
                    self._politeness.rest(url.host, min(after, Limits().patience))
                raise _MayPass(f"{url.host} answered {status}", after)
            if status != 200:
                raise UrlFailed(f"{url.host} answered {status}")
            data = await _body(response, said, max_bytes)
            if not data:
                raise UrlFailed(f"{url.host} sent nothing")
            return Fetched(data, said.get("etag", ""), said.get("last-modified", ""))

    def _opened(self) -> httpcore.AsyncConnectionPool:
        if self._pool is None:
            trust = self._trust
            if trust is None:  # the machine's own authorities, and Mozilla's where it has none
                trust = ssl.create_default_context()
                trust.load_verify_locations(certifi.where())
            self._pool = httpcore.AsyncConnectionPool(
                ssl_context=trust,
                max_connections=Limits().at_once,
                max_keepalive_connections=Limits().at_once,
                keepalive_expiry=10.0,
                network_backend=GuardedNetwork(self._hosts),
            )
        return self._pool


def _headers(url: Url, validators: Validators | None) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"Host", url.authority.encode()),
        (b"User-Agent", b"Lookalike"),
        (b"Accept", _ACCEPT),
        (b"Accept-Encoding", b"identity"),
    ]
    if validators is not None and validators.etag:
        headers.append((b"If-None-Match", validators.etag.encode("latin-1")))
    if validators is not None and validators.modified:
        headers.append((b"If-Modified-Since", validators.modified.encode("latin-1")))
    return headers


async def _body(response: httpcore.Response, said: Mapping[str, str], max_bytes: int) -> bytes:
    """The bytes, their coding undone as far as the limit goes. Raises UrlFailed."""
    length = said.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise _over(max_bytes)
    coding = said.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "", "gzip", "x-gzip"):
        raise UrlFailed(f"it comes with the content coding {coding[:20]!r}, though none was asked for")
    inflate = zlib.decompressobj(31) if coding.endswith("gzip") else None
    data = bytearray()
    async for chunk in response.aiter_stream():
        if inflate is None:
            data += chunk
        else:
            try:
                data += inflate.decompress(chunk, max_bytes + 1 - len(data))
            except zlib.error:
                raise UrlFailed("its content coding is broken") from None
        if len(data) > max_bytes:
            raise _over(max_bytes)
    if inflate is not None and not inflate.eof:
        raise UrlFailed("its content coding is broken")
    return bytes(data)


def _over(max_bytes: int) -> UrlTooLarge:
    return UrlTooLarge(f"it is larger than {max_bytes / 2**20:.3g} MiB (LOOKALIKE_MAX_UPLOAD_BYTES)")


def _worth(error: _MayPass, limits: Limits) -> bool:
    """Whether it is worth to wait as long as the server asks for."""
    return (error.after or 0.0) <= limits.patience


def _why(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f" ({text[:120]})" if text else ""


def _utf8(header: str) -> str:
    """A header that was read as Latin-1; what is UTF-8 in it becomes that."""
    try:
        return header.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return header
