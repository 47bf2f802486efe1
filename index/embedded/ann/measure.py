"""Recall measured on an index's own vectors, and the tuning that reaches a wanted one at the least cost.

Queries are rows that training never saw (held out of it, or added later), each leaving itself out: new to the index,
and as far from the catalogue as anything that is drawn from where the catalogue was drawn. Real queries may be added.
The true neighbours of all of them are found in one pass over the vector file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numkong
import numpy as np

from index.embedded.ann.arrays import Floats, Rows
from index.embedded.ann.compressed import EXACT_ROWS, CompressedIndex
from index.embedded.ann.effort import Effort
from index.embedded.ann.files.vector_file import VectorFile
from index.embedded.ann.recall import NEAREST, Recall, compare, true_scores
from index.embedded.ann.train import HELD_OUT, held_out, sample
from index.embedded.ann.tuning import Tried, Tuning, tune

_BLOCK = 4_096  # rows compared at once
_SHARE = 0.25  # of exact search's cost that a search may have before finer lists are tried
# Nanoseconds on one core, roughly: a code that is scanned, a vector that is fetched and compared, one that is compared
# in order with its neighbours; the last two for 2048 dimensions. Only their ratios matter, and only between efforts.
_CODE, _FETCHED, _IN_ORDER = 30.0, 600.0, 210.0
_FINER = (4, 8)  # times as many lists as usual, tried in this order
_WORTHWHILE = 0.3  # share of what is missing that finer lists have to bring, for still finer ones to be tried
_SEED = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """queries: float32 (n, dim); own: the row each is itself, -1 for none; truth: (n, 10) cosines of its nearest."""

    queries: Floats
    own: Rows
    truth: Floats

    @classmethod
    def draw(
        cls,
        index: CompressedIndex,
        file: VectorFile,
        asked: Floats,
        breathe: Callable[[], None],
        *,
        threads: int = 1,
    ) -> Sample:
        """asked: real queries float32 (m, dim), unit; at most half of the sample. breathe: called for every block."""
        alive = index.alive_rows()
        new = np.intersect1d(np.arange(index.trained, index.indexed), alive, assume_unique=True)
        rows = np.intersect1d(held_out(index.trained), alive, assume_unique=True)
        random = np.random.default_rng(_SEED)
        rows = np.concatenate([sample(random, new, HELD_OUT // 2), rows])[: HELD_OUT - min(len(asked), HELD_OUT // 2)]
        own = np.concatenate([rows, np.full(min(len(asked), HELD_OUT // 2), -1, np.int64)])
        halves = np.concatenate([file.read(rows), asked[: HELD_OUT // 2].astype(np.float16)])
        queries = halves.astype(np.float32)  # as a search rounds them

        def blocks() -> Iterator[tuple[Rows, Floats]]:
            for part, vectors in file.blocks(alive, _BLOCK):
                breathe()
                yield part, np.asarray(numkong.astype(vectors, "f32"))  # half of numpy's time

        truth = true_scores(queries, blocks(), own, threads=threads)
        return cls(queries, own, truth / np.sqrt(np.maximum(np.einsum("ij,ij->i", queries, queries), 1e-9))[:, None])


def measure(
    index: CompressedIndex,
    file: VectorFile,
    drawn: Sample,
    target: float,
    *,
    share: float = _SHARE,
    breathe: Callable[[], None],
    guard: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> tuple[Tried, bool]:
    """The tuning to search this index with, and whether it reaches `target` at `share` of exact search's cost.

    guard: held by each single search.
    """

    def attempt(tuning: Tuning) -> Tried:
        breathe()
        effort = tuning.apply(index.usual(NEAREST + 1))
        found = np.full(drawn.truth.shape, -np.inf, np.float32)
        for place, (query, own) in enumerate(zip(drawn.queries, drawn.own.tolist(), strict=True)):
            with guard():
                scores, keys = index.nearest(query, NEAREST + 1, effort=effort)
            if own >= 0:
                scores = scores[keys != file.keys[own]]
            scores = scores[:NEAREST]
            found[place, : len(scores)] = scores
        return Tried(tuning, compare(found, drawn.truth), cost(index, file, drawn.queries, effort))

    exact = _IN_ORDER * len(index) * file.dim / 2048
    best = tune(attempt, target, share * exact, Tuning(index.tuning.breadth, index.tuning.depth))
    return best, best.recall.careful >= target and best.cost <= share * exact


def built(
    file: VectorFile, target: float, *, threads: int, progress: Callable[[int, int], None]
) -> tuple[CompressedIndex, Tried]:
    """An index over the file's rows, and how to search it so that it has the wanted recall.

    Where that costs more than a quarter of exact search, finer lists are tried; where it costs more than all of it, the
    index is to be searched exactly. Raises what `progress` raises.
    """

    def breathe() -> None:
        progress(0, 1)

    best = CompressedIndex.build(file, threads=threads, progress=progress)
    drawn = Sample.draw(best, file, np.empty((0, file.dim), np.float32), breathe, threads=threads)
    if best.count <= EXACT_ROWS:
        return best, exactly(drawn, best, file)  # as any search is
    tried, reached = measure(best, file, drawn, target, breathe=breathe)
    for finer in _FINER:
        if reached:
            return best, tried
        missing = 1 - tried.recall.value
        index = CompressedIndex.build(file, finer=finer, threads=threads, progress=progress)
        finer_tried, reached = measure(index, file, drawn, target, breathe=breathe)
        gained = finer_tried.recall.value - tried.recall.value
        if reached or gained > 0:
            best, tried = index, finer_tried
        if not reached and gained < _WORTHWHILE * missing:
            break
    if not reached:
        tried, reached = measure(best, file, drawn, target, share=1.0, breathe=breathe)
    return best, tried if reached else exactly(drawn, best, file)


def exactly(drawn: Sample, index: CompressedIndex, file: VectorFile) -> Tried:
    """What comparing every vector gives: all of it, at its full cost."""
    recall = compare(drawn.truth, drawn.truth)
    return Tried(Tuning(exact=True), Recall(1.0, 1.0, 1.0, recall.queries), _IN_ORDER * len(index) * file.dim / 2048)


def cost(index: CompressedIndex, file: VectorFile, queries: Floats, effort: Effort) -> float:
    """Nanoseconds that a search takes with this effort, roughly."""
    lists = np.mean([index.lists_of(query, effort) for query in queries[:64]]) if len(queries) else effort.lists
    return float(lists * index.indexed / index.lists * _CODE + effort.depth * _FETCHED * file.dim / 2048)
