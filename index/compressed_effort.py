"""How hard a search must look is decided from figures alone: measured ones, so that recall holds at every size.

The constants were fitted on vectors spun from embeddings of photographs (`benchmarks/search.py`), 20,000 to 1,000,000
of them: fewer vectors lie further apart, so more lists and candidates are needed for the same recall.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_MILLION = 1e6
_LISTS = 28  # of 4,096, at a million
_DEPTH = 80  # at a million
_SPARSE = 0.35
_ROUGH = 0.15
_SPREAD = 0.6
_LEAST_LISTS = 12
_LEAST_DEPTH = 60


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard a search looks. lists: how many are scanned; depth: candidates that are re-scored. Both at least 1."""

    lists: int
    depth: int


def effort_for(k: int, *, indexed: int, available: int, lists: int) -> Effort:
    """For the k nearest among `available` of `indexed` vectors, kept in `lists` lists. All at least 1."""
    looked = _LISTS * (_MILLION / indexed) ** _SPARSE * (indexed / available) ** _SPREAD
    depth = _DEPTH * (_MILLION / available) ** _ROUGH
    return Effort(
        lists=math.ceil(max(looked, _LEAST_LISTS, 4 * k * lists / available)),
        depth=math.ceil(max(depth, _LEAST_DEPTH, 3 * k)),
    )
