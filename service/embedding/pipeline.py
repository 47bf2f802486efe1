"""The way from an upload to its vector: hash, cache, decode in a worker process, embed in a lane."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from index.items import Media
from service.embedding.batcher import GIVE_WAY, After, Batcher
from service.embedding.cache import LeastRecent, SingleFlight
from service.embedding.decoder import DecoderPool
from service.embedding.loaded import LoadedModel, Networks
from service.errors import DeadlinePassed, NotReady
from service.metrics import Metrics

Vector = npt.NDArray[np.float32]
Crop = tuple[float, float, float, float]

# 8 kB a vector: 32 MB at most.
CACHED_VECTORS = 4096
# Hashing this much takes about 0.2 ms; above, the event loop should not do it.
HASH_INLINE = 2**18
WHOLE: Crop = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Embedded:
    """vector: float32 (dim,), unit length, read-only. decode_ms, embed_ms: 0 where the cache answered.

    plain: the picture is of one colour, so that its vector says nothing of what it is like.
    """

    vector: Vector
    media: Media
    thumbnail: bytes | None = None
    decode_ms: float = 0.0
    embed_ms: float = 0.0
    plain: bool = False


Key = tuple[str, str, Crop | None]


class Pipeline:
    """Joins models, decoder pool and batcher for one process: the one way to embed. Lives on one event loop.

    room: what bulk work waits for before each picture; None: nothing.
    """

    def __init__(
        self,
        networks: Networks,
        decoder: DecoderPool,
        batcher: Batcher,
        metrics: Metrics,
        *,
        room: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._room = room
        self.networks = networks
        self.decoder = decoder
        self.batcher = batcher
        self._metrics = metrics
        self._people = 0
        self._nobody = asyncio.Event()
        self._cache: LeastRecent[Key, Embedded] = LeastRecent(CACHED_VECTORS)
        self._flights: SingleFlight[tuple[Key, bool], Embedded] = SingleFlight()
        self._publish()

    @property
    def concurrency(self) -> int:
        """Pictures under way that keep every decoder and lane busy while others are read or written."""
        return 2 * max(self.decoder.size, self.batcher.lanes * self.batcher.max_batch) + 2

    async def embed(
        self,
        data: bytes,
        *,
        network: LoadedModel,
        crop: Crop | None = None,
        thumbnail: bool = False,
        bulk: bool = False,
        deadline: float = float("inf"),
        sha256: str | None = None,
        after: After | None = None,
    ) -> Embedded:
        """The picture's vector under `network`. crop: left, top, right, bottom in 0…1 of the upright picture.

        bulk: work that lets people's pictures go first; its own seldom repeat, so they are kept out of the cache.
        deadline: monotonic seconds. sha256: of `data`, where the caller has it. after: see `Batcher.submit`; left out
        where the vector was known already, or is being made for somebody else.
        Raises ImageError, EmbeddingInvalid, DeadlinePassed, ShuttingDown, NotReady.
        """
        key: Key = (sha256 or await digest(data), network.fingerprint, None if crop == WHOLE else crop)
        if bulk:
            if self._room is not None:
                await self._room()
            await self._give_way()
            return await self._make(data, key, None, network, thumbnail, deadline, bulk=True, after=after)
        known = self._cache.get(key)
        if known is not None and not thumbnail:
            self._metrics.cached("hit")
            return known
        flight = (key, thumbnail)
        self._metrics.cached("joined" if flight in self._flights else "hit" if known else "miss")
        while True:
            try:
                with self._person():
                    return await self._flights.run(
                        flight,
                        lambda: self._make(data, key, known, network, thumbnail, deadline, bulk=False, after=after),
                    )
            except DeadlinePassed:
                if time.monotonic() >= deadline:
                    raise
                # Joined on the way was the flight of somebody whose time ended earlier.

    @contextlib.contextmanager
    def _person(self) -> Iterator[None]:
        """While somebody waits for a picture, no bulk work begins: neither in the decoders nor in the lanes."""
        self._people += 1
        self._nobody.clear()
        try:
            with self.batcher.person():
                yield
        finally:
            self._people -= 1
            if not self._people:
                self._nobody.set()

    async def _give_way(self) -> None:
        """Returns once nobody waits for a picture, or after GIVE_WAY seconds."""
        if self._people:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GIVE_WAY):
                    await self._nobody.wait()

    async def _make(
        self,
        data: bytes,
        key: Key,
        known: Embedded | None,
        network: LoadedModel,
        thumbnail: bool,
        deadline: float,
        *,
        bulk: bool,
        after: After | None,
    ) -> Embedded:
        sha256, _, crop = key
        with self._metrics.stage("decode") as decoding:
            decoded = await self.decoder.decode(
                data, preprocessing=network.preprocessing, crop=crop, thumbnail=thumbnail, deadline=deadline
            )
        media = Media(decoded.width, decoded.height, decoded.format, len(data), sha256)
        if known is not None:
            return Embedded(known.vector, media, decoded.thumbnail, decoding.ms, plain=decoded.plain)
        if time.monotonic() >= deadline:
            raise DeadlinePassed()
        with self._metrics.stage("embed") as embedding:
            vector = await self.batcher.submit(network, decoded.pixels, deadline=deadline, bulk=bulk, after=after)
        vector.flags.writeable = False
        if not bulk:
            self._cache.put(key, Embedded(vector, media, plain=decoded.plain))
        return Embedded(vector, media, decoded.thumbnail, decoding.ms, embedding.ms, decoded.plain)

    async def decodes(self, data: bytes, *, network: LoadedModel) -> None:
        """Raises the ImageError, if any, that `embed` would raise for this picture."""
        await self.decoder.decode(data, preprocessing=network.preprocessing)

    async def prove(self, *, seconds: float, not_older: float) -> None:
        """One real inference through a lane, unless one was made in the last `not_older` seconds.

        Raises what it raises, and NotReady where it takes more than `seconds`.
        """
        if time.monotonic() - self.batcher.answered_at <= not_older:
            return
        side = self.networks.default.preprocessing.side
        picture = np.full((side, side, 3), 127, np.uint8)
        picture[::2, ::3] = 31
        try:
            async with asyncio.timeout(seconds):
                await self.batcher.submit(self.networks.default, picture)
        except TimeoutError:
            raise NotReady("The model does not answer") from None

    async def close(self) -> None:
        """Running pictures finish; waiting ones raise ShuttingDown."""
        await asyncio.to_thread(self.batcher.close)
        await self.decoder.close()

    def _publish(self) -> None:
        metrics, decoder, batcher = self._metrics, self.decoder, self.batcher
        metrics.gauge("lookalike_embed_waiting", "Pictures that wait for a lane", lambda: batcher.waiting)
        metrics.counter("lookalike_embed_runs", "Runs of the network", lambda: batcher.runs)
        metrics.counter("lookalike_embedded_images", "Pictures embedded", lambda: batcher.embedded)
        metrics.counter("lookalike_embed_dropped", "Pictures dropped while waiting", lambda: batcher.dropped)
        metrics.counter("lookalike_lane_restarts", "Embedding lanes replaced", lambda: batcher.restarts)
        metrics.counter("lookalike_decoder_restarts", "Decoding processes replaced", lambda: decoder.restarts)
        models = metrics.labelled("lookalike_model", "1 for each loaded model and provider", ["model", "provider"])
        default = self.networks.default
        models.labels(default.label, default.providers[0]).set(1)


async def digest(data: bytes) -> str:
    """sha256 in lower-case hex; large bodies off the event loop."""
    if len(data) <= HASH_INLINE:
        return hashlib.sha256(data).hexdigest()
    return (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
