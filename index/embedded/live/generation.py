"""A compressed index, the vector file it re-scores from, and the rows of that file it does not cover yet, searched
exactly.

One generation lives in one directory. Rows are appended the moment they are written; a merge only moves the mark up to
which the compressed index covers them. Rows that the files do not take, for want of space, are spilt: kept in memory
until the files take them.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from pyroaring import BitMap

from index.embedded.ann import measure
from index.embedded.ann.basis import Shape
from index.embedded.ann.compressed import CompressedIndex
from index.embedded.ann.files.id_file import NameFile
from index.embedded.ann.files.vector_file import VectorFile
from index.embedded.ann.selection import Selection
from index.embedded.failpoints import Failpoints
from index.embedded.filters.fields import Matching
from index.embedded.filters.sorted import bitmap
from index.embedded.live.memory import InMemory
from index.embedded.live.rwlock import ReadWriteLock
from index.embedded.live.structure import best, keys_of
from index.embedded.live.upkeep.asked import Asked
from index.embedded.live.upkeep.measured import Measured
from index.embedded.live.upkeep.policy import Figures
from index.embedded.live.upkeep.watch import Watch
from index.embedded.store.encoding import Stored
from index.embedded.store.vectors import Keys
from index.errors import CacheUnusable
from index.items import Vector

_INDEX, _RECALL, _ASKED = "index", "recall", "asked"
_MERGE = 16_384  # rows per merge at most, so that progress shows and a close need not wait long
_MANY = 32  # queries that hold the lock at once
_FEW = 1_500  # up to so many items that pass a filter, comparing each of them costs less than the compressed index


class Generation:
    """`Structure` in one directory; `merge` and `settle` are kept apart from `append` and `remove` by the caller."""

    def __init__(
        self,
        directory: Path,
        file: VectorFile,
        names: NameFile,
        index: CompressedIndex,
        failpoints: Failpoints,
        asked: Asked,
        *,
        saved: int = -1,
    ) -> None:
        self.directory = directory
        self.saved = saved  # sequence of the index file on disk, -1 while there is none
        self.unsaved = 0  # changes since then
        self.spill_reason = ""  # why rows were spilt last
        self._names = names
        self._file = file
        self._index = index
        self._failpoints = failpoints
        self._lock = ReadWriteLock()
        self.watch = Watch(index, file, self._lock, asked)
        self._asked = asked
        self._spilt = InMemory(file.dim)
        self._tail_dead = BitMap()  # keys beyond the compressed part that were removed
        self._epoch = 0
        self._lost = False

    @classmethod
    def load(cls, directory: Path, failpoints: Failpoints, asked: Asked, *, dim: int, token: str) -> Generation:
        """What `save` left; rows behind it are cut, for the store to bring them again. Raises CacheUnusable."""
        try:
            file = VectorFile.open(directory, dim=dim, fingerprint=token)
            try:
                index = CompressedIndex.load(directory / _INDEX, file, fingerprint=token, dim=dim)
                file.truncate(index.indexed)
                names = NameFile(directory, rows=index.indexed)
            except BaseException:
                file.close()
                raise
        except OSError as error:
            raise CacheUnusable(f"{directory} cannot be used ({error.strerror}); rebuilding it") from error
        loaded = cls(directory, file, names, index, failpoints, asked, saved=index.sequence)
        with contextlib.suppress(CacheUnusable):
            asked.read(directory / _ASKED, dim)
        with contextlib.suppress(CacheUnusable):  # then it is measured at once
            loaded.watch.note(Measured.read(directory / _RECALL))
        return loaded

    @classmethod
    def build(
        cls,
        directory: Path,
        file: VectorFile,
        names: NameFile,
        failpoints: Failpoints,
        asked: Asked,
        *,
        recall: float,
        start: Shape | None,
        threads: int,
        progress: Callable[[int, int], None],
    ) -> Generation:
        """Trains and fills a compressed index over the rows the files have now. start: the shape to begin with."""
        queries = asked.queries(file.dim)
        built = measure.built(file, recall, asked=queries, start=start, threads=threads, progress=progress)
        made = cls(directory, file, names, built.index, failpoints, asked)
        made.watch.note(Measured.now(built.found, built.shape, recall, 0.0 if recall >= 1 else recall))
        made.want(recall)
        return made

    def __len__(self) -> int:
        return self._index.count + self._tail - len(self._tail_dead) + len(self._spilt)

    @property
    def kind(self) -> str:
        return self._index.kind

    @property
    def figures(self) -> Figures:
        measured = self.watch.measured
        return Figures(
            compressed=True,
            alive=len(self),
            indexed=self._index.indexed,
            tail=self._tail + len(self._spilt),
            spilt=len(self._spilt),
            dead=self._index.indexed - self._index.count + len(self._tail_dead),
            trained=self._index.trained,
            unsaved=self.unsaved,
            saved=self.saved >= 0,
            lost=self._lost,
            agreement=self.watch.agreement,
            reached=measured is None or measured.reached,
            measured=measured is not None and measured.target == self.watch.wanted,
            fitting=measured is None or measured.fitting,
        )

    @property
    def last_key(self) -> int:
        return max(self._file.last_key, self._spilt.last_key, 0)

    @property
    def filed_key(self) -> int:
        """The greatest key in the files, 0 before: greater ones are spilt."""
        return max(self._file.last_key, 0)

    @property
    def nbytes(self) -> tuple[int, int]:
        return self._index.nbytes + self._spilt.nbytes[0], self._file.nbytes

    def append(self, keys: Keys, vectors: Stored, ids: Sequence[str]) -> None:
        known = int(np.searchsorted(keys, self.last_key, "right"))
        keys, vectors, ids = keys[known:], vectors[known:], ids[known:]
        self.unsaved += len(keys)
        if len(keys) and not len(self._spilt):
            try:
                self._write(keys, vectors, ids)
                return
            except OSError as error:
                self.spill_reason = str(error.strerror or error)
        self._spilt.append(keys, vectors, ids)

    def settle(self, keys: Keys, vectors: Stored, ids: Sequence[str]) -> None:
        """Brings spilt rows into the files, those that follow there. Raises OSError where they do not take them yet."""
        self._write(keys, vectors, ids)
        self._spilt.remove(keys)  # after: a search looks at these first, and finds none of them missing

    def remove(self, keys: Keys) -> None:
        self.unsaved += len(keys)
        rows = self._file.find(keys)
        covered = rows < self._index.indexed
        self._index.remove(keys[covered & (rows >= 0)])
        self._tail_dead |= BitMap(keys[~covered].tolist())
        self._spilt.remove(keys[rows < 0])

    def alive(self) -> Keys:
        keys = self._file.keys
        covered = self._index.indexed
        tail = keys[covered:]
        tail = tail[~np.isin(tail, self._tail_dead.to_array())]
        return np.concatenate([self._index.alive(), tail, self._spilt.alive()])

    def names(self, keys: Keys) -> dict[int, str]:
        rows = self._file.find(keys)
        known = rows >= 0
        return dict(zip(keys[known].tolist(), self._names.read(rows[known], keys[known]), strict=True))

    def search(self, query: Vector, k: int, matching: Matching | None) -> tuple[Vector, Keys]:
        if not len(self._spilt):
            return self._search(query, k, matching)
        spilt = self._spilt.search(query, k, matching)  # first: `settle` moves them into what is searched next
        found = self._search(query, k, matching)
        fresh = ~np.isin(spilt[1], found[1])
        return best(np.concatenate([found[0], spilt[0][fresh]]), np.concatenate([found[1], spilt[1][fresh]]), k)

    def nearest(self, queries: Vector, k: int) -> tuple[Vector, Keys]:
        spilt = self._spilt.nearest(queries, k) if len(self._spilt) else None  # first, as `_find` does
        # A few at a time: a merge waits for those that are under way, and new ones wait for the merge.
        parts = [self._nearest(queries[start : start + _MANY], k) for start in range(0, len(queries), _MANY)]
        if not parts:
            return np.empty((0, k), np.float32), np.empty((0, k), np.int64)
        scores, keys = (np.concatenate(each) for each in zip(*parts, strict=True))
        return (scores, keys) if spilt is None else _joined(scores, keys, *spilt, k)

    def _nearest(self, queries: Vector, k: int) -> tuple[Vector, Keys]:
        with self._lock.reading():
            covered, dead = self._index.indexed, self._tail_dead  # of one moment: a merge replaces both
            scores, keys = self._index.nearest_of(queries, k)
        self._failpoints.hit("index.between_parts")
        stop = len(self._file)
        if stop == covered:
            return scores, keys
        tail_scores = np.stack([self._file.scan(query, covered, stop) for query in queries])
        tail_keys = self._file.keys[covered:stop]
        if dead:
            alive = ~np.isin(tail_keys, dead.to_array())
            tail_scores, tail_keys = tail_scores[:, alive], tail_keys[alive]
        return _joined(scores, keys, tail_scores, np.broadcast_to(tail_keys, tail_scores.shape), k)

    def _search(self, query: Vector, k: int, matching: Matching | None) -> tuple[Vector, Keys]:
        if matching is not None and len(matching) <= _FEW:
            keys = keys_of(matching)
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
        self._failpoints.hit("index.between_parts")
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

    def want(self, recall: float) -> None:
        self.watch.wanted = recall

    def measure(self, breathe: Callable[[], None]) -> int:
        """Searches become as hard as the wanted recall asks for; returns the rows that was measured on."""
        self.watch.measure(breathe)
        self._keep_measured()
        return self._index.indexed

    def merge(self, guard: AbstractContextManager[object], *, breathe: Callable[[], None]) -> int:
        """Brings rows of the tail into the compressed index; the costly part goes beside searches. Returns how many.

        guard: lock that keeps `append` and `remove` away while the result is taken over. breathe: called
        meanwhile; what it raises ends the merge. Recall is measured again when enough was merged.
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
        self.watch.merged(stop - first, breathe)
        return stop - first

    def save(self, sequence: int) -> None:
        """Writes rows, then the index file, as of `sequence` at least. Not beside `merge`. Raises OSError."""
        self._failpoints.hit("index.save")
        self._file.sync()
        self._names.sync()
        self._failpoints.hit("index.before_save")
        try:
            self._index.save(self.directory / _INDEX, sequence=sequence)
        except FileNotFoundError:
            self._lost = True
            raise
        self._keep_measured()
        self._asked.write(self.directory / _ASKED)
        self.saved = sequence
        self._failpoints.hit("index.after_save")

    def warm(self, *, room: int, stopped: Callable[[], bool]) -> int:
        """As `VectorFile.warm`."""
        return self._file.warm(room=room, stopped=stopped)

    def verify(self) -> None:
        self._file.verify()
        keys = self._file.keys
        for start in range(0, len(keys), _MERGE):
            rows = np.arange(start, min(start + _MERGE, len(keys)), dtype=np.int64)
            self._names.read(rows, keys[rows])

    def close(self) -> None:
        self._file.close()
        self._names.close()

    def discard(self) -> None:
        self._file.close(sync=False)
        self._names.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _keep_measured(self) -> None:
        if self.watch.measured is not None:
            self.watch.measured.write(self.directory / _RECALL)

    @property
    def _tail(self) -> int:
        """Rows of the file beyond the compressed part, removed ones included."""
        return len(self._file) - self._index.indexed

    def _write(self, keys: Keys, vectors: Stored, ids: Sequence[str]) -> None:
        self._failpoints.hit("index.append")
        self._names.put(len(self._file), keys, ids)  # first: whoever finds a row may ask for its name
        self._file.append(keys, vectors)

    def _selection(self, matching: Matching) -> Selection:
        version = matching.version  # before the keys: a change while they are read makes them outdated, not these
        kept = matching.selection
        if isinstance(kept, _Kept) and kept.of is self and (kept.epoch, kept.version) == (self._epoch, version):
            return kept.selection
        made = self._index.select(keys_of(matching))
        self._failpoints.hit("index.selected")
        matching.selection = _Kept(self, self._epoch, version, made)
        return made


def _joined(scores: Vector, keys: Keys, others: Vector, other_keys: Keys, k: int) -> tuple[Vector, Keys]:
    """The k best of both, row by row: (n, m) each, a key once; missing places hold -inf and -1."""
    found, found_keys = np.full((len(scores), k), -np.inf, np.float32), np.full((len(scores), k), -1, np.int64)
    for place in range(len(scores)):
        fresh = (other_keys[place] >= 0) & ~np.isin(other_keys[place], keys[place])
        there = keys[place] >= 0
        row, row_keys = best(
            np.concatenate([scores[place][there], others[place][fresh]]),
            np.concatenate([keys[place][there], other_keys[place][fresh]]),
            k,
        )
        found[place, : len(row)], found_keys[place, : len(row)] = row, row_keys
    return found, found_keys


@dataclass(frozen=True, slots=True)
class _Kept:
    """A selection, the generation it is for, and how far merges and the filter's keys had come when it was made."""

    of: Generation
    epoch: int
    version: int
    selection: Selection
