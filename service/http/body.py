"""Reading a request's body: under a byte cap and a time limit, and whole before anything is made of it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection as AbstractCollection
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from service.http.admission import Room
from service.http.problems import Problem, invalid

M = TypeVar("M", bound=BaseModel)

# More parts than any form of ours has fields; a form of a million tiny parts is refused early.
MAX_PARTS = 32
MAX_FIELD_BYTES = 1 << 20
MAX_HEADER_BYTES = 8192
# 32 vectors of 2048 dimensions are 65,536 numbers; a million tiny values would hold the event loop for seconds.
MAX_JSON_VALUES = 150_000


def too_large(limit: int) -> Problem:
    return Problem(
        "content-too-large", f"The body is larger than the {limit} bytes allowed here; send a smaller picture"
    )


async def read_body(request: Request, limit: int, seconds: float, room: Room | None = None) -> bytes:
    """The whole body, counted in `room`. Raises content-too-large, invalid-request (too slow), ClientDisconnect."""
    announced = request.headers.get("content-length")
    if announced is not None and announced.isdigit() and int(announced) > limit:
        raise too_large(limit)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit:
                    raise too_large(limit)
                if room is not None:
                    room.grow(len(chunk))
                chunks.append(chunk)
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise Problem("invalid-request", f"The body did not arrive within {seconds:g} seconds") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


@dataclass(slots=True)
class Form:
    """A parsed upload: the file parts and the text fields, each name at most once."""

    files: dict[str, bytes] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)


class _Parts:
    """Collects what the multipart parser calls back with."""

    def __init__(self, files: AbstractCollection[str], fields: AbstractCollection[str]) -> None:
        self.form = Form()
        self.complete = False
        self._accepted_files = files
        self._accepted_fields = fields
        self._parts = 0
        self._header_name = b""
        self._header_value = b""
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise Problem("invalid-request", f"The form has more than {MAX_PARTS} parts")
        self._headers = {}
        self._data = []
        self._size = 0

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def on_header_end(self) -> None:
        if len(self._header_name) + len(self._header_value) > MAX_HEADER_BYTES:
            raise Problem("invalid-request", "A part of the form has a header that is too long")
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name")
        if name is None:
            raise Problem("invalid-request", "A part of the form has no name")
        self._name = name.decode("utf-8", "replace")
        if self._name not in self._accepted_files and self._name not in self._accepted_fields:
            known = ", ".join([*self._accepted_files, *self._accepted_fields])
            raise Problem(
                "invalid-request",
                f"The form has a field that is not known here; known are {known}",
                errors=[{"field": self._name[:100], "message": "unknown field"}],
            )
        if self._name in self.form.files or self._name in self.form.fields:
            raise invalid(self._name, "given more than once")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._name not in self._accepted_files and self._size > MAX_FIELD_BYTES:
            raise invalid(self._name, f"longer than {MAX_FIELD_BYTES} bytes")
        self._data.append(data[start:end])

    def on_part_end(self) -> None:
        data = self._data[0] if len(self._data) == 1 else b"".join(self._data)
        self._data = []
        if self._name in self._accepted_files:
            self.form.files[self._name] = data
            return
        try:
            self.form.fields[self._name] = data.decode("utf-8")
        except UnicodeDecodeError:
            raise invalid(self._name, "not valid UTF-8") from None

    def on_end(self) -> None:
        self.complete = True


def parse_form(
    body: bytes, content_type: str, *, files: AbstractCollection[str], fields: AbstractCollection[str]
) -> Form:
    """Reads multipart/form-data; unknown, repeated or nameless parts are refused. Raises Problem `invalid-request`."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise Problem("invalid-request", "The Content-Type names no multipart boundary")
    parts = _Parts(files, fields)
    names = [
        "part_begin",
        "header_field",
        "header_value",
        "header_end",
        "headers_finished",
        "part_data",
        "part_end",
        "end",
    ]
    callbacks: Any = {f"on_{name}": getattr(parts, f"on_{name}") for name in names}
    try:
        parser = MultipartParser(boundary, callbacks)
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise Problem("invalid-request", "The body is not well-formed multipart/form-data") from None
    if not parts.complete:
        raise Problem("invalid-request", "The form ends too early: its closing boundary is missing")
    return parts.form


def media_type(request: Request) -> str:
    """The Content-Type without parameters, lower-case."""
    return request.headers.get("content-type", "").split(";", 1)[0].strip().lower()


def parse_json(body: bytes, model: type[M]) -> M:
    """Strict JSON (no NaN, no numbers as text) into `model`. Raises Problem `invalid-request`, ValidationError."""
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MAX_JSON_VALUES:
        raise Problem("invalid-request", f"The body holds more than {MAX_JSON_VALUES} values; send fewer at a time")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem("invalid-request", f"The body is not valid JSON ({error.msg} at character {error.pos})") from None
    if isinstance(value, dict):
        refuse_unknown(value, model)
    return model.model_validate(value, strict=True)


def refuse_unknown(value: dict[str, object], model: type[BaseModel]) -> None:
    """Raises `invalid-request` at the first field that `model` lacks: validation would write an error for each."""
    for name in value:
        if name not in model.model_fields:
            raise Problem(
                "invalid-request",
                f"The body has a field that is not known here; known are {', '.join(model.model_fields)}",
                errors=[{"field": name[:100], "message": "unknown field"}],
            )


def require_json(request: Request) -> None:
    """Raises `unsupported-media-type` unless the body says it is JSON."""
    kind = media_type(request)
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem("unsupported-media-type", "Send JSON with Content-Type: application/json")
