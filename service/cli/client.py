"""Commands speak HTTP whoever owns the directory: to its server through the note, or to the service in this process.

So a command prints the same either way. Only work that HTTP would slow down (a bulk import) looks at `runtime`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from index.errors import DirectoryLocked
from service.owner import Note, NoteMissing, OwnerError, new_token, read_note

if TYPE_CHECKING:
    from service.runtime import Runtime
    from service.settings import Settings

# Longer than the server lets any request wait, so that its own answer arrives first.
TIMEOUT_S = 120.0
LIVE_S = 5.0
# A server that is starting or full says 503; a command waits this long before it gives up.
PATIENCE_S = 120.0


class RequestFailed(Exception):
    """The service answered with a problem. status, slug: of the contract's table; the message is one line."""

    def __init__(self, status: int, slug: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.slug = slug


class ServerLost(Exception):
    """The server that owns the directory stopped answering. One line."""


@dataclass(frozen=True, slots=True)
class Api:
    """The contract's routes as calls. Raises RequestFailed for every problem, ServerLost where nobody answers."""

    http: httpx.AsyncClient

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """The JSON of a 2xx answer, None for one without a body. A 503 is tried again, as its Retry-After says."""
        return answer_of(await self._response(method, path, **options))

    async def content(self, path: str, **options: Any) -> bytes | None:
        """The bytes of a GET, None where nothing is there (404)."""
        response = await self._response("GET", path, **options)
        if response.status_code == 404:
            return None
        if not response.is_success:
            answer_of(response)
        return response.content

    async def _response(self, method: str, path: str, **options: Any) -> httpx.Response:
        waited = 0.0
        while True:
            try:
                response = await self.http.request(method, path, **options)
            except httpx.TransportError as error:
                raise ServerLost(
                    f"the server at {self.http.base_url} does not answer ({type(error).__name__})"
                ) from None
            if response.status_code != 503 or waited >= PATIENCE_S:
                return response
            pause = _retry_after(response.headers)
            waited += pause
            await asyncio.sleep(pause)

    async def pages(self, path: str, **query: Any) -> AsyncIterator[list[dict[str, Any]]]:
        """A list's entries, page by page."""
        cursor: str | None = None
        while True:
            asked = {**query, "limit": 1000, **({"cursor": cursor} if cursor else {})}
            page = await self.call("GET", path, params=asked)
            yield page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return


@dataclass(frozen=True, slots=True)
class Service:
    """An opened data directory. runtime: where this process owns it, else None. where: for a person to read."""

    api: Api
    runtime: Runtime | None
    where: str


@asynccontextmanager
async def open_service(settings: Settings) -> AsyncIterator[Service]:
    """Opens the data directory, or reaches the server that owns it.

    Raises what `Runtime.open` raises, and OwnerError where another process owns the directory and cannot be reached.
    """
    from service.runtime import Runtime

    try:
        runtime = await Runtime.open(settings)
    except DirectoryLocked as locked:
        note = await _reachable(settings, locked)
        async with _client(note.url, token=note.token) as http:
            yield Service(Api(http), None, note.url)
        return
    try:
        from service.http.app import create_app

        token = new_token()
        transport = httpx.ASGITransport(create_app(runtime, admin_token=token), raise_app_exceptions=False)
        owner = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=owner, timeout=None
        ) as http:
            yield Service(Api(http), runtime, str(settings.data_dir))
    finally:
        await runtime.close()


async def ask_owner(settings: Settings, locked: DirectoryLocked, path: str, body: Mapping[str, Any]) -> Any:
    """Has the server that owns the directory do work on the whole catalogue, however long it takes.

    Raises OwnerError, RequestFailed, ServerLost.
    """
    note = await _reachable(settings, locked)
    async with _client(note.url, token=note.token, timeout=None) as http:
        return await Api(http).call("POST", path, json=dict(body))


async def download(
    settings: Settings, locked: DirectoryLocked, path: str, query: Mapping[str, str], write: Callable[[bytes], Any]
) -> None:
    """A GET of the server that owns the directory; hands its body to `write` as it comes, however long it takes.

    Raises OwnerError, RequestFailed, ServerLost.
    """
    note = await _reachable(settings, locked)
    async with _client(note.url, token=note.token, timeout=None) as http:
        try:
            async with http.stream("GET", path, params=query) as response:
                if not response.is_success:
                    await response.aread()
                    answer_of(response)
                async for piece in response.aiter_bytes():
                    write(piece)
        except httpx.TransportError as error:
            raise ServerLost(f"the server at {note.url} broke off ({type(error).__name__}); its log says why") from None


async def _reachable(settings: Settings, locked: DirectoryLocked) -> Note:
    """The note of the server that holds the lock. Raises OwnerError."""
    who = f"process {locked.pid}" if locked.pid else "another process"
    try:
        note = read_note(settings.data_dir)
    except NoteMissing:
        raise OwnerError(
            f"{settings.data_dir} is in use by {who}, which is no server (or still starting): try again later"
        ) from None
    if locked.pid is not None and locked.pid != note.pid:
        raise OwnerError(f"{settings.data_dir} is in use by {who}, another command: try again later")
    async with _client(note.url, token=None, timeout=LIVE_S) as http:
        try:
            response = await http.get("/livez")
        except httpx.HTTPError:
            raise OwnerError(
                f"{settings.data_dir} is in use by a server (process {note.pid}) that does not answer at {note.url}"
            ) from None
    if response.status_code != 200:
        raise OwnerError(
            f"what answers at {note.url} is not the server of {settings.data_dir} (status {response.status_code})"
        )
    return note


def _client(url: str, *, token: str | None, timeout: float | None = TIMEOUT_S) -> httpx.AsyncClient:
    headers: Mapping[str, str] = {"Authorization": f"Bearer {token}"} if token else {}
    # No proxy: the note names this very machine.
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout, trust_env=False)


def answer_of(response: httpx.Response) -> Any:
    """The JSON of a 2xx answer. Raises RequestFailed for every other."""
    if response.is_success:
        return response.json() if response.content else None
    try:
        problem = response.json()
        slug = str(problem["type"]).rpartition("/")[2]
        message = " ".join(str(problem["detail"]).split())
    except (ValueError, KeyError, TypeError):
        slug, message = "unknown", f"unexpected answer {response.status_code} from {response.url.host}"
    raise RequestFailed(response.status_code, slug, message)


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds to wait, 0.2 to 30."""
    try:
        return min(30.0, max(0.2, float(headers.get("retry-after", "1"))))
    except ValueError:
        return 1.0
