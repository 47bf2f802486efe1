"""Calibrating as a job: pictures without a match are embedded and searched with; until then the old one stays."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from index.errors import RecordNotFound
from index.types import Catalogue, Collection
from models.errors import EmbeddingInvalid, ImageError
from service.embedding.pipeline import Pipeline
from service.imports.sources.opening import open_pictures
from service.imports.sources.source import Pictures, Source, SourceError, Unreadable
from service.jobs.state import Counts
from service.jobs.task import JobFailed, Task
from service.quality.calibration import CalibrationRefused, Stranger, calibrate, warnings
from service.quality.catalogue import ask
from service.search.calibrated import KIND as RECORD
from service.search.calibrated import NAME
from service.threads import Threads

KIND = "calibration"
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
        strangers: list[Stranger] = []
        failed: list[dict[str, str]] = []
        if (name := asked.get("file")) is not None:
            file = task.folder / name
            if not file.is_file():
                raise JobFailed("not-found", "The job's upload is not here any more: send it again")
            try:
                opened = await asyncio.to_thread(open_pictures, file, uploaded=True)
                with contextlib.closing(opened):
                    await self._seen(task, collection, opened, strangers, failed)
            except SourceError as error:
                raise JobFailed("source-unreadable", str(error).replace(f"{task.folder}/", "")) from None
            if not strangers and not failed:
                raise JobFailed("invalid-request", "negatives: the archive has no picture in it")
        count = await self.threads.read(collection.count)
        if not count:
            raise JobFailed("invalid-request", "The collection is empty: import the catalogue first")
        own = await self.threads.read(ask, collection, asked.get("label"))
        if asked.get("label") is not None and not any(each.label for each in own):
            raise JobFailed("invalid-request", "label: no item has a value under this metadata key")
        task.check()
        try:
            value = calibrate(strangers, own, rate=float(asked["rate"]), count=count, failed=failed)
        except CalibrationRefused as error:
            raise JobFailed("invalid-request", str(error)) from None
        await self.threads.write(collection.records.put, RECORD, NAME, value)
        return await self.threads.read(described, collection)

    async def _seen(
        self,
        task: Task,
        collection: Collection,
        opened: Pictures,
        strangers: list[Stranger],
        failed: list[dict[str, str]],
    ) -> None:
        network = await self.pipeline.networks.of_collection(collection)
        failed += [{"name": each.path[:200], "reason": each.reason[:200]} for each in opened.bad]
        sources, total = opened.sources(), opened.count + len(opened.bad)

        async def one(source: Source) -> None:
            try:
                data = await asyncio.to_thread(source.read, self.max_bytes)
                made = await self.pipeline.embed(data, network=network, bulk=True)
                if made.plain:
                    raise Unreadable(PLAIN)
                (near,) = await self.threads.read(collection.nearest, made.vector[None], 1)
                strangers.extend(
                    Stranger(source.name[:200], score, id)
                    for id, score in zip(near.ids, near.scores.tolist(), strict=True)
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
                await one(source)
                task.progress(Counts(total=total, done=len(strangers), failed=len(failed)))

        taking = asyncio.Lock()
        lanes = [asyncio.create_task(lane()) for _ in range(self.pipeline.concurrency)]
        try:
            await asyncio.gather(*lanes)
        finally:
            for each in lanes:
                each.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
        strangers.sort(key=lambda each: each.name)
        failed.sort(key=lambda each: each["name"])


def described(collection: Collection) -> dict[str, Any]:
    """The calibration in force, with what a person should know of it now. Blocks. Raises RecordNotFound."""
    record = collection.records.get(RECORD, NAME)
    value = {key: each for key, each in record.value.items() if key != "strangers"}
    told = warnings(record.value, collection.count())
    made = datetime.fromtimestamp(record.updated_at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {**value, "warnings": told, "version": record.version, "created_at": made}


def forget(collection: Collection) -> bool:
    """Back to the default; whether there was a calibration. Blocks."""
    try:
        collection.records.delete(RECORD, NAME)
    except RecordNotFound:
        return False
    return True
