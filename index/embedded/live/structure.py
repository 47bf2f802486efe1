"""A structure that can serve a collection: what a live index asks of it, exact in memory or compressed beside files.

Its vectors are float16 or float32 unit rows under keys that only ever increase. Searches may come from any thread;
`append` and `remove` are kept apart from each other by the caller, not from searches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from index.embedded.filters.fields import Matching
from index.embedded.live.upkeep.policy import Figures
from index.embedded.store.encoding import Stored
from index.embedded.store.vectors import Keys
from index.items import Vector


class Structure(Protocol):
    """See `index.embedded.live.memory` and `index.embedded.live.generation`."""

    @property
    def kind(self) -> str: ...

    @property
    def figures(self) -> Figures: ...

    @property
    def nbytes(self) -> tuple[int, int]:
        """(memory, on disk), roughly; what only mirrors the store's rows in the page cache is not counted."""
        ...

    @property
    def last_key(self) -> int:
        """The greatest key ever appended, 0 before."""
        ...

    def __len__(self) -> int:
        """How many vectors a search may find."""
        ...

    def append(self, keys: Keys, vectors: Stored, ids: Sequence[str]) -> None:
        """Searchable on return. Keys that are not above `last_key` are there already and passed over."""
        ...

    def remove(self, keys: Keys) -> None:
        """Never found again on return. Unknown keys are passed over."""
        ...

    def alive(self) -> Keys:
        """Keys that a search may find, increasing."""
        ...

    def search(self, query: Vector, k: int, matching: Matching | None) -> tuple[Vector, Keys]:
        """query float32 (dim,), unit → scores float32 (m,) descending, keys int64 (m,), m <= k.

        Raises CacheUnusable where a file it needs is damaged.
        """
        ...

    def nearest(self, queries: Vector, k: int) -> tuple[Vector, Keys]:
        """`search` of many, float32 (n, dim) → (n, k) each; missing places hold -inf and -1."""
        ...

    def want(self, recall: float) -> None:
        """The share of the true nearest that searches are to find, from now on."""
        ...

    def names(self, keys: Keys) -> dict[int, str]:
        """Ids of those keys whose id is kept here too. Raises CacheUnusable."""
        ...

    def verify(self) -> None:
        """Reads and checks every row of its files. Raises CacheUnusable."""
        ...

    def close(self) -> None:
        """Gives the files back. Searches that still run keep their mapping."""
        ...

    def discard(self) -> None:
        """Closes, and removes the files."""
        ...


def best(scores: Vector, keys: Keys, k: int) -> tuple[Vector, Keys]:
    """The k highest, descending; equal ones in the order of keys."""
    if len(scores) > 4 * k:
        cut = np.argpartition(-scores, k)[:k]
        scores, keys = scores[cut], keys[cut]
    order = np.lexsort((keys, -scores))[:k]
    return scores[order], keys[order]


def keys_of(matching: Matching) -> Keys:
    """int64 (n,), increasing."""
    return np.frombuffer(matching.keys.to_array(), np.uint32).astype(np.int64)
