"""Filters answered from memory: columns are read from the store when a key is first asked for, and follow every change
after.

A column that is being read is already registered, so changes applied meanwhile are noted and replayed: none is lost,
and one that the read has already seen does no harm twice.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pyroaring import BitMap

from index.embedded.filters.column import Column, bitmap_bytes
from index.embedded.filters.counting import Values
from index.filters import Condition, Filter, Match, Scalar, token

_COLUMNS = 64  # metadata keys held at once; the one unused for longest goes
_FILTERS = 32
_FOLLOWED = 256  # changed items per write up to which remembered filters are updated instead of forgotten
Metadata = Mapping[str, Any]
Scan = Callable[[], Iterable[tuple[int, Metadata]]]


class Matching:
    """Keys that pass a filter, kept right by `Fields`.

    `version` counts the changes; `selection`: what a search index made of them, and of which version.
    """

    __slots__ = ("keys", "selection", "version")

    def __init__(self, keys: BitMap) -> None:
        self.keys = keys
        self.version = 0
        self.selection: object = None

    def __len__(self) -> int:
        return len(self.keys)


class _Reading:
    """A column whose first reading is under way."""

    def __init__(self, key: str) -> None:
        self.column = Column(key)
        self.changes: list[tuple[int, Metadata]] = []
        self.done = threading.Event()


class Fields:
    """Safe from any thread. `scan` reads (key, metadata) of the whole collection from the store, as committed now."""

    def __init__(self, alive: BitMap, scan: Scan) -> None:
        self._alive = alive
        self._scan = scan
        self._lock = threading.Lock()
        self._columns: OrderedDict[str, Column] = OrderedDict()
        self._reading: dict[str, _Reading] = {}
        self._filters: OrderedDict[Filter, Matching] = OrderedDict()

    def __len__(self) -> int:
        return len(self._alive)

    @property
    def nbytes(self) -> int:
        """Memory of all columns and remembered filters, roughly."""
        with self._lock:
            filters = sum(bitmap_bytes(known.keys) for known in self._filters.values())
            return filters + sum(column.nbytes for column in self._columns.values())

    def apply(self, metadata: Mapping[int, Metadata], added: Iterable[int], removed: Iterable[int]) -> None:
        """Follows a committed change. metadata: by key, of new items and of those whose metadata changed."""
        gone = BitMap(removed)
        with self._lock:
            if self._columns or self._reading:
                for key, new in metadata.items():
                    for column in self._columns.values():
                        column.set(key, new)
                    for reading in self._reading.values():
                        reading.changes.append((key, new))
                for column in self._columns.values():
                    column.forget(gone)
            self._alive |= BitMap(added)
            self._alive -= gone
            self._follow(metadata, gone)

    def alive(self, keys: Iterable[int]) -> list[int]:
        """Those of the keys that belong to items, in the order given."""
        with self._lock:
            return [key for key in keys if key in self._alive]

    def leave_out(self, keys: BitMap) -> None:
        """These items pass no filter and are not counted any more: they are damaged."""
        with self._lock:
            self._alive -= keys
            for known in self._filters.values():
                known.version += 1
                known.keys -= keys

    def reset(self, alive: BitMap) -> None:
        """Starts again from the store; columns are read anew when asked for."""
        with self._lock:
            self._alive = alive
            self._columns.clear()
            self._filters.clear()

    def matching(self, filter: Filter) -> Matching:
        """Items that pass. Reads missing columns first, which takes seconds for a million items."""
        with self._lock:
            known = self._filters.get(filter)
            if known is not None:
                self._filters.move_to_end(filter)
                return known
        while True:
            for key in filter.fields():
                self._need(key)
            with self._lock:
                if not all(key in self._columns for key in filter.fields()):
                    continue  # pushed out by others meanwhile
                found = Matching(self._resolve(filter))
                self._filters[filter] = found
                if len(self._filters) > _FILTERS:
                    self._filters.popitem(last=False)
                return found

    def grouped(self, key: str) -> BitMap:
        """Items that have one value to be grouped by; a copy."""
        while True:
            self._need(key)
            with self._lock:
                if key in self._columns:
                    return self._columns[key].single & self._alive

    def values(self, key: str, *among: BitMap) -> list[Values]:
        """What the items of each bitmap have under a key, removed ones left out."""
        while True:
            self._need(key)
            with self._lock:
                if key in self._columns:
                    return [self._columns[key].values(keys & self._alive) for keys in among]

    def all(self) -> BitMap:
        """Every item; a copy."""
        with self._lock:
            return self._alive.copy()

    def group(self, key: str, value: Scalar) -> BitMap:
        """Items of one group (and lists that hold the value); a copy."""
        while True:
            self._need(key)
            with self._lock:
                if key in self._columns:
                    return self._columns[key].matching(Match(key, frozenset([token(value)]))).copy()

    def _follow(self, metadata: Mapping[int, Metadata], gone: BitMap) -> None:
        """Keeps remembered answers right, so that a filter stays warm while items are written."""
        if len(metadata) > _FOLLOWED:
            self._filters.clear()
        for filter, known in self._filters.items():
            for key, new in metadata.items():
                was, passes = key in known.keys, filter.accepts(new) and key in self._alive
                if passes and not was:
                    known.keys.add(key)
                elif was and not passes:
                    known.keys.discard(key)
                known.version += was != passes
            known.keys -= gone

    def _resolve(self, filter: Filter) -> BitMap:
        found = self._alive.copy()
        for condition in filter.must:
            found &= self._bitmap(condition)
        if filter.should:
            found &= BitMap.union(*(self._bitmap(condition) for condition in filter.should))
        for condition in filter.must_not:
            found -= self._bitmap(condition)
        return found

    def _bitmap(self, condition: Condition) -> BitMap:
        return self._columns[condition.key].matching(condition)

    def _need(self, key: str) -> None:
        with self._lock:
            if key in self._columns:
                self._columns.move_to_end(key)
                return
            reading = self._reading.get(key)
            first = reading is None
            if reading is None:
                reading = self._reading[key] = _Reading(key)
        if not first:
            reading.done.wait()
            return
        try:
            reading.column.fill(self._scan())
            with self._lock:
                for changed, metadata in reading.changes:
                    reading.column.set(changed, metadata)
                self._columns[key] = reading.column
                if len(self._columns) > _COLUMNS:
                    self._columns.popitem(last=False)
        finally:
            with self._lock:
                del self._reading[key]
            reading.done.set()
