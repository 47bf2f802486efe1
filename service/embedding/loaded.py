"""The models this process has loaded, by fingerprint: a collection is always answered by the one it was made with."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from index.errors import ModelMismatch
from index.types import Collection
from models import artefact as artefacts
from models.artefact import Artefact
from models.embedder import Embedder
from models.preprocessing import Preprocessing
from models.runtimes import histogram
from models.runtimes.choose import Measured
from models.runtimes.onnxruntime import OnnxEmbedder
from models.runtimes.probe import opened
from service.embedding import chosen
from service.embedding.chosen import Chosen
from service.settings import Settings


class Model(TypedDict):
    """What a collection keeps of the model it was made with."""

    model: str
    fingerprint: str
    dim: int


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One artefact ready to run. narrow: one thread, several runs side by side; wide: all cores on one picture."""

    artefact: Artefact
    narrow: Embedder
    wide: Embedder
    providers: list[str]
    run: Measured | None = None  # how this machine runs it, by measurement; None on a GPU

    @property
    def precision(self) -> str:
        """What it computes in: the artefact's, or bf16."""
        return self.run.way.precision if self.run else self.artefact.precision

    @property
    def runtime(self) -> str:
        """Runtime, file and kernels, as in "onnxruntime int8 plain"."""
        return self.run.way.label if self.run else f"onnxruntime {self.artefact.precision} {self.providers[0]}"

    @property
    def fingerprint(self) -> str:
        return self.artefact.fingerprint

    @property
    def preprocessing(self) -> Preprocessing:
        """What a picture must become before `narrow` and `wide` take it."""
        return self.narrow.preprocessing

    @property
    def label(self) -> str:
        """Name and precision, as in "resnet50-int8"."""
        return f"{self.artefact.name}-{self.precision}"

    @property
    def record(self) -> Model:
        return Model(model=self.label, fingerprint=self.fingerprint, dim=self.artefact.dim)


def built_model(settings: Settings, name: str | None = None, precision: str | None = None) -> Model:
    """What a collection keeps of a model that is built; None: as the settings choose for new collections.

    Raises ArtefactMissing, ArtefactCorrupt, DeviceUnavailable.
    """
    new = chosen.for_new(settings, name, precision)
    found, run = new.artefact, new.run
    label = f"{found.name}-{run.way.precision if run else found.precision}"
    return Model(model=label, fingerprint=found.fingerprint, dim=found.dim)


class Networks:
    """Loads artefacts on first use. Thread-safe; `of` may block while a model loads."""

    def __init__(self, settings: Settings, cores: int) -> None:
        self._settings = settings
        self._directory: Path = settings.models
        self._cores = cores
        self._lock = threading.Lock()
        self._loaded: dict[str, LoadedModel] = {}
        self._thresholds: dict[str, float] = {}  # of models that are not loaded
        # The model for new collections. Raises ArtefactMissing, ArtefactCorrupt, DeviceUnavailable.
        self.default = self.load(chosen.for_new(settings))
        self.keep(self.default)

    @property
    def loaded(self) -> list[LoadedModel]:
        return list(self._loaded.values())

    def keep(self, network: LoadedModel) -> None:
        """Answers for its fingerprint with `network` from now on."""
        self._loaded[network.fingerprint] = network

    def ready(self, fingerprint: str) -> LoadedModel | None:
        """The model if it is in memory already; never blocks."""
        return self._loaded.get(fingerprint)

    def default_threshold(self, fingerprint: str) -> float:
        """The model's own threshold, loaded or not; that of the model for new collections where it is not at hand."""
        loaded = self.ready(fingerprint)
        if loaded is not None:
            return loaded.artefact.default_threshold
        if fingerprint not in self._thresholds:
            same = [each for each in artefacts.available(self._directory) if each.fingerprint == fingerprint]
            self._thresholds[fingerprint] = (same[0] if same else self.default.artefact).default_threshold
        return self._thresholds[fingerprint]

    async def of_collection(self, collection: Collection) -> LoadedModel:
        """The model a collection was made with, loaded on first use beside the event loop. Raises ModelMismatch."""
        loaded = self.ready(collection.fingerprint)
        if loaded is None:
            loaded = await asyncio.to_thread(self.of, collection.fingerprint, collection=collection.name)
        return loaded

    def of(self, fingerprint: str, *, collection: str) -> LoadedModel:
        """The model with that fingerprint. Raises ModelMismatch where no such artefact is at hand."""
        with self._lock:
            found = self._loaded.get(fingerprint)
            if found is None:
                same = [each for each in artefacts.available(self._directory) if each.fingerprint == fingerprint]
                if not same:
                    raise ModelMismatch(
                        f"Collection {collection} was built with a model that is not here (fingerprint "
                        f"{fingerprint[:12]}…, the service runs {self.default.artefact.name} "
                        f"{self.default.artefact.precision}); build that model with `lookalike model build`, or delete "
                        "the collection and import it again"
                    )
                # fp32 and fp16 share a fingerprint: a GPU is at its best with the one, a CPU with the other.
                wanted = "fp32" if on_cpu(self.default.providers) else "fp16"
                same.sort(key=lambda each: each.precision != wanted)
                found = self._loaded[fingerprint] = self.load(chosen.for_collection(self._settings, same[0]))
            return found

    def load(self, new: Chosen) -> LoadedModel:
        """A model ready to run, which answers for no fingerprint yet. Blocks.

        Raises ArtefactCorrupt, DeviceUnavailable.
        """
        artefact, run = new.artefact, new.run
        if artefact.name == histogram.NAME:
            counts = histogram.HistogramEmbedder()
            return LoadedModel(artefact, counts, counts, [histogram.PROVIDER], run)
        if run is not None:
            narrow = opened(artefact, run.way, threads=1, batched=run.batches)
            wide = narrow if self._cores == 1 else opened(artefact, run.way, threads=self._cores, batched=False)
            return LoadedModel(artefact, narrow, wide, narrow.providers, run)
        device = self._settings.device
        engines = self._settings.data_dir / "engines"
        narrow = OnnxEmbedder(artefact, threads=1, device=device, engine_cache=engines)
        alone = on_cpu(narrow.providers) and self._cores > 1
        wide = OnnxEmbedder(artefact, threads=self._cores, device=device) if alone else narrow
        return LoadedModel(artefact, narrow, wide, narrow.providers)


def on_cpu(providers: list[str]) -> bool:
    """Whether a session with these providers, first one first, computes on the CPU."""
    return providers[0] in ("CPUExecutionProvider", "OpenVINOExecutionProvider", histogram.PROVIDER)
