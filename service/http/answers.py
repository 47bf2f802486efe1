"""A response: an answer of the schema as JSON, with a status and headers."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from service.http.schemas.base import Answer


def matches_tag(request: Request, etag: str, *, found: bool = True) -> bool:
    """Whether whoever asks has what `etag` names, by If-None-Match. found: there is something, which `*` names too."""
    given = ",".join(request.headers.getlist("if-none-match"))
    known = {each.strip().removeprefix("W/") for each in given.split(",")}
    return etag.removeprefix("W/") in known or (found and "*" in known)


def answered(answer: Answer, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The answer as application/json."""
    return Response(answer.encoded(), status, headers, media_type="application/json")
