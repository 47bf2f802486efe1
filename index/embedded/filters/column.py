"""One metadata key of a collection in memory, so that a condition becomes a bitmap of item keys without touching SQL.

Values are kept as sorted arrays (64-bit hash → key, number → key): 12 bytes each, however many distinct values there
are. Changes go into a small overlay that is folded in when it has grown. The bitmaps last asked for are kept and kept
current.
"""

from __future__ import annotations

import array
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from index.filters import Condition, Match, Range, Scalar, is_number, token, values_at

_KEPT = 128  # bitmaps remembered per column; a dense one over a million items is 125 kB
_OVERLAY = 8_192
UInt32s = npt.NDArray[np.uint32]


def bitmap(keys: npt.NDArray[np.integer[Any]]) -> BitMap:
    """Keys in any order → bitmap. Through `array`, which pyroaring reads ten times faster than an ndarray."""
    return BitMap(array.array("I", np.sort(keys.astype(np.uint32, copy=False)).tobytes()))


def bitmap_bytes(keys: BitMap) -> int:
    """Memory of a bitmap, roughly."""
    held = keys.get_statistics()
    return held["n_bytes_array_containers"] + held["n_bytes_run_containers"] + held["n_bytes_bitset_containers"]


def hashed(kind: str, value: Scalar) -> int:
    """64 bits that equal tokens share. Python's keyed text hash: nobody outside can aim for a collision."""
    if kind == "num" and isinstance(value, float) and value.is_integer():
        value = int(value)
    return hash(kind + str(value)) & 0xFFFF_FFFF_FFFF_FFFF


class Column:
    """Values of one key. Not thread-safe: `Fields` holds its lock around every call."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.single = BitMap()  # items whose value is one text, number or bool, not a list
        self._hashes: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self._hash_keys: UInt32s = np.empty(0, np.uint32)
        self._numbers: npt.NDArray[np.float64] = np.empty(0, np.float64)
        self._number_keys: UInt32s = np.empty(0, np.uint32)
        self._stale = BitMap()
        self._overlay: dict[int, tuple[tuple[str, Scalar], ...]] = {}
        self._kept: OrderedDict[Condition, BitMap] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Memory of arrays and bitmaps, roughly."""
        arrays = self._hashes.nbytes + self._hash_keys.nbytes + self._numbers.nbytes + self._number_keys.nbytes
        return arrays + sum(bitmap_bytes(one) for one in (self.single, self._stale, *self._kept.values()))

    def fill(self, items: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """Reads (key, metadata) of a whole collection into the arrays."""
        hashes, hash_keys = array.array("Q"), array.array("I")
        numbers, number_keys = array.array("d"), array.array("I")
        single = array.array("I")
        for key, metadata in items:
            for kind, value in self._tokens(metadata, key, single):
                hashes.append(hashed(kind, value))
                hash_keys.append(key)
                if kind == "num":
                    numbers.append(_number(value))
                    number_keys.append(key)
        self._sort(
            _view(hashes, np.uint64),
            _view(hash_keys, np.uint32),
            _view(numbers, np.float64),
            _view(number_keys, np.uint32),
        )
        self.single = BitMap(single)

    def set(self, key: int, metadata: Mapping[str, Any]) -> None:
        """The item `key` has this metadata from now on."""
        single = array.array("I")
        tokens = tuple(self._tokens(metadata, key, single))
        (self.single.add if single else self.single.discard)(key)
        self._stale.add(key)
        self._overlay[key] = tokens
        for condition, kept in self._kept.items():
            if _holds(condition, tokens):
                kept.add(key)
            else:
                kept.discard(key)
        if len(self._overlay) > max(_OVERLAY, len(self._hashes) // 50):
            self._fold()

    def matching(self, condition: Condition) -> BitMap:
        """Keys for which the condition holds, removed items possibly among them. Not to be changed by the caller."""
        kept = self._kept.get(condition)
        if kept is not None:
            self._kept.move_to_end(condition)
            return kept
        found = self._in_range(condition) if isinstance(condition, Range) else self._equal(condition)
        found -= self._stale
        found.update(key for key, tokens in self._overlay.items() if _holds(condition, tokens))
        self._kept[condition] = found
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found

    def forget(self, keys: BitMap) -> None:
        """Drops the overlay's entries of removed items; the arrays' entries go with the next fold."""
        for key in keys:
            if self._overlay.pop(key, None) is not None:
                self._stale.add(key)

    def _tokens(self, metadata: Mapping[str, Any], key: int, single: array.array[int]) -> Iterable[tuple[str, Scalar]]:
        value = metadata.get(self.key)
        if isinstance(value, str | int | float) and "." not in self.key:
            single.append(key)
            return (token(value),)
        values = tuple(values_at(metadata, self.key))
        if group_value(metadata, self.key) is not None:
            single.append(key)
        return tuple(token(value) for value in values)

    def _equal(self, condition: Match) -> BitMap:
        found = BitMap()
        for kind, value in condition.tokens:
            wanted = np.uint64(hashed(kind, value))
            low = np.searchsorted(self._hashes, wanted, "left")
            high = np.searchsorted(self._hashes, wanted, "right")
            if high > low:
                found |= bitmap(self._hash_keys[low:high])
        return found

    def _in_range(self, condition: Range) -> BitMap:
        low = np.searchsorted(self._numbers, condition.low, "right" if condition.low_open else "left")
        high = np.searchsorted(self._numbers, condition.high, "left" if condition.high_open else "right")
        return bitmap(self._number_keys[low:high]) if high > low else BitMap()

    def _fold(self) -> None:
        gone = np.frombuffer(self._stale.to_array(), np.uint32)
        keep = ~np.isin(self._hash_keys, gone)
        keep_numbers = ~np.isin(self._number_keys, gone)
        pairs = [(hashed(kind, value), key) for key, tokens in self._overlay.items() for kind, value in tokens]
        numbers = [
            (_number(value), key) for key, tokens in self._overlay.items() for kind, value in tokens if kind == "num"
        ]
        self._sort(
            np.concatenate([self._hashes[keep], np.array([h for h, _ in pairs], np.uint64)]),
            np.concatenate([self._hash_keys[keep], np.array([k for _, k in pairs], np.uint32)]),
            np.concatenate([self._numbers[keep_numbers], np.array([n for n, _ in numbers], np.float64)]),
            np.concatenate([self._number_keys[keep_numbers], np.array([k for _, k in numbers], np.uint32)]),
        )
        self._stale = BitMap()
        self._overlay = {}

    def _sort(
        self,
        hashes: npt.NDArray[np.uint64],
        hash_keys: UInt32s,
        numbers: npt.NDArray[np.float64],
        number_keys: UInt32s,
    ) -> None:
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._hash_keys = hashes[order], hash_keys[order]
        order = np.argsort(numbers, kind="stable")
        self._numbers, self._number_keys = numbers[order], number_keys[order]


def group_value(metadata: Mapping[str, Any], key: str) -> str | int | float | bool | None:
    """The one value an item is grouped by; None where there is none, a list or an object: such items join no group."""
    value = metadata.get(key)
    if value is None and "." in key:
        node: Any = metadata
        for part in key.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        value = node
    return value if isinstance(value, str | int | float) else None


def _holds(condition: Condition, tokens: tuple[tuple[str, Scalar], ...]) -> bool:
    if isinstance(condition, Match):
        return any(one in condition.tokens for one in tokens)
    return any(kind == "num" and is_number(value) and condition.holds(_number(value)) for kind, value in tokens)


def _number(value: Scalar) -> float:
    assert is_number(value)
    return float(value)


def _view(values: array.array[Any], dtype: type[np.generic]) -> npt.NDArray[Any]:
    return np.frombuffer(values, dtype) if len(values) else np.empty(0, dtype)
