"""A collection: reads and searches through a reader, beside the writes that `writing` has.

The store is the truth. A search that meets a key the store no longer has waits until what was committed is applied, and
asks again: a reader sees an item's old or its new state, never neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import apsw
import numpy as np

from index.embedded.filters.fields import Matching
from index.embedded.live import counted, neighbours
from index.embedded.live.searcher import Moved, RowsDamaged, Searcher, same_file
from index.embedded.store import items
from index.embedded.store.collections import Head
from index.embedded.store.encoding import (
    check_id,
    decode_cursor,
    encode_cursor,
    stored_type,
    unit,
    unit_query,
)
from index.embedded.store.rows import Broken, Row
from index.embedded.store.vectors import sound
from index.embedded.writing import Writing
from index.errors import (
    CollectionNotFound,
    IndexNotReady,
    ItemNotFound,
    StoreCorrupt,
)
from index.facets import Found
from index.filters import Filter
from index.items import Item, Keys, Nearest, Page, SearchResult, Vector

T = TypeVar("T")
_TRIES = 4  # searches beside writes, before one is put between them
PAGE_BYTES = 2 * 2**20  # metadata of one page of a list: what a client that does not read can make a server hold
PAGE_STEP = 64  # items of a page that are read at once


class EmbeddedCollection(Writing):
    """`Collection` over SQLite and FAISS. Made by `Catalogue` only."""

    def get(self, id: str) -> Item:
        """Raises ItemNotFound."""
        with self._store.readers.connection() as connection:
            return items.row_by_id(connection, self._bound.head.id, self._name, id).item

    def whole(self, ids: Sequence[str], *, originals: bool = False) -> dict[str, Item]:
        """As `Collection.whole`."""
        head, found = self._bound.head, {}
        with self._store.readers.connection() as connection:
            for id, row in items.rows_by_id(connection, head.id, ids).items():
                if isinstance(row, Row) and self._is_whole(connection, head, row, originals=originals):
                    found[id] = row.item
        return found

    def vectors(self, ids: Sequence[str]) -> Vector:
        """As `Collection.vectors`."""
        head = self._bound.head
        out = np.empty((len(ids), head.dim), np.float32)
        with self._store.readers.connection() as connection:
            for position, id in enumerate(ids):
                crc, data = items.vector_by_id(connection, head.id, self._name, id)
                if not sound(crc, data, head.dim):
                    raise items.damaged(id, self._name)
                out[position] = np.frombuffer(data, stored_type(head.dim))
        return unit(out, head.dim)

    def with_vector(self, id: str) -> tuple[Item, Vector]:
        """As `Collection.with_vector`."""
        head = self._bound.head
        with self._store.readers.connection() as connection, connection:  # one moment for all statements
            item = items.row_by_id(connection, head.id, self._name, id).item
            crc, data = items.vector_by_id(connection, head.id, self._name, id)
        if not sound(crc, data, head.dim):
            raise items.damaged(id, self._name)
        return item, unit(np.frombuffer(data, stored_type(head.dim)), head.dim)[0]

    def thumbnail(self, id: str) -> bytes:
        """Raises ItemNotFound, also for an item that has none."""
        with self._store.readers.connection() as connection:
            return items.thumbnail_by_id(connection, self._bound.head.id, self._name, id)

    def scan(self, *, limit: int = 100, cursor: str | None = None, filter: Filter | None = None) -> Page:
        """As `Collection.scan`; one page costs its own length, with a rare filter that of the ids passed over."""
        return self._scanned(limit, cursor, filter, vectors=False)[0]

    def scan_vectors(
        self, *, limit: int = 100, cursor: str | None = None, filter: Filter | None = None
    ) -> tuple[Page, Vector]:
        """As `Collection.scan_vectors`."""
        return self._scanned(limit, cursor, filter, vectors=True)

    def _scanned(self, limit: int, cursor: str | None, filter: Filter | None, *, vectors: bool) -> tuple[Page, Vector]:
        bound = self._bound
        head = bound.head
        passing = None if filter is None or filter.empty else bound.fields.matching(filter).keys
        after = "" if cursor is None else decode_cursor(cursor, check_id)
        with self._store.readers.connection() as connection, connection:  # one moment for all statements
            keys: list[int] = []
            ids: list[str] = []
            ordered = items.in_id_order(connection, head.id, after)
            for id, key in ordered:
                if passing is None or key in passing:
                    keys.append(key)
                    ids.append(id)
                    if len(keys) > limit:
                        break
            ordered.close()
            rows, shown = _page(connection, head.id, keys[:limit])
            stored = items.vectors_by_key(connection, head.id, shown) if vectors else {}
        names = dict(zip(keys, ids, strict=True))
        broken = [key for key, row in rows.items() if isinstance(row, Broken)]
        if vectors:
            broken += [key for key in shown if key in rows and not sound(*stored.get(key, (0, None)), head.dim)]
        bound.leave_out(broken)
        kept = [(key, row.item) for key in shown if isinstance(row := rows.get(key), Row) and key not in broken]
        blob = b"".join(data for data in (stored[key][1] for key, _ in kept) if data is not None) if vectors else b""
        found = np.frombuffer(blob, stored_type(head.dim)).reshape(-1, head.dim)
        page = Page([item for _, item in kept], encode_cursor(names[shown[-1]]) if len(keys) > len(shown) > 0 else None)
        return page, unit(found, head.dim)

    def keys(self) -> tuple[Keys, list[str]]:
        """As `Collection.keys`; from an index alone."""
        with self._store.readers.connection() as connection:
            found = sorted((key, id) for id, key in items.in_id_order(connection, self._bound.head.id, ""))
        return np.array([key for key, _ in found], np.int64), [id for _, id in found]

    def count(self, filter: Filter | None = None) -> int:
        """Items, or those that pass."""
        if filter is None or filter.empty:
            return self._head().count
        return len(self._bound.fields.matching(filter))

    def search(
        self,
        vector: Vector,
        *,
        limit: int = 10,
        offset: int = 0,
        min_score: float = -1.0,
        filter: Filter | None = None,
        group_by: str | None = None,
        exclude: Iterable[str] = (),
        sha256: str | None = None,
    ) -> SearchResult:
        """As `Collection.search`. Raises IndexNotReady."""
        excluded = frozenset(exclude)

        def run(settled: bool) -> SearchResult:
            searcher, matching = self._searcher(vector, filter, excluded, sha256, settled)
            return searcher.run(limit, offset, min_score=min_score, matching=matching, group_by=group_by)

        return self._settled(run)

    def facets(
        self,
        vector: Vector,
        *,
        keys: Sequence[str],
        min_score: float,
        bound: int = 1_000,
        buckets: int = 20,
        filter: Filter | None = None,
        exclude: Iterable[str] = (),
        sha256: str | None = None,
    ) -> Found:
        """As `Collection.facets`. Raises IndexNotReady."""
        excluded = frozenset(exclude)

        def run(settled: bool) -> Found:
            searcher, matching = self._searcher(vector, filter, excluded, sha256, settled)
            return counted.count(searcher, keys, bound=bound, buckets=buckets, min_score=min_score, matching=matching)

        return self._settled(run)

    def nearest(self, vectors: Vector, limit: int = 10) -> list[Nearest]:
        """As `Collection.nearest`. Raises IndexNotReady."""

        def run(settled: bool) -> list[Nearest]:
            bound = self._bound
            bound.follow()
            queries = unit(vectors, bound.head.dim)
            return neighbours.nearest(self._store, bound.head.id, bound.index, queries, limit, bound.broken)

        return self._settled(run)

    def _searcher(
        self, vector: Vector, filter: Filter | None, excluded: frozenset[str], sha256: str | None, settled: bool
    ) -> tuple[Searcher, Matching | None]:
        bound = self._bound
        bound.follow()
        query = unit_query(vector, bound.head.dim)
        matching = None if filter is None or filter.empty else bound.fields.matching(filter)
        same = {} if sha256 is None else same_file(self._store, bound.head.id, bound.fields, sha256, matching)
        searcher = Searcher(
            *(self._store, bound.head.id, bound.index, bound.fields, query, excluded),
            same=same,
            leave_out=bound.broken,
            settled=settled,
        )
        return searcher, matching

    def _settled(self, run: Callable[[bool], T]) -> T:
        """What a search finds, asked again where it met a change or a damaged row.

        run: called with True where nothing moves meanwhile.
        """
        for _ in range(_TRIES):
            try:
                return run(False)
            except Moved:
                self._store.writer.settle()
            except RowsDamaged as met:
                self._bound.leave_out(met.keys)
                return self._settled(run)
            except CollectionNotFound:  # its index was thrown away meanwhile: emptied, it has another one by now
                if self._gone:
                    raise
        # Changed faster than it can be read: between two commits of the writer, store and index are of one moment.
        try:
            return self._store.writer.call(lambda _: run(True))
        except Moved:
            error = IndexNotReady(f"the search index of {self._name!r} holds items that the store does not have")
            raise self._bound.index.distrust(error) from None
        except RowsDamaged as met:
            self._bound.leave_out(met.keys)
            return self._settled(run)

    def _is_whole(self, connection: apsw.Connection, head: Head, row: Row, *, originals: bool) -> bool:
        try:
            crc, data = items.vector_by_id(connection, head.id, self._name, row.item.id)
            if not sound(crc, data, head.dim):
                return False
            if row.thumbnail_crc is not None:
                items.thumbnail_by_id(connection, head.id, self._name, row.item.id)
            if row.item.media is not None and self._store.keep_originals:
                if originals:
                    self._store.originals.read(row.item.media.sha256)
                elif not self._store.originals.has(row.item.media.sha256, row.item.media.bytes):
                    return False
        except (ItemNotFound, StoreCorrupt, OSError):
            return False
        return True


def _page(connection: apsw.Connection, collection: int, keys: list[int]) -> tuple[dict[int, Row | Broken], list[int]]:
    """Rows of the first of these keys, up to PAGE_BYTES of metadata; and which keys those are."""
    found: dict[int, Row | Broken] = {}
    size = 0
    for start in range(0, len(keys), PAGE_STEP):
        rows = items.rows_by_key(connection, collection, keys[start : start + PAGE_STEP])
        for number, key in enumerate(keys[start : start + PAGE_STEP], start):
            row = rows.get(key)
            size += len(row.metadata) if isinstance(row, Row) else 0
            if number and size > PAGE_BYTES:
                return found, keys[:number]
            if row is not None:
                found[key] = row
    return found, keys
