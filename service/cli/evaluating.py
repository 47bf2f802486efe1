"""The work of `lookalike evaluate`: the catalogue out of the service, pictures through the model, figures of both.

Vectors are the stored ones and those that the collection's own model makes of the queries here, so that an evaluation
is the same beside a running server.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from service.cli.comparing import Base, Said, compared, exported
from service.cli.sheets import thumbnailing, thumbnails
from service.evaluation import figures
from service.evaluation.catalogue import opened
from service.evaluation.embedding import embed, own_pipeline
from service.evaluation.evaluation import Evaluation
from service.evaluation.figures import Answered, Seen
from service.evaluation.ranking import TOP, Listed
from service.evaluation.table import Complaint, Queries, Query
from service.evaluation.truth import EvaluationRefused, findable, see
from service.evaluation.variants import Variant
from service.imports.sources.source import Unreadable
from service.search.limits import MAX_RESULTS

if TYPE_CHECKING:
    from service.cli.client import Service
    from service.embedding.pipeline import Pipeline
    from service.settings import Settings

SAMPLED = 200  # queries that the service is asked itself, one after another
NEAREST_SHOWN = 6  # on the sheet of the worst queries


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be evaluated. key: metadata key of labels; strangers: pictures without a match.

    shown: worst queries that are named; drawn: whether their pictures are wanted.
    """

    collection: str
    queries: Queries
    strangers: Sequence[Query]
    key: str
    variants: Sequence[Variant]
    shown: int
    drawn: bool


async def evaluated(service: Service, settings: Settings, wish: Wish, say: Said) -> Evaluation:
    """Raises EvaluationRefused, VariantRefused, RequestFailed, ArtefactMissing, ArtefactCorrupt, OSError."""
    path = f"/v1/collections/{quote(wish.collection, safe='')}"
    info = await service.api.call("GET", path)
    if not info["count"]:
        raise EvaluationRefused(f"the collection {wish.collection} is empty: import the catalogue first")
    with tempfile.TemporaryDirectory(prefix="lookalike-") as name:
        folder = Path(name)
        files = {
            item["id"]: item["image"]["sha256"]
            async for page in service.api.pages(f"{path}/items")
            for item in page
            if item["image"] is not None
        }
        await exported(service, wish.collection, folder / "items.parquet")
        vectors = await asyncio.to_thread(opened, folder / "items.parquet", wish.key, files)
        listed, by = vectors.listed, wish.queries.by
        asked, told = findable(wish.queries, listed, wish.key, vectors.keys)
        asked += wish.strangers
        async with _pipeline(service, settings) as pipeline:
            network = await asyncio.to_thread(pipeline.networks.of, info["fingerprint"], collection=wish.collection)
            queries = await embed(
                pipeline, network, asked, settings.max_upload_bytes, lambda done: say("queries", done, len(asked))
            )
            told += queries.complaints
            if not queries.kept:
                raise EvaluationRefused(_nothing_left(queries.complaints))
            seen, more, kept = await asyncio.to_thread(see, asked, queries, listed, vectors.blocks, by)
            told += more
            if not kept:
                raise EvaluationRefused("every query is itself the only item that it should find")
            threshold = float(info["score_threshold"])
            found = await asyncio.to_thread(figures.figures, seen, listed, threshold)
            left = [asked[queries.kept[number]] for number in kept]
            answered = await _answered(service, path, settings, left, seen, listed)
            base = Base(wish.collection, network.artefact, vectors, files, asked, queries, by, threshold)
            others = await compared(service, settings, pipeline, base, wish.variants, folder, say)
        worst = figures.worst(seen, threshold, wish.shown)
        shown = {listed.ids[place] for number in worst for place in seen.ranked.judged[number].nearest[:NEAREST_SHOWN]}
        pictures = await thumbnails(service.api, wish.collection, sorted(shown)) if wish.drawn else {}
        drawn = await _drawn(service, settings, left, worst) if wish.drawn else {}
    return Evaluation(
        collection=wish.collection,
        model=info["model"],
        key=wish.key,
        by=by,
        source=info["threshold_source"],
        seen=seen,
        listed=listed,
        figures=found,
        answered=answered,
        worst=worst,
        complaints=[*wish.queries.complaints, *told, *others.complaints],
        rows=others.rows,
        compared=(others.items, others.queries),
        thumbnails=pictures,
        pictures=drawn,
    )


def _nothing_left(complaints: Sequence[Complaint]) -> str:
    return f"no query can be used; {complaints[0].what}: {complaints[0].reason}" if complaints else "there is no query"


@contextlib.asynccontextmanager
async def _pipeline(service: Service, settings: Settings) -> AsyncIterator[Pipeline]:
    if service.runtime is not None:
        yield service.runtime.pipeline
        return
    async with own_pipeline(settings) as own:
        yield own


async def _answered(
    service: Service, path: str, settings: Settings, left: Sequence[Query], seen: Seen, listed: Listed
) -> Answered:
    """What the service itself answers to some of the queries, one after another as a client sends them."""
    copies: dict[str, list[str]] = {}
    for id, file in zip(listed.ids, listed.files, strict=True):
        copies.setdefault(file, []).append(id)
    labels = dict(zip(listed.ids, listed.labels, strict=True))
    answers: list[figures.OneAnswer] = []
    for place in sorted({round(each) for each in np.linspace(0, len(left) - 1, min(SAMPLED, len(left)))}):
        try:
            data = await asyncio.to_thread(left[place].read, settings.max_upload_bytes)
        except Unreadable:  # it was there a moment ago
            continue
        judged, wanted = seen.ranked.judged[place], seen.wanted[place]
        own = set(copies.get(hashlib.sha256(data).hexdigest(), ()))
        fields = {"score_threshold": "-1", "limit": str(min(MAX_RESULTS, TOP + len(own)))}
        answer = await service.api.call("POST", f"{path}/search", files={"image": ("image", data)}, data=fields)
        results = [each for each in answer["results"] if each["id"] not in own][:TOP]
        answers.append(
            figures.OneAnswer(
                judged,
                genuine=bool(wanted),
                right=[each["id"] == wanted or wanted in labels.get(each["id"], ()) for each in results],
                scores=[each["score"] for each in results],
                by_cosine=not any(each.get("rank_score") is not None for each in results),
                took=answer["took_ms"],
            )
        )
    return figures.answered(answers)


async def _drawn(
    service: Service, settings: Settings, left: Sequence[Query], worst: Sequence[int]
) -> dict[int, bytes | None]:
    """Thumbnails of queries."""
    found: dict[int, bytes | None] = {}
    async with thumbnailing(service, settings) as thumbnail:
        for number in worst:
            try:
                data = await asyncio.to_thread(left[number].read, settings.max_upload_bytes)
            except Unreadable:
                found[number] = None
            else:
                found[number] = await thumbnail(data)
    return found
