"""A compressed index, the vector file it re-scores from, and the rows of that file it does not cover yet, searched
exactly.

One generation lives in one directory. Rows are appended the moment they are written; a merge only moves the mark up to
which the compressed index covers them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from pyroaring import BitMap

from index.embedded.ann.compressed import CompressedIndex
from index.embedded.ann.effort import Effort, effort_for
from index.embedded.ann.id_file import NameFile
from index.embedded.ann.vector_file import VectorFile
from index.embedded.failpoints import Failpoints
from index.embedded.filters.column import bitmap
from index.embedded.filters.fields import Matching
from index.embedded.live.rwlock import ReadWriteLock
from index.embedded.store.encoding import Stored
from index.embedded.store.vectors import Keys
from index.types import Vector

_INDEX = "index"
_MERGE = 16_384  # rows per merge at most, so that progress shows and a close need not wait long
_CHECK_FROM, _CHECK_SHARE = 2_048, 0.05  # merged rows after which it is looked whether searches still find enough
_SAMPLE, _NEAREST = 64, 10
_FEW = 1_500  # up to so many items that pass a filter, comparing each of them costs less than the compressed index


class Generation:
    """Searches from any thread; `append`, `remove` and `merge` are kept apart by the caller."""

    def __init__(
        self, directory: Path, file: VectorFile, names: NameFile, index: CompressedIndex, *, saved: int = -1
    ) -> None:
        self.directory = directory
        self._names = names
        self.saved = saved  # sequence of the index file on disk, -1 while there is none
        self._file = file
        self._index = index
        self._lock = ReadWriteLock()
        self._tail_dead = BitMap()  # keys beyond the compressed part that were removed
        self._epoch = 0
        self._unchecked = 0
        self.agreement = 1.0

    @classmethod
    def load(cls, directory: Path, *, dim: int, token: str) -> Generation:
        """What `save` left; rows behind it are cut, for the store to bring them again. Raises CacheUnusable."""
        file = VectorFile.open(directory, dim=dim, fingerprint=token)
        try:
            index = CompressedIndex.load(directory / _INDEX, file, fingerprint=token, dim=dim)
            file.truncate(index.indexed)
            names = NameFile(directory, rows=index.indexed)
        except BaseException:
            file.close()
            raise
        return cls(directory, file, names, index, saved=index.sequence)

    @classmethod
    def build(
        cls,
        directory: Path,
        file: VectorFile,
        names: NameFile,
        *,
        threads: int,
        progress: Callable[[int, int], None],
    ) -> Generation:
        """Trains and fills a compressed index over the rows the files have now."""
        return cls(directory, file, names, CompressedIndex.build(file, threads=threads, progress=progress))

    def __len__(self) -> int:
        return self._index.count + self.tail - len(self._tail_dead)

    @property
    def kind(self) -> str:
        return self._index.kind

    @property
    def indexed(self) -> int:
        """Rows the compressed index covers, removed ones included."""
        return self._index.indexed

    @property
    def tail(self) -> int:
        """Newer rows, removed ones included."""
        return len(self._file) - self._index.indexed

    @property
    def dead(self) -> int:
        """Removed rows that still take room."""
        return self._index.indexed - self._index.count + len(self._tail_dead)

    @property
    def trained(self) -> int:
        """How many vectors there were when the compressed index was trained."""
        return self._index.trained

    @property
    def last_key(self) -> int:
        """The greatest key ever appended, -1 before."""
        return self._file.last_key

    @property
    def nbytes(self) -> tuple[int, int]:
        """(memory of the compressed index, bytes of the vector file on disk)."""
        return self._index.nbytes, self._file.nbytes

    def append(self, keys: Keys, vectors: Stored, ids: Sequence[str]) -> None:
        """Searchable on return. Keys that are not above `last_key` are there already and passed over."""
        known = int(np.searchsorted(keys, self._file.last_key, "right"))
        if known < len(keys):
            self._names.append(keys[known:], ids[known:])  # first: whoever finds a row may ask for its name
            self._file.append(keys[known:], vectors[known:])

    def remove(self, keys: Keys) -> None:
        """Never found again on return. Unknown keys are passed over."""
        rows = self._file.find(keys)
        covered = rows < self._index.indexed
        self._index.remove(keys[covered & (rows >= 0)])
        self._tail_dead |= BitMap(keys[~covered].tolist())

    def alive(self) -> Keys:
        """Keys a search may find, increasing."""
        keys = self._file.keys
        covered = self._index.indexed
        tail = keys[covered:]
        return np.concatenate([self._index.alive(), tail[~np.isin(tail, self._tail_dead.to_array())]])

    def names(self, keys: Keys) -> list[str] | None:
        """Ids of keys; None where one is not here. Raises CacheUnusable."""
        rows = self._file.find(keys)
        return None if (rows < 0).any() else self._names.read(rows, keys)

    def search(self, query: Vector, k: int, matching: Matching | None) -> tuple[Vector, Keys]:
        """query float32 (dim,), unit → scores float32 (m,) descending, keys int64 (m,), m <= k."""
        if matching is not None and len(matching) <= _FEW:
            keys = np.frombuffer(matching.keys.to_array(), np.uint32).astype(np.int64)
            rows = self._file.find(keys)
            known = rows >= 0
            return best(self._file.score(query, rows[known]), keys[known], k)
        self._lock.acquire_read()
        try:
            covered, dead = self._index.indexed, self._tail_dead  # of one moment: a merge replaces both
            selection = None if matching is None else self._selection(matching)
            scores, keys = self._index.nearest(query, k, selection)
        finally:
            self._lock.release_read()
        stop = len(self._file)
        if stop == covered:
            return scores, keys
        tail_scores = self._file.scan(query, covered, stop)
        tail_keys = self._file.keys[covered:stop]
        if dead or matching is not None:
            passing = bitmap(tail_keys.astype(np.uint32)) - dead
            if matching is not None:
                passing &= matching.keys
            allowed = np.isin(tail_keys, np.frombuffer(passing.to_array(), np.uint32), assume_unique=True)
            tail_scores, tail_keys = tail_scores[allowed], tail_keys[allowed]
        return best(np.concatenate([scores, tail_scores]), np.concatenate([keys, tail_keys]), k)

    def merge(self, guard: Any) -> int:
        """Brings rows of the tail into the compressed index; the costly part goes beside searches. Returns how many.

        guard: lock that keeps `append` and `remove` away while the result is taken over.
        """
        first = self._index.indexed
        stop = min(len(self._file), first + _MERGE)
        if stop == first:
            return 0
        faiss.omp_set_num_threads(1)  # of the calling thread: the other cores are left to searches
        batch = self._index.encode(first, stop)
        moved = self._file.keys[first:stop].astype(np.uint32)
        with guard, self._lock.writing():
            self._index.merge(batch)
            gone = bitmap(moved) & self._tail_dead
            self._index.remove(np.array(gone.to_array(), np.int64))
            self._tail_dead = self._tail_dead - gone
            self._epoch += 1
        self._unchecked += stop - first
        if self._unchecked >= max(_CHECK_FROM, _CHECK_SHARE * stop):
            self._unchecked = 0
            self.agreement = self._agree()
        return stop - first

    def save(self, sequence: int, failpoints: Failpoints) -> None:
        """Writes rows, then the index file, as of `sequence` at least. Not beside `merge`."""
        self._file.sync()
        self._names.sync()
        failpoints.hit("index.before_save")
        self._index.save(self.directory / _INDEX, sequence=sequence)
        self.saved = sequence
        failpoints.hit("index.after_save")

    def warm(self, *, room: int, stopped: Callable[[], bool]) -> int:
        """As `VectorFile.warm`."""
        return self._file.warm(room=room, stopped=stopped)

    def verify(self) -> None:
        """Reads and checks every row. Raises CacheUnusable."""
        self._file.verify()
        keys = self._file.keys
        for start in range(0, len(keys), _MERGE):
            rows = np.arange(start, min(start + _MERGE, len(keys)), dtype=np.int64)
            self._names.read(rows, keys[rows])

    def close(self) -> None:
        """Gives the files back. Searches that still run keep their mapping."""
        self._file.close()
        self._names.close()

    def discard(self) -> None:
        """Closes, and removes the directory."""
        self.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _agree(self) -> float:
        """For the newest rows, the share of what a far harder search finds that an ordinary one finds."""
        rows = np.linspace(self._index.trained, self._index.indexed - 1, _SAMPLE).astype(np.int64)
        ordinary = effort_for(_NEAREST, self.indexed, max(1, self._index.count), 1)
        hard = Effort(lists=8 * ordinary.most, depth=8 * ordinary.depth)
        agreed = found = 0
        for query in self._file.read(rows).astype(np.float32):
            with self._lock.reading():
                wanted = set(self._index.nearest(query, _NEAREST, effort=hard)[1].tolist())
                agreed += len(wanted.intersection(self._index.nearest(query, _NEAREST)[1].tolist()))
            found += len(wanted)
        return agreed / found

    def _selection(self, matching: Matching) -> Any:
        version = matching.version  # before the keys: a change while they are read makes them outdated, not these
        kept = matching.selection
        if kept is not None and kept[0] is self and kept[1] == (self._epoch, version):
            return kept[2]
        made = self._index.select(np.frombuffer(matching.keys.to_array(), np.uint32).astype(np.int64))
        matching.selection = (self, (self._epoch, version), made)
        return made


def best(scores: Vector, keys: Keys, k: int) -> tuple[Vector, Keys]:
    """The k highest, descending; equal ones in the order of keys."""
    if len(scores) > 4 * k:
        cut = np.argpartition(-scores, k)[:k]
        scores, keys = scores[cut], keys[cut]
    order = np.lexsort((keys, -scores))[:k]
    return scores[order], keys[order]


def clipped(scores: Vector) -> Vector:
    """Descending scores inside -1…1, past which rounding may lead."""
    if len(scores) and (scores[0] > 1.0 or scores[-1] < -1.0):
        return np.clip(scores, -1.0, 1.0)
    return scores
