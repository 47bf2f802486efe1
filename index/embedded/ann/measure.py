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
from index.embedded.ann.arrays import Floats
from index.embedded.ann.attempts import ANY, Attempts, exact_cost
from index.embedded.ann.basis import Basis, Shape
from index.embedded.ann.compressed import CompressedIndex
from index.embedded.ann.files.vector_file import VectorFile
from index.embedded.ann.recall import Recall
from index.embedded.ann.sample import SHARES, Sample
from index.embedded.ann.search import EXACT_ROWS
from index.embedded.ann.tuning import Tried, Tuning, tune

SHARE = 0.25  # of exact search's cost that a search may have before another index is tried
PASS = 0.1  # share of a build's time that finding the true neighbours may take
CHOOSING = 0.2  # and with choosing an effort; raised a few times it is in any case
_FINER = (4,)  # times as many lists as usual, tried in this order
_WORTHWHILE = 0.3  # share of what is missing that another index has to bring, for still another one to be tried
_CAUTION = 2  # to begin with
_SIFTING = 2.0
_MOST_SIFTED = 16.0


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured of an index: how to search it, the recall that this gives (of queries on which it was not
    chosen), and under filters, by share of the rows that pass. cheap: whether the wanted recall was reached at a
    quarter of exact search's cost. seconds: that measuring took; building: that the index itself did, infinite where
    that is not known.
    """

    tuning: Tuning
    recall: Recall
    filtered: tuple[tuple[float, Recall], ...]
    cheap: bool
    seconds: float = 0.0
    building: float = float("inf")


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
    building = time.monotonic() - began

    def made(shape: Shape) -> CompressedIndex:
        nonlocal building
        started = time.monotonic()
        index = CompressedIndex.build(file, basis=basis, shape=shape, threads=threads, progress=progress)
        building += time.monotonic() - started
        return index

    def measuring() -> float:
        return time.monotonic() - began - building

    best = made(shape)
    if best.count <= EXACT_ROWS or target >= 1:  # every vector is compared in any search
        return Built(best, shape, replace(exactly(0), building=building))
    queries = np.empty((0, file.dim), np.float32) if asked is None else asked
    drawn = Sample.draw(best, file, queries, breathe, threads=threads, seconds=PASS * building)
    choosing = drawn.half(0)

    def reached(index: CompressedIndex) -> _Reached:
        attempts = Attempts(index, file, choosing, breathe, contextlib.nullcontext, threads)
        return _reach(attempts, index, file, target, lambda: measuring() < CHOOSING * building)

    least = reached(best)
    for better in _shapes(basis):
        if least.cheap:
            break
        next_shape = better(shape)
        if next_shape is None:
            continue
        index = made(next_shape)
        tried = reached(index)
        gained = tried.tried.recall.value - least.tried.recall.value
        if tried.cheap or gained > _WORTHWHILE * (1 - least.tried.recall.value):
            best, shape, least = index, next_shape, tried
    found = measure(best, file, drawn, target, breathe=breathe, known=least, threads=threads)
    return Built(best, shape, replace(found, seconds=measuring(), building=building))


def _shapes(basis: Basis) -> list[Callable[[Shape], Shape | None]]:
    """What is tried one after the other, each on top of the best so far: more axes, more lists, more bits."""
    return [basis.all_axes, *(_more_lists(times) for times in _FINER), basis.more_bits]


def _more_lists(times: int) -> Callable[[Shape], Shape | None]:
    return lambda shape: replace(shape, finer=times) if shape.finer < times else None


@dataclass(frozen=True, slots=True)
class _Reached:
    """attempts: that led to it."""

    attempts: Attempts
    tried: Tried
    cheap: bool


def _reach(
    attempts: Attempts,
    index: CompressedIndex,
    file: VectorFile,
    target: float,
    patient: Callable[[], bool],
    *,
    share: float = SHARE,
) -> _Reached:
    """The tuning to search this index with, and whether it reaches `target` at that share of exact search's cost."""
    exact = exact_cost(index, file)
    most = max(share * exact, min(exact, 3 * ANY))  # what any search costs cannot be saved
    start = Tuning(index.tuning.breadth, index.tuning.depth, caution=index.tuning.caution or _CAUTION)
    best = tune(lambda tuning: attempts(tuning, target), target, most, start, patient)
    return _Reached(attempts, best, best.recall.careful >= target and best.cost <= most)


def measure(
    index: CompressedIndex,
    file: VectorFile,
    drawn: Sample,
    target: float,
    *,
    breathe: Callable[[], None],
    guard: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    known: _Reached | None = None,
    patient: Callable[[], bool] = lambda: True,
    threads: int = 1,
) -> Found:
    """How to search this index so that it has the wanted recall; exactly, where nothing cheaper does.

    That is chosen on one half of the sample, and the recall is told from the other. guard: held by each single search.
    known: what was chosen already. patient: as of `tune`. threads: that search beside each other.
    """
    if target >= 1:
        return exactly(0)
    reached = known
    if reached is None:
        attempts = Attempts(index, file, drawn.half(0), breathe, guard, threads)
        reached = _reach(attempts, index, file, target, patient)
    if not reached.cheap:
        reached = replace(_reach(reached.attempts, index, file, target, patient, share=1.0), cheap=False)
        if reached.tried.recall.careful < target or reached.tried.cost > exact_cost(index, file):
            return exactly(len(drawn.queries))
    tuning = _sift(reached.attempts, drawn.half(0), target, reached.tried.tuning)
    told = drawn.half(1)
    telling = Attempts(index, file, told, breathe, guard, threads)
    filtered = tuple((sifted.share, telling.sifted(sifted, tuning)) for sifted in told.sifted)
    return Found(tuning, telling.all(tuning), filtered, reached.cheap)


def exactly(queries: int) -> Found:
    """What comparing every vector gives: all of it."""
    all_found = Recall(1.0, 1.0, 1.0, queries, 0.0)
    return Found(Tuning(exact=True), all_found, tuple((share, all_found) for share in SHARES), cheap=False)


def _sift(attempts: Attempts, drawn: Sample, target: float, tuning: Tuning) -> Tuning:
    """The same tuning, with as much more effort under filters as they need."""
    for sifted in drawn.sifted:
        while (
            attempts.sifted(sifted, tuning, target).careful < target
            and (harder := tuning.sifted * _SIFTING) <= _MOST_SIFTED
        ):
            tuning = replace(tuning, sifted=harder)
    return tuning
