"""One metadata key of a collection in memory, so that a condition becomes a bitmap of item keys without touching SQL.

Values are kept as sorted arrays (64-bit hash → key, number → key, time → key), however many distinct values there are.
Changes go into a small overlay that is folded in when it has grown. The bitmaps last asked for are kept and kept
current.
"""

from __future__ import annotations

import array
import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from pyroaring import BitMap

from index.embedded.filters.counting import Values, chosen, runs, with_extra
from index.embedded.filters.sorted import Sorted
from index.filters import Condition, Match, Range, Scalar, is_number, token, values_at
from index.limits import MAX_INTEGER, MIN_INTEGER
from index.times import UNIT, instant, is_instant

_KEPT = 128  # bitmaps remembered per column; a dense one over a million items is 125 kB
_OVERLAY = 8_192
_TICK = UNIT // 10**6  # times are kept in microseconds
Tokens = tuple[tuple[str, Scalar], ...]


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
        self._hashes = Sorted("Q")
        self._integers = Sorted("q")
        self._floats = Sorted("d")
        self._times = Sorted("q")  # microseconds
        self._odd: dict[int, Tokens] = {}  # items with a value that the arrays cannot hold exactly
        self._stale = BitMap()
        self._overlay: dict[int, Tokens] = {}
        self._kept: OrderedDict[Condition, BitMap] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Memory of arrays and bitmaps, roughly."""
        arrays = sum(each.nbytes for each in self._arrays)
        return arrays + sum(bitmap_bytes(one) for one in (self.single, self._stale, *self._kept.values()))

    def fill(self, items: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """Reads (key, metadata) of a whole collection into the arrays."""
        single = array.array("I")
        for key, metadata in items:
            self._take(key, self._tokens(metadata, key, single))
        for each in self._arrays:
            each.sort()
        self.single = BitMap(single)

    def set(self, key: int, metadata: Mapping[str, Any]) -> None:
        """The item `key` has this metadata from now on."""
        single = array.array("I")
        tokens = self._tokens(metadata, key, single)
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
        found.update(key for key, tokens in self._odd.items() if _holds(condition, tokens))
        found -= self._stale
        found.update(key for key, tokens in self._overlay.items() if _holds(condition, tokens))
        self._kept[condition] = found
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found

    def values(self, keys: BitMap) -> Values:
        """What these items, all of them alive, have under the key."""
        kept = keys - self._stale
        mask = chosen(kept, 1 + (keys.max() if keys else 0))
        extra: dict[int, tuple[int, int]] = {}
        numbers: list[float] = []
        for key, tokens in self._overlay.items():
            if key in keys:
                for kind, value in set(tokens):
                    each = hashed(kind, value)
                    extra[each] = (extra.get(each, (0, key))[0] + 1, key)
                    if kind == "num" and is_number(value):
                        numbers.append(float(value))
        hashes, counts, examples = with_extra(runs(self._hashes, mask), extra)
        found = [each.among(mask)[0].astype(np.float64) for each in (self._integers, self._floats)]
        told = np.sort(np.concatenate([*found, np.array(numbers, np.float64)]))
        return Values(hashes, counts, examples, told, int(counts.sum()) - len(told))

    def forget(self, keys: BitMap) -> None:
        """Drops the overlay's entries of removed items; the arrays' entries go with the next fold."""
        for key in keys:
            if self._overlay.pop(key, None) is not None:
                self._stale.add(key)

    @property
    def _arrays(self) -> tuple[Sorted, ...]:
        return (self._hashes, self._integers, self._floats, self._times)

    def _tokens(self, metadata: Mapping[str, Any], key: int, single: array.array[int]) -> Tokens:
        value = metadata.get(self.key)
        if isinstance(value, str | int | float) and "." not in self.key:
            single.append(key)
            return (token(value),)
        values = tuple(values_at(metadata, self.key))
        if group_value(metadata, self.key) is not None:
            single.append(key)
        return tuple(token(value) for value in values)

    def _take(self, key: int, tokens: Tokens) -> None:
        for kind, value in tokens:
            self._hashes.add(hashed(kind, value), key)
            if kind == "num" and is_number(value):
                if isinstance(value, float) and not value.is_integer():
                    self._floats.add(value, key)
                elif MIN_INTEGER <= value <= MAX_INTEGER:
                    self._integers.add(int(value), key)
                elif isinstance(value, float):
                    self._floats.add(value, key)
                else:
                    self._odd[key] = tokens  # written when larger integers were taken
            elif isinstance(value, str) and is_instant(value):
                ticks, rest = divmod(instant(value), _TICK)
                if rest:
                    self._odd[key] = tokens
                else:
                    self._times.add(ticks, key)

    def _equal(self, condition: Match) -> BitMap:
        found = BitMap()
        for kind, value in condition.tokens:
            found |= self._hashes.equal(np.uint64(hashed(kind, value)))
        return found

    def _in_range(self, condition: Range) -> BitMap:
        opens = {"low_open": condition.low_open, "high_open": condition.high_open}
        if not condition.times:
            numbers = self._integers.integers(condition.low, condition.high, **opens)
            numbers |= self._floats.floats(condition.low, condition.high, **opens)
            return numbers
        low, low_open = _ticks(condition.low), condition.low_open and condition.low % _TICK == 0
        # Rounded down, a bound that was between two ticks admits the lower one on its upper side alone.
        high, high_open = _ticks(condition.high), condition.high_open and condition.high % _TICK == 0
        if condition.low != -math.inf and condition.low % _TICK:
            low_open = True
        return self._times.integers(low, high, low_open=low_open, high_open=high_open)

    def _fold(self) -> None:
        gone = np.frombuffer(self._stale.to_array(), np.uint32)
        for key in self._stale & BitMap(self._odd):
            del self._odd[key]
        for each in self._arrays:
            each.drop(gone)
        for key, tokens in self._overlay.items():
            self._take(key, tokens)
        for each in self._arrays:
            each.sort()
        self._stale = BitMap()
        self._overlay = {}


def group_value(metadata: Mapping[str, Any], key: str) -> str | int | float | bool | None:
    """The one value an item is grouped by; None where there is none, a list or an object: such items join no group."""
    value = metadata.get(key)
    if value is None and "." in key:
        node: Any = metadata
        for part in key.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        value = node
    return value if isinstance(value, str | int | float) else None


def _holds(condition: Condition, tokens: Tokens) -> bool:
    if isinstance(condition, Match):
        return any(one in condition.tokens for one in tokens)
    return any(condition.fits(value) for _, value in tokens)


def _ticks(bound: float) -> float:
    return bound if math.isinf(bound) else bound // _TICK
