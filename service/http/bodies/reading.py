"""A request read into the types of the schema: its query string, its JSON, its picture with the fields beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import Request
from starlette.datastructures import QueryParams

from service.http.admission import Room
from service.http.bodies.body import MAX_JSON_VALUES, media_type, read_body
from service.http.bodies.forms import parse_form
from service.http.problems import Problem, invalid
from service.http.schemas.base import Texts
from service.strict_json import JsonRefused, loads

A = TypeVar("A")
T = TypeVar("T", bound=Texts)

SMALL_BODY = 2**20
# Parsing more than this would keep the event loop from everybody else for milliseconds.
PARSED_INLINE = 2**18


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


def query_fields(request: Request, model: type[T]) -> T:
    """The query string as `model`. Raises `invalid-request`, FieldsRefused."""
    known_query(request.query_params, tuple(model.model_fields))
    return model.read(dict(request.query_params))


async def read_json(request: Request, read: Callable[[Any], A], room: Room | None = None) -> A:
    """The body's JSON as `read` takes it; without `room` at most SMALL_BODY, as no picture or vector can be in it.

    Raises `unsupported-media-type`, `content-too-large`, `invalid-request`, `overloaded`, and what `read` raises.
    """
    require_json(request)
    body = await whole_body(request, room)
    if len(body) <= PARSED_INLINE:
        return parse_json(body, read)
    return await asyncio.to_thread(parse_json, body, read)


async def read_optional_json(request: Request, read: Callable[[Any], A], default: A) -> A:
    """The same for a body that may be left out."""
    body = await whole_body(request)
    if not body:
        return default
    require_json(request)
    return parse_json(body, read)


def parse_json(body: bytes, read: Callable[[Any], A]) -> A:
    """Raises `invalid-request`, and what `read` raises."""
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MAX_JSON_VALUES:
        raise Problem("invalid-request", f"The body holds more than {MAX_JSON_VALUES} values; send fewer at a time")
    try:
        value = loads(body)
    except JsonRefused as refused:
        raise invalid("body", str(refused)) from None
    return read(value)


def require_json(request: Request) -> None:
    """Raises `unsupported-media-type` unless the body says it is JSON."""
    kind = media_type(request)
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem("unsupported-media-type", "Send JSON with Content-Type: application/json")


async def whole_body(request: Request, room: Room | None = None) -> bytes:
    """The body under the cap that is due: of an upload with `room`, else SMALL_BODY."""
    settings = request.app.state.runtime.settings
    if room is not None:
        return await read_body(request, settings.max_upload_bytes, settings.request_timeout, room)
    with request.app.state.admission.room() as small:
        return await read_body(request, min(SMALL_BODY, settings.max_upload_bytes), settings.request_timeout, small)


async def read_form(request: Request, fields: tuple[str, ...], room: Room) -> tuple[bytes, dict[str, str]]:
    """The picture of a multipart form, and its text fields.

    Raises `unsupported-media-type`, `content-too-large`, `invalid-request`, `overloaded`.
    """
    if media_type(request) != "multipart/form-data":
        raise Problem("unsupported-media-type", "Send multipart/form-data")
    body = await whole_body(request, room)
    form = parse_form(body, request.headers["content-type"], files=("image",), fields=fields)
    if "image" not in form.files:
        raise invalid("image", "missing; send the picture as a file part called image")
    return form.files["image"], form.fields


async def read_raw(request: Request, model: type[T], room: Room, *, unnamed: bool = False) -> tuple[bytes, T]:
    """A picture that is the body itself, and the fields in the query string.

    unnamed: application/octet-stream is taken too. Raises as `read_form`.
    """
    kind = media_type(request)
    if not (kind.startswith("image/") or (unnamed and kind == "application/octet-stream")):
        raise Problem("unsupported-media-type", "Send the picture itself as image/jpeg, image/png or image/webp")
    asked = query_fields(request, model)
    return await whole_body(request, room), asked


async def read_upload(request: Request, model: type[T], room: Room) -> tuple[bytes, T]:
    """A picture in a form, or (as older clients send it) as the body itself.

    Fields of the query string are read where the form does not give them. Raises as `read_form`.
    """
    if media_type(request).startswith("image/"):
        return await read_raw(request, model, room)
    names = tuple(model.model_fields)
    known_query(request.query_params, names)
    data, fields = await read_form(request, names, room)
    return data, model.read(model.given(dict(request.query_params)) | model.given(fields))
