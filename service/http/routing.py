"""What every route needs: its parameters checked and filled, a strict query string, a body read once."""

from __future__ import annotations

import asyncio
import inspect
import re
import time
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Path, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope, Send

from index.limits import ID_PATTERN, NAME_PATTERN
from index.types import Collection
from service.http.admission import Admission, Room
from service.http.body import media_type, parse_json, read_body, require_json
from service.http.forms import parse_form
from service.http.problems import Problem, invalid
from service.http.schemas import ProblemDetails
from service.runtime import Runtime

M = TypeVar("M", bound=BaseModel)

SMALL_BODY = 2**20
# Parsing more than this would keep the event loop from everybody else for milliseconds.
PARSED_INLINE = 2**18


PROBLEM: dict[int | str, dict[str, Any]] = {
    "default": {"model": ProblemDetails, "description": "What went wrong, as application/problem+json"}
}


class Direct(APIRoute):
    """A route whose parameters are filled here instead of by FastAPI, which spends a millisecond of CPU on it.

    A parameter's annotation (below) is what the schema shows; its name says what it gets: `request`, `runtime`,
    `admission`, `name` (of the collection in the path), `collection`, `id`. Below /v1 a query string is refused unless
    the route describes one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._wanted = tuple(inspect.signature(self.endpoint).parameters)
        self._strict = self.path.startswith("/v1/") and "parameters" not in (self.openapi_extra or {})
        self.app = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        if self._strict and scope["query_string"]:
            known_query(request.query_params, ())
        runtime: Runtime = scope["app"].state.runtime
        given: dict[str, Any] = {}
        for parameter in self._wanted:
            if parameter == "request":
                given[parameter] = request
            elif parameter == "runtime":
                given[parameter] = runtime
            elif parameter == "admission":
                given[parameter] = scope["app"].state.admission
            elif parameter == "name":
                given[parameter] = checked(request, "c", NAME, "[a-z0-9][a-z0-9_-]{0,62}")
            elif parameter == "collection":
                given[parameter] = runtime.collection(checked(request, "c", NAME, "[a-z0-9][a-z0-9_-]{0,62}"))
            else:
                given[parameter] = checked(request, "id", ID, "1–128 of A–Z a–z 0–9 . _ : @ -, not . or ..")
        response: Response = await self.endpoint(**given)
        await response(scope, receive, send)


NAME = re.compile(NAME_PATTERN)
ID = re.compile(ID_PATTERN)


def checked(request: Request, parameter: str, pattern: re.Pattern[str], allowed: str) -> str:
    """A path parameter. Raises `invalid-request`."""
    value: str = request.path_params[parameter]
    if not pattern.fullmatch(value):
        raise invalid("collection" if parameter == "c" else parameter, f"must be {allowed}")
    return value


def known_query(given: QueryParams, names: tuple[str, ...]) -> None:
    """Raises `invalid-request` for an unknown or repeated query parameter."""
    seen: set[str] = set()
    for name, _ in given.multi_items():
        if name not in names:
            raise Problem(
                "invalid-request",
                "The query string has a parameter that is not known here"
                + (f"; known are {', '.join(names)}" if names else ""),
                errors=[{"field": name[:100], "message": "unknown parameter"}],
            )
        if name in seen:
            raise invalid(name, "given more than once")
        seen.add(name)


def query_fields(request: Request, model: type[M]) -> M:
    """The query string as `model`. Raises `invalid-request`, ValidationError."""
    known_query(request.query_params, tuple(model.model_fields))
    return model.model_validate(dict(request.query_params))


# What the schema shows of the parameters that `Direct` fills.
CollectionName = Annotated[str, Path(alias="c", pattern=NAME_PATTERN, description="[a-z0-9][a-z0-9_-]{0,62}")]
ItemPath = Annotated[str, Path(alias="id", pattern=ID_PATTERN, description="1–128 of A–Z a–z 0–9 . _ : @ -")]


def _filled_by_direct() -> Runtime:
    raise NotImplementedError  # `Direct` fills it; FastAPI only wants a callable for the schema


def _admitted_by_direct() -> Admission:
    raise NotImplementedError


def _named_by_direct(name: CollectionName) -> Collection:
    raise NotImplementedError


Loaded = Annotated[Runtime, Depends(_filled_by_direct)]
Admitted = Annotated[Admission, Depends(_admitted_by_direct)]
Named = Annotated[Collection, Depends(_named_by_direct)]


async def read_json(request: Request, model: type[M], room: Room | None = None) -> M:
    """The body as strict JSON; without `room` at most SMALL_BODY, as no picture or vector can be in it.

    Raises `unsupported-media-type`, `content-too-large`, `invalid-request`, `overloaded`.
    """
    require_json(request)
    body = await whole_body(request, room)
    if len(body) <= PARSED_INLINE:
        return parse_json(body, model)
    return await asyncio.to_thread(parse_json, body, model)


async def whole_body(request: Request, room: Room | None = None) -> bytes:
    settings = request.app.state.runtime.settings
    limit = settings.max_upload_bytes if room else min(SMALL_BODY, settings.max_upload_bytes)
    return await read_body(request, limit, settings.request_timeout, room)


async def read_picture(
    request: Request, fields: tuple[str, ...], room: Room, *, raw: bool
) -> tuple[bytes, dict[str, str]]:
    """The picture and the text fields: multipart, or (raw) an image/* body with the fields in the query string.

    Raises `unsupported-media-type`, `content-too-large`, `invalid-request`, `overloaded`.
    """
    kind = media_type(request)
    if kind == "multipart/form-data":
        known_query(request.query_params, ())
        body = await whole_body(request, room)
        form = parse_form(body, request.headers["content-type"], files=("image",), fields=fields)
        if "image" not in form.files:
            raise invalid("image", "missing; send the picture as a file part called image")
        return form.files["image"], form.fields
    if raw and kind.startswith("image/"):
        known_query(request.query_params, fields)
        return await whole_body(request, room), dict(request.query_params)
    wanted = "multipart/form-data" + (" or the picture itself as image/jpeg, image/png or image/webp" if raw else "")
    raise Problem("unsupported-media-type", f"Send {wanted}")


def deadline(runtime: Runtime) -> float:
    """Monotonic seconds at which a request whose body is there now gives up waiting."""
    return time.monotonic() + runtime.settings.request_timeout
