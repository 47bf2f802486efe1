"""The compressed index only proposes: every score it returns is the cosine of the full vectors in the vector file.

Labels inside FAISS are row numbers of that file. Removed rows are masked by their alive bit and stay in the lists until
the next build. How it is searched: `index.embedded.ann.search`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from index.embedded.ann import train
from index.embedded.ann.arrays import Floats, Keys, Rows
from index.embedded.ann.basis import Basis, Shape
from index.embedded.ann.candidates import Candidates
from index.embedded.ann.effort import Effort
from index.embedded.ann.files import index_file
from index.embedded.ann.files.vector_file import VectorFile
from index.embedded.ann.search import Search
from index.embedded.ann.selection import Alive, Selection, packed
from index.embedded.ann.tuning import Tuning
from index.errors import CacheUnusable

MIN_COMPRESSED = 10_000
_ENCODE = 4_096


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
        self._alive = alive
        candidates = Candidates(self._transform, self._ivf)
        self._lists = candidates.lists
        self._search = Search(file, candidates, alive, self._ivf.d)
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
        return self._search.looked

    @property
    def tuning(self) -> Tuning:
        """How much harder or less hard than usual searches look."""
        return self._search.tuning

    @tuning.setter
    def tuning(self, tuning: Tuning) -> None:
        self._search.tuning = tuning

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

    def usual(self, k: int, available: int | None = None) -> Effort:
        """Where a search for the k nearest among `available` rows, None for all, starts from, before it is tuned."""
        return self._search.usual(k, available)

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
        chosen = self.select(allowed) if isinstance(allowed, np.ndarray) else allowed
        return self._search.search(vectors, k, chosen, effort=effort)

    def nearest(
        self,
        query: Floats,
        k: int,
        allowed: Selection | None = None,
        *,
        effort: Effort | None = None,
        own: int = -1,
    ) -> tuple[Floats, Keys]:
        """As `search`, for one query float32 (dim,) and without padding: at most k scores and keys.

        own: a row that counts as not being there, -1 for none.
        """
        return self._search.nearest(query, k, allowed, effort=effort, own=own)

    def nearest_of(self, queries: Floats, k: int) -> tuple[Floats, Keys]:
        """`search` of many at once, without a filter: one pass through the lists for all, on the calling thread."""
        return self._search.nearest_of(queries, k)


def _ignore(done: int, total: int) -> None:
    pass
