"""How hard a search must look is decided from figures alone: measured ones, so that recall holds at every size.

A query with near neighbours lies close to one centroid and finds them all in a few lists; one that lies between many
centroids, or far from all, needs many. So lists are taken by their distance relative to the nearest one's, within
bounds: half the lists that a fixed number would need for the same recall.

The constants were fitted on vectors spun from embeddings of photographs (`benchmarks/search.py`), 20,000 to 4,000,000
of them. Fewer vectors lie further apart, so a little more reach is needed for the same recall; the more there are, the
closer they crowd, and the less their estimates distinguish them: more of them have to be re-scored.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

_MILLION = 1e6
_LEAST = 14  # lists, at a million
_LEAST_SPARSE = 0.15
_MOST = 128
_REACH = 1.8  # at a million
_REACH_SPARSE = 0.06
_DEPTH = 120  # at a million
_DEPTH_SPARSE = 0.1
_DEPTH_CROWDED = 0.3
_SPREAD = 0.6
FURTHER = 4  # times as many lists or candidates where a search goes on


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard a search looks.

    lists: how many are scanned at least; depth: candidates that are re-scored; both at least 1. reach: lists whose
    centroid is at most so many times as far (squared) as the nearest one are scanned too, `most` lists at the utmost.
    spread: times as many lists, because only some of their rows may be found. caution: where one of the nearest found
    comes from behind this part (1 ⁄ caution) of the candidates, or from the further half of the lists, the search goes
    on with four times as many, until it does not; the second half of the candidates is compared where one comes from
    behind this part of the first; 0: all are compared, and it never goes on.
    """

    lists: int
    depth: int
    reach: float = 1.0
    most: int = 1
    spread: float = 1.0
    caution: int = 0


@functools.lru_cache(maxsize=256)
def effort_for(k: int, indexed: int, available: int, lists: int) -> Effort:
    """For the k nearest among `available` of `indexed` vectors, kept in `lists` lists. All at least 1."""
    sparse = max(1.0, _MILLION / indexed)
    least = math.ceil(max(_LEAST * sparse**_LEAST_SPARSE, 4 * k * lists / indexed))
    depth = _DEPTH * max((_MILLION / available) ** _DEPTH_SPARSE, (available / _MILLION) ** _DEPTH_CROWDED)
    return Effort(
        lists=least,
        depth=math.ceil(max(depth, 3 * k)),
        reach=_REACH * sparse**_REACH_SPARSE,
        most=max(_MOST, least),
        spread=(indexed / available) ** _SPREAD,
    )
