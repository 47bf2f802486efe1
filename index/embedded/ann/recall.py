"""Recall of a search, measured against the exact answer for the same queries over the same vectors.

A found vector counts as right when it is at least as near as the last of the true nearest: of equal ones it does not
matter which came back. The interval is Wilson's (E. B. Wilson, JASA 22, 1927) at 95 %. Neighbours of one query are
found or missed together, so it is taken over fewer trials than there are neighbours, by the design effect of clusters
(L. Kish, Survey Sampling, 1965).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import faiss
import numpy as np

from index.embedded.ann.arrays import Floats, Rows

NEAREST = 10
_Z = 1.96  # standard errors of a 95 % interval
_EQUAL = 5e-5  # cosines that differ by less are the same: half precision moves each by up to 3.5e-5


@dataclass(frozen=True, slots=True)
class Recall:
    """value: share of the true nearest that was found, low…high its 95 % interval, all 0…1; queries: how many."""

    value: float
    low: float
    high: float
    queries: int

    @property
    def careful(self) -> float:
        """Half-way from the value down to the interval's end: about a standard error below the value.

        1 where nothing was missed: more than that no sample of this size can say.
        """
        return 1.0 if self.value == 1 and self.queries else (self.value + self.low) / 2


def compare(found: Floats, truth: Floats) -> Recall:
    """found, truth: scores (n, k), descending, -inf where there are no more; n and k at least 1."""
    there = np.isfinite(truth)
    last = np.where(there, truth, np.inf).min(axis=1, keepdims=True)
    right = np.minimum((found >= last - _EQUAL).sum(axis=1), there.sum(axis=1))
    wanted = there.sum(axis=1)
    asked = wanted > 0
    if not asked.any():
        return Recall(1.0, 0.0, 1.0, 0)
    right, wanted = right[asked], wanted[asked]
    value = float(right.sum() / wanted.sum())
    low, high = interval(value, float(wanted.sum()) / design_effect(right, wanted))
    return Recall(value, low, high, len(wanted))


def interval(value: float, trials: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share `value` seen in so many independent trials, more than 0."""
    square = _Z * _Z / trials
    middle = (value + square / 2) / (1 + square)
    half = _Z / (1 + square) * float(np.sqrt(value * (1 - value) / trials + square / (4 * trials)))
    return float(max(0.0, min(value, middle - half))), float(min(1.0, max(value, middle + half)))


def design_effect(right: Rows, wanted: Rows) -> float:
    """How many neighbours say as much as one independent trial: 1 up to all of a query's.

    right, wanted: int64 (n,), of each query.
    """
    value = right.sum() / wanted.sum()
    if len(right) < 2 or value in (0.0, 1.0):
        return 5.0  # nothing was seen of how they hang together: they may well
    apart = float(((right - value * wanted) ** 2).sum() / (len(right) - 1))
    return float(np.clip(apart / (wanted.mean() * value * (1 - value)), 1.0, wanted.max()))


def true_scores(
    queries: Floats, blocks: Iterable[tuple[Rows, Floats]], own: Rows, k: int = NEAREST, *, threads: int = 1
) -> Floats:
    """Cosines float32 (n, k) of the k nearest of each query, descending, -inf where there are no more.

    queries: float32 (n, dim), unit. blocks: row numbers and float32 (m, dim) of all that may be found, in any order.
    own: int64 (n,), the row that a query itself is and is not to find; -1 for none. threads: how many the calling
    thread may use.
    """
    faiss.omp_set_num_threads(threads)
    nearest = Nearest(len(queries), k)
    for rows, vectors in blocks:
        nearest.see(queries, own, rows, vectors)
    return nearest.scores


class Nearest:
    """The highest scores of some queries over the blocks seen so far; `scores`: as `true_scores` returns them."""

    def __init__(self, queries: int, k: int = NEAREST) -> None:
        self.k = k
        self.scores: Floats = np.full((queries, k), -np.inf, np.float32)

    def see(self, queries: Floats, own: Rows, rows: Rows, vectors: Floats) -> None:
        """queries, own, rows, vectors: as of `true_scores`; fewer queries than before drop the last ones."""
        best = self.scores[: len(queries)]
        if len(rows):
            scores, places = faiss.knn(queries, vectors, min(self.k + 1, len(rows)), metric=faiss.METRIC_INNER_PRODUCT)
            scores[rows[places] == own[:, None]] = -np.inf
            best = -np.sort(-np.concatenate([best, scores], axis=1), axis=1)[:, : self.k]
        self.scores = best
