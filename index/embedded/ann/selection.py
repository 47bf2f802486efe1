"""Bits over the rows of an index: which of them are alive, and which of those a search may find."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from index.embedded.ann.arrays import Bits, Keys, Rows

Flags = npt.NDArray[np.bool_]


class Alive:
    """Rows that were not removed. `bits` is read by searches that run beside `remove`; `extend` needs to be alone.

    count: rows alive; changes: how often that set changed.
    """

    __slots__ = ("bits", "changes", "count", "rows")

    def __init__(self, bits: Bits, rows: int) -> None:
        """bits: of at least `rows` rows; what lies behind them is zero."""
        self.bits = bits
        self.rows = rows
        self.count = int(np.bitwise_count(bits).sum())
        self.changes = 0

    @classmethod
    def all(cls, rows: int) -> Alive:
        """So many rows, none of them removed."""
        return cls(packed(np.ones(rows, np.bool_)), rows)

    def flags(self) -> Flags:
        """bool (rows,)."""
        return unpacked(self.bits, self.rows)

    def remove(self, rows: Rows) -> None:
        """Those that are gone already are passed over."""
        rows = np.unique(rows)
        bits = np.left_shift(1, rows & 7).astype(np.uint8)
        dead = int(np.count_nonzero(self.bits[rows >> 3] & bits))
        if dead:
            np.bitwise_and.at(self.bits, rows >> 3, ~bits)
            self.changes += 1
            self.count -= dead

    def extend(self, count: int) -> None:
        """So many more rows, alive."""
        self.bits = packed(np.concatenate([self.flags(), np.ones(count, np.bool_)]))
        self.changes += 1
        self.rows += count
        self.count += count


class Selection:
    """Rows that may be found, one bit each; made by `CompressedIndex.select`, to be kept and used for many searches.

    It stays right when rows are removed; rows merged later are not in it.
    """

    __slots__ = ("_bits", "_changes", "_count", "_effective", "per_list")

    def __init__(self, bits: Bits, count: int, per_list: Keys) -> None:
        """per_list: int64 (lists,), how many of its rows lie in each list."""
        self._bits = bits
        self._count = count
        self._effective = bits
        self._changes = -1
        self.per_list = per_list

    def __len__(self) -> int:
        return self._count

    def bits(self, alive: Alive) -> Bits:
        """Its rows that are alive; computed again only after a removal."""
        changes = alive.changes
        if self._changes != changes:
            self._effective = self._bits & alive.bits[: len(self._bits)]
            self._changes = changes
        return self._effective


def packed(flags: Flags) -> Bits:
    """bool (n,) → bits."""
    return np.packbits(flags, bitorder="little")


def unpacked(bits: Bits, count: int) -> Flags:
    """The first `count` bits → bool (count,)."""
    flags: Flags = np.unpackbits(bits, count=count, bitorder="little").view(np.bool_)
    return flags
