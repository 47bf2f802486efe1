"""Queries to measure an index with, and their true nearest neighbours, found in one pass over the vector file.

Queries are rows that training never saw (held out of it, or added later, each kind by its share), each leaving itself
out, and real queries where there were any. Real ones may lie further from the catalogue than its own rows do (another
camera, another light): then the rows are moved, as rows vary, until their nearest neighbours are as far away as those
of real queries.

Effort is chosen on one half of them and the recall that it gives is told from the other: the least effort that does for
some queries does for these a little better than for any others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import faiss
import numkong
import numpy as np

from index.embedded.ann.arrays import Floats, Rows
from index.embedded.ann.compressed import CompressedIndex
from index.embedded.ann.files.vector_file import VectorFile
from index.embedded.ann.recall import Nearest
from index.embedded.ann.train import HELD_OUT, held_out, sample

SHARES = (0.1, 0.01)  # of the rows that pass the filters under which recall is measured as well
_BLOCK = 4_096  # rows compared at once
_LEAST = 256  # queries, however little time there is
_ENOUGH = 16  # real queries from which it is told how far away they lie
_FEW = 48  # queries that this is compared with
_APART = 0.005  # cosine that makes no difference
_HALVINGS = 6
_SEED = 3


@dataclass(frozen=True, slots=True)
class Sifted:
    """A filter that a share of the rows passes, at random: those rows, and what `Sample.truth` is among them."""

    share: float
    rows: Rows
    truth: Floats


@dataclass(frozen=True, slots=True)
class Sample:
    """queries: float32 (n, dim), in random order; own: the row each is itself, -1 for none; truth: (n, 10) scores of
    its nearest. sifted: the same under filters. moved: how far the rows among the queries were moved, 0…1.
    """

    queries: Floats
    own: Rows
    truth: Floats
    sifted: tuple[Sifted, ...]
    moved: float

    @classmethod
    def draw(
        cls,
        index: CompressedIndex,
        file: VectorFile,
        asked: Floats,
        breathe: Callable[[], None],
        *,
        threads: int = 1,
        seconds: float = float("inf"),
    ) -> Sample:
        """asked: real queries float32 (m, dim), unit; at most half of the sample. breathe: called for every block.

        seconds: that the pass may take; with less it makes do with fewer queries, but not with less than 256.
        """
        random = np.random.default_rng(_SEED)
        alive = index.alive_rows()
        asked = asked[-(HELD_OUT // 2) :]
        new = np.intersect1d(np.arange(index.trained, index.indexed), alive, assume_unique=True)
        old = np.intersect1d(held_out(index.trained), alive, assume_unique=True)
        rows = _in_proportion(random, new, old, len(alive), HELD_OUT - len(asked))
        stored, moved = as_far_as(index, file.read(rows).astype(np.float32), rows, asked)
        order = random.permutation(len(rows) + len(asked))  # so that any first part of them is a fair one
        own = np.concatenate([rows, np.full(len(asked), -1, np.int64)])[order]
        # As a search rounds them.
        queries = np.concatenate([stored, asked])[order].astype(np.float16).astype(np.float32)

        passing = [random.random(index.indexed) < share for share in SHARES]
        every, some = Nearest(len(queries)), [Nearest(len(queries)) for _ in SHARES]
        faiss.omp_set_num_threads(threads)
        began, done = time.monotonic(), 0
        for part, vectors in _blocks(file, alive):
            breathe()
            every.see(queries, own, part, vectors)
            for mask, nearest in zip(passing, some, strict=True):
                nearest.see(queries, own, part[mask[part]], vectors[mask[part]])
            done += len(part)
            expected = (time.monotonic() - began) * len(alive) / done
            if expected > seconds and len(queries) > _LEAST:
                fewer = max(_LEAST, int(len(queries) * seconds / expected))
                queries, own = queries[:fewer], own[:fewer]
        sifted = tuple(
            Sifted(share, alive[mask[alive]], nearest.scores[: len(queries)])
            for share, mask, nearest in zip(SHARES, passing, some, strict=True)
        )
        return cls(queries, own, every.scores[: len(queries)], sifted, moved)

    def half(self, which: int) -> Sample:
        """Half 0 or 1 of the queries, of one as many as of the other."""
        sifted = tuple(Sifted(one.share, one.rows, one.truth[which::2]) for one in self.sifted)
        return Sample(self.queries[which::2], self.own[which::2], self.truth[which::2], sifted, self.moved)


def _in_proportion(random: np.random.Generator, new: Rows, old: Rows, alive: int, size: int) -> Rows:
    """At most `size` rows, new ones by their share of all `alive` rows, more where the old ones do not suffice."""
    wanted = max(round(size * len(new) / max(1, alive)), size - len(old))
    late = sample(random, new, wanted)
    return np.concatenate([late, sample(random, old, size - len(late))])


def as_far_as(index: CompressedIndex, stored: Floats, own: Rows, asked: Floats) -> tuple[Floats, float]:
    """Rows moved, each in a direction of its own, until they lie as far from the catalogue as real queries do.

    Returns them and how far they were moved, 0…1. stored: float32 (n, dim) rows with their numbers `own`; asked: real
    queries. What lies as far already stays.
    """
    if len(asked) < _ENOUGH or len(stored) < 2:
        return stored, 0.0
    others = _strange(stored)

    def away(part: float) -> float:
        return _nearest(index, _between(stored[:_FEW], others[:_FEW], part), own[:_FEW])

    wanted = _nearest(index, asked[-_FEW:], np.full(len(asked[-_FEW:]), -1))
    if wanted > away(0.0) - _APART:
        return stored, 0.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if away(middle) > wanted else (low, middle)
    return _between(stored, others, high), high


def _strange(rows: Floats) -> Floats:
    """A unit direction for each row that varies as the rows do and is near none: all of them, with random signs."""
    centred = rows - rows.mean(axis=0)
    signs = np.random.default_rng(_SEED).choice(np.array([-1, 1], np.float32), (len(rows), len(rows)))
    mixed = signs @ centred
    strange: Floats = mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-9)
    return strange


def _between(rows: Floats, others: Floats, part: float) -> Floats:
    mixed = (1 - part) * rows + part * others
    moved: Floats = (mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-9)).astype(np.float32)
    return moved


def _nearest(index: CompressedIndex, queries: Floats, own: Rows) -> float:
    """The median of the queries' best scores, themselves left out."""
    best = []
    for query, row in zip(queries, own.tolist(), strict=True):
        scores, keys = index.nearest(query, 2, effort=index.usual(2))
        scores = scores[keys != index.key_of(row)] if row >= 0 else scores
        best += scores[:1].tolist()
    return float(np.median(best)) if best else 1.0


def _blocks(file: VectorFile, rows: Rows) -> Iterator[tuple[Rows, Floats]]:
    for part, vectors in file.blocks(rows, _BLOCK):
        yield part, np.asarray(numkong.astype(vectors, "f32"))  # half of numpy's time
