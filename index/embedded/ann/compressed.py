"""The compressed index only proposes: every score it returns is the cosine of the full vectors in the vector file.

Labels inside FAISS are row numbers of that file. Removed rows are masked by their alive bit and stay in the lists until
the next build. Parameters of a search travel with the search; nothing is ever set on the shared index.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from index.embedded.ann import train
from index.embedded.ann.arrays import Bits, Floats, Keys, Rows
from index.embedded.ann.basis import Basis, Shape
from index.embedded.ann.effort import Effort, effort_for
from index.embedded.ann.files import index_file
from index.embedded.ann.files.vector_file import VectorFile
from index.embedded.ann.lists import Lists, nearest_holding
from index.embedded.ann.scratch import Scratch, Scratches
from index.embedded.ann.selection import Alive, Selection, packed, unpacked
from index.embedded.ann.tuning import Tuning
from index.errors import CacheUnusable

MIN_COMPRESSED = 10_000
EXACT_ROWS = 1_500  # up to so many rows, comparing each of them costs less than scanning lists
_ENCODE = 4_096
_QUERY_BITS = 3
_FAR = 4
_IN_ORDER = 3  # rows are compared in order in the time of one that is fetched by its number


@dataclass(frozen=True, slots=True)
class Batch:
    """Encoded rows first…stop-1, ready to be merged."""

    first: int
    stop: int
    ivf: Any


class CompressedIndex:
    """Codes of the first `indexed` rows of a vector file.

    Searches run beside each other and beside `remove` and `save`; `merge` needs to be alone. `sequence`: the change up
    to which a loaded index file knew the store, -1 for one that was just built. Searches raise CacheUnusable where the
    vector file is damaged.
    """

    kind = "ivf-rabitq"

    def __init__(self, file: VectorFile, index: Any, alive: Alive, *, trained: int, sequence: int = -1) -> None:
        """Use `build` or `load`."""
        self._file = file
        self._index = index  # owns transform and lists; the two below are views into it
        self._transform: Any = faiss.downcast_VectorTransform(index.chain.at(0))
        self._ivf: Any = faiss.downcast_index(index.index)
        self._lists = Lists(self._transform, self._ivf)
        self._scratches = Scratches(self._ivf.d)
        self._parameters: dict[int, Any] = {}  # made once for each number of lists, then only read
        self._alive = alive
        self.tuning = Tuning()
        self.trained = trained
        self.sequence = sequence
        self.indexed = int(self._ivf.ntotal)

    @classmethod
    def build(
        cls,
        file: VectorFile,
        *,
        basis: Basis | None = None,
        shape: Shape | None = None,
        threads: int = 2,
        progress: Callable[[int, int], None] | None = None,
    ) -> CompressedIndex:
        """Trains on a sample of the rows the file has now and adds all of them; it may be appended to meanwhile.

        basis: of these rows, where it is known. shape: None for the one to begin with. threads: how many the calling
        thread may use. progress: gets (rows done, rows in all) every few seconds; what it raises ends the build.
        """
        rows = np.arange(len(file), dtype=np.int64)
        if not len(rows):
            raise ValueError("nothing to train on: the vector file is empty")
        report = progress or _ignore
        basis = basis or train.basis_of(file, len(rows))
        index = train.train(
            file,
            len(rows),
            basis,
            shape or basis.first(),
            threads=threads,
            breathe=lambda: report(0, len(rows)),
        )
        ivf: Any = faiss.downcast_index(index.index)
        for part, vectors in file.blocks(rows, _ENCODE):
            ivf.add_with_ids(index.chain.at(0).apply(vectors.astype(np.float32)), part)
            report(int(part[-1]) + 1, len(rows))
        index.ntotal = ivf.ntotal
        # Lists grow by doubling: only a copy has exactly the memory they need.
        return cls(file, faiss.clone_index(index), Alive.all(len(rows)), trained=len(rows))

    @classmethod
    def load(cls, path: Path, file: VectorFile, *, fingerprint: str, dim: int) -> CompressedIndex:
        """What `save` wrote. Raises CacheUnusable where it is missing, damaged, or does not belong to this file."""
        header, alive, index = index_file.read(path)
        ivf = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else None
        if not isinstance(ivf, faiss.IndexIVFRaBitQ) or index.chain.size() != 1 or len(alive) != (header.rows + 7) // 8:
            raise CacheUnusable(f"{path} holds another kind of index; rebuild it from the store")
        if (header.kind, header.fingerprint, header.dim) != (cls.kind, fingerprint, dim):
            raise CacheUnusable(f"{path} belongs to another model or kind of index; rebuild it from the store")
        keys = file.keys
        if header.rows > len(keys) or header.rows < 1 or keys[header.rows - 1] != header.last_key:
            raise CacheUnusable(f"{path} does not fit its vector file; rebuild it from the store")
        loaded = cls(file, index, Alive(alive, header.rows), trained=header.trained, sequence=header.sequence)
        if loaded.indexed != header.rows or loaded._transform.d_in != dim:
            raise CacheUnusable(f"{path} does not fit its own header; rebuild it from the store")
        return loaded

    def save(self, path: Path, *, sequence: int) -> None:
        """Writes temporary file → fsync → rename, not beside `merge`. Rows removed meanwhile may be in it or not."""
        header = index_file.Header(
            kind=self.kind,
            fingerprint=self._file.fingerprint,
            dim=self._file.dim,
            sequence=sequence,
            rows=self.indexed,
            last_key=int(self._file.keys[self.indexed - 1]),
            trained=self.trained,
        )
        index_file.write(path, header, self._alive.bits.copy(), self._index)

    def __len__(self) -> int:
        return self._alive.count

    @property
    def count(self) -> int:
        """Rows that a search may find."""
        return self._alive.count

    @property
    def nbytes(self) -> int:
        """Bytes of memory, nearly all of them in the lists."""
        entry = self._ivf.code_size + 8
        return int(self.indexed * entry + (self._ivf.nlist + self._file.dim) * self._ivf.d * 4 + len(self._alive.bits))

    def alive(self) -> Keys:
        """Keys that a search may find, increasing."""
        return self._file.keys[: self.indexed][self._alive.flags()]

    def alive_rows(self) -> Rows:
        """Rows that a search may find, increasing."""
        return np.flatnonzero(self._alive.flags())

    def key_of(self, row: int) -> int:
        """The key of one row."""
        return int(self._file.keys[row])

    @property
    def looked(self) -> tuple[int, int]:
        """Lists and rows that this thread's last search looked into."""
        scratch = self._scratches.own
        return scratch.looked, scratch.fetched

    @property
    def axes(self) -> int:
        """How many axes are kept of each vector."""
        return int(self._ivf.d)

    @property
    def bits(self) -> int:
        """Of each axis."""
        return int(self._ivf.rabitq.nb_bits)

    @property
    def lists(self) -> int:
        """How many lists there are."""
        return int(self._ivf.nlist)

    def usual(self, k: int) -> Effort:
        """Where a search for the k nearest of everything starts from, before it is tuned."""
        return effort_for(k, self.indexed, max(1, self.count), self.lists)

    def encode(self, first: int, stop: int) -> Batch:
        """Compresses rows first…stop-1 of the file, beside searches; `merge` takes them over."""
        ivf: Any = faiss.IndexIVFRaBitQ(
            self._ivf.quantizer, self._ivf.d, self._ivf.nlist, faiss.METRIC_L2, True, self._ivf.rabitq.nb_bits
        )
        ivf.is_trained = True
        for rows, vectors in self._file.blocks(np.arange(first, stop, dtype=np.int64), _ENCODE):
            ivf.add_with_ids(self._transform.apply(vectors.astype(np.float32)), rows)
        return Batch(first, stop, ivf)

    def merge(self, batch: Batch) -> None:
        """Takes over rows that follow the indexed ones. While it runs, nothing else may."""
        if batch.first != self.indexed:
            raise ValueError(f"rows from {self.indexed} on are due, not from {batch.first}")
        self._lists.extend(batch.ivf)
        self._ivf.merge_from(batch.ivf, 0)
        self._alive.extend(batch.stop - batch.first)
        self._index.ntotal = self._ivf.ntotal
        self.indexed = batch.stop

    def add(self, keys: Keys, vectors: Floats | None = None) -> None:
        """Encodes and merges; the keys must be those of the rows that follow the indexed ones."""
        rows = self._file.find(keys)
        if len(rows):
            if not np.array_equal(rows, np.arange(self.indexed, self.indexed + len(rows))):
                raise ValueError("keys must be those of the next rows of the vector file")
            self.merge(self.encode(int(rows[0]), int(rows[-1]) + 1))

    def remove(self, keys: Keys) -> None:
        """Never found again on return. Unknown and removed keys are passed over."""
        rows = self._file.find(keys)
        self._alive.remove(rows[(rows >= 0) & (rows < self.indexed)])

    def select(self, keys: Keys) -> Selection:
        """The given keys as a selection. Keys the index does not cover, or that were removed, are passed over."""
        rows = self._file.find(keys)
        chosen = np.zeros(self.indexed, np.bool_)
        chosen[rows[(rows >= 0) & (rows < self.indexed)]] = True
        chosen &= self._alive.flags()
        return Selection(packed(chosen), int(chosen.sum()), self._lists.count(chosen))

    def search(
        self,
        vectors: Floats,
        k: int,
        allowed: Selection | Keys | None = None,
        *,
        effort: Effort | None = None,
    ) -> tuple[Floats, Keys]:
        """Unit queries float32 (n, dim) → cosines float32 (n, k), descending, and keys int64 (n, k).

        Missing places hold -inf and -1. allowed: only these may be found. effort: None lets the index choose.
        """
        if isinstance(allowed, np.ndarray):
            allowed = self.select(allowed)
        scores = np.full((len(vectors), k), -np.inf, dtype=np.float32)
        keys = np.full((len(vectors), k), -1, dtype=np.int64)
        for place, query in enumerate(np.ascontiguousarray(vectors, dtype=np.float32)):
            found, found_keys = self.nearest(query, k, allowed, effort=effort)
            scores[place, : len(found)] = found
            keys[place, : len(found)] = found_keys
        return scores, keys

    def nearest(
        self, query: Floats, k: int, allowed: Selection | None = None, *, effort: Effort | None = None
    ) -> tuple[Floats, Keys]:
        """As `search`, for one query float32 (dim,) and without padding: at most k scores and keys."""
        available = self.count if allowed is None else len(allowed)
        bits = None
        if allowed is not None:
            bits = allowed.bits(self._alive)
        elif self.count < self.indexed:
            bits = self._alive.bits
        if available <= max(EXACT_ROWS, 2 * k) or (self.tuning.exact and effort is None):
            return self._compared(query, k, self._alive.bits if bits is None else bits, available)
        if effort is None:
            usual = effort_for(k, self.indexed, available, self._ivf.nlist)
            effort = self.tuning.apply(usual, filtered=allowed is not None)
        scratch = self._scratches.own
        scratch.looked = scratch.fetched = 0
        self._lists.turn(query, scratch)
        best: Rows | None = None
        while True:
            scratch.room(0, _FAR * effort.depth)
            rows, number = self._near(scratch, effort, allowed, bits, available)
            if best is not None:  # among more candidates, estimates may push out what was found before
                rows = np.concatenate([rows, best[~np.isin(best, rows)]])
            scratch.looked, scratch.fetched = scratch.looked + number, scratch.fetched + len(rows)
            scores = self._file.score(query, rows)
            order = (-scores).argsort(kind="stable")[:k]
            further = self._further(scratch, effort, rows, order, number)
            if further is None:
                return scores[order], self._file.keys[rows[order]]
            if further.depth * _IN_ORDER >= available:
                scratch.fetched += available // _IN_ORDER
                return self._compared(query, k, self._alive.bits if bits is None else bits, available)
            effort, best = further, rows[order]

    def _near(
        self, scratch: Scratch, effort: Effort, allowed: Selection | None, bits: Bits | None, available: int
    ) -> tuple[Rows, int]:
        """Row numbers of candidates, nearest by estimate first, and the number of lists they come from."""
        if allowed is not None and bits is not None:
            return self._allowed(scratch, effort, allowed, bits)
        lists = self._lists
        number = lists.nearest(scratch, effort.lists, effort.most, effort.reach)
        rows = self._candidates(scratch, number, effort.depth, bits)
        while len(rows) < min(effort.depth, available) and number < lists.number:  # small lists, or removed rows
            number = lists.nearest(scratch, _FAR * number, 1, 1.0)
            rows = self._candidates(scratch, number, effort.depth, bits)
        return rows, number

    def _further(self, scratch: Scratch, effort: Effort, rows: Rows, order: Rows, number: int) -> Effort | None:
        """What to go on with, where the nearest found lie so far out that others may lie beyond; None where not.

        rows: candidates; order: places of the best among them; number: lists they come from.
        """
        if not effort.caution or not len(order):
            return None
        deep = int(order.max()) * effort.caution >= len(rows) and len(rows) >= effort.depth
        wide = max(number, effort.lists) < self._lists.number and not set(
            scratch.lists[number // 2 : number].tolist()
        ).isdisjoint(self._lists.of(rows[order]))
        if not deep and not wide:
            return None
        lists = _FAR * max(number, effort.lists) if wide else effort.lists
        return replace(
            effort,
            depth=_FAR * effort.depth if deep else effort.depth,
            lists=lists,
            most=max(lists, effort.most),
            reach=1.0 if wide else effort.reach,
        )

    def nearest_of(self, queries: Floats, k: int) -> tuple[Floats, Keys]:
        """`search` of many at once, without a filter: one pass through the lists for all, on the calling thread.

        Less than half the time of one query after the other, and the same answers.
        """
        if self.count <= max(EXACT_ROWS, 2 * k) or self.tuning.exact:
            return self.search(queries, k)
        effort = self.tuning.apply(effort_for(k, self.indexed, self.count, self._ivf.nlist))
        scratch = self._scratches.own
        faiss.omp_set_num_threads(1)
        points = self._lists.turned(np.ascontiguousarray(queries, np.float32))
        lists, away = self._lists.nearest_of(points, effort.lists, effort.most, effort.reach)
        estimates = np.empty((len(queries), effort.depth), np.float32)
        rows = np.empty((len(queries), effort.depth), np.int64)
        bits = self._alive.bits
        selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits)) if self.count < self.indexed else None
        pointers = [faiss.swig_ptr(each) for each in (points, lists, away, estimates, rows)]
        asked = (pointers[0], effort.depth, *pointers[1:], False, _asking(lists.shape[1], selector))
        self._ivf.search_preassigned_c(len(queries), *asked)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        keys = np.full((len(queries), k), -1, np.int64)
        for place, query in enumerate(queries):
            candidates = rows[place][rows[place] >= 0]
            own = self._file.score(query, candidates)
            order = (-own).argsort(kind="stable")[:k]
            looked = int((lists[place] >= 0).sum())
            scratch.room(looked, 0)
            scratch.lists[:looked] = lists[place][:looked]
            short = len(candidates) < min(effort.depth, self.count)  # small lists, or removed rows
            if short or self._further(scratch, effort, candidates, order, looked) is not None:
                found, found_keys = self.nearest(query, k)
            else:
                found, found_keys = own[order], self._file.keys[candidates[order]]
            scores[place, : len(found)], keys[place, : len(found)] = found, found_keys
        return scores, keys

    def _allowed(self, scratch: Scratch, effort: Effort, allowed: Selection, bits: Bits) -> tuple[Rows, int]:
        """As `_near` among allowed rows: in the lists that hold as many as they should."""
        away = self._lists.distances(scratch.point)
        within = self._lists.within(away, scratch.point, effort.reach)
        number = math.ceil(max(effort.lists, min(within, effort.most)) * effort.spread)
        even = len(allowed) / self._lists.number
        depth = effort.depth
        while True:
            lists, reached = nearest_holding(away, allowed.per_list, number * even, number)
            if reached > 2 * number:  # what is allowed lies far from the query, where estimates are rough
                lists, _ = nearest_holding(away, allowed.per_list, _FAR * number * even, _FAR * number)
                depth = _FAR * effort.depth
            scratch.room(len(lists), _FAR * effort.depth)
            scratch.lists[: len(lists)] = lists
            rows = self._candidates(scratch, len(lists), depth, bits)
            if len(rows) >= min(effort.depth, len(allowed)) or number >= self._lists.number:
                return rows, len(lists)
            number *= _FAR

    def _candidates(self, scratch: Scratch, lists: int, depth: int, bits: Bits | None) -> Rows:
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

    def _compared(self, query: Floats, k: int, bits: Bits, available: int) -> tuple[Floats, Keys]:
        """Scores and keys of the best k of the rows in `bits`, every one of them compared."""
        if available * _IN_ORDER < self.indexed:
            return self._best(query, np.flatnonzero(unpacked(bits, self.indexed)), k)
        scores = self._file.scan(query, 0, self.indexed)  # in order, and without a copy
        if available < self.indexed:
            scores[~unpacked(bits, self.indexed)] = -np.inf
        rows = np.argpartition(-scores, k)[:k] if 4 * k < self.indexed else np.arange(self.indexed)
        rows = rows[np.lexsort((rows, -scores[rows]))]
        rows = rows[np.isfinite(scores[rows])][:k]
        return scores[rows], self._file.keys[rows]

    def _best(self, query: Floats, rows: Rows, k: int) -> tuple[Floats, Keys]:
        """Scores and keys of the best k rows."""
        scores = self._file.score(query, rows)
        order = (-scores).argsort(kind="stable")[:k]
        return scores[order], self._file.keys[rows[order]]


def _asking(lists: int, selector: Any = None) -> Any:
    parameters = faiss.IVFRaBitQSearchParameters()
    parameters.nprobe = lists
    parameters.qb = _QUERY_BITS
    if selector is not None:
        parameters.sel = selector
    return parameters


def _ignore(done: int, total: int) -> None:
    pass
