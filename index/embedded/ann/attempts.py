"""Searches of an index for a sample's queries with one tuning or another: the recall each gives, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import numpy as np

from index.embedded.ann.arrays import Floats
from index.embedded.ann.compressed import CompressedIndex
from index.embedded.ann.effort import Effort
from index.embedded.ann.files.vector_file import VectorFile
from index.embedded.ann.recall import NEAREST, Recall, compare
from index.embedded.ann.sample import Sample, Sifted
from index.embedded.ann.selection import Selection
from index.embedded.ann.tuning import Tried, Tuning

# Nanoseconds on one core, roughly: any search; a code that is scanned, and each of its axes; a centroid's axis that is
# compared; a vector that is fetched, and one that is compared in order with its neighbours, each for 2048 dimensions.
# Only their ratios matter, and only between efforts.
ANY = 100_000.0
_CODE, _AXIS, _CENTROID, _FETCHED, _IN_ORDER = 33.0, 0.04, 0.05, 420.0, 140.0
_MOST_THREADS = 4  # more of them wait for Python's lock
_AT_ONCE = 32  # queries between two looks at whether going on can change anything


class Attempts:
    """breathe: called before each attempt, may raise to give up; guard: held by each single search; threads: that
    search beside each other.
    """

    def __init__(
        self,
        index: CompressedIndex,
        file: VectorFile,
        drawn: Sample,
        breathe: Callable[[], None],
        guard: Callable[[], AbstractContextManager[None]],
        threads: int = 1,
    ) -> None:
        self._index = index
        self._file = file
        self._drawn = drawn
        self._breathe = breathe
        self._guard = guard
        self._threads = min(threads, _MOST_THREADS)
        self._known: dict[Tuning, Tried] = {}

    def __call__(self, tuning: Tuning, enough: float) -> Tried:
        """What the tuning gives, measured once. enough: recall that is wanted: queries that come after it is out of
        reach are not asked.
        """
        if tuning not in self._known:
            effort = tuning.apply(self._index.usual(NEAREST))
            recall, costs = self._asked(self._drawn.truth, effort, None, enough)
            self._known[tuning] = Tried(tuning, recall, max(float(np.median(costs)), float(np.mean(costs)) / 2))
        return self._known[tuning]

    def all(self, tuning: Tuning) -> Recall:
        """The recall of all queries."""
        return self._asked(self._drawn.truth, tuning.apply(self._index.usual(NEAREST)), None, 0.0)[0]

    def sifted(self, sifted: Sifted, tuning: Tuning, enough: float = 0.0) -> Recall:
        """The recall under a filter; enough: as of a call."""
        with self._guard():
            selection = self._index.select(self._file.keys[sifted.rows])
        effort = tuning.apply(self._index.usual(NEAREST, len(selection)), filtered=True)
        return self._asked(sifted.truth, effort, selection, enough)[0]

    def _asked(
        self, truth: Floats, effort: Effort, selection: Selection | None, enough: float
    ) -> tuple[Recall, Floats]:
        """The recall, and what each query cost: float32 (n,), nanoseconds, roughly."""
        self._breathe()
        index, file, drawn = self._index, self._file, self._drawn
        total = len(drawn.queries)
        costs = np.empty(total, np.float32)
        found = np.full(truth.shape, -np.inf, np.float32)

        def ask(places: range) -> None:
            for place in places:
                query = drawn.queries[place]
                with self._guard():
                    _, keys = index.nearest(query, NEAREST, selection, effort=effort, own=int(drawn.own[place]))
                    costs[place] = cost(index, file, *index.looked)
                rows = file.find(keys)
                # Scored like the truth: what a search rounds must not count as missed.
                found[place, : len(rows)] = -np.sort(-(file.read(rows).astype(np.float32) @ query))

        with ThreadPoolExecutor(self._threads) as pool:
            for first in range(0, total, _AT_ONCE):
                done = min(first + _AT_ONCE, total)
                if self._threads == 1:
                    ask(range(first, done))
                else:
                    list(pool.map(ask, [range(first + n, done, self._threads) for n in range(self._threads)]))
                recall = compare(found[:done], truth[:done])
                if (1 - recall.value) * done > (1 - enough) * total:
                    return recall, costs[:done]
        return compare(found, truth), costs


def exact_cost(index: CompressedIndex, file: VectorFile) -> float:
    """Nanoseconds that comparing every vector takes, roughly."""
    return ANY + _IN_ORDER * len(index) * file.dim / 2048


def cost(index: CompressedIndex, file: VectorFile, lists: int, rows: int) -> float:
    """Nanoseconds that a search takes which looks into so many lists and fetches so many rows, roughly."""
    codes = lists * index.indexed / index.lists * (_CODE + _AXIS * index.axes * index.bits**2)
    return float(ANY + codes + _CENTROID * index.lists * index.axes + rows * _FETCHED * file.dim / 2048)
