"""A collection is a thin hand over the store and its search index: writes go through the writer, reads through a
reader.

The store is the truth. A search that meets a key the store no longer has waits until what was committed is applied, and
asks again: a reader sees an item's old or its new state, never neither.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apsw
import numpy as np
from pyroaring import BitMap

from index import items
from index.encoding import (
    Stored,
    check_id,
    checksum,
    decode_cursor,
    encode_cursor,
    encode_metadata,
    merge_patch,
    stored_type,
    unit,
)
from index.errors import (
    CollectionNotFound,
    IndexNotReady,
    ItemNotFound,
    ModelMismatch,
    StoreClosed,
    StoreCorrupt,
    StoreError,
)
from index.fields import Fields, Matching
from index.filters import Filter
from index.items import Change, Head, Prepared
from index.live import Keys, LiveIndex
from index.search import Searcher
from index.store import Store
from index.types import CollectionInfo, Entry, Item, Metadata, Page, SearchResult, Vector, Written

_log = logging.getLogger("lookalike.index")
_LOAD = 2048  # vectors read from the store at once
_DELETE = 5_000  # items per transaction when a filter deletes many, so that other writes get through


@dataclass(slots=True)
class Bound:
    """What a collection's name stands for now; replaced as a whole when the collection is emptied or rebound."""

    head: Head
    index: LiveIndex
    fields: Fields
    failure: StoreError | None = None


class EmbeddedCollection:
    """`Collection` over SQLite and FAISS. Made by `Catalogue` only."""

    def __init__(self, store: Store, head: Head) -> None:
        self._store = store
        self._name = head.name
        self._bound = self._load(head)

    @property
    def name(self) -> str:
        return self._name

    @property
    def model(self) -> str:
        return self._bound.head.model

    @property
    def fingerprint(self) -> str:
        return self._bound.head.fingerprint

    @property
    def dim(self) -> int:
        return self._bound.head.dim

    @property
    def score_threshold(self) -> float | None:
        return self._bound.head.score_threshold

    @property
    def ready(self) -> bool:
        """False while the search index does not stand for what is stored."""
        return self._bound.failure is None

    def info(self) -> CollectionInfo:
        """As it stands; count and bytes from the store."""
        head, bound = self._head(), self._bound
        return CollectionInfo(
            name=head.name,
            count=head.count,
            model=head.model,
            fingerprint=head.fingerprint,
            dim=head.dim,
            score_threshold=head.score_threshold,
            index_kind=bound.index.kind,
            indexing=bound.index.indexing or bound.failure is not None,
            bytes=head.bytes,
            created_at=head.created_at,
        )

    def set_score_threshold(self, threshold: float | None) -> None:
        """None: back to what is calibrated, or the model's."""

        def run(connection: apsw.Connection) -> Head:
            items.head(connection, self._name)
            sql = "UPDATE collections SET score_threshold = ? WHERE name = ? AND NOT dropped"
            connection.execute(sql, (threshold, self._name))
            return items.head(connection, self._name)

        self._store.writer.call(run, self._rebind)

    def upsert(self, entries: Sequence[Entry], *, fingerprint: str) -> list[Written]:
        """As `Collection.upsert`. Raises InvalidId and InvalidMetadata as well."""
        head = self._bound.head
        if fingerprint != head.fingerprint:
            raise ModelMismatch(
                f"collection {self._name!r} holds vectors of {head.fingerprint}, these are of {fingerprint}; "
                "use another collection, or empty this one"
            )
        if not entries:
            return []
        prepared = _prepare(entries, head.dim)
        files = [
            (entry.media.sha256, entry.original)
            for entry in entries
            if self._store.keep_originals and entry.original is not None and entry.media is not None
        ]
        run: Callable[[apsw.Connection], tuple[Change, list[Written]]] = lambda connection: items.put(  # noqa: E731
            connection, head, prepared, time.time()
        )
        try:
            with self._store.originals.held(files):
                return self._store.writer.call(run, lambda result: self._apply(result[0]))[1]
        except StoreError:
            self._store.release({sha256 for sha256, _ in files})
            raise

    def merge_metadata(self, id: str, patch: Metadata) -> Item:
        """As `Collection.merge_metadata`. Raises InvalidMetadata."""
        encode_metadata(patch)

        def run(connection: apsw.Connection) -> tuple[Change, Item]:
            head = items.head(connection, self._name)
            row = items.row_by_id(connection, head.id, self._name, id)
            merged = encode_metadata(merge_patch(row.item.metadata, patch))
            if merged == row.metadata:
                return Change(head.id), row.item
            return items.patch(connection, head, row, merged, time.time())

        return self._store.writer.call(run, lambda result: self._apply(result[0]))[1]

    def delete(self, ids: Iterable[str]) -> int:
        """Number of items that were there; ids twice count once."""
        wanted = list(dict.fromkeys(ids))

        def run(connection: apsw.Connection) -> Change:
            head = items.head(connection, self._name)
            return items.remove(connection, head, list(items.rows_by_id(connection, head.id, wanted).values()))

        return len(self._store.writer.call(run, self._apply).removed)

    def delete_where(self, filter: Filter) -> int:
        """Deletes what passes; in transactions of some thousand items each."""
        bound = self._bound
        found = iter(np.frombuffer(self._matching(bound, filter).keys.to_array(), np.uint32).tolist())
        deleted = 0
        while keys := [key for _, key in zip(range(_DELETE), found, strict=False)]:

            def run(connection: apsw.Connection, keys: list[int] = keys) -> Change:
                head = items.head(connection, self._name)
                if head.id != bound.head.id:
                    return Change(head.id)  # emptied meanwhile
                rows = items.rows_by_key(connection, head.id, keys).values()
                return items.remove(connection, head, [row for row in rows if filter.accepts(row.item.metadata)])

            deleted += len(self._store.writer.call(run, self._apply).removed)
        return deleted

    def get(self, id: str) -> Item:
        """Raises ItemNotFound."""
        with self._store.readers.connection() as connection:
            return items.row_by_id(connection, self._bound.head.id, self._name, id).item

    def vectors(self, ids: Sequence[str]) -> Vector:
        """As `Collection.vectors`. Raises StoreCorrupt where a stored vector does not match its checksum."""
        head = self._bound.head
        out = np.empty((len(ids), head.dim), np.float32)
        with self._store.readers.connection() as connection:
            for position, id in enumerate(ids):
                row = items.row_by_id(connection, head.id, self._name, id)
                crc, data = items.vector(connection, row.vid)
                self._check(crc, data, id, head.dim)
                out[position] = np.frombuffer(data, stored_type(head.dim))
        return unit(out, head.dim)

    def thumbnail(self, id: str) -> bytes:
        """Raises ItemNotFound, also for an item that has none."""
        with self._store.readers.connection() as connection:
            row = items.row_by_id(connection, self._bound.head.id, self._name, id)
            data: bytes | None = connection.execute("SELECT data FROM thumbnails WHERE vid = ?", (row.vid,)).get
        if data is None:
            raise ItemNotFound(f"item {id!r} in collection {self._name!r} has no thumbnail")
        return data

    def scan(self, *, limit: int = 100, cursor: str | None = None, filter: Filter | None = None) -> Page:
        """As `Collection.scan`; one page costs its own length, with a rare filter that of the ids passed over."""
        bound = self._bound
        passing = None if filter is None or filter.empty else self._matching(bound, filter).keys
        after = "" if cursor is None else decode_cursor(cursor)
        with self._store.readers.connection() as connection:
            keys: list[int] = []
            ordered = items.in_id_order(connection, bound.head.id, after)
            for _, key in ordered:
                if passing is None or key in passing:
                    keys.append(key)
                    if len(keys) > limit:
                        break
            ordered.close()
            rows = items.rows_by_key(connection, bound.head.id, keys)
        page = [rows[key].item for key in keys[:limit] if key in rows]
        more = len(keys) > limit and page
        return Page(page, encode_cursor(page[-1].id) if more else None)

    def count(self, filter: Filter | None = None) -> int:
        """Items, or those that pass."""
        if filter is None or filter.empty:
            return self._head().count
        return len(self._matching(self._bound, filter))

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
    ) -> SearchResult:
        """As `Collection.search`. Raises IndexNotReady, and StoreCorrupt where a stored vector is damaged."""
        bound = self._serving()
        query = unit(vector, bound.head.dim)[0]
        searcher = Searcher(self._store, bound.head.id, bound.index, bound.fields, query, frozenset(exclude))
        matching = None if filter is None or filter.empty else self._matching(bound, filter)
        for _ in range(8):
            found = searcher.run(limit=limit, offset=offset, min_score=min_score, matching=matching, group_by=group_by)
            if found is not None:
                return found
            self._store.writer.settle()
            bound = self._serving()
            searcher = Searcher(self._store, bound.head.id, bound.index, bound.fields, query, frozenset(exclude))
            matching = None if matching is None or filter is None else self._matching(bound, filter)
        raise IndexNotReady(f"collection {self._name!r} changes faster than it can be searched; try again")

    def nearest(self, vector: Vector, limit: int = 10) -> list[tuple[str, float]]:
        """The lean search: ids and scores only, best first. Same scores and errors as `search`."""
        bound = self._serving()
        scores, keys = bound.index.search(unit(vector, bound.head.dim)[0], limit)
        with self._store.readers.connection() as connection:
            ids = items.ids_by_key(connection, bound.head.id, keys.tolist())
        return [(ids[key], score) for key, score in zip(keys.tolist(), scores.tolist(), strict=True) if key in ids]

    def close(self) -> None:
        """Nothing of its own to give back: the catalogue closes the store."""

    def rebind(self, head: Head) -> None:
        """The name stands for another row from now on; called by `Catalogue` in the writer thread."""
        self._bound = self._load(head)

    def _rebind(self, head: Head) -> None:
        bound = self._bound
        self._bound = Bound(head, bound.index, bound.fields, bound.failure)

    def _head(self) -> Head:
        with self._store.readers.connection() as connection:
            return items.head(connection, self._name)

    def _serving(self) -> Bound:
        bound = self._bound
        if bound.failure is not None:
            raise bound.failure
        return bound

    def _matching(self, bound: Bound, filter: Filter) -> Matching:
        return bound.fields.matching(filter)

    def _apply(self, change: Change) -> None:
        bound = self._bound
        if change.collection != bound.head.id or change.empty:
            return
        try:
            bound.fields.apply(change.metadata, change.added, change.removed)
            if bound.failure is None and (change.added or change.removed):
                dim = bound.head.dim
                vectors = np.stack(change.vectors) if change.vectors else np.empty((0, dim), stored_type(dim))
                self._store.failpoints.hit("index.apply")
                bound.index.apply(np.array(change.added, np.int64), vectors, np.array(change.removed, np.int64))
        except Exception:  # noqa: BLE001 - whatever it was, the store is right and the index is rebuilt from it
            _log.exception("collection %s: a committed change could not be applied; rebuilding its index", self._name)
            bound.failure = IndexNotReady(f"the search index of {self._name!r} is being rebuilt; try again shortly")
        self._store.release(change.orphans)
        if bound.failure is not None and (change.removed or isinstance(bound.failure, IndexNotReady)):
            # What was removed may be the damaged item, deleted or uploaded again: that heals the collection.
            threading.Thread(target=self._reload, name="index-rebuild", daemon=True).start()

    def _reload(self) -> None:
        # In a job of the writer, so that no change slips between reading the store and taking over.
        def run(connection: apsw.Connection) -> None:
            if self._bound.failure is not None:
                self._bound = self._load(items.head(connection, self._name))

        with contextlib.suppress(StoreClosed, CollectionNotFound):
            self._store.writer.call(run)

    def _load(self, head: Head) -> Bound:
        index = LiveIndex(head.dim)
        alive = BitMap()
        failure: StoreError | None = None
        try:
            for keys, vectors in self._stored(head):
                index.apply(keys, vectors, np.empty(0, np.int64))
                alive |= BitMap(keys.tolist())
        except StoreCorrupt as error:
            _log.error("%s", error)
            failure = error
            with self._store.readers.connection() as connection:
                alive = BitMap([key for _, key in items.in_id_order(connection, head.id, "")])
        return Bound(head, index, Fields(alive, lambda: self._metadata(head.id)), failure)

    def _stored(self, head: Head) -> Iterator[tuple[Keys, Stored]]:
        """(keys int64 (n,), stored vectors (n, dim)) of the whole collection, checked, in the order of keys."""
        after = 0
        while True:
            with self._store.readers.connection() as connection:
                rows = items.vectors_after(connection, head.id, after, _LOAD)
                for key, crc, data in rows:
                    if not _sound(crc, data, head.dim):
                        self._check(crc, data, items.ids_by_key(connection, head.id, [key]).get(key, "?"), head.dim)
            if not rows:
                return
            keys = np.array([key for key, _, _ in rows], np.int64)
            blob = b"".join(data for _, _, data in rows)
            yield keys, np.frombuffer(blob, stored_type(head.dim)).reshape(len(rows), head.dim)
            after = int(keys[-1])

    def _metadata(self, collection: int) -> Iterator[tuple[int, dict[str, Any]]]:
        with self._store.readers.connection() as connection:
            yield from items.metadata_of(connection, collection)

    def _check(self, crc: int, data: bytes, id: str, dim: int) -> None:
        if not _sound(crc, data, dim):
            raise StoreCorrupt(
                f"the stored vector of item {id!r} in collection {self._name!r} does not match its checksum; upload "
                "that item again or delete it, or restore a snapshot"
            )


def _sound(crc: int, data: bytes, dim: int) -> bool:
    return checksum(data) == crc and len(data) == dim * stored_type(dim).itemsize


def _prepare(entries: Sequence[Entry], dim: int) -> list[Prepared]:
    vectors = unit(np.stack([_one(entry, dim) for entry in entries]), dim).astype(stored_type(dim))
    return [
        Prepared(check_id(entry.id), row, checksum(row), encode_metadata(entry.metadata), entry.media, entry.thumbnail)
        for entry, row in zip(entries, vectors, strict=True)
    ]


def _one(entry: Entry, dim: int) -> Vector:
    return unit(entry.vector, dim)[0] if np.shape(entry.vector) != (dim,) else np.asarray(entry.vector, np.float32)
