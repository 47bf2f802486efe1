"""Search: from a query to an answer, through the model and the collection that it asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from index.types import Collection
from service.embedding.pipeline import WHOLE, Embedded, Pipeline
from service.errors import NotReady
from service.metrics import Metrics, Stopwatch
from service.search.answer import Answer, Took, answer_of
from service.search.query import ByExamples, ById, ByPicture, ByVector, Query, Vector, combined
from service.search.thresholds import threshold
from service.threads import Threads


@dataclass(frozen=True, slots=True)
class _Sought:
    """vector: float32 (dim,). excluded: ids left out of the results. picture: what the vector was made from, if any."""

    vector: Vector
    excluded: Sequence[str] = ()
    picture: Embedded | None = None
    whole: bool = False  # all of the picture is looked for

    @property
    def sha256(self) -> str | None:
        """Of the file whose whole picture is looked for."""
        return self.picture.media.sha256 if self.picture is not None and self.whole else None


class Search:
    """Joins embedding and searching for one process. Lives on one event loop."""

    def __init__(self, pipeline: Pipeline, threads: Threads, metrics: Metrics) -> None:
        self._pipeline = pipeline
        self._threads = threads
        self._metrics = metrics

    async def answer(
        self, collection: Collection, query: Query, *, watch: Stopwatch, deadline: float = float("inf")
    ) -> Answer:
        """watch: runs since the request arrived. deadline: monotonic seconds.

        Raises ItemNotFound, InvalidVector, InvalidRequest, ImageError, EmbeddingInvalid, ModelMismatch, Unavailable.
        """
        sought = await self._sought(collection, query, deadline)
        if not collection.ready:
            raise NotReady(f"The search index of {collection.name} is being rebuilt; try again shortly")
        # A query that brings no picture needs no model: a collection of ready vectors is searched all the same.
        model_default = self._pipeline.networks.default_threshold(collection.fingerprint)
        least = threshold(query.score_threshold, collection.score_threshold, model_default)
        with self._metrics.stage("search") as searching:
            found = await self._threads.read(
                collection.search,
                sought.vector,
                limit=query.limit,
                offset=query.offset,
                min_score=least.score,
                filter=query.filter,
                group_by=query.group_by,
                exclude=sought.excluded,
                sha256=sought.sha256,
            )
        picture = sought.picture
        return answer_of(
            found,
            collection=collection.name,
            model=collection.model,
            least=least,
            group_by=query.group_by,
            plain=picture is not None and picture.plain,
            took=Took(
                decode=picture.decode_ms if picture is not None else 0.0,
                embed=picture.embed_ms if picture is not None else 0.0,
                search=searching.ms,
                total=watch.ms,
            ),
        )

    async def _sought(self, collection: Collection, query: Query, deadline: float) -> _Sought:
        match query.by:
            case ByPicture(data, crop):
                network = await self._pipeline.networks.of_collection(collection)
                made = await self._pipeline.embed(data, network=network, crop=crop, deadline=deadline)
                return _Sought(made.vector, picture=made, whole=crop is None or crop == WHOLE)
            case ByVector(vector):
                return _Sought(vector)
            case ById(id):
                rows = await self._threads.read(collection.vectors, [id])
                return _Sought(rows[0], [id])
            case ByExamples(positive, negative):
                named = [*positive, *negative]
                rows = await self._threads.read(collection.vectors, named)
                return _Sought(combined(rows[: len(positive)], rows[len(positive) :]), named)
