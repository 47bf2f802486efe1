"""Conformal thresholds: which score a picture without a match exceeds with at most a given chance.

Split conformal prediction (V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World, 2005): it
holds for any network and any distribution, as long as the pictures to come are like those that were measured.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]

_SLACK = 1e-9  # (n + 1)(1 − rate) is a whole number for the usual rates, but for rounding


def least_count(rate: float) -> int:
    """How many pictures without a match a false-accept rate in (0, 1) needs: ⌈1/rate⌉ − 1."""
    return math.ceil(1 / rate - _SLACK) - 1


def smallest_rate(count: int) -> float:
    """The smallest false-accept rate that so many pictures allow."""
    return 1 / (count + 1)


def rank(count: int, rate: float) -> int:
    """Which of `count` increasing scores, from 1: ⌈(n + 1)(1 − rate)⌉. Raises ValueError where there are too few."""
    place = math.ceil((count + 1) * (1 - rate) - _SLACK)
    if place > count:
        raise ValueError(f"{count} scores allow no rate below {smallest_rate(count)}")
    return max(1, place)


def threshold(strangers: Scores, rate: float) -> float:
    """The least score of a match, such that a stranger reaches it with a chance of at most `rate`.

    strangers: (n,) best scores of pictures without a match. A match scores at least the threshold, so it is the next
    number after the score of that rank. Raises ValueError where there are too few.
    """
    scores = np.sort(np.asarray(strangers, np.float32))
    return min(1.0, float(np.nextafter(scores[rank(len(scores), rate) - 1], np.float32(2))))


def lower(genuine: Scores, lost: float) -> float:
    """The score that a genuine query falls below with a chance of at most `lost`; the least where there are too few.

    genuine: (n,), at least one.
    """
    scores = np.sort(np.asarray(genuine, np.float32))
    return float(scores[max(0, math.floor((len(scores) + 1) * lost + _SLACK) - 1)])
