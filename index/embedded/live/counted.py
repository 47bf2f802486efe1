"""Facets of one search over one state of a collection: counted in bitmaps, named by one row of each value."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from index.embedded.filters.column import hashed
from index.embedded.filters.counting import Values
from index.embedded.filters.fields import Matching
from index.embedded.filters.sorted import bitmap
from index.embedded.live.searcher import Searcher
from index.embedded.store import items
from index.embedded.store.rows import Row
from index.facets import FEW_NUMBERS, Bucket, Facet, Found, edges
from index.filters import Scalar, token, values_at


def count(
    searcher: Searcher, keys: Sequence[str], *, bound: int, buckets: int, min_score: float, matching: Matching | None
) -> Found:
    """As `Collection.facets`. Raises what a search raises."""
    above, more = searcher.above(bound, min_score, matching)
    searched = searcher.fields.all() if matching is None else matching.keys.copy()
    found = bitmap(np.array(above, np.int64))
    facets = {key: _facet(searcher, key, searcher.fields.values(key, found, searched), buckets) for key in keys}
    return Found(len(above), more, len(searched), facets)


def _facet(searcher: Searcher, key: str, counted: Sequence[Values], buckets: int) -> Facet:
    found, searched = counted
    different = len(np.unique(searched.numbers)) + (searched.others > 0)
    if len(searched.numbers) > searched.others and different > FEW_NUMBERS:
        return Facet(_ranges(found.numbers, searched.numbers), len(searched.hashes))
    counts = np.zeros(len(searched.hashes), np.int64)
    place = np.searchsorted(searched.hashes, found.hashes)
    there = place < len(counts)
    counts[place[there]] = found.counts[there]
    best = np.lexsort((searched.hashes, -searched.counts, -counts))[:buckets]
    named = _named(searcher, key, searched.keys[best], searched.hashes[best])
    shown = [
        Bucket(named[each], None, None, ranged=False, count=int(counts[n]), among=int(searched.counts[n]))
        for n in best.tolist()
        if (each := int(searched.hashes[n])) in named
    ]
    shown.sort(
        key=lambda each: (-each.count, -each.among, str(type(each.value)), each.value is not None and each.value)
    )
    return Facet(shown, len(searched.hashes))


def _ranges(found: npt.NDArray[np.float64], searched: npt.NDArray[np.float64]) -> list[Bucket]:
    met = edges(searched.tolist())
    bounds = [-np.inf, *met, np.inf]
    counts = [
        np.diff(np.searchsorted(numbers, bounds[1:-1], "left"), prepend=0, append=len(numbers))
        for numbers in (found, searched)
    ]
    return [
        Bucket(
            None,
            None if low == -np.inf else float(low),
            None if high == np.inf else float(high),
            ranged=True,
            count=int(counts[0][n]),
            among=int(counts[1][n]),
        )
        for n, (low, high) in enumerate(pairwise(bounds))
    ]


def _named(
    searcher: Searcher, key: str, examples: npt.NDArray[np.uint32], hashes: npt.NDArray[np.uint64]
) -> dict[int, Scalar]:
    """The values behind hashes, read from one item that has each; those whose item has just gone are left out."""
    with searcher.store.readers.connection() as connection:
        rows = items.rows_by_key(connection, searcher.collection, examples.tolist())
    named: dict[int, Scalar] = {}
    for example, wanted in zip(examples.tolist(), hashes.tolist(), strict=True):
        row = rows.get(example)
        if isinstance(row, Row):
            for value in values_at(row.item.metadata, key):
                if hashed(*token(value)) == wanted:
                    named[wanted] = value
                    break
    return named
