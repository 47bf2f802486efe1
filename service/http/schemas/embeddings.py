"""Embedding: a picture's unit vector, in OpenAI's shape."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from service.http.schemas.base import Answer, Request
from service.http.schemas.fields import MAX_DIM, MAX_QUERIES, Cosine, Count, Text, text

class EmbeddingRequest(Request):
    """Pictures to embed."""

    input: str | list[str] = Field(description=f"data: URIs (or plain base64) of pictures, at most {MAX_QUERIES}")
    model: str | None = Field(None, description="The service's model; any other is refused")
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None

    @field_validator("input")
    @classmethod
    def bounded(cls, value: str | list[str]) -> str | list[str]:
        if isinstance(value, list) and not 1 <= len(value) <= MAX_QUERIES:
            raise ValueError(f"give 1 to {MAX_QUERIES} pictures")
        return value


class Embedding(Answer):
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
    data: Annotated[list[Embedding], Field(max_length=MAX_QUERIES)]
    model: Text
    usage: Usage
