"""Search: from a query to an answer, through the model and the collection that it asks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from index.facets import Found
from index.items import SearchResult
from index.types import Collection
from service.embedding.pipeline import WHOLE, Crop, Embedded, Pipeline, digest
from service.metrics import Metrics, Stopwatch
from service.search.answer import Answer, Took, answer_of
from service.search.calibrated import Calibrations
from service.search.handles import Handles
from service.search.query import (
    ByExamples,
    ByHandle,
    ById,
    ByPicture,
    ByVector,
    Example,
    Query,
    Vector,
    combined,
    unit,
)
from service.search.ranking import Ranking, ranked, window
from service.search.thresholds import threshold
from service.threads import Threads


class Look:
    """One search of a collection, made by the thread that has the vector first. It never raises; `found` does.

    file: sha256 of what is looked for. sha256: of the file whose whole picture is looked for, which scores exactly 1.
    ms: what it took.
    """

    def __init__(self, collection: Collection, query: Query, least: float, threads: Threads, metrics: Metrics) -> None:
        self.ranking: Ranking | None = None
        self.counted: Found | None = None
        self.file = ""
        self.sha256: str | None = None
        self.done = False
        self.ms = 0.0
        self._collection = collection
        self._query = query
        self._least = least
        self._threads = threads
        self._metrics = metrics
        self._outcome: SearchResult | Exception | None = None

    def looks_for(self, sha256: str, crop: Crop | None) -> None:
        """The vector is of this file, or of a part of it."""
        self.file = sha256
        self.sha256 = sha256 if crop is None or crop == WHOLE else None

    @property
    def quick(self) -> bool:
        """Whether it may hold up embedding for so long: filters and groups may have metadata to read first."""
        query = self._query
        return (
            query.filter is None and query.group_by is None and query.rules.empty and not (query.facets or query.total)
        )

    @property
    def found(self) -> SearchResult:
        """Raises what the search raised."""
        assert self._outcome is not None
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def __call__(self, vector: Vector) -> None:
        query = self._query
        rules = query.rules
        limit, offset = (query.limit, query.offset) if rules.empty else window(query)
        same: dict[str, Any] = {"filter": query.filter, "exclude": query.excluded, "sha256": self.sha256}
        try:
            with self._metrics.stage("search") as took:
                found = self._threads.counted(
                    self._collection.search,
                    vector,
                    limit=limit,
                    offset=offset,
                    min_score=self._least,
                    group_by=query.group_by,
                    **same,
                )
                if not rules.empty:
                    self.ranking = ranked(self._collection, vector, query, rules, found, self._least)
                if query.facets or query.total:
                    self.counted = self._collection.facets(vector, keys=query.facets, min_score=self._least, **same)
                self._outcome = found
            self.ms = took.ms
        except Exception as error:  # noqa: BLE001 (belongs to whoever asks for what was found)
            self._outcome = error
        self.done = True


class Search:
    """Joins embedding and searching for one process. Lives on one event loop."""

    def __init__(self, pipeline: Pipeline, threads: Threads, metrics: Metrics) -> None:
        self._pipeline = pipeline
        self._threads = threads
        self._metrics = metrics
        self.handles = Handles()
        self.calibrations = Calibrations()

    async def answer(
        self, collection: Collection, query: Query, *, watch: Stopwatch, deadline: float = float("inf")
    ) -> Answer:
        """watch: runs since the request arrived. deadline: monotonic seconds.

        Raises ItemNotFound, InvalidVector, InvalidRequest, ImageError, EmbeddingInvalid, ModelMismatch, IndexNotReady,
        Unavailable.
        """
        # A query that brings no picture needs no model: a collection of ready vectors is searched all the same.
        model_default = self._pipeline.networks.default_threshold(collection.fingerprint)
        fresh, calibrated = self.calibrations.known(collection)
        if not fresh:
            calibrated = await self._threads.read(self.calibrations.of, collection)
        usual = None if calibrated is None else calibrated.score
        least = threshold(query.score_threshold, collection.score_threshold, model_default, usual)
        look = Look(collection, query, least.score, self._threads, self._metrics)
        picture: Embedded | None = None
        query_id: str | None = None
        in_lane = True
        match query.by:
            case ByPicture(data, crop):
                picture = await self._embedded(collection, data, crop, look, deadline)
                vector = picture.vector
                query_id = self.handles.keep(data, look.file, crop, collection.fingerprint, picture)
            case ByHandle(query_id, crop):
                kept = self.handles.get(query_id)
                if crop in (None, kept.crop) and kept.fingerprint == collection.fingerprint:
                    picture = replace(kept.embedded, decode_ms=0.0, embed_ms=0.0)
                    look.looks_for(kept.sha256, kept.crop)
                else:
                    crop = kept.crop if crop is None else crop
                    picture = await self._embedded(collection, kept.data, crop, look, deadline)
                vector = picture.vector
            case ByVector(vector):
                pass
            case ById(id):
                await self._threads.read(resembling, collection, id, look)
            case ByExamples(positive, negative):
                rows, picture = await self._rows(collection, [*positive, *negative], deadline)
                vector = combined(
                    rows[: len(positive)],
                    rows[len(positive) :],
                    [each.weight for each in positive],
                    [each.weight for each in negative],
                )
        if not look.done:
            await self._threads.read(look, vector)
            in_lane = False
        return answer_of(
            look.found,
            collection=collection.name,
            model=collection.model,
            least=least,
            group_by=query.group_by,
            ranking=look.ranking,
            counted=look.counted,
            query_id=query_id,
            calibrated=calibrated,
            plain=picture is not None and picture.plain,
            took=Took(
                decode=picture.decode_ms if picture is not None else 0.0,
                embed=picture.embed_ms - (look.ms if in_lane else 0.0) if picture is not None else 0.0,
                search=look.ms,
                total=watch.ms,
            ),
        )

    async def _rows(
        self, collection: Collection, examples: Sequence[Example], deadline: float
    ) -> tuple[Vector, Embedded | None]:
        """Unit rows of the examples in their order, and what their pictures took; None without any.

        The pictures count as plain where all of them are, and there is nothing else.
        """
        rows = np.zeros((len(examples), collection.dim), np.float32)
        items = [place for place, each in enumerate(examples) if isinstance(each.by, ById)]
        if items:
            ids = [each.by.id for each in examples if isinstance(each.by, ById)]
            rows[items] = await self._threads.read(collection.vectors, ids)
        made: list[Embedded] = []

        async def embed(place: int, data: bytes, crop: Crop | None) -> None:
            network = await self._pipeline.networks.of_collection(collection)
            found = await self._pipeline.embed(data, network=network, crop=crop, deadline=deadline)
            rows[place] = found.vector
            made.append(found)

        try:
            async with asyncio.TaskGroup() as group:
                for place, each in enumerate(examples):
                    match each.by:
                        case ByVector(vector):
                            rows[place] = unit(vector, collection.dim)
                        case ByPicture(data, crop):
                            group.create_task(embed(place, data, crop))
                        case ByHandle(id, crop):
                            kept = self.handles.get(id)
                            group.create_task(embed(place, kept.data, kept.crop if crop is None else crop))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        if not made:
            return rows, None
        plain = len(made) == len(examples) and all(each.plain for each in made)
        decode_ms, embed_ms = (max(each) for each in zip(*((one.decode_ms, one.embed_ms) for one in made), strict=True))
        return rows, replace(made[0], decode_ms=decode_ms, embed_ms=embed_ms, plain=plain)

    async def _embedded(
        self, collection: Collection, data: bytes, crop: Crop | None, look: Look, deadline: float
    ) -> Embedded:
        network = await self._pipeline.networks.of_collection(collection)
        sha256 = await digest(data)
        look.looks_for(sha256, crop)
        return await self._pipeline.embed(
            data,
            network=network,
            crop=crop,
            deadline=deadline,
            sha256=sha256,
            after=look if look.quick else None,
        )


def resembling(collection: Collection, id: str, look: Look) -> None:
    """Looks for what resembles a stored item, on one thread: going to another costs more than reading the item.

    Raises ItemNotFound.
    """
    item, vector = collection.with_vector(id)
    look.sha256 = None if item.media is None else item.media.sha256
    look(vector)
