"""Calibrating as a job: pictures without a match are embedded and searched with; until then the old one stays."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from index.errors import RecordNotFound
from index.records import Record
from index.types import Catalogue, Collection
from models.errors import EmbeddingInvalid, ImageError
from service.embedding.pipeline import Pipeline
from service.imports.sources.opening import open_pictures
from service.imports.sources.source import Pictures, Source, SourceError, Unreadable
from service.jobs.state import Counts
from service.jobs.task import JobFailed, Task
from service.quality.calibration import CalibrationRefused, Stranger, calibrate, warnings
from service.quality.catalogue import ask
from service.quality.drawn import draw
from service.quality.pairs import Pair, PairsRefused, read_pairs
from service.quality.truth import all_there, judged
from service.search.calibrated import KIND as RECORD
from service.search.calibrated import NAME
from service.threads import Threads

KIND = "calibration"
LABEL = "label"  # the metadata key of the labels of pairs, unless another is named
PLAIN = "shows one colour and almost nothing else, which matches nothing anyway"


@dataclass(frozen=True, slots=True)
class CalibrationWork:
    """The work of one process. max_bytes: of one picture."""

    catalogue: Catalogue
    pipeline: Pipeline
    threads: Threads
    max_bytes: int

    async def __call__(self, task: Task) -> Mapping[str, Any]:
        """Raises JobFailed, Stopped, CollectionNotFound, IndexNotReady, ModelMismatch."""
        asked = task.job.request
        collection = self.catalogue.get(task.job.collection)
        fingerprint = collection.fingerprint
        count = await self.threads.read(collection.count)
        if not count:
            raise JobFailed("invalid-request", "The collection is empty: import the catalogue first")
        failed: list[dict[str, str]] = []
        try:
            pairs = await self._pairs(task, collection, asked)
            strangers = await self._seen(task, collection, asked.get("negatives"), None, failed)
            queries = await self._seen(task, collection, asked.get("pictures"), pairs, failed)
            own = await self.threads.read(ask, collection, asked.get("label"))
            if asked.get("label") is not None and not any(each.label for each in own):
                raise JobFailed("invalid-request", "label: no item has a value under this metadata key")
            task.check()
            if pairs and not queries:
                first = failed[-1]
                raise PairsRefused(f"pairs: no picture can be used; {first['name'][:100]} {first['reason'][:100]}")
            genuine = await self.threads.read(judged, collection, queries, pairs, asked.get("label") or LABEL)
            value = calibrate(
                None if asked.get("negatives") is None else strangers,
                genuine,
                own,
                rate=float(asked["rate"]),
                count=count,
                fingerprint=fingerprint,
                failed=sorted(failed, key=lambda each: each["name"]),
            )
        except (CalibrationRefused, PairsRefused) as error:
            raise JobFailed("invalid-request", str(error)) from None
        except SourceError as error:
            raise JobFailed("source-unreadable", str(error).replace(f"{task.folder}/", "")) from None
        await self.threads.write(collection.records.put, RECORD, NAME, value)
        return await self.threads.read(described, collection)

    async def _pairs(self, task: Task, collection: Collection, asked: Mapping[str, Any]) -> dict[str, Pair]:
        """By the picture's path; each names an item or a label that is there. Raises PairsRefused, JobFailed."""
        if asked.get("pairs") is None:
            return {}
        pairs = read_pairs(await asyncio.to_thread(_file(task, asked["pairs"]).read_bytes))
        by_picture = {pair.picture: pair for pair in pairs}
        await self.threads.read(all_there, collection, pairs, asked.get("label") or LABEL)
        return by_picture

    async def _seen(
        self,
        task: Task,
        collection: Collection,
        name: str | None,
        wanted: Mapping[str, Pair] | None,
        failed: list[dict[str, str]],
    ) -> list[Stranger]:
        """Every picture of an archive with its nearest item, in the order of their paths. wanted: only these."""
        if name is None:
            return []
        opened = await asyncio.to_thread(open_pictures, _file(task, name), uploaded=True)
        with contextlib.closing(opened):
            seen, found = await self._searched(task, collection, opened, wanted, failed)
        if wanted is None and not found:
            raise JobFailed("invalid-request", "negatives: the archive has no picture in it")
        failed += [
            {"name": each[:200], "reason": "is not in the archive"} for each in wanted or () if each not in found
        ]
        return seen

    async def _searched(
        self,
        task: Task,
        collection: Collection,
        opened: Pictures,
        wanted: Mapping[str, Pair] | None,
        failed: list[dict[str, str]],
    ) -> tuple[list[Stranger], set[str]]:
        """Pictures that could be used, and the paths of all."""
        network = await self.pipeline.networks.of_collection(collection)
        bad = [each for each in opened.bad if wanted is None or each.path in wanted]
        failed += [{"name": each.path[:200], "reason": each.reason[:200]} for each in bad]
        seen: list[Stranger] = []
        found = {each.path for each in bad}
        sources, total = opened.sources(), opened.count + len(opened.bad)
        taking = asyncio.Lock()

        async def one(source: Source) -> None:
            try:
                data = await asyncio.to_thread(source.read, self.max_bytes)
                made = await self.pipeline.embed(data, network=network, bulk=True)
                if made.plain:
                    raise Unreadable(PLAIN)
                (near,) = await self.threads.read(collection.nearest, made.vector[None], 1)
                seen.extend(
                    Stranger(source.name, score, id) for id, score in zip(near.ids, near.scores.tolist(), strict=True)
                )
            except (Unreadable, ImageError, EmbeddingInvalid) as error:
                failed.append({"name": source.name[:200], "reason": str(error)[:200]})

        async def lane() -> None:
            while True:
                task.check()
                async with taking:
                    source = await asyncio.to_thread(next, sources, None)
                if source is None:
                    return
                if wanted is None or source.name in wanted:
                    found.add(source.name)
                    await one(source)
                    task.progress(Counts(total=total, done=len(seen), failed=len(failed)))

        lanes = [asyncio.create_task(lane()) for _ in range(self.pipeline.concurrency)]
        try:
            await asyncio.gather(*lanes)
        finally:
            for each in lanes:
                each.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
        return sorted(seen, key=lambda each: each.name), found


def _file(task: Task, name: str) -> Path:
    file = task.folder / name
    if not file.is_file():
        raise JobFailed("not-found", "The job's upload is not here any more: send it again")
    return file


def described(collection: Collection) -> dict[str, Any]:
    """The calibration in force, with what a person should know of it now. Blocks.

    Raises RecordNotFound, also for one of another model than the collection's.
    """
    record = _in_force(collection)
    value = {key: each for key, each in record.value.items() if key not in ("strangers", "genuine")}
    told = warnings(record.value, collection.count())
    made = datetime.fromtimestamp(record.updated_at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {**value, "warnings": told, "version": record.version, "created_at": made}


def plotted(collection: Collection, known: Callable[[str], bool]) -> tuple[str, bytes | None]:
    """A tag of the calibration in force, and its plot as PNG unless the tag is `known`. Blocks.

    Raises as `described`.
    """
    record = _in_force(collection)
    tag = f'"{record.version}-{record.updated_at:.3f}"'
    return tag, None if known(tag) else draw(record.value, collection.name)


def _in_force(collection: Collection) -> Record:
    record = collection.records.get(RECORD, NAME)
    if record.value.get("fingerprint") != collection.fingerprint:
        raise RecordNotFound(NAME)
    return record


def forget(collection: Collection) -> bool:
    """Back to the default; whether there was a calibration. Blocks."""
    try:
        collection.records.delete(RECORD, NAME)
    except RecordNotFound:
        return False
    return True
