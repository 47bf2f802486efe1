"""A search through a compressed index: candidates by their codes, then the cosines of their full vectors.

Small sets are compared whole, and so is everything where measuring found that nothing less reaches the wanted recall.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from index.embedded.ann.arrays import Bits, Floats, Keys, Rows
from index.embedded.ann.candidates import Candidates
from index.embedded.ann.effort import FURTHER, Effort, effort_for
from index.embedded.ann.files.vector_file import VectorFile
from index.embedded.ann.scratch import Scratch, Scratches
from index.embedded.ann.selection import Alive, Selection, unpacked
from index.embedded.ann.tuning import Tuning

EXACT_ROWS = 1_500  # up to so many rows, comparing each of them costs less than scanning lists
_IN_ORDER = 3  # rows are compared in order in the time of one that is fetched by its number


class Search:
    """Of the rows that are alive. tuning: how much harder or less hard than usual it looks. Searches run beside each
    other; each raises CacheUnusable where the vector file is damaged.
    """

    def __init__(self, file: VectorFile, candidates: Candidates, alive: Alive, axes: int) -> None:
        self.tuning = Tuning()
        self._file = file
        self._candidates = candidates
        self._alive = alive
        self._scratches = Scratches(axes)

    @property
    def looked(self) -> tuple[int, int]:
        """Lists and rows that this thread's last search looked into."""
        scratch = self._scratches.own
        return scratch.looked, scratch.fetched

    def usual(self, k: int, available: int | None = None) -> Effort:
        """Where a search for the k nearest among `available` rows, None for all, starts from, before it is tuned."""
        among = self._alive.count if available is None else available
        return effort_for(k, self._alive.rows, max(1, among), self._candidates.lists.number)

    def search(
        self,
        vectors: Floats,
        k: int,
        allowed: Selection | None = None,
        *,
        effort: Effort | None = None,
    ) -> tuple[Floats, Keys]:
        """As `CompressedIndex.search`: cosines float32 (n, k), descending, and keys int64 (n, k), padded."""
        scores = np.full((len(vectors), k), -np.inf, dtype=np.float32)
        keys = np.full((len(vectors), k), -1, dtype=np.int64)
        for place, query in enumerate(np.ascontiguousarray(vectors, dtype=np.float32)):
            found, found_keys = self.nearest(query, k, allowed, effort=effort)
            scores[place, : len(found)] = found
            keys[place, : len(found)] = found_keys
        return scores, keys

    def nearest(
        self,
        query: Floats,
        k: int,
        allowed: Selection | None = None,
        *,
        effort: Effort | None = None,
        own: int = -1,
    ) -> tuple[Floats, Keys]:
        """As `CompressedIndex.nearest`."""
        available = self._alive.count if allowed is None else len(allowed)
        bits = None
        if allowed is not None:
            bits = allowed.bits(self._alive)
        elif self._alive.count < self._alive.rows:
            bits = self._alive.bits
        if available <= max(EXACT_ROWS, 2 * k) or (self.tuning.exact and effort is None):
            return self._compared(query, k, self._alive.bits if bits is None else bits, available, own)
        if effort is None:
            usual = self.usual(k, available)
            effort = self.tuning.apply(usual, filtered=allowed is not None)
        scratch = self._scratches.own
        scratch.looked = scratch.fetched = 0
        self._candidates.lists.turn(query, scratch)
        best: Rows | None = None
        while True:
            scratch.room(0, FURTHER * effort.depth)
            asked = effort if own < 0 else replace(effort, depth=effort.depth + 1)
            rows, number = self._candidates.near(scratch, asked, allowed, bits, available)
            if own >= 0:  # as if it were not there: it takes no other one's place
                rows = rows[rows != own][: max(effort.depth, len(rows) - 1)]
            if best is not None:  # among more candidates, estimates may push out what was found before
                rows = np.concatenate([rows, best[~np.isin(best, rows)]])
            scores, order = self._scored(query, rows, k, effort.caution if best is None else 0)
            scratch.looked, scratch.fetched = scratch.looked + number, scratch.fetched + len(scores)
            further = self._further(scratch, effort, rows, order, number)
            if further is None:
                return scores[order], self._file.keys[rows[order]]
            if further.depth * _IN_ORDER >= available:
                scratch.fetched += available // _IN_ORDER
                return self._compared(query, k, self._alive.bits if bits is None else bits, available, own)
            effort, best = further, rows[order]

    def _scored(self, query: Floats, rows: Rows, k: int, caution: int) -> tuple[Floats, Rows]:
        """Cosines of candidates, nearest by estimate first, and the places of the best k.

        Those behind the first half are compared only where one of the best lies behind a `caution`th of it.
        """
        half = len(rows) // 2
        if not caution or k * caution > half:
            scores = self._file.score(query, rows)
            return scores, (-scores).argsort(kind="stable")[:k]
        scores = self._file.score(query, rows[:half])
        order = (-scores).argsort(kind="stable")[:k]
        if int(order.max()) * caution < half:
            return scores, order
        scores = np.concatenate([scores, self._file.score(query, rows[half:])])
        return scores, (-scores).argsort(kind="stable")[:k]

    def _further(self, scratch: Scratch, effort: Effort, rows: Rows, order: Rows, number: int) -> Effort | None:
        """What to go on with, where the nearest found lie so far out that others may lie beyond; None where not.

        rows: candidates; order: places of the best among them; number: lists they come from.
        """
        if not effort.caution or not len(order):
            return None
        deep = int(order.max()) * effort.caution >= len(rows) and len(rows) >= effort.depth
        wide = max(number, effort.lists) < self._candidates.lists.number and not set(
            scratch.lists[number // 2 : number].tolist()
        ).isdisjoint(self._candidates.lists.of(rows[order]))
        if not deep and not wide:
            return None
        lists = FURTHER * max(number, effort.lists) if wide else effort.lists
        return replace(
            effort,
            depth=FURTHER * effort.depth if deep else effort.depth,
            lists=lists,
            most=max(lists, effort.most),
            reach=1.0 if wide else effort.reach,
        )

    def nearest_of(self, queries: Floats, k: int) -> tuple[Floats, Keys]:
        """`search` of many at once, without a filter: one pass through the lists for all, on the calling thread.

        Less than half the time of one query after the other, and the same answers.
        """
        if len(queries) == 1 or self._alive.count <= max(EXACT_ROWS, 2 * k) or self.tuning.exact:
            return self.search(queries, k)
        effort = self.tuning.apply(self.usual(k))
        scratch = self._scratches.own
        bits = self._alive.bits if self._alive.count < self._alive.rows else None
        rows, lists = self._candidates.near_many(queries, effort, bits)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        keys = np.full((len(queries), k), -1, np.int64)
        for place, query in enumerate(queries):
            candidates = rows[place][rows[place] >= 0]
            own, order = self._scored(query, candidates, k, effort.caution)
            looked = int((lists[place] >= 0).sum())
            scratch.room(looked, 0)
            scratch.lists[:looked] = lists[place][:looked]
            short = len(candidates) < min(effort.depth, self._alive.count)  # small lists, or removed rows
            if short or self._further(scratch, effort, candidates, order, looked) is not None:
                found, found_keys = self.nearest(query, k)
            else:
                found, found_keys = own[order], self._file.keys[candidates[order]]
            scores[place, : len(found)], keys[place, : len(found)] = found, found_keys
        return scores, keys

    def _compared(self, query: Floats, k: int, bits: Bits, available: int, own: int = -1) -> tuple[Floats, Keys]:
        """Scores and keys of the best k of the rows in `bits` but `own`, every one of them compared."""
        if available * _IN_ORDER < self._alive.rows:
            rows = np.flatnonzero(unpacked(bits, self._alive.rows))
            return self._best(query, rows[rows != own], k)
        scores = self._file.scan(query, 0, self._alive.rows)  # in order, and without a copy
        if own >= 0:
            scores[own] = -np.inf
        if available < self._alive.rows:
            scores[~unpacked(bits, self._alive.rows)] = -np.inf
        rows = np.argpartition(-scores, k)[:k] if 4 * k < self._alive.rows else np.arange(self._alive.rows)
        rows = rows[np.lexsort((rows, -scores[rows]))]
        rows = rows[np.isfinite(scores[rows])][:k]
        return scores[rows], self._file.keys[rows]

    def _best(self, query: Floats, rows: Rows, k: int) -> tuple[Floats, Keys]:
        """Scores and keys of the best k rows."""
        scores = self._file.score(query, rows)
        order = (-scores).argsort(kind="stable")[:k]
        return scores[order], self._file.keys[rows[order]]
