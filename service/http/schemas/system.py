"""Info and Health: what runs here, and whether it answers."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from service.http.schemas.base import Answer
from service.http.schemas.fields import Cosine, Count, Text

Confinement = Annotated[list[Literal["limits", "landlock", "seccomp"]], Field(max_length=3)]


class ModelInfo(Answer):
    """A model that is loaded."""

    name: Text = Field(description="The network")
    precision: Text = Field(description="What it computes in: fp32, bf16, int8, fp16")
    fingerprint: Text = Field(description="Of all that decides a vector")
    dim: Count = Field(description="Numbers of a vector")
    default_threshold: Cosine = Field(description="The score that is a match where none is set")
    providers: Annotated[list[Text], Field(max_length=16)] = Field(
        description="The providers really in use, first one first"
    )
    runtime: Text = Field(description="Runtime, file and kernels, chosen by measuring, as in `onnxruntime int8 plain`")
    images_per_second: Annotated[float, Field(ge=0, le=1e6)] | None = Field(
        description="Of one thread, as measured when it was chosen; null where there was nothing to choose"
    )


class Limits(Answer):
    """What one request may bring or ask for."""

    max_upload_bytes: Count = Field(description="Of the body of one request")
    max_pixels: Count = Field(description="Of a picture, all frames together")
    max_side: Count = Field(description="Pixels of a picture's longer side")
    queue_limit: Count = Field(description="Requests inside at a time")
    limit: Count = Field(description="Results of a search")
    batch_queries: Count = Field(description="Queries of a batch")


class Info(Answer):
    """What runs here."""

    name: Literal["lookalike"] = Field("lookalike", description="This service")
    version: Text = Field(description="Of this service")
    versions: dict[str, Text] = Field(description="Of what it is built on, by name")
    model: ModelInfo = Field(description="The model of new collections")
    models: Annotated[list[ModelInfo], Field(max_length=64)] = Field(description="Every model in memory")
    device: Literal["cpu", "cuda"] = Field(description="Where the model of new collections runs")
    threads: Count = Field(description="Cores in use")
    confinement: Confinement = Field(description="What keeps code that breaks out of a picture's decoder inside")
    limits: Limits


class Health(Answer):
    """The process is up, or ready."""

    absent: ClassVar[frozenset[str]] = frozenset({"confinement"})

    status: Literal["ok", "ready"] = Field(description="`ok`: the process is up; `ready`: it answers")
    confinement: Confinement | None = Field(None, description="Of the decoders; absent from `/livez`")
