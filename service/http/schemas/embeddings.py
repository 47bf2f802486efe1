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

    object: Literal["embedding"] = Field("embedding", description="As OpenAI names it")
    index: Count = Field(description="The picture's place in the request")
    embedding: Annotated[list[Cosine], Field(max_length=MAX_DIM)] | Annotated[str, text(4 * MAX_DIM * 2)] = Field(
        description="Numbers, or with `base64` little-endian float32"
    )


class Usage(Answer):
    """Pictures have no tokens."""

    prompt_tokens: Count = Field(0, description="0")
    total_tokens: Count = Field(0, description="0")


class EmbeddingList(Answer):
    """The vectors in the order of the pictures."""

    object: Literal["list"] = Field("list", description="As OpenAI names it")
    data: Annotated[list[EmbeddedPicture], Field(max_length=MAX_BATCH)] = Field(description="One for each picture")
    model: Text = Field(description="The model that made them")
    usage: Usage


class Model(Answer):
    """A model that is served."""

    id: Text = Field(description="What `model` of a request names")
    object: Literal["model"] = Field("model", description="As OpenAI names it")
    created: Count = Field(description="0: when a model was made is not recorded")
    owned_by: Literal["lookalike"] = Field("lookalike", description="This service")


class ModelList(Answer):
    """The models that `model` may name."""

    object: Literal["list"] = Field("list", description="As OpenAI names it")
    data: Annotated[list[Model], Field(max_length=64)] = Field(description="Every one of them")
