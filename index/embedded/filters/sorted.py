"""Values of one kind in sorted order with the keys they belong to: a range of values becomes a bitmap by bisection.

Integers are int64 and compare as integers; floats are what is no integer of 64 bits. 12 bytes a value.
"""

from __future__ import annotations

import array
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from index.limits import MAX_INTEGER, MAX_KEY, MIN_INTEGER

UInt32s = npt.NDArray[np.uint32]


def bitmap(keys: npt.NDArray[np.integer[Any]]) -> BitMap:
    """Keys in any order → bitmap. Through `array`, which pyroaring reads ten times faster than an ndarray.

    Keys that no item can have, as a damaged database may name them, are left out: in 32 bits they would be another's.
    """
    if keys.dtype != np.uint32 and len(keys) and not (keys.min() >= 0 and keys.max() <= MAX_KEY):
        keys = keys[(keys >= 0) & (keys <= MAX_KEY)]
    return BitMap(array.array("I", np.sort(keys.astype(np.uint32, copy=False)).tobytes()))


def bitmap_of(keys: Iterable[int]) -> BitMap:
    """The same of any integers."""
    return BitMap(key for key in keys if 0 <= key <= MAX_KEY)


def _masked(mask: npt.NDArray[np.bool_], keys: UInt32s) -> npt.NDArray[np.bool_]:
    inside = keys < len(mask)
    inside[inside] = mask[keys[inside]]
    return inside


class Sorted:
    """Values that were gathered, then sorted once. code: of `array`, `Q` uint64, `q` int64 or `d` float64."""

    def __init__(self, code: str) -> None:
        self._code = code
        self._new, self._new_keys = array.array(code), array.array("I")
        self._values: npt.NDArray[Any] = np.empty(0, np.dtype(code))
        self._keys: UInt32s = np.empty(0, np.uint32)

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def nbytes(self) -> int:
        """Of the arrays."""
        return self._values.nbytes + self._keys.nbytes

    def add(self, value: float, key: int) -> None:
        """Found after the next `sort`."""
        self._new.append(value)  # type: ignore[arg-type]
        self._new_keys.append(key)

    def drop(self, keys: UInt32s) -> None:
        """Forgets these keys."""
        keep = ~np.isin(self._keys, keys)
        self._values, self._keys = self._values[keep], self._keys[keep]

    def sort(self) -> None:
        """Takes in what was added."""
        values, keys = self._values, self._keys
        if len(self._new):
            values = np.concatenate([values, np.frombuffer(self._new, values.dtype)])
            keys = np.concatenate([keys, np.frombuffer(self._new_keys, np.uint32)])
        order = np.argsort(values, kind="stable")
        self._values, self._keys = values[order], keys[order]
        self._new, self._new_keys = array.array(self._code), array.array("I")

    def among(self, mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[Any], UInt32s]:
        """Values and keys of those keys for which `mask`, bool (keys,), is True; keys beyond it are not."""
        keys = self._keys
        inside = mask[keys] if not len(keys) or keys.max() < len(mask) else _masked(mask, keys)
        return self._values[inside], keys[inside]

    def equal(self, value: Any) -> BitMap:
        """Keys with this value, given in the array's own type."""
        low, high = np.searchsorted(self._values, value, "left"), np.searchsorted(self._values, value, "right")
        return bitmap(self._keys[low:high]) if high > low else BitMap()

    def integers(self, low: float, high: float, *, low_open: bool, high_open: bool) -> BitMap:
        """Of int64: keys of those between two numbers, which may be infinite."""
        first = MIN_INTEGER if low == -math.inf else _above(low, low_open)
        last = MAX_INTEGER if high == math.inf else -_above(-high, high_open)
        if first > MAX_INTEGER or last < MIN_INTEGER or first > last:
            return BitMap()
        begin = np.searchsorted(self._values, np.int64(max(first, MIN_INTEGER)), "left")
        end = np.searchsorted(self._values, np.int64(min(last, MAX_INTEGER)), "right")
        return bitmap(self._keys[begin:end]) if end > begin else BitMap()

    def floats(self, low: float, high: float, *, low_open: bool, high_open: bool) -> BitMap:
        """Of float64: keys of those between two numbers, which may be infinite."""
        # An integer bound may have no float: then what lies at the nearest one is on one side of it, open or not.
        least, most = float(low), float(high)
        begin = np.searchsorted(self._values, least, "right" if least < low or (least == low and low_open) else "left")
        end = np.searchsorted(self._values, most, "left" if most > high or (most == high and high_open) else "right")
        return bitmap(self._keys[begin:end]) if end > begin else BitMap()


def _above(bound: float, is_open: bool) -> int:
    """The least integer that is not below a finite bound, or above it where it is open. Exact."""
    if bound in (math.inf, -math.inf):
        return MAX_INTEGER + 1 if bound > 0 else MIN_INTEGER
    least = math.ceil(bound)
    return least + 1 if is_open and least == bound else least
