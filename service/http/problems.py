"""Every error answers as `application/problem+json` (RFC 9457): one table of kinds, one from exception to kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from index import errors as store
from models import errors as models
from service import errors

# slug → status, title
KINDS: dict[str, tuple[int, str]] = {
    "content-too-large": (413, "The body is larger than allowed"),
    "unsupported-image": (415, "Not a picture of an accepted kind"),
    "image-undecodable": (422, "The picture does not decode"),
    "image-too-large": (422, "The picture has more pixels than allowed"),
    "invalid-request": (422, "The request is not valid"),
    "unsupported-media-type": (415, "The Content-Type is not accepted here"),
    "not-found": (404, "There is nothing here"),
    "method-not-allowed": (405, "The method is not allowed here"),
    "model-mismatch": (409, "The collection was built with another model"),
    "url-refused": (422, "The URL may not be fetched"),
    "overloaded": (503, "The queue is full"),
    "not-ready": (503, "The service is not ready"),
    "storage-full": (507, "The disk is full"),
    "timeout": (408, "The request came too slowly"),
    "misdirected": (421, "The Host is not served here"),
    "forbidden": (403, "This is not allowed"),
    "malformed-http": (400, "The request is not well-formed HTTP"),
    "internal": (500, "A bug on our side"),
}

MAX_FIELD_ERRORS = 20
MAX_NAME = 100


class Problem(Exception):
    """An answer that is an error. detail: one line, what is wrong and what to do; errors: per field, without input."""

    def __init__(
        self,
        slug: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.slug = slug
        self.status, self.title = KINDS[slug]
        self.detail = detail
        self.errors = list(errors)[:MAX_FIELD_ERRORS]
        self.headers = dict(headers or {})

    def body(self, instance: str) -> dict[str, Any]:
        """The problem as JSON-ready data; instance: the path that was asked."""
        body: dict[str, Any] = {
            "type": f"/problems/{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
        }
        if self.errors:
            body["errors"] = self.errors
        return body

    def response(self, instance: str) -> Response:
        return Response(
            orjson.dumps(self.body(instance)),
            self.status,
            {**self.headers, "Cache-Control": "no-store"},
            "application/problem+json",
        )


def invalid(field: str, message: str) -> Problem:
    """A 422 about one field."""
    return Problem("invalid-request", f"{field}: {message}", errors=[{"field": field, "message": message}])


# Looked up along the exception's method resolution order, so a subclass inherits its parent's kind.
SLUGS: dict[type[Exception], str] = {
    models.UnsupportedImage: "unsupported-image",
    models.UndecodableImage: "image-undecodable",
    models.ImageTooLarge: "image-too-large",
    models.EmbeddingInvalid: "image-undecodable",
    models.ArtefactError: "model-mismatch",
    models.DeviceUnavailable: "not-ready",
    store.NotFound: "not-found",
    store.ModelMismatch: "model-mismatch",
    store.Refused: "invalid-request",
    store.StorageFull: "storage-full",
    store.IndexNotReady: "not-ready",
    errors.NotReady: "not-ready",
    errors.Overloaded: "overloaded",
    errors.UrlRefused: "url-refused",
}
RETRY_SECONDS = 2.0  # with a 503 whose exception names no time of its own


def _field_errors(error: ValidationError) -> list[dict[str, str]]:
    found = []
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        # A field's name may be the caller's own text, of any length.
        where = ".".join(str(part)[:MAX_NAME] for part in each["loc"] if part not in ("body", "query", "path"))
        found.append({"field": where[:MAX_NAME] or "body", "message": each["msg"][:200]})
    return found


def _when(error: Exception, status: int) -> dict[str, str]:
    if status != 503:
        return {}
    seconds = error.retry_after if isinstance(error, errors.Unavailable) else RETRY_SECONDS
    return {"Retry-After": str(max(1, round(seconds)))}


def problem_of(error: Exception) -> Problem:
    """The problem an exception is answered with; unknown ones are `internal` and say nothing of the inside."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, ValidationError):
        fields = _field_errors(error)
        first = fields[0]
        more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
        return Problem("invalid-request", f"{first['field']}: {first['message']}{more}", errors=fields)
    if isinstance(error, HTTPException):
        if error.status_code == 405:
            return Problem("method-not-allowed", "This path does not take that method", headers=error.headers)
        if error.status_code == 404:
            return Problem("not-found", "There is no such path; see /docs")
        return Problem("invalid-request", str(error.detail))
    if isinstance(error, store.FilterError):
        path = f"filter.{error.path}".rstrip(".")[:MAX_NAME]
        return Problem("invalid-request", str(error)[:400], errors=[{"field": path, "message": error.message[:200]}])
    if isinstance(error, errors.InvalidRequest):
        return invalid(error.field, error.message)
    for cls in type(error).__mro__:
        if cls in SLUGS:
            return Problem(SLUGS[cls], str(error), headers=_when(error, KINDS[SLUGS[cls]][0]))
    return Problem("internal", "Something went wrong on our side; the log has the details")
