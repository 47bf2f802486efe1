"""Training sees a bounded sample, so that its time and memory do not grow with the catalogue.

Vectors are rotated onto their leading principal axes, put into the list of the nearest of `nlist` centroids, and kept
there as one bit per axis (RaBitQ). The metric is L2 throughout: behind a transform that subtracts the mean, an inner
product would rank wrongly, while for unit vectors L2 and cosine give the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from index.vectors import VectorFile

Floats = npt.NDArray[np.float32]

AXES = 512
LEADING = 256  # axes that decide about the list: they hold nearly all that tells lists apart
BITS = 1
_AXES_SAMPLE = 16_384
_PER_LIST = 32
_ROUNDS = 8
_SEED = 1


def lists_for(count: int) -> int:
    """How many lists suit `count` vectors: a power of two near 4 √count, so that lists hold some hundred vectors."""
    wanted = 4 * max(count, 1) ** 0.5
    return int(2 ** np.clip(np.round(np.log2(wanted)), 4, 16))


def train(file: VectorFile, rows: npt.NDArray[np.int64], *, threads: int, breathe: Callable[[], None]) -> Any:
    """A trained, empty FAISS index (linear transform, then IVF) for the given increasing rows of the file.

    breathe: called every few seconds; what it raises ends the training.
    """
    faiss.omp_set_num_threads(threads)  # holds for the calling thread alone
    random = np.random.default_rng(_SEED)
    axes = min(AXES, file.dim)
    lists = min(lists_for(len(rows)), max(1, len(rows) // 8))
    transform = principal_axes(file.read(sample(random, rows, _AXES_SAMPLE)).astype(np.float32), axes)
    chosen = sample(random, rows, _PER_LIST * lists)
    parts = []
    for _, part in file.blocks(chosen, 4_096):
        parts.append(transform.apply(part.astype(np.float32)))
        breathe()
    points = np.concatenate(parts)
    quantizer: Any = faiss.IndexFlatL2(axes)
    quantizer.add(centroids(points, lists, breathe))
    ivf: Any = faiss.IndexIVFRaBitQ(quantizer, axes, lists, faiss.METRIC_L2, True, BITS)
    ivf.train(points[:1])  # the centroids stand; the codes themselves need no training
    index = faiss.IndexPreTransform(transform, ivf)
    quantizer.this.disown()
    ivf.own_fields = True
    ivf.this.disown()
    transform.this.disown()
    index.own_fields = True
    return index


def centroids(points: Floats, lists: int, breathe: Callable[[], None]) -> Floats:
    """float32 (lists, axes), by k-means on the leading axes of the float32 (m, axes) points; the other axes follow."""
    leading = np.ascontiguousarray(points[:, :LEADING])
    nearest: Any = faiss.IndexFlatL2(leading.shape[1])
    rounds = faiss.Clustering(leading.shape[1], lists)
    rounds.niter = 1
    rounds.min_points_per_centroid = 1
    rounds.max_points_per_centroid = _PER_LIST
    rounds.seed = _SEED
    for _ in range(_ROUNDS):  # each goes on from the centroids of the one before
        rounds.train(leading, nearest)
        breathe()
    places = nearest.search(leading, 1)[1][:, 0]
    order = np.argsort(places, kind="stable")
    held = np.bincount(places, minlength=lists)
    filled = np.flatnonzero(held)
    found = np.zeros((lists, points.shape[1]), dtype=np.float32)
    found[filled] = np.add.reduceat(points[order], np.cumsum(held)[filled] - held[filled], axis=0)
    found[filled] /= held[filled, None]
    found[:, : leading.shape[1]] = nearest.reconstruct_n(0, lists)
    return found


class Assigner:
    """Puts vectors into lists by their leading axes, on which the lists were made: half the work of comparing all."""

    def __init__(self, ivf: Any) -> None:
        self._ivf = ivf
        known = ivf.quantizer.reconstruct_n(0, ivf.nlist)
        self._leading = min(LEADING, ivf.d)
        self._nearest: Any = faiss.IndexFlatL2(self._leading)
        self._nearest.add(np.ascontiguousarray(known[:, : self._leading]))

    def add(self, ivf: Any, points: Floats, rows: npt.NDArray[np.int64]) -> None:
        """Adds float32 (n, axes) points as the given rows to `ivf`, which has the same lists."""
        places = self._nearest.search(np.ascontiguousarray(points[:, : self._leading]), 1)[1][:, 0].copy()
        pointer = faiss.swig_ptr
        ivf.add_core(len(points), pointer(points), pointer(rows), pointer(places))


def principal_axes(vectors: Floats, axes: int) -> Any:
    """A FAISS transform float32 (m, dim) → (m, axes): subtracts the mean, keeps the leading principal axes."""
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    _, directions = np.linalg.eigh(centred.T @ centred)
    matrix = np.ascontiguousarray(directions[:, ::-1][:, :axes].T, dtype=np.float32)
    transform = faiss.LinearTransform(vectors.shape[1], axes, True)
    faiss.copy_array_to_vector(matrix.ravel(), transform.A)
    faiss.copy_array_to_vector(-matrix @ mean, transform.b)
    transform.is_trained = True
    return transform


def sample(random: np.random.Generator, rows: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """At most `size` of the rows, increasing."""
    if len(rows) <= size:
        return rows
    return np.sort(random.choice(rows, size, replace=False))
