"""The way from an upload to its vector: hash, cache, decode in a worker process, embed in a lane."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from index.types import Media
from service.embedding.batcher import Batcher
from service.embedding.cache import LeastRecent, SingleFlight
from service.embedding.decoder import DecoderPool
from service.embedding.loaded import LoadedModel
from service.errors import DeadlinePassed
from service.metrics import Metrics

Vector = npt.NDArray[np.float32]
Crop = tuple[float, float, float, float]

# 8 kB a vector: 32 MB at most.
CACHED_VECTORS = 4096
# Hashing this much takes about 0.2 ms; above, the event loop should not do it.
HASH_INLINE = 2**18


@dataclass(frozen=True, slots=True)
class Embedded:
    """vector: float32 (dim,), unit length, read-only. decode_ms, embed_ms: 0 where the cache answered."""

    vector: Vector
    media: Media
    thumbnail: bytes | None = None
    decode_ms: float = 0.0
    embed_ms: float = 0.0


Key = tuple[str, str, Crop | None]


class Pipeline:
    """Joins the decoder pool and the batcher for one process. Lives on one event loop."""

    def __init__(self, decoder: DecoderPool, batcher: Batcher, metrics: Metrics) -> None:
        self.decoder = decoder
        self.batcher = batcher
        self._metrics = metrics
        self._cache: LeastRecent[Key, Embedded] = LeastRecent(CACHED_VECTORS)
        self._flights: SingleFlight[tuple[Key, bool], Embedded] = SingleFlight()

    async def embed(
        self,
        data: bytes,
        *,
        network: LoadedModel,
        crop: Crop | None = None,
        thumbnail: bool = False,
        wait: bool = False,
        deadline: float = float("inf"),
        sha256: str | None = None,
    ) -> Embedded:
        """The picture's vector under `network`. crop: left, top, right, bottom in 0…1 of the upright picture.

        wait: bulk work, which lets people's pictures go first. deadline: monotonic seconds. sha256: of `data`, where
        the caller has it.
        Raises ImageError, EmbeddingInvalid, DeadlinePassed, ShuttingDown, NotReady.
        """
        key: Key = (sha256 or await digest(data), network.fingerprint, crop)
        known = self._cache.get(key)
        if known is not None and not thumbnail:
            self._metrics.cached("hit")
            return known
        flight = (key, thumbnail)
        self._metrics.cached("joined" if flight in self._flights else "hit" if known else "miss")
        return await self._flights.run(flight, lambda: self._make(data, key, known, network, thumbnail, wait, deadline))

    async def _make(
        self,
        data: bytes,
        key: Key,
        known: Embedded | None,
        network: LoadedModel,
        thumbnail: bool,
        wait: bool,
        deadline: float,
    ) -> Embedded:
        sha256, _, crop = key
        with self._metrics.stage("decode") as decoding:
            decoded = await self.decoder.decode(
                data, preprocessing=network.preprocessing, crop=crop, thumbnail=thumbnail, deadline=deadline
            )
        media = Media(decoded.width, decoded.height, decoded.format, len(data), sha256)
        if known is not None:
            return Embedded(known.vector, media, decoded.thumbnail, decoding.ms)
        if time.monotonic() >= deadline:
            raise DeadlinePassed()
        with self._metrics.stage("embed") as embedding:
            vector = await self.batcher.submit(network, decoded.pixels, deadline=deadline, bulk=wait)
        vector.flags.writeable = False
        self._cache.put(key, Embedded(vector, media))
        return Embedded(vector, media, decoded.thumbnail, decoding.ms, embedding.ms)


async def digest(data: bytes) -> str:
    """sha256 in lower-case hex; large bodies off the event loop."""
    if len(data) <= HASH_INLINE:
        return hashlib.sha256(data).hexdigest()
    return (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
