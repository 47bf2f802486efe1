"""The Comparison of one collection's items under two models: do both find the same, and which ranks labels better."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from index.errors import ItemNotFound
from index.filters import Filter, Match, token, values_at
from index.items import Item
from index.types import Collection

# Stored items searched with to compare the two, and how many of their neighbours are looked at.
QUERIES = 200
NEIGHBOURS = 50
NEAREST = 10
# How far the mean average precision may fall: less than the sample of queries can show.
TOLERANCE = 0.001


@dataclass(slots=True)
class Comparison:
    """queries: stored items that were searched with. agreement: share of their ten nearest that both find.

    labelled: queries whose label others have. before, after: mean average precision of their 50 nearest, None without
    labels.
    """

    queries: int = 0
    agreement: float = 1.0
    labelled: int = 0
    before: float | None = None
    after: float | None = None

    @property
    def falls(self) -> bool:
        """Whether the new model ranks worse by the labels."""
        return self.before is not None and self.after is not None and self.after < self.before - TOLERANCE


def compare(old: Collection, new: Collection, label: str) -> Comparison:
    """Searches both with the same items, which leave themselves out. Blocks."""
    rng = random.Random(7)
    chosen: list[Item] = []
    for number, item in enumerate(items(new)):  # each with the same chance, in one pass
        if number < QUERIES:
            chosen.append(item)
        elif (place := rng.randrange(number + 1)) < QUERIES:
            chosen[place] = item
    if len(chosen) < 2:
        return Comparison(queries=len(chosen))
    ids = [item.id for item in chosen]
    found = [_neighbours(collection, ids) for collection in (old, new)]
    common = [
        len(set(one[:NEAREST]) & set(other[:NEAREST])) / max(1, min(NEAREST, len(one), len(other)))
        for one, other in zip(*found, strict=True)
    ]
    result = Comparison(queries=len(ids), agreement=float(np.mean(common)))
    precisions: list[tuple[float, float]] = []
    for item, *both in zip(chosen, *found, strict=True):
        values = frozenset(token(value) for value in values_at(item.metadata, label))
        others = new.count(Filter(must=(Match(label, values),))) - 1 if values else 0
        if others > 0:
            hits = [[_has(new, id, label, values) for id in ranking] for ranking in both]
            precisions.append((_precision(hits[0], others), _precision(hits[1], others)))
    if precisions:
        result.labelled = len(precisions)
        result.before, result.after = (float(mean) for mean in np.mean(precisions, axis=0))
    return result


def _neighbours(collection: Collection, ids: list[str]) -> list[list[str]]:
    """Of each item the ids of its nearest, without itself."""
    rankings = collection.nearest(collection.vectors(ids), NEIGHBOURS + 1)
    return [
        [each for each in ranking.ids if each != id][:NEIGHBOURS] for id, ranking in zip(ids, rankings, strict=True)
    ]


def _has(collection: Collection, id: str, label: str, values: frozenset[Any]) -> bool:
    """Whether an item shares a label; one that was left out of the new collection shares none."""
    try:
        metadata: Mapping[str, Any] = collection.get(id).metadata
    except ItemNotFound:
        return False
    return any(token(value) in values for value in values_at(metadata, label))


def _precision(hits: list[bool], relevant: int) -> float:
    """Average precision of a ranking that is cut off: of as many as could be in it."""
    precisions = [sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit]
    return sum(precisions) / min(relevant, NEIGHBOURS)


def items(collection: Collection) -> Iterator[Item]:
    """Every item, in id order. Blocks."""
    cursor: str | None = None
    while True:
        page = collection.scan(limit=1000, cursor=cursor)
        yield from page.items
        if (cursor := page.next_cursor) is None:
            return
