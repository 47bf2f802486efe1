"""The compressed index only proposes: every score it returns is the cosine of the full vectors in the vector file.

Labels inside FAISS are row numbers of that file. Removed rows are masked by their alive bit and stay in the lists until
the next build. Parameters of a search travel with the search; nothing is ever set on the shared index.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from index.embedded.ann import index_file, train
from index.embedded.ann.effort import Effort, effort_for
from index.embedded.ann.lists import Lists, nearest_holding
from index.embedded.ann.scratch import Scratch, Scratches
from index.embedded.ann.vector_file import VectorFile
from index.errors import CacheUnusable

Floats = npt.NDArray[np.float32]
Keys = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint8]

MIN_COMPRESSED = 10_000
EXACT_ROWS = 1_500  # up to so many rows, comparing each of them costs less than scanning lists
_ENCODE = 4_096
_QUERY_BITS = 3
_FAR = 4


class Selection:
    """Rows that may be found, one bit each; made by `CompressedIndex.select`, to be kept and used for many searches.

    It stays right when rows are removed; rows merged later are not in it.
    """

    __slots__ = ("_bits", "_count", "_effective", "_removals", "per_list")

    def __init__(self, bits: Bits, count: int, per_list: Keys) -> None:
        """per_list: int64 (lists,), how many of its rows lie in each list."""
        self._bits = bits
        self._count = count
        self._effective = bits
        self._removals = -1
        self.per_list = per_list

    def __len__(self) -> int:
        return self._count

    def bits(self, alive: Bits, removals: int) -> Bits:
        """Its rows that are alive; computed again only after a removal."""
        if self._removals != removals:
            self._effective = self._bits & alive[: len(self._bits)]
            self._removals = removals
        return self._effective


@dataclass(frozen=True, slots=True)
class Batch:
    """Encoded rows first…stop-1, ready to be merged."""

    first: int
    stop: int
    ivf: Any


class CompressedIndex:
    """`VectorIndex` over the first `indexed` rows of a vector file.

    Searches run beside each other and beside `remove` and `save`; `merge` needs to be alone. `sequence`: the change up
    to which a loaded index file knew the store, -1 for one that was just built. Searches raise CacheUnusable where the
    vector file is damaged.
    """

    kind = "ivf-rabitq"

    def __init__(self, file: VectorFile, index: Any, alive: Bits, *, trained: int, sequence: int = -1) -> None:
        """Use `build` or `load`."""
        self._file = file
        self._index = index  # owns transform and lists; the two below are views into it
        self._transform: Any = faiss.downcast_VectorTransform(index.chain.at(0))
        self._ivf: Any = faiss.downcast_index(index.index)
        self._lists = Lists(self._transform, self._ivf)
        self._scratches = Scratches(self._ivf.d)
        self._parameters: dict[int, Any] = {}  # made once for each number of lists, then only read
        self._alive = alive
        self._removals = 0
        self.trained = trained
        self.sequence = sequence
        self.indexed = int(self._ivf.ntotal)
        self.count = int(np.bitwise_count(alive).sum())

    @classmethod
    def build(
        cls, file: VectorFile, *, threads: int = 2, progress: Callable[[int, int], None] | None = None
    ) -> CompressedIndex:
        """Trains on a sample of the rows the file has now and adds all of them; it may be appended to meanwhile.

        threads: how many the calling thread may use. progress: gets (rows done, rows in all) every few seconds; what it
        raises ends the build.
        """
        rows = np.arange(len(file), dtype=np.int64)
        if not len(rows):
            raise ValueError("nothing to train on: the vector file is empty")
        report = progress or _ignore
        index = train.train(file, rows, threads=threads, breathe=lambda: report(0, len(rows)))
        ivf: Any = faiss.downcast_index(index.index)
        for part, vectors in file.blocks(rows, _ENCODE):
            ivf.add_with_ids(index.chain.at(0).apply(vectors.astype(np.float32)), part)
            report(int(part[-1]) + 1, len(rows))
        index.ntotal = ivf.ntotal
        # Lists grow by doubling: only a copy has exactly the memory they need.
        return cls(file, faiss.clone_index(index), _all_alive(len(rows)), trained=len(rows))

    @classmethod
    def load(cls, path: Path, file: VectorFile, *, fingerprint: str, dim: int) -> CompressedIndex:
        """What `save` wrote. Raises CacheUnusable where it is missing, damaged, or does not belong to this file."""
        header, alive, index = index_file.read(path)
        if (header.kind, header.fingerprint, header.dim) != (cls.kind, fingerprint, dim):
            raise CacheUnusable(f"{path} belongs to another model or kind of index; rebuild it from the store")
        keys = file.keys
        if header.rows > len(keys) or header.rows < 1 or keys[header.rows - 1] != header.last_key:
            raise CacheUnusable(f"{path} does not fit its vector file; rebuild it from the store")
        loaded = cls(file, index, alive, trained=header.trained, sequence=header.sequence)
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
        index_file.write(path, header, self._alive.copy(), self._index)

    def __len__(self) -> int:
        return self.count

    @property
    def nbytes(self) -> int:
        """Bytes of memory, nearly all of them in the lists."""
        entry = self._ivf.code_size + 8
        return int(self.indexed * entry + (self._ivf.nlist + self._file.dim) * self._ivf.d * 4 + len(self._alive))

    def alive(self) -> Keys:
        """Keys that a search may find, increasing."""
        return self._file.keys[: self.indexed][_unpacked(self._alive, self.indexed)]

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
        known = _unpacked(self._alive, self.indexed)
        alive = np.concatenate([known, np.ones(batch.stop - batch.first, np.bool_)])
        self._alive = np.packbits(alive, bitorder="little")
        self._index.ntotal = self._ivf.ntotal
        self._removals += 1
        self.indexed = batch.stop
        self.count += batch.stop - batch.first

    def add(self, keys: Keys, vectors: Floats | None = None) -> None:
        """Encodes and merges; the keys must be those of the rows that follow the indexed ones."""
        rows = self._file.find(keys)
        if len(rows):
            if not np.array_equal(rows, np.arange(self.indexed, self.indexed + len(rows))):
                raise ValueError("keys must be those of the next rows of the vector file")
            self.merge(self.encode(int(rows[0]), int(rows[-1]) + 1))

    def remove(self, keys: Keys) -> None:
        """Never found again on return. Unknown and removed keys are passed over."""
        rows = np.unique(self._file.find(keys))
        rows = rows[(rows >= 0) & (rows < self.indexed)]
        bits = np.left_shift(1, rows & 7).astype(np.uint8)
        dead = int(np.count_nonzero(self._alive[rows >> 3] & bits))
        if dead:
            np.bitwise_and.at(self._alive, rows >> 3, ~bits)
            self._removals += 1
            self.count -= dead

    def select(self, keys: Keys) -> Selection:
        """The given keys as a selection. Keys the index does not cover, or that were removed, are passed over."""
        rows = self._file.find(keys)
        chosen = np.zeros(self.indexed, np.bool_)
        chosen[rows[(rows >= 0) & (rows < self.indexed)]] = True
        chosen &= _unpacked(self._alive, self.indexed)
        bits = np.packbits(chosen, bitorder="little")
        return Selection(bits, int(chosen.sum()), self._lists.count(chosen))

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
            bits = allowed.bits(self._alive, self._removals)
        elif self.count < self.indexed:
            bits = self._alive
        if available <= max(EXACT_ROWS, 2 * k):
            rows = np.flatnonzero(_unpacked(self._alive if bits is None else bits, self.indexed))
            return self._best(query, rows, k)
        if effort is None:
            effort = effort_for(k, self.indexed, available, self._ivf.nlist)
        scratch, lists = self._scratches.own, self._lists
        scratch.room(0, _FAR * effort.depth)
        lists.turn(query, scratch)
        if allowed is not None and bits is not None:
            return self._best(query, self._allowed(scratch, effort, allowed, bits), k)
        number = lists.nearest(scratch, effort.lists, effort.most, effort.reach)
        rows = self._candidates(scratch, number, effort.depth, bits)
        while len(rows) < min(effort.depth, available) and number < lists.number:  # small lists, or removed rows
            number = lists.nearest(scratch, _FAR * number, 1, 1.0)
            rows = self._candidates(scratch, number, effort.depth, bits)
        return self._best(query, rows, k)

    def _allowed(self, scratch: Scratch, effort: Effort, allowed: Selection, bits: Bits) -> Keys:
        """Row numbers of candidates among allowed rows: in the lists that hold as many as they should."""
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
            scratch.room(len(lists), 0)
            scratch.lists[: len(lists)] = lists
            rows = self._candidates(scratch, len(lists), depth, bits)
            if len(rows) >= min(effort.depth, len(allowed)) or number >= self._lists.number:
                return rows
            number *= _FAR

    def _candidates(self, scratch: Scratch, lists: int, depth: int, bits: Bits | None) -> Keys:
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

    def _best(self, query: Floats, rows: Keys, k: int) -> tuple[Floats, Keys]:
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


def _all_alive(count: int) -> Bits:
    return np.packbits(np.ones(count, np.bool_), bitorder="little")


def _unpacked(bits: Bits, count: int) -> npt.NDArray[np.bool_]:
    unpacked: npt.NDArray[np.bool_] = np.unpackbits(bits, count=count, bitorder="little").view(np.bool_)
    return unpacked
