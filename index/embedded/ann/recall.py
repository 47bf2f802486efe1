"""Recall of a search, measured against the exact answer for the same queries over the same vectors.

A found vector counts as right when it is at least as near as the last of the true nearest: of equal ones it does not
matter which came back. The interval is exact (C. Clopper, E. Pearson, Biometrika 26, 1934) at 95 %. Neighbours of one
query are found or missed together, so it is taken over fewer trials than there are neighbours, by the design effect of
clusters (E. Korn, B. Graubard, Survey Methodology 24, 1998). Where recall is high a sample holds few misses, and how
they hang together is told by still fewer: so one query more that lacks half of its neighbours is reckoned with.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import faiss
import numpy as np
from scipy.special import betaincinv

from index.embedded.ann.arrays import Floats, Rows

NEAREST = 10
_PLACES = 10_000
_TAIL = 0.025  # of a 95 % interval, on either side
_EQUAL = 5e-5  # cosines that differ by less are the same: half precision moves each by up to 3.5e-5


@dataclass(frozen=True, slots=True)
class Recall:
    """value: share of the true nearest that was found, low…high its 95 % interval, all 0…1; queries: how many; error:
    the value's standard error.
    """

    value: float
    low: float
    high: float
    queries: int
    error: float

    @property
    def careful(self) -> float:
        """A standard error below the value; 1 where nothing was missed: more no sample of this size can say."""
        return self.value - self.error


def compare(found: Floats, truth: Floats) -> Recall:
    """found, truth: scores (n, k), descending, -inf where there are no more; n and k at least 1."""
    there = np.isfinite(truth)
    last = np.where(there, truth, np.inf).min(axis=1, keepdims=True)
    right = np.minimum((found >= last - _EQUAL).sum(axis=1), there.sum(axis=1))
    wanted = there.sum(axis=1)
    asked = wanted > 0
    if not asked.any():
        return Recall(1.0, 0.0, 1.0, 0, 1.0)
    right, wanted = right[asked], wanted[asked]
    value = float(right.sum() / wanted.sum())
    trials = float(wanted.sum()) / design_effect(right, wanted)
    low, high = interval(value, trials)
    return Recall(value, low, high, len(wanted), (value * (1 - value) / trials) ** 0.5)


def interval(value: float, trials: float) -> tuple[float, float]:
    """The exact 95 % interval of a share `value` seen in so many independent trials, more than 0.

    To four places, outwards: a sample tells no more, and one miss among them does not tell .9999 from 1.
    """
    hits, misses = value * trials, (1 - value) * trials
    low = 0.0 if hits == 0 else float(betaincinv(hits, misses + 1, _TAIL))
    high = 1.0 if misses == 0 else float(betaincinv(hits + 1, misses, 1 - _TAIL))
    return math.floor(low * _PLACES) / _PLACES, math.ceil(high * _PLACES) / _PLACES


def design_effect(right: Rows, wanted: Rows) -> float:
    """How many neighbours say as much as one independent trial: 1 up to all of a query's.

    right, wanted: int64 (n,), of each query.
    """
    right, wanted = np.append(right, wanted.max() / 2), np.append(wanted, wanted.max())
    value = right.sum() / wanted.sum()
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
