"""Exact search in memory: all vectors of a small collection, or the newest that a larger one's files did not take."""

from __future__ import annotations

from collections.abc import Sequence

from index.embedded.ann.exact import FlatIndex
from index.embedded.filters.fields import Matching
from index.embedded.live.rwlock import ReadWriteLock
from index.embedded.live.structure import keys_of
from index.embedded.live.upkeep.policy import Figures
from index.embedded.store.encoding import Stored, stored_type
from index.embedded.store.vectors import Keys
from index.items import Vector


class InMemory:
    """`Structure` without files; ids are the store's alone."""

    kind = FlatIndex.kind

    def __init__(self, dim: int) -> None:
        self._index = FlatIndex(dim, stored_type(dim))
        self._lock = ReadWriteLock()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def figures(self) -> Figures:
        return Figures(compressed=False, alive=len(self._index))

    @property
    def nbytes(self) -> tuple[int, int]:
        return self._index.nbytes, 0

    @property
    def last_key(self) -> int:
        return self._index.last_key

    def append(self, keys: Keys, vectors: Stored, ids: Sequence[str]) -> None:
        fresh = keys > self._index.last_key
        with self._lock.writing():
            self._index.add(keys[fresh], vectors[fresh])

    def remove(self, keys: Keys) -> None:
        with self._lock.writing():
            self._index.remove(keys)

    def alive(self) -> Keys:
        with self._lock.reading():
            return self._index.keys

    def search(self, query: Vector, k: int, matching: Matching | None) -> tuple[Vector, Keys]:
        among = None if matching is None else keys_of(matching)
        with self._lock.reading():
            found, keys = self._index.search(query[None], min(k, len(self._index)), among)
        known = keys[0] >= 0
        return found[0][known], keys[0][known]

    def nearest(self, queries: Vector, k: int) -> tuple[Vector, Keys]:
        with self._lock.reading():
            return self._index.search(queries, k)

    def want(self, recall: float) -> None: ...

    def names(self, keys: Keys) -> dict[int, str]:
        return {}

    def verify(self) -> None: ...

    def close(self) -> None: ...

    def discard(self) -> None: ...
