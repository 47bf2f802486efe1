"""Query: what is looked for, one type per source, and many of them in a batch."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from service.errors import InvalidRequest
from service.http.schemas.base import Answer, Request
from service.http.schemas.fields import MAX_DIM, MAX_LIKES, MAX_QUERIES, ItemId
from service.http.schemas.problems import ProblemDetails
from service.http.schemas.search import CropText, SearchFields, SearchResponse

Number = Annotated[float, Field(allow_inf_nan=False, ge=-3.4e38, le=3.4e38)]
MAX_BASE64 = 2**32  # characters; what a request may bring is bounded by its bytes


class QueryById(SearchFields):
    """What resembles a stored item; itself left out."""

    id: ItemId


class QueryByVector(SearchFields):
    """What is near to a vector of the collection's model, of any length but zero."""

    vector: list[Number] = Field(fail_fast=True, min_length=1, max_length=MAX_DIM)


class QueryByImage(SearchFields):
    """What resembles a picture."""

    image_base64: str = Field(
        min_length=1, max_length=MAX_BASE64, description="The file in base64, or as a data: URI of that"
    )
    crop: CropText | None = None


class QueryByUrl(SearchFields):
    """What resembles a picture that is fetched, where fetching is switched on."""

    image_url: str = Field(min_length=1, max_length=2048, json_schema_extra={"format": "uri"})
    crop: CropText | None = None


class QueryByExamples(SearchFields):
    """What resembles the liked items and not the disliked ones; all of them left out."""

    positive: list[ItemId] = Field(fail_fast=True, min_length=1, max_length=MAX_LIKES)
    negative: list[ItemId] | None = Field(None, fail_fast=True, max_length=MAX_LIKES)


SOURCES: dict[str, type[SearchFields]] = {
    "id": QueryById,
    "vector": QueryByVector,
    "image_base64": QueryByImage,
    "image_url": QueryByUrl,
    "positive": QueryByExamples,
}
