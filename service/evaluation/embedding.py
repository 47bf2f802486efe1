"""Pictures of an evaluation become vectors: many at a time, and a bad one costs itself."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.errors import EmbeddingInvalid, ImageError
from service.embedding.batcher import Batcher
from service.embedding.cores import usable_cores
from service.embedding.decoder import DecoderPool
from service.embedding.loaded import LoadedModel, Networks
from service.embedding.pipeline import Pipeline
from service.evaluation.table import Complaint, Query
from service.imports.sources.source import Unreadable
from service.metrics import Metrics
from service.settings import Settings

PLAIN = "shows one colour and almost nothing else"

Told = Callable[[int], None]  # called with the number of pictures done


@dataclass(frozen=True, slots=True)
class Embedded:
    """vectors: float32 (n, dim), unit rows, of the pictures in `kept`, places in what was given; files: their sha256.

    seconds: it took for all.
    """

    vectors: npt.NDArray[np.float32]
    kept: list[int]
    files: list[str]
    complaints: list[Complaint]
    seconds: float


@asynccontextmanager
async def own_pipeline(settings: Settings) -> AsyncIterator[Pipeline]:
    """A pipeline of this process, beside a server that has its own. Raises as `Networks`."""
    cores = settings.threads or usable_cores()
    networks = await asyncio.to_thread(Networks, settings, cores)
    decoder = DecoderPool(workers=max(2, cores), max_bytes=settings.max_upload_bytes, max_pixels=settings.max_pixels)
    async with AsyncExitStack() as closing:
        pipeline = Pipeline(networks, decoder, Batcher(lanes=cores, max_batch=1, share=True), Metrics())
        closing.push_async_callback(pipeline.close)
        await decoder.start()
        yield pipeline


async def embed(
    pipeline: Pipeline, network: LoadedModel, pictures: Sequence[Query], max_bytes: int, told: Told
) -> Embedded:
    """max_bytes: of one picture. What fails is told by its name, in the order of the pictures."""
    # Made at its full size: two copies of a large catalogue's vectors would be what runs out of memory.
    rows = np.zeros((len(pictures), network.artefact.dim), np.float32)
    files: dict[int, str] = {}
    wrong: dict[int, Complaint] = {}
    numbers: Iterator[int] = iter(range(len(pictures)))

    began = time.monotonic()

    async def lane() -> None:
        for number in numbers:
            picture = pictures[number]
            try:
                data = await asyncio.to_thread(picture.read, max_bytes)
                sha256 = hashlib.sha256(data).hexdigest()
                made = await pipeline.embed(data, network=network, bulk=True, sha256=sha256)
                if made.plain:
                    raise Unreadable(PLAIN)
                rows[number], files[number] = made.vector, sha256
            except (Unreadable, ImageError, EmbeddingInvalid) as error:
                wrong[number] = Complaint(picture.name, str(error))
            told(len(files) + len(wrong))

    async with asyncio.TaskGroup() as group:
        for _ in range(pipeline.concurrency):
            group.create_task(lane())
    kept = sorted(files)
    if len(kept) < len(pictures):
        rows = rows[kept]
    complaints = [wrong[number] for number in sorted(wrong)]
    return Embedded(rows, kept, [files[number] for number in kept], complaints, time.monotonic() - began)
