"""Collection: a named set of items under one model, and the search index behind it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from index import types
from service.http.schemas.base import Answer, Request
from service.http.schemas.fields import (
    MAX_PAGE,
    Cosine,
    Count,
    Name,
    Score,
    Seconds,
    Share,
    Text,
    Timestamp,
    timestamp,
)
from service.http.schemas.pages import Page

ThresholdSource = Literal["request", "collection", "calibrated", "model_default"]
Action = Annotated[str, Field(json_schema_extra={"enum": ["build", "merge", "save"]})]


class IndexWork(Answer):
    """A finished piece of an index's upkeep."""

    action: Action = Field(description="What was done")
    rows: Count = Field(description="Vectors it covered")
    seconds: Seconds = Field(description="How long it took")
    finished_at: Timestamp = Field(description="RFC 3339, UTC")

    @classmethod
    def of(cls, work: types.Work) -> IndexWork:
        """The same work as it is sent."""
        return cls(action=work.action, rows=work.rows, seconds=work.seconds, finished_at=timestamp(work.finished_at))


class IndexState(Answer):
    """The search index behind a collection, and what goes on in it."""

    vectors: Count = Field(description="What a search may find")
    indexed: Count = Field(description="Rows of the compressed index, deleted ones included; 0 without one")
    tail: Count = Field(description="Newer rows, searched exactly until they are merged")
    dead: Count = Field(description="Deleted rows that still take room")
    memory_bytes: Count = Field(description="Of the compressed index")
    filter_bytes: Count = Field(description="Memory of the metadata keys that were filtered by")
    file_bytes: Count = Field(description="Of its files")
    action: Action | None = Field(description="What is under way")
    progress: Share = Field(description="Of the build under way")
    last: IndexWork | None = Field(description="The last work that was finished since the start")

    @classmethod
    def of(cls, index: types.IndexState) -> IndexState:
        """The same state as it is sent."""
        last = index.last
        return cls(
            vectors=index.vectors,
            indexed=index.indexed,
            tail=index.tail,
            dead=index.dead,
            memory_bytes=index.memory_bytes,
            filter_bytes=index.filter_bytes,
            file_bytes=index.file_bytes,
            action=index.action,
            progress=index.progress,
            last=None if last is None else IndexWork.of(last),
        )


class Collection(Answer):
    """A collection as it is now."""

    name: Name
    count: Count = Field(description="Items in it")
    model: Text = Field(description="The model it was made with, and its precision")
    fingerprint: Text = Field(description="Of all that decides a vector; only vectors of one fingerprint are compared")
    score_threshold: Cosine = Field(description="What a search is held against that names none")
    threshold_source: ThresholdSource = Field(description="Where `score_threshold` comes from")
    index_kind: Text = Field(description="The structure that is searched")
    indexing: bool = Field(description="A build or merge is under way")
    damaged: Count = Field(description="Items whose stored vector is damaged: not found until they are put again")
    bytes: Count = Field(description="On disk, roughly")
    created_at: Timestamp = Field(description="RFC 3339, UTC")
    index: IndexState

    @classmethod
    def of(cls, info: types.CollectionInfo, threshold: float, source: ThresholdSource) -> Collection:
        """The same collection as it is sent. threshold, source: what a search without its own is held against."""
        return cls(
            name=info.name,
            count=info.count,
            model=info.model,
            fingerprint=info.fingerprint,
            score_threshold=threshold,
            threshold_source=source,
            index_kind=info.index_kind,
            indexing=info.indexing,
            damaged=info.index.damaged,
            bytes=info.bytes,
            created_at=timestamp(info.created_at),
            index=IndexState.of(info.index),
        )


class CollectionPage(Page):
    """Collections in the order of their names."""

    items: Annotated[list[Collection], Field(max_length=MAX_PAGE)] = Field(
        description="At most as many as were asked for"
    )


class CollectionPatch(Request):
    """What changes in a collection."""

    score_threshold: Score | None = Field(description="Set by hand; null: back to the default")


class CollectionCreate(Request):
    """What a new collection starts with."""

    score_threshold: Score | None = Field(None, description="Set by hand; null: the default")
