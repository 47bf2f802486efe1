"""What a collection searches: always exactly the items whose writes were applied, whatever structure holds them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from index.encoding import Stored
from index.fields import Matching
from index.flat import FlatIndex
from index.rwlock import ReadWriteLock
from index.types import Vector

Keys = npt.NDArray[np.int64]


class LiveIndex:
    """Safe from any thread. Changes come in the order of commit, from the writer alone."""

    def __init__(self, dim: int) -> None:
        self._lock = ReadWriteLock()
        self._flat = FlatIndex(dim)

    @property
    def kind(self) -> str:
        """What answers a search: `flat`, or the name of the compressed structure."""
        return self._flat.kind

    @property
    def indexing(self) -> bool:
        """Whether a build or merge is under way."""
        return False

    def __len__(self) -> int:
        return len(self._flat)

    def apply(self, added: Keys, vectors: Stored, removed: Keys) -> None:
        """added: increasing keys with stored vectors (n, dim); removed: any keys."""
        with self._lock.writing():
            self._flat.add(added, vectors)
            self._flat.remove(removed)

    def search(self, vector: Vector, k: int, allowed: Matching | None = None) -> tuple[Vector, Keys]:
        """vector float32 (dim,), unit → scores float32 (m,) descending and keys int64 (m,), m <= k."""
        among = None if allowed is None else np.frombuffer(allowed.keys.to_array(), np.uint32).astype(np.int64)
        with self._lock.reading():
            scores, keys = self._flat.search(vector[None], min(k, len(self._flat)), among)
        known = keys[0] >= 0
        return np.clip(scores[0][known], -1.0, 1.0), keys[0][known]
