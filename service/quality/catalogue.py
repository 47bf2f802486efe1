"""How items of a catalogue score among themselves: each as a query that leaves itself and its duplicates out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from index.filters import values_at
from index.items import Item
from index.types import Collection

Scores = npt.NDArray[np.float32]

# Items that are asked, each with the same chance: the 95 % interval of a share is then at most 0.022 to either side.
SAMPLE = 2_000
# Two pictures that score this much count as one and the same. Saved again as JPEG at quality 60, photographs score .98
# to 1 with themselves; the nearest different ones reach it in 1 of 80 items of a shop that has twenty of each thing.
SAME = 0.98
# Neighbours looked at: with more duplicates than that the item says nothing.
DEPTH = 10
_BLOCK = 256


@dataclass(frozen=True, slots=True)
class Asked:
    """One item as a query. score: of the nearest other that is no duplicate. label: "" without one."""

    id: str
    score: float
    label: str


def ask(collection: Collection, label: str | None) -> list[Asked]:
    """A sample of the catalogue, in id order. label: a metadata key; of a list of values the first counts. Blocks."""
    chosen = sorted(_sampled(collection), key=lambda item: item.id)
    found: list[Asked] = []
    for start in range(0, len(chosen), _BLOCK):
        block = chosen[start : start + _BLOCK]
        ids = [item.id for item in block]
        for item, near in zip(block, collection.nearest(collection.vectors(ids), DEPTH + 1), strict=True):
            others = [score for id, score in zip(near.ids, near.scores.tolist(), strict=True) if id != item.id]
            score = next((score for score in others if score < SAME), None)
            if score is not None:
                found.append(Asked(item.id, score, _label(item, label)))
    return found


def scores(asked: Sequence[Asked]) -> Scores:
    """float32 (n,)."""
    return np.array([each.score for each in asked], np.float32)


def _label(item: Item, key: str | None) -> str:
    values = [] if key is None else list(values_at(item.metadata, key))
    return str(values[0])[:200] if values else ""


def _sampled(collection: Collection) -> list[Item]:
    rng = random.Random(7)
    chosen: list[Item] = []
    number, cursor = 0, None
    while True:
        page = collection.scan(limit=1_000, cursor=cursor)
        for item in page.items:
            if number < SAMPLE:
                chosen.append(item)
            elif (place := rng.randrange(number + 1)) < SAMPLE:
                chosen[place] = item
            number += 1
        if (cursor := page.next_cursor) is None:
            return chosen
