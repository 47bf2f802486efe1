"""Query: what is looked for, one type per source, and many of them in a batch."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, PlainValidator, RootModel

from service.http.schemas.base import Answer, FieldsRefused, Request, blank, refuse_unknown
from service.http.schemas.fields import MAX_DIM, Base64, ItemId
from service.http.schemas.problems import ProblemDetails
from service.http.schemas.search import CropText, SearchFields, SearchResponse
from service.search.limits import MAX_BATCH, MAX_EXAMPLES, MAX_SIMILAR

Number = Annotated[float, Field(allow_inf_nan=False, ge=-3.4e38, le=3.4e38)]


class QueryById(SearchFields):
    """What resembles a stored item; itself left out."""

    id: ItemId


class QueryByVector(SearchFields):
    """What is near to a vector of the collection's model, of any length but zero."""

    vector: list[Number] = Field(
        fail_fast=True, min_length=1, max_length=MAX_DIM, description="As many numbers as the model makes"
    )


class QueryByImage(SearchFields):
    """What resembles a picture."""

    image_base64: Base64 = Field(description="The file in base64, or as a data: URI of that")
    crop: CropText | None = None


class QueryByHandle(SearchFields):
    """What resembles a picture that was searched with before, or another part of it."""

    query_id: Annotated[str, Field(min_length=1, max_length=64, description="From the answer to that search")]
    crop: CropText | None = None


class QueryByUrl(SearchFields):
    """What resembles a picture that is fetched, where fetching is switched on."""

    image_url: str = Field(
        min_length=1, max_length=2048, description="Where the picture is", json_schema_extra={"format": "uri"}
    )
    crop: CropText | None = None


class QueryByExamples(SearchFields):
    """What resembles the liked items and not the disliked ones; all of them left out."""

    positive: list[ItemId] = Field(fail_fast=True, min_length=1, max_length=MAX_EXAMPLES, description="Liked items")
    negative: list[ItemId] | None = Field(None, fail_fast=True, max_length=MAX_EXAMPLES, description="Disliked items")


SOURCES: dict[str, type[SearchFields]] = {
    "id": QueryById,
    "vector": QueryByVector,
    "image_base64": QueryByImage,
    "image_url": QueryByUrl,
    "query_id": QueryByHandle,
    "positive": QueryByExamples,
}
KNOWN = {name: None for model in SOURCES.values() for name in model.model_fields}


class Query(RootModel[QueryById | QueryByVector | QueryByImage | QueryByUrl | QueryByHandle | QueryByExamples]):
    """Exactly one source, and the fields every search takes."""


def read_query(value: Any) -> SearchFields:
    """The one of SOURCES that is asked, from decoded JSON. Raises FieldsRefused."""
    if not isinstance(value, dict):
        raise FieldsRefused([{"field": "body", "message": "must be an object"}])
    refuse_unknown(value, KNOWN)
    named = [source for source in SOURCES if not blank(value.get(source))]
    if len(named) != 1:
        raise FieldsRefused([{"field": "body", "message": f"give exactly one of {', '.join(SOURCES)}"}])
    model = SOURCES[named[0]]
    given = {name: each for name, each in value.items() if not blank(each)}
    for name in given:
        if name not in model.model_fields:
            raise FieldsRefused([{"field": name, "message": f"does not go with {named[0]}"}])
    return model.read(given)


class QueryBatch(Request):
    """Queries that are answered one by one."""

    queries: Annotated[
        list[Annotated[Any, PlainValidator(lambda value: value, json_schema_input_type=Query)]],
        Field(min_length=1, max_length=MAX_BATCH, description="In the order of the answers"),
    ]


class SimilarBatch(SearchFields):
    """Stored items that are each asked for what resembles them, with the same fields."""

    ids: list[Annotated[Any, PlainValidator(lambda value: value, json_schema_input_type=ItemId)]] = Field(
        min_length=1, max_length=MAX_SIMILAR, description="In the order of the answers"
    )


class SimilarResponses(Answer):
    """In the order of the ids; one that is malformed, or that no item has, has its problem in its place."""

    responses: Annotated[list[SearchResponse | ProblemDetails], Field(max_length=MAX_SIMILAR)] = Field(
        description="One for each id"
    )


class QueryResponses(Answer):
    """In the order of the queries; a bad one has its problem in its place."""

    responses: Annotated[list[SearchResponse | ProblemDetails], Field(max_length=MAX_BATCH)] = Field(
        description="One for each query"
    )
