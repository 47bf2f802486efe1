"""Counting the values of one column among some items, from its sorted arrays: no row is read, whatever the number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from index.embedded.filters.sorted import Sorted

Keys = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Values:
    """hashes: uint64 (n,) of the different values; counts: int64 (n,); keys: uint32 (n,), an item that has each.

    numbers: float64, sorted, one for each item and number. others: how many values were no numbers.
    """

    hashes: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.int64]
    keys: Keys
    numbers: npt.NDArray[np.float64]
    others: int


def chosen(keys: BitMap, size: int) -> npt.NDArray[np.bool_]:
    """Whether each of the keys below `size` is one of `keys`."""
    mask = np.zeros(size, np.bool_)
    wanted = np.frombuffer(keys.to_array(), np.uint32)
    mask[wanted[wanted < size]] = True
    return mask


def runs(hashes: Sorted, mask: npt.NDArray[np.bool_]) -> tuple[Any, Any, Any]:
    """Different values of a sorted array among the chosen keys, how often each, and a key that has it."""
    values, keys = hashes.among(mask)
    if not len(values):
        return values, np.empty(0, np.int64), keys
    if len(values) > 1:  # a list may hold one value twice; its item counts once
        fresh = np.concatenate([[True], (values[1:] != values[:-1]) | (keys[1:] != keys[:-1])])
        values, keys = values[fresh], keys[fresh]
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    return values[starts], np.diff(np.append(starts, len(values))), keys[starts]


def with_extra(found: tuple[Any, Any, Any], extra: Mapping[int, tuple[int, int]]) -> tuple[Any, Any, Any]:
    """Adds values that are not in the arrays yet. extra: hash → (count, key)."""
    if not extra:
        return found
    counted = Counter(dict(zip(found[0].tolist(), found[1].tolist(), strict=True)))
    examples = dict(zip(found[0].tolist(), found[2].tolist(), strict=True))
    for value, (count, key) in extra.items():
        counted[value] += count
        examples.setdefault(value, key)
    hashes = np.array(sorted(counted), np.uint64)
    return (
        hashes,
        np.array([counted[value] for value in hashes.tolist()], np.int64),
        np.array([examples[value] for value in hashes.tolist()], np.uint32),
    )
