"""Info and Health: what runs here, and whether it answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from service.http.schemas.base import Answer
from service.http.schemas.fields import Cosine, Count, Text


class ModelInfo(Answer):
    """A model that is loaded."""

    name: Text
    precision: Text
    fingerprint: Text
    dim: Count
    default_threshold: Cosine
    providers: Annotated[list[Text], Field(max_length=16)] = Field(
        description="The providers really in use, first one first"
    )


class Limits(Answer):
    """What one request may bring or ask for."""

    max_upload_bytes: Count
    max_pixels: Count
    max_side: Count
    queue_limit: Count
    limit: Count
    batch_queries: Count


class Info(Answer):
    """What runs here."""

    name: Literal["lookalike"] = "lookalike"
    version: Text
    versions: dict[str, Text]
    model: ModelInfo = Field(description="The model of new collections")
    models: Annotated[list[ModelInfo], Field(max_length=64)]
    device: Literal["cpu", "cuda"]
    threads: Count
    limits: Limits


class Health(Answer):
    """The process is up, or ready."""

    status: Literal["ok", "ready"]
