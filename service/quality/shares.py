"""A Share: how many of how many, with the interval in which the true share lies."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.special import betaincinv

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Share:
    """value: hits of count, 0…1, 0 where nothing was counted. low, high: the interval of CONFIDENCE."""

    value: float
    low: float
    high: float
    hits: int
    count: int


def share(hits: int, count: int) -> Share:
    """With the exact interval (C. Clopper, E. Pearson, Biometrika 26, 1934): 0…1 where nothing was counted."""
    if not 0 <= hits <= count:
        raise ValueError(f"{hits} of {count} is no share")
    if count == 0:
        return Share(0.0, 0.0, 1.0, 0, 0)
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, count - hits + 1, tail))
    high = 1.0 if hits == count else float(betaincinv(hits + 1, count - hits, 1 - tail))
    return Share(hits / count, low, high, hits, count)
