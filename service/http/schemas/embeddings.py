"""Embedding: a picture's unit vector, and the models that make them, in OpenAI's shape."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from service.http.schemas.base import Answer, Request
from service.http.schemas.fields import MAX_DIM, Base64, Cosine, Count, Text, text
from service.search.limits import MAX_BATCH


class EmbeddingRequest(Request):
    """Pictures to embed."""

    input: Base64 | Annotated[list[Base64], Field(min_length=1, max_length=MAX_BATCH)] = Field(
        description="The pictures as data: URIs, or plain base64"
    )
    model: str | None = Field(None, max_length=256, description="The service's model; any other is refused")
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="Numbers, or base64 of little-endian float32; left out: float"
    )
    dimensions: int | None = Field(None, ge=1, le=MAX_DIM, description="The model's own; any other is refused")
    user: str | None = Field(None, max_length=256, description="Taken and not looked at")


class EmbeddedPicture(Answer):
    """One picture's vector."""

    object: Literal["embedding"] = "embedding"
    index: Count = Field(description="The picture's place in the request")
    embedding: Annotated[list[Cosine], Field(max_length=MAX_DIM)] | Annotated[str, text(4 * MAX_DIM * 2)] = Field(
        description="Numbers, or with `base64` little-endian float32"
    )


class Usage(Answer):
    """Pictures have no tokens."""

    prompt_tokens: Count = 0
    total_tokens: Count = 0


class EmbeddingList(Answer):
    """The vectors in the order of the pictures."""

    object: Literal["list"] = "list"
    data: Annotated[list[EmbeddedPicture], Field(max_length=MAX_BATCH)]
    model: Text
    usage: Usage


class Model(Answer):
    """A model that is served."""

    id: Text
    object: Literal["model"] = "model"
    created: Count = Field(description="0: when a model was made is not recorded")
    owned_by: Literal["lookalike"] = "lookalike"


class ModelList(Answer):
    """The models that `model` may name."""

    object: Literal["list"] = "list"
    data: Annotated[list[Model], Field(max_length=64)]
