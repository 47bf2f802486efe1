"""The comparison of `lookalike evaluate`: the same catalogue and queries, embedded and judged in other ways."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from models.artefact import Artefact
from service.evaluation import figures
from service.evaluation.catalogue import BLOCK, Vectors
from service.evaluation.embedding import Embedded, embed
from service.evaluation.evaluation import Row
from service.evaluation.figures import Seen
from service.evaluation.ranking import Listed
from service.evaluation.table import By, Complaint, Query
from service.evaluation.truth import EvaluationRefused, see
from service.evaluation.variants import Variant, trial
from service.imports.sources.archives.archive import open_archive
from service.imports.sources.originals import originals
from service.imports.sources.source import Unreadable

if TYPE_CHECKING:
    from service.cli.client import Service
    from service.embedding.pipeline import Pipeline
    from service.exports.export import Format
    from service.settings import Settings

Said = Callable[[str, int, int], None]  # what is being done, pictures done, pictures in all
AS_IT_IS = "as it is"
_NAMED = 20  # items that cannot be embedded again and are named


@dataclass(frozen=True, slots=True)
class Base:
    """What is compared with: the collection as it is, and the queries. threshold: its own, whatever it comes from."""

    collection: str
    artefact: Artefact
    vectors: Vectors
    files: Mapping[str, str]
    asked: Sequence[Query]
    queries: Embedded
    by: By
    threshold: float


@dataclass(frozen=True, slots=True)
class Compared:
    """rows: the collection as it is, then one for each variant, all of the same `items` and `queries`."""

    rows: Sequence[Row] = ()
    items: int = 0
    queries: int = 0
    complaints: Sequence[Complaint] = ()


@dataclass(frozen=True, slots=True)
class _Tried:
    """Vectors of one variant. items: places of the ones there are; threshold: the model's own."""

    threshold: float
    items: list[int]
    vectors: npt.NDArray[np.float32]
    queries: Embedded
    images_per_second: float


async def compared(
    service: Service,
    settings: Settings,
    pipeline: Pipeline,
    base: Base,
    variants: Sequence[Variant],
    folder: Path,
    say: Said,
) -> Compared:
    """folder: for files that go afterwards. Raises VariantRefused, EvaluationRefused, ArtefactMissing, OSError."""
    if not variants:
        return Compared()
    tried: dict[Variant, _Tried] = {}
    complaints: list[Complaint] = []
    embedding = list(dict.fromkeys(_at_any_threshold(each) for each in variants if each.embeds))
    # All are tried out before hours are spent on the first of them.
    chosen = {each: await asyncio.to_thread(trial, settings, base.artefact, each, folder) for each in embedding}
    pictures = await _uploads(service, base, folder) if embedding else []
    for number, variant in enumerate(embedding, 1):
        network = await asyncio.to_thread(pipeline.networks.load, chosen[variant])
        what, total = f"{variant.name} ({number} of {len(embedding)})", len(pictures) + len(base.asked)

        def told(done: int, what: str = what, total: int = total) -> None:
            say(what, done, total)

        def later(done: int, what: str = what, total: int = total) -> None:
            say(what, done + len(base.asked), total)

        made = await embed(pipeline, network, base.asked, settings.max_upload_bytes, told)
        items = await embed(pipeline, network, pictures, settings.max_upload_bytes, later)
        if not items.kept or not made.kept:
            first = f": {items.complaints[0].what}: {items.complaints[0].reason}" if items.complaints else ""
            raise EvaluationRefused(f"no item can be embedded again{first}")
        if number == 1:
            complaints += items.complaints[:_NAMED]
            if len(items.complaints) > _NAMED:
                complaints.append(Complaint(f"{len(items.complaints) - _NAMED:,} more items", "likewise"))
        file = folder / f"variant-{number}.npy"
        await asyncio.to_thread(np.save, file, items.vectors)
        tried[variant] = _Tried(
            chosen[variant].artefact.default_threshold,
            items.kept,
            np.load(file, mmap_mode="r"),
            made,
            total / max(1e-9, made.seconds + items.seconds),
        )
    return await asyncio.to_thread(_judged, base, variants, tried, complaints)


def _judged(
    base: Base, variants: Sequence[Variant], tried: Mapping[Variant, _Tried], complaints: list[Complaint]
) -> Compared:
    every = base.vectors.listed
    items = sorted(set(range(len(every))).intersection(*(each.items for each in tried.values())))
    queries = sorted(set(base.queries.kept).intersection(*(each.queries.kept for each in tried.values())))
    if not items or not queries:
        raise EvaluationRefused("the variants have no items or no queries in common")
    if left := len(every) - len(items):
        complaints = [*complaints, Complaint(f"{left:,} items", "not compared: they cannot be embedded again")]
    listed = _some(every, items)
    inside = np.zeros(len(every), bool)
    inside[items] = True

    def stored() -> Iterator[npt.NDArray[np.float32]]:
        start = 0
        for block in base.vectors.blocks():
            yield block[inside[start : start + len(block)]]
            start += len(block)

    asked, by = base.asked, base.by
    seen: dict[Variant, Seen] = {Variant(): see(asked, _of(base.queries, queries), listed, stored, by)[0]}
    for variant, each in tried.items():
        places = np.searchsorted(each.items, items)

        def embedded(each: _Tried = each, places: npt.NDArray[np.int64] = places) -> Iterator[npt.NDArray[np.float32]]:
            for start in range(0, len(places), BLOCK):
                yield np.ascontiguousarray(each.vectors[places[start : start + BLOCK]])

        seen[variant] = see(asked, _of(each.queries, queries), listed, embedded, by)[0]
    speed = len(asked) / max(1e-9, base.queries.seconds)
    rows = [Row(AS_IT_IS, figures.figures(seen[Variant()], listed, base.threshold), round(speed, 1))]
    for variant in variants:
        plain = _at_any_threshold(variant)
        made = tried.get(plain)
        usual = base.threshold if made is None else made.threshold
        least = usual if variant.threshold is None else variant.threshold
        rate = None if made is None else round(made.images_per_second, 1)
        rows.append(Row(variant.name, figures.figures(seen[plain], listed, least), rate))
    return Compared(rows, len(items), len(queries), complaints)


def _at_any_threshold(variant: Variant) -> Variant:
    return replace(variant, threshold=None)


def _of(queries: Embedded, kept: Sequence[int]) -> Embedded:
    """The same of some pictures."""
    places = np.searchsorted(queries.kept, kept).tolist()
    return Embedded(queries.vectors[places], list(kept), [queries.files[n] for n in places], [], queries.seconds)


def _some(listed: Listed, places: Sequence[int]) -> Listed:
    return Listed(
        [listed.ids[n] for n in places], [listed.labels[n] for n in places], [listed.files[n] for n in places]
    )


async def _uploads(service: Service, base: Base, folder: Path) -> list[Query]:
    """The uploaded picture of each item, in their order."""
    listed = base.vectors.listed
    if service.runtime is not None:
        hashes = sorted({each for each in listed.files if each})
        kept = {each.id: each.read for each in originals(service.runtime.catalogue, hashes)}
        return [Query(id, kept.get(file, _lost)) for id, file in zip(listed.ids, listed.files, strict=True)]
    file = folder / "pictures.zip"
    await exported(service, base.collection, file, "zip")
    opened = await asyncio.to_thread(open_archive, file)
    reads = {each.id: each.read for each in opened.sources()}
    return [Query(id, reads.get(id, _lost)) for id in listed.ids]


def _lost(max_bytes: int) -> bytes:
    raise Unreadable("no upload of it is kept")


async def exported(service: Service, collection: str, file: Path, format: Format = "parquet") -> None:
    """Writes the collection into a file, as an export does, whoever owns the directory."""
    from service.cli.client import answer_of
    from service.exports.export import pieces

    if service.runtime is not None:
        catalogue = service.runtime.catalogue

        def write() -> None:
            with file.open("wb") as out:
                for piece in pieces(catalogue, collection, format):
                    out.write(piece)

        await asyncio.to_thread(write)
        return
    path = f"/v1/collections/{quote(collection, safe='')}/export"
    async with service.api.http.stream("GET", path, params={"format": format}) as response:
        if not response.is_success:
            await response.aread()
            answer_of(response)
        with file.open("wb") as out:
            async for piece in response.aiter_bytes():
                await asyncio.to_thread(out.write, piece)
