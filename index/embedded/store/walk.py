"""A walk over a collection's rows in the order of keys that passes over what cannot be read.

Each slice is a read of its own, so that no long snapshot holds the write-ahead log back. Where a slice fails it is
halved until one key fails, and then the next key that can be read is searched for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import apsw

from index.embedded.store.collections import KEY_MASK
from index.embedded.store.database import UNREADABLE, Readers

R = TypeVar("R")
Read = Callable[[apsw.Connection, int, int], list[R]]
_AT_ONCE = 1_024


@dataclass(frozen=True, slots=True)
class Gap:
    """Keys above `after` and below `until` that cannot be read, whether or not there are any."""

    after: int
    until: int


@dataclass(frozen=True, slots=True)
class Walk(Generic[R]):
    """read: up to n rows with keys above k, as (connection, k, n); key: of a row."""

    readers: Readers
    read: Read[R]
    key: Callable[[R], int]

    def __iter__(self) -> Iterator[list[R] | Gap]:
        after, limit = 0, _AT_ONCE
        while True:
            try:
                rows = self._read(after, limit)
            except UNREADABLE:
                if limit > 1:
                    limit //= 2
                    continue
                until = self._readable_after(after)
                yield Gap(after, until)
                if until >= KEY_MASK:
                    return
                after, limit = until - 1, _AT_ONCE
                continue
            if not rows:
                return
            yield rows
            after, limit = self.key(rows[-1]), min(2 * limit, _AT_ONCE)

    def _read(self, after: int, limit: int) -> list[R]:
        with self.readers.connection() as connection:
            try:
                rows = self.read(connection, after, limit)
                kept = self._in_order(rows, after)
                if kept or not rows:
                    return kept
                failed: Exception = apsw.CorruptError("rows out of order")
            except apsw.CorruptError as error:
                # Kept from the reader, which would close the connection and name the whole database damaged.
                failed = error
        raise failed

    def _in_order(self, rows: list[R], after: int) -> list[R]:
        """Without the rows whose key is damaged, so that each slice ends further on than the one before."""
        keys = [self.key(row) for row in rows]
        kept = []
        for row, key, later in zip(rows, keys, [*keys[1:], KEY_MASK + 1], strict=False):
            if after < key < later:
                kept.append(row)
                after = key
        return kept

    def _readable_after(self, after: int) -> int:
        """The least key above `after + 1` from which on something, or the end, can be read."""
        step, bad = 1, after
        while not self._readable(after + step):
            bad = after + step
            step *= 2
            if after + step >= KEY_MASK:
                return KEY_MASK
        good = after + step
        while good - bad > 1:
            middle = (good + bad) // 2
            if self._readable(middle):
                good = middle
            else:
                bad = middle
        return good + 1

    def _readable(self, after: int) -> bool:
        try:
            self._read(after, 1)
        except UNREADABLE:
            return False
        return True
