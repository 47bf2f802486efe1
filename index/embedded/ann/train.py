"""Training sees a bounded sample, so that its time and memory do not grow with the catalogue.

Vectors are turned onto their leading principal axes, put into the list of the nearest of some thousand centroids, and
kept there as one or two bits per axis (RaBitQ). A random rotation of those axes comes in between, folded into the same
matrix: a bit says most where all axes vary alike, and principal axes do not. The metric is L2 throughout: behind a
transform that subtracts the mean, an inner product would rank wrongly, while for unit vectors L2 and cosine give the
same order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faiss
import numpy as np

from index.embedded.ann.arrays import Floats, Rows
from index.embedded.ann.basis import Basis, Shape
from index.embedded.ann.files.vector_file import VectorFile

_AXES_SAMPLE = 16_384
_PER_LIST = 40
_ROUNDS = 8
_SEED = 1
_MOST_LISTS = 2**16  # a list's number takes two bytes
HELD_OUT = 512  # rows that training does not see


def lists_for(count: int) -> int:
    """How many lists suit `count` vectors: a power of two near 4 √count, so that lists hold some hundred vectors."""
    wanted = 4 * max(count, 1) ** 0.5
    return int(2 ** np.clip(np.round(np.log2(wanted)), 4, 16))


def basis_of(file: VectorFile, count: int) -> Basis:
    """Of a sample of the first `count` rows of the file, at least one."""
    rows = sample(np.random.default_rng(_SEED), _seen(count), _AXES_SAMPLE)
    return Basis.of(file.read(rows).astype(np.float32))


def train(
    file: VectorFile, count: int, basis: Basis, shape: Shape, *, threads: int, breathe: Callable[[], None]
) -> Any:
    """A trained, empty FAISS index (linear transform, then IVF) for the first `count` rows of the file.

    breathe: called every few seconds; what it raises ends the training.
    """
    faiss.omp_set_num_threads(threads)  # holds for the calling thread alone
    random = np.random.default_rng(_SEED)
    axes, rows = shape.axes, _seen(count)
    lists = min(shape.finer * lists_for(count), _MOST_LISTS, max(1, len(rows) // 8))
    transform = basis.turn(axes, random)
    chosen = sample(random, rows, _PER_LIST * lists)
    parts = []
    for _, part in file.blocks(chosen, 4_096):
        parts.append(transform.apply(part.astype(np.float32)))
        breathe()
    points = np.concatenate(parts)
    quantizer: Any = faiss.IndexFlatL2(axes)
    cluster(points, lists, quantizer, breathe)
    ivf: Any = faiss.IndexIVFRaBitQ(quantizer, axes, lists, faiss.METRIC_L2, True, shape.bits)
    ivf.train(points[:1])  # the centroids are there; the codes themselves need no training
    index = faiss.IndexPreTransform(transform, ivf)
    quantizer.this.disown()
    ivf.own_fields = True
    ivf.this.disown()
    transform.this.disown()
    index.own_fields = True
    return index


def held_out(count: int) -> Rows:
    """Rows of the first `count` that training never looks at, increasing: to measure with what is new to the index."""
    random = np.random.default_rng(_SEED + 1)
    return sample(random, np.arange(count, dtype=np.int64), min(HELD_OUT, count // 8))


def _seen(count: int) -> Rows:
    return np.setdiff1d(np.arange(count, dtype=np.int64), held_out(count), assume_unique=True)


def cluster(points: Floats, lists: int, quantizer: Any, breathe: Callable[[], None]) -> None:
    """Fills the empty flat quantizer with `lists` centroids of the float32 (m, axes) points, by k-means."""
    rounds = faiss.Clustering(points.shape[1], lists)
    rounds.niter = 1
    rounds.min_points_per_centroid = 1
    rounds.max_points_per_centroid = _PER_LIST
    rounds.seed = _SEED
    for _ in range(_ROUNDS):  # each goes on from the centroids of the one before
        rounds.train(points, quantizer)
        breathe()


def sample(random: np.random.Generator, rows: Rows, size: int) -> Rows:
    """At most `size` of the rows, increasing."""
    if len(rows) <= size:
        return rows
    return np.sort(random.choice(rows, size, replace=False))
