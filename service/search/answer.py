"""From a query vector to the contract's SearchResponse: what counts as a match, and how it is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from index.filters import Filter, parse_filter
from index.types import Collection
from service.errors import InvalidRequest, NotReady
from service.http.wire import result_json
from service.metrics import Stopwatch
from service.runtime import Runtime
from service.search.thresholds import threshold

Vector = npt.NDArray[np.float32]

NO_MATCH = "no similar images"


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked beside the vector. score_threshold None: the collection's, or else the model's."""

    limit: int = 10
    offset: int = 0
    score_threshold: float | None = None
    filter: Filter | None = None
    group_by: str | None = None


def ask_of(fields: Any) -> Ask:
    """From the validated search fields. Raises FilterError."""
    return Ask(
        limit=fields.limit,
        offset=getattr(fields, "offset", 0),
        score_threshold=fields.score_threshold,
        filter=None if fields.filter is None else parse_filter(fields.filter),
        group_by=fields.group_by,
    )


async def answer(
    runtime: Runtime,
    collection: Collection,
    vector: Vector,
    ask: Ask,
    *,
    watch: Stopwatch,
    decode_ms: float = 0.0,
    embed_ms: float = 0.0,
    exclude: Iterable[str] = (),
) -> dict[str, Any]:
    """The SearchResponse for float32 (dim,). watch: runs since the request arrived. Raises InvalidVector, NotReady."""
    if not collection.ready:
        raise NotReady(f"The search index of {collection.name} is being rebuilt; try again shortly")
    # A query that brings no picture needs no model: a collection of ready vectors is searched all the same.
    model_default = runtime.networks.default_threshold(collection.fingerprint)
    least, source = threshold(ask.score_threshold, collection.score_threshold, model_default)
    with runtime.metrics.stage("search") as searching:
        found = await runtime.read(
            collection.search,
            vector,
            limit=ask.limit,
            offset=ask.offset,
            min_score=least,
            filter=ask.filter,
            group_by=ask.group_by,
            exclude=exclude,
        )
    no_match = found.best_score is None or found.best_score < least
    return {
        "results": [result_json(collection.name, match, grouped=ask.group_by is not None) for match in found.matches],
        "no_match": no_match,
        "message": NO_MATCH if no_match else None,
        "best_score": found.best_score,
        "score_threshold": least,
        "threshold_source": source,
        "filtered_count": found.filtered_count,
        "model": collection.model,
        "took_ms": {
            "decode": round(decode_ms, 3),
            "embed": round(embed_ms, 3),
            "search": round(searching.ms, 3),
            "total": round(watch.ms, 3),
        },
    }


def combined(positive: Vector, negative: Vector | None) -> Vector:
    """mean(positive) − mean(negative) of unit rows, renormalised. Raises InvalidRequest where nothing is left."""
    vector = positive.mean(axis=0, dtype=np.float64)
    if negative is not None:
        vector = vector - negative.mean(axis=0, dtype=np.float64)
    norm = float(np.linalg.norm(vector))
    if norm < 1e-6:
        raise InvalidRequest("positive", "these items cancel each other out; name others")
    unit: Vector = (vector / norm).astype(np.float32)
    return unit
