"""The lean search: ids and scores of many queries' nearest items, in one pass and without their rows."""

from __future__ import annotations

import numpy as np

from index.embedded.live.live import LiveIndex
from index.embedded.store import items
from index.embedded.store.store import Store
from index.items import Nearest, Vector


def nearest(
    store: Store, collection: int, index: LiveIndex, queries: Vector, limit: int, leave_out: frozenset[int]
) -> list[Nearest]:
    """queries: unit float32 (n, dim) → for each its `limit` nearest, best first; what was just deleted is not there.

    leave_out: keys of damaged rows.

    Raises as `LiveIndex.search`.
    """
    scores, keys, ids = index.nearest(queries, limit + len(leave_out))
    unnamed = [key for key in np.unique(keys[keys >= 0]).tolist() if key not in ids]
    if unnamed:
        with store.readers.connection() as connection:
            ids = ids | items.ids_by_key(connection, collection, unnamed)
    found = []
    for row_scores, row_keys in zip(scores, keys.tolist(), strict=True):
        known = [place for place, key in enumerate(row_keys) if key in ids and key not in leave_out][:limit]
        found.append(Nearest([ids[row_keys[place]] for place in known], row_scores[known]))
    return found
