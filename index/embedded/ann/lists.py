"""Which inverted lists a query looks into: the nearest ones, and under a filter only those that hold allowed rows.

The usual search asks a small index over the centroids, in one call into FAISS: each return from native code has to take
Python's lock again, which costs two searching threads more than the arithmetic. Only a filter, and a query far from
everything, need the distances to all centroids. Those, and the turning of the query, are bfloat16 products on the
calling thread: half the memory to walk through, an error far below that of the codes, and no waiting for OpenBLAS's
threads, which costs milliseconds on a busy machine.
"""

from __future__ import annotations

import math
from typing import Any

import faiss
import numkong
import numpy as np
import numpy.typing as npt

from index.embedded.ann.arrays import Floats
from index.embedded.ann.scratch import Scratch

Numbers = npt.NDArray[np.int64]

_GROUPED = 2_048  # from so many centroids on they are searched through groups; fewer are compared one by one
_LOOKED_INTO = 0.25  # share of the groups
_NEARBY = 4
_FIRST = 32  # lists asked for at first: enough for most queries


class Lists:
    """A FAISS transform and IVF as a search needs them, and the list that each row lies in (2 bytes a row)."""

    def __init__(self, transform: Any, ivf: Any) -> None:
        axes, dim, self.number = ivf.d, transform.d_in, ivf.nlist
        matrix = faiss.rev_swig_ptr(transform.A.data(), axes * dim).reshape(axes, dim)
        centroids = ivf.quantizer.reconstruct_n(0, self.number)
        self._matrix = numkong.dots_pack(numkong.astype(matrix, "bf16"), "bf16")
        self._offset: Floats = faiss.vector_to_array(transform.b)
        self._centroids = numkong.dots_pack(numkong.astype(centroids, "bf16"), "bf16")
        self._half_norms: Floats = (centroids**2).sum(axis=1) / 2
        self._ivf = ivf  # where it owns its quantizer, that must not go before this
        self._all: Any = ivf.quantizer
        self._near, self._how = self._all, None
        if self.number >= _GROUPED:
            self._near, self._how = _grouped(centroids)
        self._of_row = np.empty(0, dtype=np.uint16)
        self.extend(ivf)

    def extend(self, ivf: Any) -> None:
        """Learns where the rows in the lists of `ivf` lie: those that follow the rows known so far."""
        first = len(self._of_row)
        grown = np.empty(first + ivf.ntotal, dtype=np.uint16)
        grown[:first] = self._of_row
        for number in range(self.number):
            size = ivf.invlists.list_size(number)
            if size:
                grown[faiss.rev_swig_ptr(ivf.invlists.get_ids(number), size)] = number
        self._of_row = grown

    def of(self, rows: Numbers) -> list[int]:
        """The list of each row."""
        found: list[int] = self._of_row[rows].tolist()
        return found

    def count(self, chosen: npt.NDArray[np.bool_]) -> Numbers:
        """int64 (lists,): how many chosen rows each list holds. chosen: bool (rows,)."""
        return np.bincount(self._of_row[chosen], minlength=self.number)

    def turn(self, query: Floats, scratch: Scratch) -> None:
        """float32 (dim,) → `scratch.point`."""
        product = numkong.dots_packed(numkong.astype(query[None], "bf16"), self._matrix)
        np.add(np.asarray(product)[0], self._offset, out=scratch.point)

    def nearest(self, scratch: Scratch, least: int, most: int, reach: float) -> int:
        """Puts the lists nearest to `scratch.point` into `scratch.lists`, nearest first; returns how many.

        Those up to `reach` times the squared distance of the first, but `least` at least and `most` at the utmost.
        """
        if least >= self.number:
            scratch.room(self.number, 0)
            scratch.lists[: self.number] = np.arange(self.number)  # all of them, so that their order does not matter
            return int(self.number)
        most = min(max(least, most), self.number)
        scratch.room(most, 0)
        few = least * 4 < self.number
        near, how = (self._near, self._how) if few else (self._all, None)
        wanted = min(max(least, _FIRST), most)
        near.search_c(1, scratch.point_at, wanted, scratch.away_at, scratch.lists_at, how)
        bound = reach * scratch.away[0]
        reached = int(scratch.away[:wanted].searchsorted(bound, "right"))
        # A query far from everything, or among few lists of its groups: groups of centroids would mislead it.
        if reached == wanted < most or scratch.lists[wanted - 1] < 0:
            away = self.distances(scratch.point)
            reached = min(max(least, self.within(away, scratch.point, reach)), most)
            near_ones = np.argpartition(away, reached - 1)[:reached]
            scratch.lists[:reached] = near_ones[away[near_ones].argsort()]
        return max(least, reached)

    def turned(self, queries: Floats) -> Floats:
        """float32 (n, dim) → float32 (n, axes), as `turn` does for one."""
        product = numkong.dots_packed(numkong.astype(queries, "bf16"), self._matrix)
        return np.asarray(product, dtype=np.float32) + self._offset

    def nearest_of(self, points: Floats, least: int, most: int, reach: float) -> tuple[Numbers, Floats]:
        """As `nearest`, for turned queries float32 (n, axes): lists int64 and how far away float32 (n, most).

        -1 where a query has fewer.
        """
        most = min(max(least, most), self.number)
        product = numkong.dots_packed(numkong.astype(points, "bf16"), self._centroids)
        away = self._half_norms - np.asarray(product, dtype=np.float32)
        lists = np.argpartition(away, most - 1, axis=1)[:, :most]
        away = np.take_along_axis(away, lists, axis=1)
        order = away.argsort(axis=1)
        lists, away = np.take_along_axis(lists, order, axis=1), np.take_along_axis(away, order, axis=1)
        half = np.einsum("ij,ij->i", points, points)[:, None] / 2
        reached = (away <= reach * (away[:, :1] + half) - half).sum(axis=1)
        lists[np.arange(most) >= np.maximum(reached, least)[:, None]] = -1
        return np.ascontiguousarray(lists, np.int64), np.ascontiguousarray(away, np.float32)

    def within(self, away: Floats, point: Floats, reach: float) -> int:
        """How many lists are at most `reach` times as far (squared) as the nearest. away: `distances` of the point."""
        half = float(numkong.dot(point, point)) / 2  # type: ignore[arg-type]
        return int(np.count_nonzero(away <= reach * (float(away.min()) + half) - half))

    def distances(self, point: Floats) -> Floats:
        """float32 (lists,): half the squared distance of a turned query float32 (axes,) to each centroid, less a
        constant.
        """
        product = numkong.dots_packed(numkong.astype(point[None], "bf16"), self._centroids)
        away: Floats = self._half_norms - np.asarray(product, dtype=np.float32)[0]
        return away


def _grouped(centroids: Floats) -> tuple[Any, Any]:
    """A FAISS index over the centroids, and the parameters to search it with."""
    axes = centroids.shape[1]
    groups = 2 * round(len(centroids) ** 0.5)
    quantizer: Any = faiss.IndexFlatL2(axes)
    near: Any = faiss.IndexIVFFlat(quantizer, axes, groups)
    near.own_fields = True
    quantizer.this.disown()
    near.cp.min_points_per_centroid = 1
    near.train(centroids)
    near.add(centroids)
    return near, faiss.SearchParametersIVF(nprobe=math.ceil(_LOOKED_INTO * groups))  # type: ignore[call-arg]


def nearest_holding(away: Floats, held: Numbers, wanted: float, number: int) -> tuple[Numbers, int]:
    """The nearest lists that together hold `wanted` allowed rows, and how many were looked at, empty ones included.

    held: int64 (lists,), allowed rows in each. number: lists that should do; only where they do not, all are sorted.
    """
    near = _NEARBY * number
    if near < len(away):
        order = np.argpartition(away, near)[:near]
        order = order[away[order].argsort()]
        reached = int(np.searchsorted(held[order].cumsum(), wanted)) + 1
    if near >= len(away) or reached > near:
        order = np.argsort(away)
        reached = int(np.searchsorted(held[order].cumsum(), wanted)) + 1
    taken = order[:reached]
    return taken[held[taken] > 0], reached
