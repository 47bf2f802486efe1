"""Rows that lie near a query by their codes, out of the lists nearest to it: what a search then compares in full.

Parameters of a search travel with the search; nothing is ever set on the shared FAISS index.
"""

from __future__ import annotations

import math
from typing import Any

import faiss
import numpy as np

from index.embedded.ann.arrays import Bits, Floats, Rows
from index.embedded.ann.effort import FURTHER, Effort
from index.embedded.ann.lists import Lists, Numbers, nearest_holding
from index.embedded.ann.scratch import Scratch
from index.embedded.ann.selection import Selection

_QUERY_BITS = 3


class Candidates:
    """A FAISS transform and IVF of codes, searched. lists: where their rows lie."""

    def __init__(self, transform: Any, ivf: Any) -> None:
        self._ivf = ivf
        self._parameters: dict[int, Any] = {}  # made once for each number of lists, then only read
        self.lists = Lists(transform, ivf)

    def near(
        self, scratch: Scratch, effort: Effort, allowed: Selection | None, bits: Bits | None, available: int
    ) -> tuple[Rows, int]:
        """Row numbers of candidates, nearest by estimate first, and the number of lists they come from."""
        if allowed is not None and bits is not None:
            return self._allowed(scratch, effort, allowed, bits)
        lists = self.lists
        number = lists.nearest(scratch, effort.lists, effort.most, effort.reach)
        rows = self._estimated(scratch, number, effort.depth, bits)
        while len(rows) < min(effort.depth, available) and number < lists.number:  # small lists, or removed rows
            number = lists.nearest(scratch, FURTHER * number, 1, 1.0)
            rows = self._estimated(scratch, number, effort.depth, bits)
        return rows, number

    def near_many(self, queries: Floats, effort: Effort, bits: Bits | None) -> tuple[Rows, Numbers]:
        """Of queries float32 (n, dim) at once: rows int64 (n, depth) nearest by estimate first, and the lists they come
        from, int64 (n, most); -1 where there are fewer. bits: rows that may be found, None for all.
        """
        faiss.omp_set_num_threads(1)
        points = self.lists.turned(np.ascontiguousarray(queries, np.float32))
        lists, away = self.lists.nearest_of(points, effort.lists, effort.most, effort.reach)
        estimates = np.empty((len(queries), effort.depth), np.float32)
        rows = np.empty((len(queries), effort.depth), np.int64)
        selector = None if bits is None else faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
        pointers = [faiss.swig_ptr(each) for each in (points, lists, away, estimates, rows)]
        asked = (pointers[0], effort.depth, *pointers[1:], False, _asking(lists.shape[1], selector))
        self._ivf.search_preassigned_c(len(queries), *asked)
        return rows, lists

    def _allowed(self, scratch: Scratch, effort: Effort, allowed: Selection, bits: Bits) -> tuple[Rows, int]:
        """As `near` among allowed rows: in the lists that hold as many as they should."""
        away = self.lists.distances(scratch.point)
        within = self.lists.within(away, scratch.point, effort.reach)
        number = math.ceil(max(effort.lists, min(within, effort.most)) * effort.spread)
        even = len(allowed) / self.lists.number
        depth = effort.depth
        while True:
            lists, reached = nearest_holding(away, allowed.per_list, number * even, number)
            if reached > 2 * number:  # what is allowed lies far from the query, where estimates are rough
                lists, _ = nearest_holding(away, allowed.per_list, FURTHER * number * even, FURTHER * number)
                depth = FURTHER * effort.depth
            scratch.room(len(lists), FURTHER * effort.depth)
            scratch.lists[: len(lists)] = lists
            rows = self._estimated(scratch, len(lists), depth, bits)
            if len(rows) >= min(effort.depth, len(allowed)) or number >= self.lists.number:
                return rows, len(lists)
            number *= FURTHER

    def _estimated(self, scratch: Scratch, lists: int, depth: int, bits: Bits | None) -> Rows:
        """Row numbers of the `depth` nearest by estimate in the first `lists` of `scratch.lists`; a view into it."""
        if bits is None:
            parameters = self._parameters.get(lists)
            if parameters is None:
                parameters = self._parameters.setdefault(lists, _asking(lists))
        else:
            selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
            parameters = _asking(lists, selector)
        # Distances of the lists are not used by this kind of code, but there must be some.
        asked = (scratch.point_at, depth, scratch.lists_at, scratch.away_at)
        self._ivf.search_preassigned_c(1, *asked, scratch.estimates_at, scratch.rows_at, False, parameters)
        rows = scratch.rows[:depth]
        return rows if rows[-1] >= 0 else rows[rows >= 0]


def _asking(lists: int, selector: Any = None) -> Any:
    parameters = faiss.IVFRaBitQSearchParameters()
    parameters.nprobe = lists
    parameters.qb = _QUERY_BITS
    if selector is not None:
        parameters.sel = selector
    return parameters
