"""Problem: how every error is answered (RFC 9457), and the kinds of problem there are."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from service.http.schemas.base import Answer
from service.http.schemas.fields import text
from service.http.schemas.wording import MAX_FIELD_ERRORS

# slug → status, title
KINDS: dict[str, tuple[int, str]] = {
    "malformed-http": (400, "The request is not well-formed HTTP"),
    "unauthorized": (401, "A key is needed"),
    "not-found": (404, "There is nothing here"),
    "method-not-allowed": (405, "The method is not allowed here"),
    "model-mismatch": (409, "The collection was built with another model"),
    "sync-refused": (409, "The sync would remove too much"),
    "content-too-large": (413, "The body is larger than allowed"),
    "unsupported-image": (415, "Not a picture of an accepted kind"),
    "unsupported-media-type": (415, "The Content-Type is not accepted here"),
    "image-undecodable": (422, "The picture does not decode"),
    "image-too-large": (422, "The picture has more pixels than allowed"),
    "invalid-request": (422, "The request is not valid"),
    "source-unreadable": (422, "The file to import cannot be read"),
    "url-refused": (422, "The URL may not be fetched"),
    "url-failed": (502, "The picture could not be fetched from its URL"),
    "timeout": (408, "The request came too slowly"),
    "misdirected": (421, "The Host is not served here"),
    "forbidden": (403, "This is not allowed"),
    "rate-limited": (429, "The key asks too often"),
    "internal": (500, "A bug on our side"),
    "overloaded": (503, "The queue is full"),
    "not-ready": (503, "The service is not ready"),
    "storage-full": (507, "The disk is full"),
    "storage-read-only": (507, "The disk cannot be written to"),
    "storage-failed": (507, "The disk reports an error"),
}

# Paths in OpenAI's shape; its clients show `error.message`.
OPENAI = ("/v1/embeddings", "/v1/models")

ProblemType = Annotated[
    str,
    Field(
        description="A reference below this service that names the kind of problem",
        json_schema_extra={"enum": [f"/problems/{slug}" for slug in KINDS]},
    ),
]


class FieldError(Answer):
    """What is wrong with one field, without what was sent."""

    field: Annotated[str, text(200, examples=["score_threshold"])] = Field(description="Where, with dots")
    message: Annotated[str, text(500, examples=["must be at most 1"])] = Field(
        description="What is wrong, without what was sent"
    )


class OpenAIError(Answer):
    """The same in OpenAI's words, for its clients."""

    message: Annotated[str, text(2000)] = Field(description="As `detail`")
    type: Annotated[str, text(64)] = Field(description="The slug of the problem's type")
    param: Annotated[str, text(200)] | None = Field(description="The field that is wrong, where it is one")
    code: Annotated[str, text(64)] = Field(description="The slug of the problem's type")


class ProblemDetails(Answer):
    """An error, as application/problem+json."""

    absent: ClassVar[frozenset[str]] = frozenset({"errors", "error"})

    type: ProblemType
    title: Annotated[str, text(200)] = Field(description="The kind of problem in words")
    status: Annotated[int, Field(json_schema_extra={"minimum": 400, "maximum": 599})] = Field(
        description="The HTTP status"
    )
    detail: Annotated[str, text(2000)] = Field(description="One line: what is wrong, and what to do")
    instance: Annotated[str, text(8192, format="uri-reference")] = Field(description="The path that was asked")
    errors: Annotated[list[FieldError], Field(max_length=MAX_FIELD_ERRORS)] | None = Field(
        None, description="Of the fields that are wrong, the first ones"
    )
    error: OpenAIError | None = Field(None, description="Beside the others on paths in OpenAI's shape")
