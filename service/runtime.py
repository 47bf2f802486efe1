"""Models and store joined for one process: what the server serves, and what a command that owns the directory uses."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypedDict, TypeVar

import numpy as np

from index.open import open_catalogue
from index.types import Catalogue, Collection
from models.runtimes.onnxruntime import BUCKETS
from service.embedding.batcher import Batcher
from service.embedding.cores import usable_cores
from service.embedding.decoder import DecoderPool
from service.embedding.loaded import LoadedModel, Networks, on_cpu
from service.embedding.pipeline import Crop, Embedded, Pipeline
from service.errors import NotReady
from service.http.admission import Admission
from service.metrics import IndexGauges, Metrics
from service.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT = "default"
# Writers mostly wait for the disk, and those that wait together are committed together.
WRITERS = 16


class Runtime:
    """Everything one process needs to answer. Make it with `open`, on the event loop that will use it."""

    def __init__(self, settings: Settings, networks: Networks, catalogue: Catalogue, cores: int) -> None:
        self.settings = settings
        self.networks = networks
        self.catalogue = catalogue
        self.cores = cores
        self.metrics = Metrics()
        self.admission = Admission(settings.queue_limit)
        self.draining = False
        on_gpu = not on_cpu(networks.default.providers)
        self.pipeline = Pipeline(
            DecoderPool(workers=cores, max_bytes=settings.max_upload_bytes, max_pixels=settings.max_pixels),
            Batcher(lanes=2, max_batch=BUCKETS[-1]) if on_gpu else Batcher(lanes=cores),
            self.metrics,
        )
        self._searchers = ThreadPoolExecutor(cores, thread_name_prefix="search")
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="write")
        self._register_gauges()

    @classmethod
    async def open(cls, settings: Settings) -> Runtime:
        """Takes the data directory, loads the model, starts the decoders.

        Raises DirectoryLocked, StoreCorrupt, StorageFull, ArtefactMissing, ArtefactCorrupt, DeviceUnavailable.
        """
        cores = settings.threads or usable_cores()
        # The lock first: a second server is told so at once, and not after it has loaded a model.
        catalogue = await asyncio.to_thread(open_catalogue, settings.data_dir, keep_originals=settings.keep_originals)
        runtime = None
        try:
            networks = await asyncio.to_thread(Networks, settings, cores)
            adopt(catalogue, networks.default)
            runtime = cls(settings, networks, catalogue, cores)
            await runtime.pipeline.decoder.start()
        except BaseException:
            if runtime is not None:
                await runtime.close()
            else:
                catalogue.close()
            raise
        return runtime

    def collection(self, name: str) -> Collection:
        """Raises CollectionNotFound."""
        return self.catalogue.get(name)

    def create_collection(self, name: str) -> tuple[Collection, bool]:
        """The collection, made with the model for new ones unless it stands; and whether it was made now."""
        return self.catalogue.create(name, **model_of(self.networks.default))

    def empty_default(self) -> None:
        """`default` loses its items and starts over with the model for new collections."""
        self.catalogue.clear(DEFAULT, **model_of(self.networks.default))

    async def embed(
        self,
        collection: Collection,
        data: bytes,
        *,
        crop: Crop | None = None,
        thumbnail: bool = False,
        wait: bool = False,
        deadline: float = float("inf"),
        sha256: str | None = None,
    ) -> Embedded:
        """`Pipeline.embed` with the collection's own model. Raises ModelMismatch too."""
        network = await self.network(collection)
        return await self.pipeline.embed(
            data, network=network, crop=crop, thumbnail=thumbnail, wait=wait, deadline=deadline, sha256=sha256
        )

    async def network(self, collection: Collection) -> LoadedModel:
        """The model the collection was made with, loaded on first use. Raises ModelMismatch."""
        loaded = self.networks.ready(collection.fingerprint)
        if loaded is None:
            find = functools.partial(self.networks.of, collection.fingerprint, collection=collection.name)
            loaded = await asyncio.to_thread(find)
        return loaded

    async def read(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs a search or a read beside the event loop; as many at a time as there are cores."""
        return await asyncio.get_running_loop().run_in_executor(
            self._searchers, functools.partial(call, *args, **kwargs)
        )

    async def write(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs a write beside the event loop. It goes on when the caller is cancelled: a commit has no half."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writers, functools.partial(call, *args, **kwargs))

    async def prove(self) -> None:
        """One real inference through a lane. Raises what it raises, and NotReady where it takes too long."""
        default = self.networks.default
        side = default.preprocessing.side
        picture = np.full((side, side, 3), 127, np.uint8)
        picture[::2, ::3] = 31
        try:
            async with asyncio.timeout(self.settings.request_timeout):
                await self.pipeline.batcher.submit(default, picture)
        except TimeoutError:
            raise NotReady("The model does not answer") from None

    async def close(self) -> None:
        """Lets running pictures finish, tells waiting ones, then closes the store. Nothing acknowledged is lost."""
        self.draining = True
        await asyncio.to_thread(self.pipeline.batcher.close)
        await self.pipeline.decoder.close()
        await asyncio.to_thread(self._searchers.shutdown)
        await asyncio.to_thread(self._writers.shutdown)
        await asyncio.to_thread(self.catalogue.close)

    def _register_gauges(self) -> None:
        metrics, admission, decoder, batcher = (
            self.metrics,
            self.admission,
            self.pipeline.decoder,
            self.pipeline.batcher,
        )
        metrics.gauge("lookalike_queue_places", "Requests that wait or run", lambda: admission.inside)
        metrics.gauge("lookalike_queue_limit", "Places in the queue", lambda: admission.limit)
        metrics.gauge("lookalike_embed_waiting", "Pictures that wait for a lane", lambda: batcher.waiting)
        metrics.counter("lookalike_queue_refused", "Requests refused with 503", lambda: admission.refused)
        metrics.counter("lookalike_embed_runs", "Runs of the network", lambda: batcher.runs)
        metrics.counter("lookalike_embedded_images", "Pictures embedded", lambda: batcher.embedded)
        metrics.counter("lookalike_embed_dropped", "Pictures dropped while waiting", lambda: batcher.dropped)
        metrics.counter("lookalike_lane_restarts", "Embedding lanes replaced", lambda: batcher.restarts)
        metrics.counter("lookalike_decoder_restarts", "Decoding processes replaced", lambda: decoder.restarts)
        providers = metrics.labelled("lookalike_model", "1 for each loaded model and provider", ["model", "provider"])
        default = self.networks.default
        providers.labels(f"{default.artefact.name}-{default.artefact.precision}", default.providers[0]).set(1)
        items = metrics.labelled("lookalike_collection_items", "Items of a collection", ["collection"])
        self._items_gauge = items
        self._index_gauges = IndexGauges(metrics)
        self._scraping = threading.Lock()

    def scrape(self) -> bytes:
        """The metrics, with the collections as they stand."""
        with self._scraping:  # by two at once, one would clear what the other has just set
            self._items_gauge.clear()
            self._index_gauges.clear()
            for info in self.catalogue.infos():
                self._items_gauge.labels(info.name).set(info.count)
                self._index_gauges.set(info)
            return self.metrics.text()


class Model(TypedDict):
    """What a collection remembers of the model it was made with."""

    model: str
    fingerprint: str
    dim: int


def model_of(network: LoadedModel) -> Model:
    artefact = network.artefact
    return Model(model=f"{artefact.name}-{artefact.precision}", fingerprint=artefact.fingerprint, dim=artefact.dim)


def adopt(catalogue: Catalogue, network: LoadedModel) -> None:
    """`default` always exists; while it is empty it follows the model the service runs."""
    collection, _ = catalogue.create(DEFAULT, **model_of(network))
    if collection.fingerprint != network.fingerprint and collection.count() == 0:
        catalogue.clear(DEFAULT, **model_of(network))
