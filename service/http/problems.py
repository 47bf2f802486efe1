"""Problem: an error on its way out (RFC 9457), and the one table from exception to kind of problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.responses import Response

from index import errors as store
from models import errors as models
from service import errors
from service.http.schemas.base import FieldsRefused
from service.http.schemas.problems import KINDS, OPENAI, FieldError, OpenAIError, ProblemDetails
from service.http.schemas.wording import MAX_FIELD_ERRORS

MEDIA_TYPE = "application/problem+json"
PATH = "/:@!$&'()*+,;=~"  # what a path holds beside letters and digits without being escaped
RETRY_SECONDS = 2.0  # with a 503 whose exception names no time of its own


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

    def details(self, instance: str) -> ProblemDetails:
        """As it is sent; instance: the path that was asked, decoded."""
        openai = None
        if instance.endswith(OPENAI):
            field = self.errors[0]["field"] if self.errors else None
            openai = OpenAIError(message=self.detail, type=self.slug, param=field, code=self.slug)
        return ProblemDetails(
            type=f"/problems/{self.slug}",
            title=self.title,
            status=self.status,
            detail=self.detail,
            instance=quote(instance, safe=PATH),
            errors=[FieldError(**each) for each in self.errors] or None,
            error=openai,
        )

    def response(self, instance: str) -> Response:
        return Response(
            self.details(instance).encoded(), self.status, {**self.headers, "Cache-Control": "no-store"}, MEDIA_TYPE
        )


def invalid(field: str, message: str) -> Problem:
    """A 422 about one field."""
    return Problem("invalid-request", f"{field}: {message}", errors=[{"field": field, "message": message}])


# The slug decides the status, and the status whether Retry-After is sent. Looked up along the exception's method
# resolution order, so a subclass inherits its parent's. What is not here is a bug.
SLUGS: dict[type[Exception], str] = {
    models.UnsupportedImage: "unsupported-image",
    models.UndecodableImage: "image-undecodable",
    models.ImageTooLarge: "image-too-large",
    models.EmbeddingInvalid: "image-undecodable",
    models.ArtefactError: "model-mismatch",
    models.DeviceUnavailable: "not-ready",
    store.NotFound: "not-found",
    store.Refused: "invalid-request",
    store.RecordConflict: "internal",
    store.ModelMismatch: "model-mismatch",
    store.IndexNotReady: "not-ready",
    store.StorageFull: "storage-full",
    store.StorageReadOnly: "storage-read-only",
    store.StorageError: "storage-failed",
    store.DirectoryLocked: "internal",
    store.StoreCorrupt: "internal",
    store.CacheUnusable: "internal",
    store.SnapshotExists: "internal",
    store.SchemaTooNew: "internal",
    store.StoreClosed: "not-ready",
    errors.NotReady: "not-ready",
    errors.Overloaded: "overloaded",
    errors.QueryExpired: "not-found",
    errors.Unauthorized: "unauthorized",
    errors.Forbidden: "forbidden",
    errors.RateLimited: "rate-limited",
    errors.UrlRefused: "url-refused",
    errors.UrlFailed: "url-failed",
}


def problem_of(error: Exception) -> Problem:
    """The problem an exception is answered with; unknown ones are `internal` and say nothing of the inside."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        if error.status_code == 405:
            return Problem("method-not-allowed", "This path does not take that method", headers=error.headers)
        if error.status_code == 404:
            return Problem("not-found", "There is no such path; see /docs")
        return Problem("invalid-request", str(error.detail))
    if isinstance(error, FieldsRefused):
        return Problem("invalid-request", str(error), errors=error.errors)
    if isinstance(error, store.FilterError):
        path = f"filter.{error.path}".rstrip(".")[:100]
        return Problem("invalid-request", str(error)[:400], errors=[{"field": path, "message": error.message[:200]}])
    if isinstance(error, errors.InvalidRequest):
        return invalid(error.field, error.message)
    slug = next((SLUGS[cls] for cls in type(error).__mro__ if cls in SLUGS), "internal")
    if slug == "internal":
        return Problem(slug, "Something went wrong on our side; the log has the details")
    return Problem(slug, str(error), headers=_when(error, KINDS[slug][0]))


def _when(error: Exception, status: int) -> dict[str, str]:
    if status == 401:
        return {"WWW-Authenticate": 'Bearer realm="lookalike"'}
    if status not in (429, 503):
        return {}
    seconds = error.retry_after if isinstance(error, errors.Unavailable | errors.RateLimited) else RETRY_SECONDS
    return {"Retry-After": str(max(1, round(seconds)))}
