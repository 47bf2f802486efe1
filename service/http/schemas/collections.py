"""Collection: a named set of items under one model, and the search index behind it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from index import info as figures
from index.limits import MIN_RECALL
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
    text,
    timestamp,
)
from service.http.schemas.pages import Page

Wanted = Annotated[float, Field(ge=MIN_RECALL, le=1, allow_inf_nan=False)]
RecallSource = Literal["collection", "setting"]
ThresholdSource = Literal["request", "collection", "calibrated", "model_default"]
Action = Annotated[str, Field(json_schema_extra={"enum": ["build", "merge", "measure", "save"]})]


class IndexWork(Answer):
    """A finished piece of an index's upkeep."""

    action: Action = Field(description="What was done")
    rows: Count = Field(description="Vectors it covered")
    seconds: Seconds = Field(description="How long it took")
    finished_at: Timestamp = Field(description="RFC 3339, UTC")

    @classmethod
    def of(cls, work: figures.Work) -> IndexWork:
        """The same work as it is sent."""
        return cls(action=work.action, rows=work.rows, seconds=work.seconds, finished_at=timestamp(work.finished_at))


class FilteredRecall(Answer):
    """Recall under a filter that a random part of the items pass."""

    share: Share = Field(description="Of the items that pass")
    value: Share = Field(description="As measured")
    low: Share = Field(description="Lower end of the 95 % interval")
    high: Share = Field(description="Upper end of the 95 % interval")


def _rounded(recall: figures.Recall | figures.FilteredRecall) -> dict[str, float]:
    return {name: round(getattr(recall, name), 5) for name in ("value", "low", "high")}


class Recall(Answer):
    """Share of the true ten nearest that searches find, measured on a sample of the collection."""

    value: Share = Field(description="As measured")
    low: Share = Field(description="Lower end of the 95 % interval")
    high: Share = Field(description="Upper end of the 95 % interval")
    at: Timestamp = Field(description="When it was measured")
    queries: Count = Field(description="Size of the sample")
    seconds: Seconds = Field(description="How long measuring took; part of the build's time where it came with one")
    filtered: Annotated[list[FilteredRecall], Field(max_length=4)] = Field(
        description="The same under filters that a part of the items pass"
    )

    @classmethod
    def of(cls, recall: figures.Recall) -> Recall:
        """The same as it is sent."""
        filtered = [FilteredRecall(share=one.share, **_rounded(one)) for one in recall.filtered]
        return cls(
            **_rounded(recall),
            at=timestamp(recall.measured_at),
            queries=recall.queries,
            seconds=recall.seconds,
            filtered=filtered,
        )


class Effort(Answer):
    """How hard a search for ten looks, chosen by the measured recall."""

    lists: Count = Field(description="Lists looked into at least")
    most_lists: Count = Field(description="Lists looked into at most, for a query that lies between many")
    depth: Count = Field(description="Vectors that are compared exactly")
    exact: bool = Field(description="Every vector is compared: nothing less finds enough here")
    axes: Count = Field(description="Kept of each vector in memory: so many principal axes")
    bits: Count = Field(description="Kept of each axis")

    @classmethod
    def of(cls, effort: figures.Effort) -> Effort:
        """The same as it is sent."""
        return cls(
            lists=effort.lists,
            most_lists=effort.most_lists,
            depth=effort.depth,
            exact=effort.exact,
            axes=effort.axes,
            bits=effort.bits,
        )


class IndexState(Answer):
    """The search index behind a collection, and what goes on in it."""

    kind: Text = Field(description="`flat`: exact; or the name of the compressed index")
    note: Annotated[str, text(2000)] = Field(
        description="What went wrong, and what is done about it; empty when all is well"
    )
    vectors: Count = Field(description="What a search may find")
    damaged: Count = Field(description="Items left out because what is stored of them is damaged; upload them again")
    indexed: Count = Field(description="Rows of the compressed index, deleted ones included; 0 without one")
    tail: Count = Field(description="Newer rows, searched exactly until they are merged")
    dead: Count = Field(description="Deleted rows that still take room")
    recall: Recall | None = Field(description="null where the search is exact, and before it was measured")
    effort: Effort | None = Field(description="Chosen by that; null with it")
    memory_bytes: Count = Field(description="Of the vectors or codes in memory")
    filter_bytes: Count = Field(description="Memory of the metadata keys that were filtered by")
    file_bytes: Count = Field(description="Of its files")
    action: Action | None = Field(description="What is under way")
    progress: Share = Field(description="Of the build under way")
    last: IndexWork | None = Field(description="The last work that was finished since the start")

    @classmethod
    def of(cls, index: figures.IndexState) -> IndexState:
        """The same state as it is sent."""
        last = index.last
        return cls(
            kind=index.kind,
            note=index.note,
            vectors=index.vectors,
            damaged=index.damaged,
            indexed=index.indexed,
            tail=index.tail,
            dead=index.dead,
            recall=None if index.recall is None else Recall.of(index.recall),
            effort=None if index.effort is None else Effort.of(index.effort),
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
    recall: Share = Field(
        description="Share of the true nearest that searches are to find; 1: every vector is compared"
    )
    recall_source: RecallSource = Field(description="Where `recall` comes from: set by hand, or the server's setting")
    index_kind: Text = Field(description="The structure that is searched")
    indexing: bool = Field(description="A build or merge is under way")
    damaged: Count = Field(description="Items whose stored vector is damaged: not found until they are put again")
    bytes: Count = Field(description="On disk, roughly")
    created_at: Timestamp = Field(description="RFC 3339, UTC")
    index: IndexState

    @classmethod
    def of(cls, info: figures.CollectionInfo, threshold: float, source: ThresholdSource) -> Collection:
        """The same collection as it is sent. threshold, source: what a search without its own is held against."""
        return cls(
            name=info.name,
            count=info.count,
            model=info.model,
            fingerprint=info.fingerprint,
            score_threshold=threshold,
            threshold_source=source,
            recall=info.recall,
            recall_source="collection" if info.recall_set else "setting",
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
    """What changes in a collection: at least one of these."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    score_threshold: Score | None = Field(None, description="Set by hand; null: back to the default")
    recall: Wanted | None = Field(None, description="Set by hand; null: back to the server's setting")

    @model_validator(mode="after")
    def something(self) -> CollectionPatch:
        """Raises ValueError for an empty object, which would change nothing."""
        if not self.model_fields_set:
            raise ValueError("name what is to change: score_threshold or recall")
        return self


class CollectionCreate(Request):
    """What a new collection starts with."""

    score_threshold: Score | None = Field(None, description="Set by hand; null: the default")
    recall: Wanted | None = Field(None, description="Set by hand; null: the server's setting")
