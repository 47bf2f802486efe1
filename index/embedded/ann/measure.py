"""Recall measured on an index's own vectors, and the index and tuning that reach a wanted one at the least cost.

What is measured decides: how hard to search, and where no effort does at a quarter of exact search's cost, with how
many axes, lists and bits to build anew.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np

from index.embedded.ann import train
from index.embedded.ann.arrays import Floats, Rows
from index.embedded.ann.basis import Basis, Shape
from index.embedded.ann.compressed import CompressedIndex
from index.embedded.ann.effort import Effort
from index.embedded.ann.files.vector_file import VectorFile
from index.embedded.ann.recall import NEAREST, Recall, compare
from index.embedded.ann.sample import SHARES, Sample
from index.embedded.ann.search import EXACT_ROWS
from index.embedded.ann.selection import Selection
from index.embedded.ann.tuning import Tried, Tuning, tune

SHARE = 0.25  # of exact search's cost that a search may have before another index is tried
_PASS = 0.12  # share of a build's time that finding the true neighbours may take, and looking for less effort as well
# Nanoseconds on one core, roughly: any search; a code that is scanned, and each of its axes; a centroid's axis that is
# compared; a vector that is fetched, and one that is compared in order with its neighbours, each for 2048 dimensions.
# Only their ratios matter, and only between efforts.
_ANY, _CODE, _AXIS, _CENTROID, _FETCHED, _IN_ORDER = 100_000.0, 33.0, 0.04, 0.05, 420.0, 140.0
_FINER = (4,)  # times as many lists as usual, tried in this order
_WORTHWHILE = 0.3  # share of what is missing that another index has to bring, for still another one to be tried
_CAUTION = 2  # to begin with
_SIFTING = 1.5
_MOST_SIFTED = 16.0


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured of an index: how to search it, the recall that this gives, and under filters, by share of the
    rows that pass. cheap: whether the wanted recall was reached at a quarter of exact search's cost. seconds: that
    measuring took.
    """

    tuning: Tuning
    recall: Recall
    filtered: tuple[tuple[float, Recall], ...]
    cheap: bool
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Built:
    """A new index, its shape, and what was measured of it."""

    index: CompressedIndex
    shape: Shape
    found: Found


def built(
    file: VectorFile,
    target: float,
    *,
    asked: Floats | None = None,
    start: Shape | None = None,
    threads: int,
    progress: Callable[[int, int], None],
) -> Built:
    """An index over the file's rows, and how to search it so that it has the wanted recall.

    asked: real queries float32 (n, dim), unit. start: the shape that served before, for the first one to be tried.
    Raises what `progress` raises.
    """

    def breathe() -> None:
        progress(0, 1)

    began = time.monotonic()
    basis = train.basis_of(file, len(file))
    breathe()
    shape = basis.first() if start is None else basis.fitting(start)

    building = 0.0

    def made(shape: Shape) -> CompressedIndex:
        nonlocal building
        started = time.monotonic()
        index = CompressedIndex.build(file, basis=basis, shape=shape, threads=threads, progress=progress)
        building += time.monotonic() - started
        return index

    best = made(shape)
    if best.count <= EXACT_ROWS or target >= 1:  # every vector is compared in any search
        return Built(best, shape, exactly(0))
    spent, began, building = time.monotonic() - began, time.monotonic(), 0.0
    queries = np.empty((0, file.dim), np.float32) if asked is None else asked
    drawn = Sample.draw(best, file, queries, breathe, threads=threads, seconds=_PASS * spent)
    least = _reach(best, file, drawn, target, breathe=breathe, seconds=_PASS * spent)
    for better in _shapes(basis):
        if least.cheap:
            break
        next_shape = better(shape)
        if next_shape is None:
            continue
        index = made(next_shape)
        tried = _reach(index, file, drawn, target, breathe=breathe, seconds=_PASS * spent)
        gained = tried.tried.recall.value - least.tried.recall.value
        if tried.cheap or gained > _WORTHWHILE * (1 - least.tried.recall.value):
            best, shape, least = index, next_shape, tried
    found = measure(best, file, drawn, target, breathe=breathe, known=least)
    return Built(best, shape, replace(found, seconds=time.monotonic() - began - building))


def _shapes(basis: Basis) -> list[Callable[[Shape], Shape | None]]:
    """What is tried one after the other, each on top of the best so far: more axes, more lists, more bits."""
    return [basis.all_axes, *(_more_lists(times) for times in _FINER), basis.more_bits]


def _more_lists(times: int) -> Callable[[Shape], Shape | None]:
    return lambda shape: replace(shape, finer=times) if shape.finer < times else None


@dataclass(frozen=True, slots=True)
class _Reached:
    tried: Tried
    cheap: bool


def _reach(
    index: CompressedIndex,
    file: VectorFile,
    drawn: Sample,
    target: float,
    *,
    breathe: Callable[[], None],
    guard: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    seconds: float = float("inf"),
    share: float = SHARE,
) -> _Reached:
    """The tuning to search this index with, and whether it reaches `target` at that share of exact search's cost."""
    began = time.monotonic()

    def attempt(tuning: Tuning) -> Tried:
        breathe()
        effort = tuning.apply(index.usual(NEAREST + 1))
        recall, costs = _recall(index, file, drawn.queries, drawn.own, drawn.truth, effort, None, guard)
        return Tried(tuning, recall, max(float(np.median(costs)), float(np.mean(costs)) / 2))

    exact = exact_cost(index, file)
    most = max(share * exact, min(exact, 3 * _ANY))  # what any search costs cannot be saved
    start = Tuning(index.tuning.breadth, index.tuning.depth, caution=index.tuning.caution or _CAUTION)
    best = tune(attempt, target, most, start, lambda: time.monotonic() - began < seconds)
    return _Reached(best, best.recall.careful >= target and best.cost <= most)


def measure(
    index: CompressedIndex,
    file: VectorFile,
    drawn: Sample,
    target: float,
    *,
    breathe: Callable[[], None],
    guard: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    known: _Reached | None = None,
) -> Found:
    """How to search this index so that it has the wanted recall; exactly, where nothing cheaper does.

    guard: held by each single search.
    """
    if target >= 1:
        return exactly(0)
    reached = known or _reach(index, file, drawn, target, breathe=breathe, guard=guard)
    if not reached.cheap:
        dear = _reach(index, file, drawn, target, breathe=breathe, guard=guard, share=1.0)
        if not dear.cheap:
            return exactly(len(drawn.queries))
        reached = _Reached(dear.tried, cheap=False)
    tuning, filtered = _sift(index, file, drawn, target, reached.tried.tuning, breathe, guard)
    return Found(tuning, reached.tried.recall, filtered, reached.cheap)


def exactly(queries: int) -> Found:
    """What comparing every vector gives: all of it."""
    all_found = Recall(1.0, 1.0, 1.0, queries)
    return Found(Tuning(exact=True), all_found, tuple((share, all_found) for share in SHARES), cheap=False)


def _sift(
    index: CompressedIndex,
    file: VectorFile,
    drawn: Sample,
    target: float,
    tuning: Tuning,
    breathe: Callable[[], None],
    guard: Callable[[], AbstractContextManager[None]],
) -> tuple[Tuning, tuple[tuple[float, Recall], ...]]:
    """The same tuning, with as much more effort under filters as they need, and the recall that they have then."""
    found = []
    for sifted in drawn.sifted:
        with guard():
            selection = index.select(file.keys[sifted.rows])
        while True:
            breathe()
            effort = tuning.apply(index.usual(NEAREST + 1, len(selection)), filtered=True)
            recall, _ = _recall(index, file, drawn.queries, drawn.own, sifted.truth, effort, selection, guard)
            if recall.careful >= target or recall.value == 1 or tuning.sifted >= _MOST_SIFTED:
                break
            tuning = replace(tuning, sifted=tuning.sifted * _SIFTING)
        found.append((sifted.share, recall))
    return tuning, tuple(found)


def _recall(
    index: CompressedIndex,
    file: VectorFile,
    queries: Floats,
    own: Rows,
    truth: Floats,
    effort: Effort,
    selection: Selection | None,
    guard: Callable[[], AbstractContextManager[None]],
) -> tuple[Recall, Floats]:
    """The recall, and what each query cost: float32 (n,), nanoseconds, roughly."""
    costs = np.empty(len(queries), np.float32)
    found = np.full(truth.shape, -np.inf, np.float32)
    for place, (query, row) in enumerate(zip(queries, own.tolist(), strict=True)):
        with guard():
            _, keys = index.nearest(query, NEAREST + 1, selection, effort=effort)
            costs[place] = cost(index, file, *index.looked)
        if row >= 0:
            keys = keys[keys != file.keys[row]]
        rows = file.find(keys[:NEAREST])
        # Scored like the truth: what a search rounds must not count as missed.
        found[place, : len(rows)] = -np.sort(-(file.read(rows).astype(np.float32) @ query))
    return compare(found, truth), costs


def exact_cost(index: CompressedIndex, file: VectorFile) -> float:
    """Nanoseconds that comparing every vector takes, roughly."""
    return _ANY + _IN_ORDER * len(index) * file.dim / 2048


def cost(index: CompressedIndex, file: VectorFile, lists: int, rows: int) -> float:
    """Nanoseconds that a search takes which looks into so many lists and fetches so many rows, roughly."""
    codes = lists * index.indexed / index.lists * (_CODE + _AXIS * index.axes * index.bits**2)
    return float(_ANY + codes + _CENTROID * index.lists * index.axes + rows * _FETCHED * file.dim / 2048)
