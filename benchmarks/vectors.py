"""Benchmark vectors keep the statistics of real embeddings; nothing cut from a photograph is in the repository.

A benchmark vector is spun like this: pick an anchor (an embedding of a real photograph), move it part of the way
towards one of its nearest neighbours, add noise with the catalogue's own covariance, clip at zero as the network's last
ReLU does, normalise. Queries are spun the same way from another seed: like the catalogue, and never in it. Anchors come
from the photographs in `LOOKALIKE_TEST_DATA` (or `../shared/data`), embedded once with the local model and cached in
the git-ignored `benchmarks/cache`; where either is absent, seeded synthetic anchors with a similar decay of the
spectrum stand in, and the benchmark says so in its output.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models import artefact
from models.errors import ModelsError
from models.pictures import image
from models.runtimes.onnxruntime import OnnxEmbedder
from tests.harness import photographs

Floats = npt.NDArray[np.float32]

DIM = 2048
CACHE = Path(__file__).resolve().parent / "cache"
SPLITS = [("clothing", "catalogue"), ("clothing", "queries"), ("groceries", "catalogue"), ("groceries", "queries")]
RANK = 512  # directions that carry noise: 94 % of the variance of the real embeddings
NOISE = 0.63  # share of the catalogue's own spread: makes 100,000 vectors as hard to search as those first measured
BLOCK = 16_384
QUERIES = 1_000
NEAREST = 10
SHARES = {"50 %": 2, "10 %": 10, "1 %": 100, "0.1 %": 1_000}  # a filter that keeps every so-manieth row


@dataclass(frozen=True, slots=True)
class Statistics:
    """What is kept of a set of embeddings.

    anchors: float32 (m, 2048), unit rows. neighbours: int64 (m, 8), rows of `anchors` nearest to each one.
    directions: float32 (RANK, 2048), principal axes scaled by the standard deviation along them.
    source: "photographs" or "synthetic".
    """

    anchors: Floats
    neighbours: npt.NDArray[np.int64]
    directions: Floats
    source: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """Files in the cache. rows: float16 (count, 2048); queries: float32 (QUERIES, 2048); truth: see `true_nearest`."""

    count: int
    source: str
    rows: Path
    queries: Path
    truth: Path

    def exact(self, size: int, share: int = 1) -> npt.NDArray[np.int64]:
        """int64 (QUERIES, NEAREST): the true nearest among the first `size` rows, of every `share`-th row only."""
        with np.load(self.truth) as stored:
            found: npt.NDArray[np.int64] = stored[f"{size}/{share}"]
        return found


def prepare(sizes: Sequence[int], model_dir: Path) -> Prepared:
    """Makes the vectors of the largest size and the true neighbours for each size, once; later calls find them."""
    CACHE.mkdir(exist_ok=True)
    known = real(model_dir)
    count = max(sizes)
    names = {part: CACHE / f"{part}-{known.source}-{count}" for part in ("rows", "queries", "truth")}
    files = Prepared(
        count,
        known.source,
        names["rows"].with_suffix(".npy"),
        names["queries"].with_suffix(".npy"),
        names["truth"].with_suffix(".npz"),
    )
    if files.truth.exists():
        with np.load(files.truth) as stored:
            if all(f"{size}/1" in stored for size in sizes):
                return files
    queries = np.concatenate(list(spin(known, QUERIES, seed=2)))
    np.save(files.queries, queries)
    if not files.rows.exists():
        partial = files.rows.with_suffix(".partial")
        rows = np.lib.format.open_memmap(partial, "w+", np.float16, (count, DIM))
        start = 0
        for block in spin(known, count, seed=1):
            rows[start : start + len(block)] = block
            start += len(block)
        rows.flush()
        partial.rename(files.rows)
    truth = true_nearest(np.load(files.rows, mmap_mode="r"), queries, sizes)
    np.savez(files.truth, **truth)  # type: ignore[arg-type]
    return files


def true_nearest(
    rows: npt.NDArray[np.float16], queries: Floats, sizes: Sequence[int]
) -> dict[str, npt.NDArray[np.int64]]:
    """ "size/share" → int64 (queries, NEAREST), by comparing every query with every row in float32."""
    kept = {
        share: (np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)) for share in _every()
    }
    found: dict[str, npt.NDArray[np.int64]] = {}
    stops = sorted({*range(0, max(sizes), BLOCK), *sizes})
    for start, stop in pairwise(stops):
        scores = queries @ rows[start:stop].astype(np.float32).T
        for share, (best, numbers) in kept.items():
            first = -start % share
            candidates = np.arange(start + first, stop, share)
            best = np.concatenate([best, scores[:, first::share]], axis=1)
            numbers = np.concatenate([numbers, np.broadcast_to(candidates, (len(queries), len(candidates)))], axis=1)
            order = np.argpartition(-best, min(NEAREST, best.shape[1] - 1), axis=1)[:, :NEAREST]
            kept[share] = np.take_along_axis(best, order, 1), np.take_along_axis(numbers, order, 1)
        if stop in sizes:
            found |= {f"{stop}/{share}": numbers for share, (_, numbers) in kept.items()}
    return found


def _every() -> list[int]:
    return [1, *SHARES.values()]


def real(model_dir: Path) -> Statistics:
    """Statistics of the photographs at hand, from the cache where they were embedded before; else synthetic ones."""
    cached = CACHE / "anchors.npz"
    listed = [photo for split in SPLITS for photo in _listed(*split)]
    try:
        found = artefact.find(model_dir, precision="fp32")
    except ModelsError:
        found = None
    if found is None or not listed:
        return statistics(synthetic_anchors(), "synthetic")
    told = json.dumps([found.fingerprint, len(listed)])
    if cached.exists():
        with np.load(cached) as stored:
            if str(stored["told"]) == told:
                return statistics(stored["anchors"], "photographs")
    embedder = OnnxEmbedder(found, threads=2)
    anchors = np.concatenate([embedder.embed(image.decode(photo.read()).pixels[None]) for photo in listed])
    CACHE.mkdir(exist_ok=True)
    np.savez(cached, anchors=anchors, told=told)
    return statistics(anchors, "photographs")


def _listed(dataset: str, name: str) -> list[photographs.Photo]:
    return photographs.split(dataset, name) if (photographs.folder() / dataset / f"{name}.csv").is_file() else []


def statistics(anchors: Floats, source: str) -> Statistics:
    """Neighbours and principal directions of float32 (m, 2048) unit rows."""
    similarity = anchors @ anchors.T
    np.fill_diagonal(similarity, -1)
    neighbours = np.argsort(-similarity, axis=1)[:, :8].astype(np.int64)
    centred = anchors - anchors.mean(0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    rank = min(RANK, len(values))
    directions = axes[:rank] * (values[:rank] / np.sqrt(len(anchors)))[:, None]
    return Statistics(anchors, neighbours, np.ascontiguousarray(directions, dtype=np.float32), source)


def synthetic_anchors(count: int = 3_000, seed: int = 7) -> Floats:
    """Unit rows, non-negative and sparse like pooled ReLU features: clusters on a power-law spectrum."""
    random = np.random.default_rng(seed)
    axes = np.linalg.qr(random.standard_normal((DIM, RANK)))[0].T.astype(np.float32)
    spread = (np.arange(RANK, dtype=np.float32) + 4.0) ** -0.55
    centres = random.standard_normal((count // 20, RANK), dtype=np.float32)
    own = random.standard_normal((count, RANK), dtype=np.float32)
    coordinates = (0.8 * centres[random.integers(0, len(centres), count)] + 0.6 * own) * spread
    level = np.abs(random.standard_normal(DIM, dtype=np.float32)) * 0.03
    raw = np.maximum(level + coordinates @ axes, 0)
    return normalised(raw)


def normalised(rows: Floats) -> Floats:
    """Rows of unit length, float32."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = (rows / np.maximum(lengths, 1e-12)).astype(np.float32, copy=False)
    return unit


def spin(known: Statistics, count: int, seed: int, noise: float = NOISE) -> Iterator[Floats]:
    """Blocks of float32 unit rows, `count` in all; the same seed gives the same rows."""
    random = np.random.default_rng(seed)
    for start in range(0, count, BLOCK):
        n = min(BLOCK, count - start)
        chosen = random.integers(0, len(known.anchors), n)
        partner = known.neighbours[chosen, random.integers(0, known.neighbours.shape[1], n)]
        weight = random.random((n, 1), dtype=np.float32) * 0.5
        rows = (1 - weight) * known.anchors[chosen] + weight * known.anchors[partner]
        rows += random.standard_normal((n, len(known.directions)), dtype=np.float32) @ (noise * known.directions)
        yield normalised(np.maximum(rows, 0))
