"""Facets: how many of the items found, and of those searched, have each value of a metadata key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from index.filters import Scalar

MAX_BUCKETS = 50
RANGES = 8  # into which the numbers of a key are cut, at most
FEW_NUMBERS = 10  # so many different numbers are shown one by one


@dataclass(frozen=True, slots=True)
class Bucket:
    """One value, or the numbers low <= n < high (the last range holds its high). None for a bound: there is none.

    count: items that were found; among: items that were searched. An item with a list counts for each of its values.
    """

    value: Scalar
    low: float | None
    high: float | None
    ranged: bool
    count: int
    among: int


@dataclass(frozen=True, slots=True)
class Facet:
    """buckets: values by `count`, then `among`, the most frequent ones; or ranges of numbers in their order.

    different: how many values there are, also where not all are shown.
    """

    buckets: list[Bucket]
    different: int


@dataclass(frozen=True, slots=True)
class Found:
    """total: items that score at least what was asked; more: there are others beyond the `bound` that was counted to.

    searched: items that pass the filter.
    """

    total: int
    more: bool
    searched: int
    facets: dict[str, Facet]

    @property
    def none_found(self) -> Found:
        """The same where nothing of what was near counts as found."""
        facets = {
            key: replace(facet, buckets=[replace(bucket, count=0) for bucket in facet.buckets])
            for key, facet in self.facets.items()
        }
        return replace(self, total=0, more=False, facets=facets)


def edges(values: Sequence[float]) -> list[float]:
    """Where the ranges of these numbers meet: round ones, such that each range holds about as many. values: sorted."""
    found: list[float] = []
    for part in range(1, RANGES):
        edge = rounded(values[part * len(values) // RANGES])
        if (not found or edge > found[-1]) and values[0] < edge <= values[-1]:
            found.append(edge)
    return found


def rounded(value: float) -> float:
    """To two significant digits: 1,234 is 1,200, 0.0567 is 0.057."""
    return float(f"{value:.1e}")
