"""A response: an answer of the schema as JSON, with a status and headers."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from service.http.schemas.base import Answer


def matches_tag(request: Request, etag: str) -> bool:
    """Whether whoever asks has what `etag` names, by If-None-Match."""
    known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    return etag.removeprefix("W/") in known or "*" in known


def answered(answer: Answer, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The answer as application/json."""
    return Response(answer.encoded(), status, headers, media_type="application/json")
