"""What goes over the wire, as the schema shows it. Requests are validated with these; unknown fields are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from index.limits import ID_PATTERN
from service.search.limits import DEFAULT_RESULTS, MAX_BATCH, MAX_EXAMPLES, MAX_OFFSET, MAX_RESULTS

ItemId = Annotated[str, Field(pattern=ID_PATTERN, description="1–128 characters of A–Z a–z 0–9 . _ : @ -")]
Score = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
FilterObject = Annotated[
    dict[str, Any],
    Field(
        description='`{"must":[…],"should":[…],"must_not":[…]}` of `{"key", "match" | "any" | "range"}`',
        examples=[{"must": [{"key": "price", "range": {"gte": 10, "lt": 20}}]}],
    ),
]


class Strict(BaseModel):
    """A request: no field but the ones named."""

    model_config = ConfigDict(extra="forbid")


class Image(BaseModel):
    """The uploaded file; width and height in pixels, upright."""

    width: int
    height: int
    format: str
    bytes: int
    sha256: str


class Item(BaseModel):
    id: str
    metadata: dict[str, Any]
    image: Image | None = Field(description="null for an item imported as a vector")
    created_at: str = Field(description="RFC 3339, UTC")
    updated_at: str = Field(description="RFC 3339, UTC")


class ItemPage(BaseModel):
    items: list[Item]
    next_cursor: str | None


ThresholdSource = Literal["request", "collection", "calibrated", "model_default"]


class IndexWork(BaseModel):
    action: Literal["build", "merge", "save"]
    rows: int
    seconds: float
    finished_at: str


class IndexState(BaseModel):
    """The search index behind a collection, and what goes on in it."""

    vectors: int = Field(description="What a search may find")
    indexed: int = Field(description="Rows of the compressed index, deleted ones included; 0 without one")
    tail: int = Field(description="Newer rows, searched exactly until they are merged")
    dead: int = Field(description="Deleted rows that still take room")
    memory_bytes: int = Field(description="Of the compressed index")
    filter_bytes: int = Field(description="Memory of the metadata keys that were filtered by")
    file_bytes: int
    action: Literal["build", "merge", "save"] | None = Field(description="What is under way")
    progress: float = Field(ge=0, le=1, description="Of the build under way")
    last: IndexWork | None = Field(description="The last work that was finished since the start")


class Collection(BaseModel):
    name: str
    count: int
    model: str
    fingerprint: str
    score_threshold: float
    threshold_source: ThresholdSource
    index_kind: str
    indexing: bool = Field(description="A build or merge is under way")
    bytes: int
    created_at: str
    index: IndexState


class CollectionPage(BaseModel):
    items: list[Collection]
    next_cursor: str | None


class CollectionPatch(Strict):
    score_threshold: Score | None = Field(description="Set by hand; null: back to the default")


class CollectionCreate(Strict):
    score_threshold: Score | None = None


class MetadataPatch(Strict):
    metadata: dict[str, Any] = Field(description="RFC 7396 merge patch; null removes a key")


class DeleteRequest(Strict):
    """Exactly one of the two."""

    ids: list[ItemId] | None = Field(None, fail_fast=True, max_length=10_000)
    filter: FilterObject | None = None

    @model_validator(mode="after")
    def one_of(self) -> Self:
        if (self.ids is None) == (self.filter is None):
            raise ValueError("give exactly one of ids and filter")
        return self


class Deleted(BaseModel):
    deleted: int


class SearchFields(Strict):
    """The fields every search takes, over forms, query strings and JSON."""

    limit: int = Field(DEFAULT_RESULTS, ge=1, le=MAX_RESULTS)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)
    score_threshold: Score | None = Field(None, description="Results score at least this; default: the collection's")
    filter: FilterObject | None = None
    group_by: str | None = Field(None, min_length=1, max_length=256, description="Metadata key; best item per value")
    crop: list[float] | None = Field(
        None, min_length=4, max_length=4, description="left, top, right, bottom, each 0…1 of the upright image"
    )

    @field_validator("filter", mode="before")
    @classmethod
    def filter_text(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            raise ValueError("not valid JSON") from None

    @field_validator("crop", mode="before")
    @classmethod
    def crop_text(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return [float(each) for each in value.split(",")]
        except ValueError:
            raise ValueError("give left,top,right,bottom as four numbers") from None

    @field_validator("crop")
    @classmethod
    def crop_inside(cls, value: list[float] | None) -> list[float] | None:
        if value is not None:
            left, top, right, bottom = value
            if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
                raise ValueError("give 0 ≤ left < right ≤ 1 and 0 ≤ top < bottom ≤ 1")
        return value


class SearchForm(SearchFields):
    """A search by upload: the picture and the fields, as multipart/form-data."""

    image: str = Field(json_schema_extra={"format": "binary", "contentMediaType": "application/octet-stream"})


class ItemForm(Strict):
    image: str = Field(json_schema_extra={"format": "binary", "contentMediaType": "application/octet-stream"})
    metadata: str = Field("{}", description="A JSON object as text")


class SimilarFields(Strict):
    limit: int = Field(DEFAULT_RESULTS, ge=1, le=MAX_RESULTS)
    score_threshold: Score | None = None
    filter: str | None = Field(None, description="The filter object as JSON text")
    group_by: str | None = Field(None, min_length=1, max_length=256)


class PageFields(Strict):
    limit: int = Field(100, ge=1, le=1000)
    cursor: str | None = Field(None, max_length=1024, description="`next_cursor` of the page before")


class ListFields(PageFields):
    filter: str | None = Field(None, description="The filter object as JSON text")


Ids = Annotated[list[ItemId], Field(fail_fast=True, min_length=1, max_length=MAX_EXAMPLES)]


class QueryRequest(SearchFields):
    """Exactly one source: `id`, `vector`, `image_base64`, `image_url`, or `positive` with an optional `negative`."""

    id: ItemId | None = None
    vector: list[Annotated[float, Field(allow_inf_nan=False)]] | None = Field(
        None, fail_fast=True, min_length=1, max_length=65_536
    )
    image_base64: str | None = Field(None, description="The picture's bytes; a data: URI is taken too")
    image_url: str | None = Field(None, max_length=2048)
    positive: Ids | None = None
    negative: Ids | None = None

    @model_validator(mode="after")
    def one_source(self) -> Self:
        named = (self.id, self.vector, self.image_base64, self.image_url, self.positive)
        if sum(each is not None for each in named) != 1:
            raise ValueError("give exactly one of id, vector, image_base64, image_url, positive")
        if self.negative is not None and self.positive is None:
            raise ValueError("negative goes with positive")
        if self.crop is not None and self.image_base64 is None and self.image_url is None:
            raise ValueError("crop goes with a picture")
        return self


class QueryBatch(Strict):
    queries: list[Any] = Field(min_length=1, max_length=MAX_BATCH, description="Each as for `query`")


class Result(BaseModel):
    id: str
    score: float = Field(description="Cosine similarity, −1…1")
    metadata: dict[str, Any]
    thumbnail_url: str | None
    group: str | int | float | bool | None = Field(None, description="The value of `group_by`; absent without it")


class TookMs(BaseModel):
    decode: float
    embed: float
    search: float
    total: float


class SearchResponse(BaseModel):
    results: list[Result]
    no_match: bool
    message: Literal["no similar images"] | None
    best_score: float | None = Field(description="The nearest item's score, whatever the threshold")
    score_threshold: float
    threshold_source: ThresholdSource
    filtered_count: int = Field(description="Items that pass the filter; all, without one")
    model: str
    took_ms: TookMs


class FieldError(BaseModel):
    field: str
    message: str


class ProblemDetails(BaseModel):
    """RFC 9457."""

    type: str = Field(examples=["/problems/not-found"])
    title: str
    status: int
    detail: str
    instance: str
    errors: list[FieldError] | None = None


class QueryResponses(BaseModel):
    responses: list[SearchResponse | ProblemDetails] = Field(description="In the order of the queries")


class EmbeddingRequest(Strict):
    """OpenAI's shape."""

    input: str | list[str] = Field(description=f"data: URIs (or plain base64) of pictures, at most {MAX_BATCH}")
    model: str | None = Field(None, description="The service's model; any other is refused")
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None

    @field_validator("input")
    @classmethod
    def bounded(cls, value: str | list[str]) -> str | list[str]:
        if isinstance(value, list) and not 1 <= len(value) <= MAX_BATCH:
            raise ValueError(f"give 1 to {MAX_BATCH} pictures")
        return value


class Embedding(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    prompt_tokens: int = 0
    total_tokens: int = 0


class EmbeddingList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class ModelInfo(BaseModel):
    name: str
    precision: str
    fingerprint: str
    dim: int
    default_threshold: float
    providers: list[str] = Field(description="The providers really in use, first one first")


class Limits(BaseModel):
    max_upload_bytes: int
    max_pixels: int
    max_side: int
    queue_limit: int
    limit: int
    batch_queries: int


class Info(BaseModel):
    name: str
    version: str
    versions: dict[str, str]
    model: ModelInfo
    models: list[ModelInfo]
    device: str
    threads: int
    limits: Limits


class Health(BaseModel):
    status: str
