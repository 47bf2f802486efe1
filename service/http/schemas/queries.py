"""Query: what is looked for, one type per source, and many of them in a batch."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, PlainValidator, RootModel, model_validator

from index.limits import ID, ID_RULE
from service.http.schemas.base import Answer, Blanks, FieldsRefused, Request, blank, refuse_unknown
from service.http.schemas.fields import MAX_DIM, Base64, ItemId
from service.http.schemas.problems import ProblemDetails
from service.http.schemas.search import CropText, SearchFields, SearchResponse
from service.search.limits import MAX_BATCH, MAX_EXAMPLES, MAX_PICTURES, MAX_SIMILAR, MAX_WEIGHT, MIN_WEIGHT

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


class Weighted(Blanks):
    """One of several examples."""

    weight: float = Field(
        1.0,
        ge=MIN_WEIGHT,
        le=MAX_WEIGHT,
        allow_inf_nan=False,
        description="How much it counts beside the others; left out: 1",
        examples=[2],
    )


class ExampleItem(Weighted):
    """A stored item."""

    id: ItemId


class ExampleVector(Weighted):
    """A vector of the collection's model, of any length but zero."""

    vector: list[Number] = Field(
        fail_fast=True, min_length=1, max_length=MAX_DIM, description="As many numbers as the model makes"
    )


class ExampleImage(Weighted):
    """A picture."""

    image_base64: Base64 = Field(description="The file in base64, or as a data: URI of that")
    crop: CropText | None = None


class ExampleHandle(Weighted):
    """A picture that was searched with before, or another part of it."""

    query_id: Annotated[str, Field(min_length=1, max_length=64, description="From the answer to that search")]
    crop: CropText | None = None


AnyExample = ExampleItem | ExampleVector | ExampleImage | ExampleHandle
EXAMPLES: dict[str, type[AnyExample]] = {
    "id": ExampleItem,
    "vector": ExampleVector,
    "image_base64": ExampleImage,
    "query_id": ExampleHandle,
}


def read_example(value: Any) -> AnyExample:
    """From decoded JSON: an id, or one of EXAMPLES. Raises ValueError."""
    if isinstance(value, str):
        if not ID.fullmatch(value):
            raise ValueError(f"must be {ID_RULE}")
        return ExampleItem(id=value)
    if not isinstance(value, dict):
        raise ValueError("must be an id or an object")
    named = [source for source in EXAMPLES if not blank(value.get(source))]
    if len(named) != 1:
        raise ValueError(f"give exactly one of {', '.join(EXAMPLES)}")
    given = {name: each for name, each in value.items() if not blank(each)}
    try:
        return EXAMPLES[named[0]].read(given)
    except FieldsRefused as refused:
        raise ValueError(f"{refused.errors[0]['field']}: {refused.errors[0]['message']}") from None


Examples = Annotated[
    list[Annotated[AnyExample, PlainValidator(read_example, json_schema_input_type=ItemId | AnyExample)]],
    Field(fail_fast=True, max_length=MAX_EXAMPLES),
]


class QueryByExamples(SearchFields):
    """What resembles the liked things and not the disliked ones: items, which are left out, and pictures.

    Several pictures of one thing are the way to ask for it from all its sides. The vector is the weighted mean of the
    positive ones less that of the negative ones, of unit vectors, renormalised.
    """

    positive: Annotated[Examples, Field(min_length=1)] = Field(
        description=f"Liked ones: ids, or objects with a weight; at most {MAX_PICTURES} pictures with the negative ones"
    )
    negative: Examples | None = Field(None, description="Disliked ones, likewise")

    @model_validator(mode="after")
    def not_too_many_pictures(self) -> Self:
        """Raises ValueError: each costs what a search by picture costs."""
        every = [*self.positive, *(self.negative or ())]
        if sum(isinstance(each, ExampleImage | ExampleHandle) for each in every) > MAX_PICTURES:
            raise ValueError(f"positive and negative: at most {MAX_PICTURES} pictures in one query")
        return self


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
