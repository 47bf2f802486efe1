"""How good the answers are: catalogue → queries of real photographs; a hit is an item of the query's label.

    python -m benchmarks.retrieval [--model resnet50 --model efficientnet-lite2] [--precision fp32 --precision int8]

R@1: share of queries whose nearest item is a hit.
mAP: mean over queries of the average precision over the whole ranking.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import report
from models import artefact
from models.artefact import Artefact
from models.pictures.image import decode
from models.preprocessing import Preprocessing
from models.registry import BACKBONES, PRECISIONS
from models.runtimes.onnxruntime import OnnxEmbedder
from service.settings import load_settings
from tests.harness import photographs
from tests.harness.photographs import Photo

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

DATASETS = ("groceries", "clothing")
COLUMNS = (
    "model",
    "set",
    "precision",
    "R@1",
    "mAP",
    "cosine to fp32, mean",
    "min",
    "refused of unrelated",
    "kept of genuine",
)
BATCH = 16
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Decoded:
    """A split's photographs as the network takes them. pixels: uint8 (n, side, side, 3); labels: one per row."""

    pixels: Pixels
    labels: npt.NDArray[np.str_]

    @classmethod
    def read(cls, photos: Sequence[Photo], preprocessing: Preprocessing) -> Decoded:
        with ThreadPoolExecutor(CORES) as pool:
            pixels = list(pool.map(lambda photo: decode(photo.read(), preprocessing=preprocessing).pixels, photos))
        return cls(np.stack(pixels), np.array([photo.label for photo in photos]))


def embed(embedder: OnnxEmbedder, pixels: Pixels) -> Floats:
    """Unit rows float32 (n, dim)."""
    return np.concatenate([embedder.embed(pixels[at : at + BATCH]) for at in range(0, len(pixels), BATCH)])


def quality(
    catalogue: Floats, labels: npt.NDArray[np.str_], queries: Floats, wanted: npt.NDArray[np.str_]
) -> dict[str, float]:
    """recall_at_1 and mean_average_precision, over the queries that have a hit in the catalogue at all."""
    order = np.argsort(-(queries @ catalogue.T), axis=1, kind="stable")
    hits = labels[order] == wanted[:, None]
    hits = hits[hits.any(axis=1)]
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    average = (precision * hits).sum(axis=1) / hits.sum(axis=1)
    return {"recall_at_1": float(hits[:, 0].mean()), "mean_average_precision": float(average.mean())}


def measure(artefacts: Sequence[Artefact]) -> dict[str, dict[str, float]]:
    """Figures by "model/set/precision" of one model; with fp32 first, the others are compared with it."""
    splits = [(name, split) for name in DATASETS for split in ("catalogue", "queries")] + [("unrelated", "images")]
    preprocessing = artefacts[0].preprocessing
    photos = {key: Decoded.read(photographs.split(*key), preprocessing) for key in splits}
    figures: dict[str, dict[str, float]] = {}
    reference: dict[tuple[str, str], Floats] = {}
    for built in artefacts:
        embedder = OnnxEmbedder(built, threads=CORES)
        started = time.perf_counter()
        vectors = {key: embed(embedder, decoded.pixels) for key, decoded in photos.items()}
        rate = sum(map(len, vectors.values())) / (time.perf_counter() - started)
        if built.precision == "fp32":
            reference = vectors
        for name in DATASETS:
            catalogue, queries = (name, "catalogue"), (name, "queries")
            found = quality(vectors[catalogue], photos[catalogue].labels, vectors[queries], photos[queries].labels)
            found |= decision(
                vectors[catalogue], vectors[queries], vectors["unrelated", "images"], built.default_threshold
            )
            found["images_per_second"] = rate
            if reference:
                alike = np.concatenate([(reference[key] * vectors[key]).sum(axis=1) for key in (catalogue, queries)])
                found |= {"cosine_mean": float(alike.mean()), "cosine_min": float(alike.min())}
            figures[f"{built.name}/{name}/{built.precision}"] = found
    return figures


def decision(catalogue: Floats, genuine: Floats, strangers: Floats, threshold: float) -> dict[str, float]:
    """Shares of strangers refused and of genuine queries kept, when the nearest must score `threshold`."""
    return {
        "threshold": threshold,
        "unrelated_refused": float(((strangers @ catalogue.T).max(axis=1) < threshold).mean()),
        "genuine_kept": float(((genuine @ catalogue.T).max(axis=1) >= threshold).mean()),
    }


def as_row(name: str, found: Mapping[str, float]) -> list[Any]:
    model, dataset, precision = name.split("/")
    quality = [found["recall_at_1"], found["mean_average_precision"]]
    alike = [f"{found[key]:.4f}" if key in found else "" for key in ("cosine_mean", "cosine_min")]
    return [model, dataset, precision, *quality, *alike, found["unrelated_refused"], found["genuine_kept"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", action="append", help="only these; default: every built one")
    parser.add_argument("--model", action="append", help="only these; default: every built one")
    arguments = parser.parse_args()
    settings, _ = load_settings()
    built = [
        each
        for each in artefact.available(settings.models)
        if artefact.is_current(settings.models, each)
        and each.precision in (arguments.precision or PRECISIONS)
        and each.name in (arguments.model or BACKBONES)
    ]
    if not built:
        raise SystemExit(f"no such model in {settings.models}: run `lookalike model build`")
    figures: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(each.name for each in built):
        of_one = sorted((each for each in built if each.name == name), key=lambda each: each.precision != "fp32")
        figures |= measure(of_one)
    rows = [as_row(*each) for each in figures.items()]
    title = "Retrieval: real photographs, catalogue → queries"
    note = (
        "Refused: share of the 200 unrelated pictures without a match at the model's default threshold; kept: share of "
        "genuine queries with one. A few unrelated pictures are fruit, which do resemble groceries."
    )
    report.print_table(title, COLUMNS, rows)
    report.json_line("retrieval", figures)
    report.record("retrieval", title=title, columns=COLUMNS, rows=rows, note=note)


if __name__ == "__main__":
    main()
