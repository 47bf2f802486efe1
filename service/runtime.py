"""Models and store joined for one process: what the server serves, and what a command that owns the directory uses."""

from __future__ import annotations

import asyncio
import threading
import zlib

from index.errors import CollectionNotFound
from index.open import open_catalogue
from index.types import Catalogue, Collection, Unclaimed
from models.runtimes.onnxruntime import BUCKETS
from models.runtimes.openvino import BATCHES
from service.embedding.batcher import Batcher
from service.embedding.cores import usable_cores
from service.embedding.decoder import DecoderPool
from service.embedding.loaded import LoadedModel, Networks, on_cpu
from service.embedding.pipeline import Embedded, Pipeline
from service.errors import NotReady
from service.fetching.fetcher import Fetcher
from service.fetching.urls import FetchHosts
from service.jobs.runner import Jobs
from service.memory import Memory, meter
from service.metrics import CollectionGauges, Metrics, Stopwatch
from service.search.answer import Answer
from service.search.query import Query
from service.search.search import Search
from service.settings import Settings
from service.threads import Threads

DEFAULT = "default"
# Real answers prove the model too, so that asking whether it answers costs an inference only on an idle service.
PROOF_SECONDS = 5.0


class Runtime:
    """Everything one process needs to answer. Make it with `open`, on the event loop that will use it."""

    def __init__(self, settings: Settings, networks: Networks, catalogue: Catalogue, cores: int) -> None:
        self.settings = settings
        self.catalogue = catalogue
        self.cores = cores
        self.draining = False
        self.metrics = Metrics()
        self.threads = Threads(cores, self.metrics)
        self.read, self.write = self.threads.read, self.threads.write
        on_gpu, run = not on_cpu(networks.default.providers), networks.default.run
        decoder = DecoderPool(
            workers=max(2, cores), max_bytes=settings.max_upload_bytes, max_pixels=settings.max_pixels
        )
        self.memory = Memory(meter(settings.max_memory_bytes, lambda: decoder.pids))
        self.memory.publish(self.metrics)
        self.pipeline = Pipeline(
            networks,
            decoder,
            Batcher(lanes=2, max_batch=BUCKETS[-1])
            if on_gpu
            else Batcher(lanes=cores, max_batch=BATCHES[0] if run is not None and run.batches else 1, share=True),
            self.metrics,
            room=self.memory.room,
        )
        self.jobs = Jobs(catalogue.records, settings.data_dir, self.threads, self.metrics, at_once=settings.jobs)
        self.fetcher = Fetcher(enabled=settings.fetch_urls, hosts=FetchHosts.of(settings.fetch_hosts))
        self._search = Search(self.pipeline, self.threads, self.metrics)
        self._collections = CollectionGauges(self.metrics)
        self._scraping = threading.Lock()

    @classmethod
    async def open(cls, settings: Settings, *, unclaimed: Unclaimed = "refuse") -> Runtime:
        """Takes the data directory, loads the model, starts the decoders. unclaimed: as of `open_catalogue`.

        Raises DirectoryLocked, StoreCorrupt, StorageError, ArtefactMissing, ArtefactCorrupt, DeviceUnavailable.
        """
        cores = settings.threads or usable_cores()
        # The lock first: a second server is refused at once, and not after it has loaded a model.
        catalogue = await asyncio.to_thread(
            open_catalogue,
            settings.data_dir,
            keep_originals=settings.keep_originals,
            unclaimed=unclaimed,
            recall=settings.recall,
        )
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

    @property
    def model(self) -> LoadedModel:
        """The model for new collections."""
        return self.pipeline.networks.default

    @property
    def models(self) -> list[LoadedModel]:
        """Every model in memory."""
        return self.pipeline.networks.loaded

    def default_threshold(self, fingerprint: str) -> float:
        """The score that is a match by default under the model with that fingerprint."""
        return self.pipeline.networks.default_threshold(fingerprint)

    def calibration_tag(self, collection: Collection) -> tuple[float, int] | None:
        """What tells one calibration of a collection from another; None without one. Blocks after one, once."""
        found = self._search.calibrations.of(collection)
        return None if found is None else (found.score, zlib.crc32(found.strangers.tobytes()))

    def calibrated_threshold(self, name: str) -> float | None:
        """The least score of a match in a calibrated collection; None in others. Blocks after a calibration, once."""
        try:
            found = self._search.calibrations.of(self.collection(name))
        except CollectionNotFound:  # deleted since
            return None
        return None if found is None else found.score

    def collection(self, name: str) -> Collection:
        """Raises CollectionNotFound."""
        return self.catalogue.get(name)

    def create_collection(self, name: str) -> tuple[Collection, bool]:
        """The collection, made with the model for new ones unless it exists; and whether it was made now."""
        return self.catalogue.create(name, **self.model.record)

    def empty_default(self) -> None:
        """`default` loses its items and starts over with the model for new collections."""
        self.catalogue.clear(DEFAULT, **self.model.record)

    async def remove(self, collection: Collection) -> None:
        """Deletes a collection with all it holds, and ends its jobs; `default` is emptied instead.

        Raises CollectionNotFound, StorageError.
        """
        await self.jobs.drop(collection.name, forget=False)
        if collection.name == DEFAULT:
            await self.write(self.empty_default)
        else:
            await self.write(self.catalogue.drop, collection.name)
        # What was asked for meanwhile ends too, and a later collection of this name has no history.
        await self.jobs.drop(collection.name, forget=collection.name != DEFAULT)

    async def search(
        self, collection: Collection, query: Query, *, watch: Stopwatch, deadline: float = float("inf")
    ) -> Answer:
        """`Search.answer`."""
        return await self._search.answer(collection, query, watch=watch, deadline=deadline)

    async def embed(self, data: bytes, *, deadline: float = float("inf")) -> Embedded:
        """`Pipeline.embed` under the model for new collections."""
        return await self.pipeline.embed(data, network=self.model, deadline=deadline)

    async def check_ready(self) -> None:
        """Raises NotReady while a search index is being rebuilt, and where the model does not answer a picture."""
        for name in self.catalogue.names():
            try:
                collection = self.collection(name)
                if not collection.ready:
                    done = (await self.read(collection.info)).index.progress
                    raise NotReady(f"The search index of {name} is being rebuilt, {done:.0%} done")
            except CollectionNotFound:  # removed meanwhile
                continue
        await self.pipeline.prove(seconds=self.settings.request_timeout, not_older=PROOF_SECONDS)

    def scrape(self) -> bytes:
        """The metrics, with every collection's state of now. Blocks."""
        with self._scraping:  # by two at once, one would clear what the other has just set
            self._collections.set(self.catalogue.infos())
            return self.metrics.text()

    async def close(self) -> None:
        """Jobs stop where they are, running pictures finish, waiting ones raise ShuttingDown, then the store is closed.

        Nothing acknowledged is lost.
        """
        self.draining = True
        await self.jobs.close()
        await self.fetcher.close()
        await self.pipeline.close()
        await self.threads.close()
        await asyncio.to_thread(self.catalogue.close)


def adopt(catalogue: Catalogue, network: LoadedModel) -> None:
    """`default` always exists; while it is empty it follows the model the service runs."""
    collection, _ = catalogue.create(DEFAULT, **network.record)
    if collection.fingerprint != network.fingerprint and collection.count() == 0:
        catalogue.clear(DEFAULT, **network.record)
