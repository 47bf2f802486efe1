"""What a model runs on here, as the settings allow: the artefact, and the Way in which this machine runs it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from models import artefact as artefacts
from models.artefact import Artefact
from models.errors import ArtefactMissing
from models.runtimes import histogram, openvino
from models.runtimes.choose import Measured, best, measured
from models.runtimes.processor import flags, has_cuda, resolve_precision
from models.runtimes.ways import Way, file_of, ways_of
from service.settings import Settings

log = logging.getLogger("lookalike.runtime")


@dataclass(frozen=True, slots=True)
class Chosen:
    """run: None where a GPU runs it, and onnxruntime chooses."""

    artefact: Artefact
    run: Measured | None


def for_new(settings: Settings, model: str | None = None, precision: str | None = None) -> Chosen:
    """The model for new collections. Blocks for seconds where this machine has not been measured yet.

    model, precision: instead of the settings'. Raises ArtefactMissing, ArtefactCorrupt, DeviceUnavailable.
    """
    name, asked = model or settings.model, precision or settings.precision
    if name == histogram.NAME:
        return Chosen(histogram.artefact(), Measured(Way("histogram", "fp32")))
    wanted = resolve_precision(asked, settings.device)
    found = artefacts.find(settings.models, model=name, precision=file_of(wanted))
    if _on_gpu(settings):
        return Chosen(found, None)
    files = [found]
    if asked == "auto" and found.precision != "fp32":
        try:
            files.insert(0, artefacts.find(settings.models, model=name, precision="fp32"))
        except ArtefactMissing:
            log.debug("only %s is built of %s", found.precision, name)
    ways = [run for each in files for run in _measured(settings, each, alone=len(files) == 1)]
    run = best(ways, runtime=settings.runtime, precision=asked)
    return Chosen(next(each for each in files if each.precision == run.way.file), run)


def for_collection(settings: Settings, artefact: Artefact) -> Chosen:
    """The way for a collection's own model. fp32 may be computed in bf16, whose vectors it shares, unless asked for."""
    if _on_gpu(settings):
        return Chosen(artefact, None)
    exact = artefact.precision == "fp32" and settings.precision not in ("auto", "bf16")
    asked = "fp32" if exact else "auto"
    ways = _measured(settings, artefact, alone=True)
    return Chosen(artefact, best(ways, runtime=settings.runtime, precision=asked))


def _on_gpu(settings: Settings) -> bool:
    return settings.device == "cuda" or (settings.device == "auto" and has_cuda())


def _measured(settings: Settings, artefact: Artefact, *, alone: bool) -> list[Measured]:
    """Every way of the runtimes allowed; not measured where the plain one is alone, and nothing to choose."""
    ways = [
        way
        for way in ways_of(artefact.precision, amx="amx_int8" in flags(), openvino=openvino.installed())
        if settings.runtime in ("auto", way.runtime)
    ]
    if alone and ways == [Way("onnxruntime", artefact.precision)]:
        return [Measured(ways[0])]
    return measured(artefact, ways, [settings.data_dir, settings.models], say=log.warning)
