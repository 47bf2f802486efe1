"""A process that runs a model in one Way and says how fast, and nothing else: it may fault, hang or compute nonsense.

In: `{"manifest", "runtime", "file", "kernels"}` as its one argument. Out: one line, `{"single", "batched"}` in pictures
per second and thread, or `{"refused"}`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from models import golden
from models.artefact import Artefact, read_manifest
from models.embedder import Embedder
from models.errors import ModelsError
from models.runtimes.onnxruntime import OnnxEmbedder
from models.runtimes.openvino import BATCHES, OpenVinoEmbedder
from models.runtimes.ways import Way

# Runs that warm up, and seconds in which the fastest run counts: whatever else the machine does only slows one down.
_WARM = 2
_SECONDS = 0.6


def opened(artefact: Artefact, way: Way, *, threads: int, batched: bool) -> Any:
    """The embedder of a way on the CPU, proven on its golden picture. batched: whether it is given several at a time.

    Raises ArtefactCorrupt, DeviceUnavailable.
    """
    if way.runtime == "openvino":
        return OpenVinoEmbedder(artefact, way, threads=threads, batches=BATCHES if batched else (1,))
    return OnnxEmbedder(artefact, threads=threads, kernels=way.kernels)


def rate(embedder: Embedder, batch: int) -> float:
    """Pictures per second, by the fastest of the runs."""
    picture = golden.golden_picture(embedder.preprocessing.side)
    pixels = np.stack([picture] * batch)
    for _ in range(_WARM):
        embedder.embed(pixels)
    best, end = float("inf"), time.perf_counter() + _SECONDS
    while (began := time.perf_counter()) < end:
        embedder.embed(pixels)
        best = min(best, time.perf_counter() - began)
    return batch / best


def main() -> None:
    asked = json.loads(sys.argv[1])
    way = Way(asked["runtime"], asked["file"], asked["kernels"])
    try:
        embedder = opened(read_manifest(Path(asked["manifest"])), way, threads=1, batched=True)
        said: dict[str, Any] = {"single": rate(embedder, 1), "batched": rate(embedder, BATCHES[0])}
    except ModelsError as error:
        said = {"refused": str(error)}
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
