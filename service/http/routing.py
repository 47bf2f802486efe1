"""What every route needs: its parameters filled, its path checked, its query string refused where it has none."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Path, Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message, Receive, Scope, Send

from index.limits import ID, ID_RULE, NAME, NAME_RULE
from index.types import Collection
from service.access.access import ANYONE, Access, Asker
from service.access.audit import Audit
from service.access.scopes import needs
from service.errors import Unauthorized
from service.http.admission import Admission
from service.http.bodies.reading import known_query
from service.http.problems import invalid
from service.http.schemas.fields import ItemId, Name
from service.http.schemas.jobs import JobId
from service.runtime import Runtime


def checked(request: Request, parameter: str, shown: str, pattern: re.Pattern[str], rule: str) -> str:
    """A path parameter. Raises `invalid-request` about the field `shown`."""
    value: str = request.path_params[parameter]
    if not pattern.fullmatch(value):
        raise invalid(shown, f"must be {rule}")
    return value


def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


def _admission(request: Request) -> Admission:
    admission: Admission = request.app.state.admission
    return admission


def _name(request: Request) -> str:
    return checked(request, "c", "collection", NAME, NAME_RULE)


def _collection(request: Request) -> Collection:
    return _runtime(request).collection(_name(request))


def _id(request: Request) -> str:
    return checked(request, "id", "id", ID, ID_RULE)


# What a route's parameters may be called, and what each gets.
FILLERS: dict[str, Callable[[Request], Any]] = {
    "request": lambda request: request,
    "runtime": _runtime,
    "admission": _admission,
    "name": _name,
    "collection": _collection,
    "id": _id,
    "job": lambda request: request.path_params["job"],
}


# Operations that read a query string which the document leaves out: older clients send it, no new one should.
READ_QUERY = frozenset({"search_by_image"})


# Operations that a signed address opens without a key.
SIGNED = frozenset({"get_thumbnail"})


class Direct(APIRoute):
    """A route whose parameters are filled here instead of by FastAPI, which spends a millisecond of CPU on it.

    A parameter's name says what it gets (FILLERS), its annotation (below) is what the document shows. Below /v1 a query
    string is refused unless the route describes one or is in READ_QUERY. Raises TypeError for a parameter that nothing
    fills.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = tuple(inspect.signature(self.endpoint).parameters)
        if unknown := set(names) - FILLERS.keys():
            raise TypeError(f"{self.path}: nothing fills {', '.join(sorted(unknown))}; add it to FILLERS")
        self._fill = [(name, FILLERS[name]) for name in names]
        reads = self.operation_id in READ_QUERY or any(
            each["in"] == "query" for each in (self.openapi_extra or {}).get("parameters", ())
        )
        self._strict = self.path.startswith("/v1/") and not reads
        # The page and what commands ask are no operations: the one is open, the other knows its own token.
        self._operation = str(self.operation_id) if self.include_in_schema else None
        self._changes = self._operation is not None and needs(self._operation) == "write"
        # What may grow, and so is refused where memory is nearly full.
        self._brings = (
            self._changes and not (self.methods or set()) & {"GET", "DELETE"} and self._operation != "delete_items"
        )
        self.app = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        if self._operation is not None:
            asker = await _asker(request, self._operation)
            if self._brings:
                _runtime(request).memory.check()
            if self._changes:
                send = _noted(request, send, asker, self._operation)
        if self._strict and scope["query_string"]:
            known_query(request.query_params, ())
        response: Response = await self.endpoint(**{name: fill(request) for name, fill in self._fill})
        await response(scope, receive, send)


async def _asker(request: Request, operation: str) -> Asker:
    """Who asks. Decided before a byte of the body is read. Raises Unauthorized, Forbidden, RateLimited."""
    access: Access = request.app.state.access
    runtime = _runtime(request)
    if access.stale:
        access.reading()
        await runtime.read(access.read)
    try:
        asker = access.check(request.headers, operation, request.path_params.get("c"))
    except Unauthorized:
        if operation not in SIGNED or not _signed(request, access):
            raise
        asker = Asker(ANYONE)
    request.scope["asker"] = asker
    if asker.note_use:
        await runtime.write(access.used, asker.who)
    return asker


def _signed(request: Request, access: Access) -> bool:
    """Whether the address itself opens this path."""
    asked = request.query_params
    expires, path = asked.get("expires", ""), request.url.path.removeprefix(request.scope["root_path"])
    return expires.isascii() and expires.isdigit() and access.opens(path, int(expires[:12]), asked.get("signature"))


def _noted(request: Request, send: Send, asker: Asker, operation: str) -> Send:
    """Sends, and notes a write that was carried out."""

    async def noting(message: Message) -> None:
        await send(message)
        if message["type"] == "http.response.start" and message["status"] < 300:
            audit: Audit = request.app.state.audit
            named = {"collection": request.path_params.get("c"), "id": request.path_params.get("id")}
            client = request.client.host if request.client else None
            about = {key: value for key, value in (named | {"from": client}).items() if value is not None}
            audit.note(asker.who, operation, status=message["status"], **about)

    return noting


# What the document shows of the parameters that `Direct` fills.
CollectionName = Annotated[Name, Path(alias="c")]
ItemPath = Annotated[ItemId, Path(alias="id")]
JobPath = Annotated[JobId, Path()]


def _filled_by_direct() -> Runtime:
    raise NotImplementedError  # `Direct` fills it; FastAPI only wants a callable for the document


def _admitted_by_direct() -> Admission:
    raise NotImplementedError


def _named_by_direct(name: CollectionName) -> Collection:
    raise NotImplementedError


Loaded = Annotated[Runtime, Depends(_filled_by_direct)]
Admitted = Annotated[Admission, Depends(_admitted_by_direct)]
Named = Annotated[Collection, Depends(_named_by_direct)]


def deadline(runtime: Runtime) -> float:
    """Monotonic seconds at which a request whose body is there now gives up waiting."""
    return time.monotonic() + runtime.settings.request_timeout


def addresses(request: Request) -> Callable[[str], str]:
    """How a picture's path becomes the address that a browser asks: below the proxy's prefix, signed if need be."""
    access: Access = request.app.state.access
    return partial(access.signed, root=_runtime(request).settings.root_path)
