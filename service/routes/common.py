"""What every route needs: the runtime, the collection in the path, a strict query string, a body read once."""

from __future__ import annotations

import time
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Path, Request
from pydantic import BaseModel
from starlette.datastructures import QueryParams

from index.types import Collection
from service.problems import Problem, invalid
from service.runtime import Runtime
from service.schemas import ID_PATTERN, NAME_PATTERN, ProblemDetails
from service.upload import Form, media_type, parse_form, parse_json, read_body, require_json

M = TypeVar("M", bound=BaseModel)


PROBLEM: dict[int | str, dict[str, Any]] = {
    "default": {"model": ProblemDetails, "description": "What went wrong, as application/problem+json"}
}


def runtime_of(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


def only(*names: str) -> Any:
    """A dependency that refuses query parameters other than `names`."""

    async def check(request: Request) -> None:
        known_query(request.query_params, names)

    return Depends(check)


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


# Dependencies are coroutines: FastAPI would run plain functions in a thread each.
async def loaded(request: Request) -> Runtime:
    return runtime_of(request)


Loaded = Annotated[Runtime, Depends(loaded)]
CollectionName = Annotated[str, Path(alias="c", pattern=NAME_PATTERN, description="[a-z0-9][a-z0-9_-]{0,62}")]
ItemPath = Annotated[str, Path(alias="id", pattern=ID_PATTERN, description="1–128 of A–Z a–z 0–9 . _ : @ -")]


async def named_collection(name: CollectionName, runtime: Loaded) -> Collection:
    return runtime.collection(name)


Named = Annotated[Collection, Depends(named_collection)]


async def read_json(request: Request, model: type[M]) -> M:
    """The body as strict JSON. Raises `unsupported-media-type`, `content-too-large`, `invalid-request`."""
    require_json(request)
    return parse_json(await whole_body(request), model)


async def whole_body(request: Request) -> bytes:
    # A slow sender holds a place in the queue, so the deadline counts for the body as well.
    settings = runtime_of(request).settings
    return await read_body(request, settings.max_upload_bytes, settings.request_timeout)


async def read_picture(request: Request, fields: tuple[str, ...], *, raw: bool) -> tuple[bytes, dict[str, str]]:
    """The picture and the text fields: multipart, or (raw) an image/* body with the fields in the query string.

    Raises `unsupported-media-type`, `content-too-large`, `invalid-request`.
    """
    kind = media_type(request)
    if kind == "multipart/form-data":
        known_query(request.query_params, ())
        body = await whole_body(request)
        form: Form = parse_form(body, request.headers["content-type"], files=("image",), fields=fields)
        if "image" not in form.files:
            raise invalid("image", "missing; send the picture as a file part called image")
        return form.files["image"], form.fields
    if raw and kind.startswith("image/"):
        known_query(request.query_params, fields)
        return await whole_body(request), dict(request.query_params)
    wanted = "multipart/form-data" + (" or the picture itself as image/jpeg, image/png or image/webp" if raw else "")
    raise Problem("unsupported-media-type", f"Send {wanted}")


def deadline(runtime: Runtime) -> float:
    """Monotonic seconds at which a request that arrives now gives up waiting."""
    return time.monotonic() + runtime.settings.request_timeout
