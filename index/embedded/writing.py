"""Writes of a collection: each goes through the writer in a transaction, then to the search index and the filters.

The store is the truth: whatever fails after the commit is made from it again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

import apsw
import numpy as np

from index.embedded.binding import Binding
from index.embedded.store import bulk_insert, items, writes
from index.embedded.store.bulk_insert import Batch
from index.embedded.store.collections import Head
from index.embedded.store.encoding import (
    encode_metadata,
    merge_patch,
)
from index.embedded.store.rows import Row
from index.embedded.store.vectors import stack
from index.embedded.store.writes import Change
from index.errors import (
    ItemNotFound,
    ModelMismatch,
    StoreCorrupt,
)
from index.filters import Filter
from index.items import Entry, Imported, Item, Metadata, Vector, Written

T = TypeVar("T")
_BATCH = 4_096  # vectors per transaction of a bulk import
_DELETE = 5_000  # items per transaction when a filter deletes many, so that other writes get through


class Writing(Binding):
    """The writing half of a collection."""

    def upsert(self, entries: Sequence[Entry], *, fingerprint: str) -> list[Written]:
        """As `Collection.upsert`. Raises InvalidId and InvalidMetadata as well."""
        head = self._bound.head
        self._check_model(fingerprint)
        if not entries:
            return []
        prepared, ids = writes.prepare(entries, head.dim), [entry.id for entry in entries]
        files = [
            (entry.media.sha256, entry.original)
            for entry in entries
            if self._store.keep_originals and entry.original is not None and entry.media is not None
        ]

        def run(spoilt: frozenset[int], connection: apsw.Connection) -> tuple[Change, list[Written]]:
            self._row(connection)
            return writes.put(connection, head, prepared, time.time(), spoilt)

        try:
            with self._store.originals.held(files, self._store.referred):
                return self._past_damage(ids, run, lambda result: self._apply(result[0]))[1]
        finally:
            if files and self._store.originals.take_deferred():
                self._store.release()

    def import_vectors(
        self, ids: Sequence[str], vectors: Vector, metadata: Sequence[Metadata] | None = None, *, fingerprint: str
    ) -> Imported:
        """Creates or replaces items from ready vectors float32 (n, dim), in transactions of some thousand each.

        Each transaction is whole or absent; after an error the ones before it stay. Raises as `upsert`.
        """
        head = self._bound.head
        self._check_model(fingerprint)
        total = Imported(0, 0, 0)
        waiting: deque[Future[tuple[list[Change], Imported]]] = deque()
        for start in range(0, len(ids), _BATCH):
            part = slice(start, start + _BATCH)
            batch = Batch.encode(ids[part], vectors[part], None if metadata is None else metadata[part], head.dim)
            self._bound.index.wait_for_room()
            waiting.append(self._store.writer.submit(partial(self._insert, head, batch), self._apply_all))
            while len(waiting) > 1 or (waiting and start + _BATCH >= len(ids)):
                total += waiting.popleft().result()[1]
        return total

    def merge_metadata(self, id: str, patch: Metadata) -> Item:
        """As `Collection.merge_metadata`. Raises InvalidMetadata."""
        encode_metadata(patch)
        return self._rewrite(id, lambda item: encode_metadata(merge_patch(item.metadata, patch)))

    def replace_metadata(self, id: str, metadata: Metadata, *, sha256: str, keep: bool = False) -> Item:
        """As `Collection.replace_metadata`. Raises InvalidMetadata."""
        encoded = encode_metadata(metadata)

        def replaced(item: Item) -> tuple[Metadata, str]:
            if item.media is None or item.media.sha256 != sha256:
                raise ItemNotFound(f"item {id!r} in collection {self._name!r} has another picture now")
            return encode_metadata({**item.metadata, **metadata}) if keep else encoded

        return self._rewrite(id, replaced)

    def delete(self, ids: Iterable[str]) -> int:
        """Number of items that were there; ids twice count once."""
        wanted = list(dict.fromkeys(ids))

        def run(spoilt: frozenset[int], connection: apsw.Connection) -> Change:
            head = self._row(connection)
            rows = list(items.rows_by_id(connection, head.id, wanted).values())
            return writes.remove(connection, head, rows, spoilt)

        return len(self._past_damage(wanted, run, self._apply).removed)

    def delete_where(self, filter: Filter) -> int:
        """Deletes what passes; in transactions of some thousand items each."""
        bound = self._bound
        found = iter(np.frombuffer(bound.fields.matching(filter).keys.to_array(), np.uint32).tolist())
        deleted = 0
        while keys := [key for _, key in zip(range(_DELETE), found, strict=False)]:

            def run(connection: apsw.Connection, keys: list[int] = keys) -> Change:
                head = self._row(connection)
                if head.id != bound.head.id:
                    return Change(head.id)  # emptied meanwhile
                rows = items.rows_by_key(connection, head.id, keys).values()
                passing = [row for row in rows if isinstance(row, Row) and filter.accepts(row.item.metadata)]
                return writes.remove(connection, head, passing)

            deleted += len(self._store.writer.call(run, self._apply).removed)
        return deleted

    def _check_model(self, fingerprint: str) -> None:
        if fingerprint != self.fingerprint:
            raise ModelMismatch(
                f"collection {self._name!r} holds vectors of {self.fingerprint}, these are of {fingerprint}; "
                "use another collection, or empty this one"
            )

    def _past_damage(
        self, ids: Sequence[str], run: Callable[[frozenset[int], apsw.Connection], T], applied: Callable[[T], None]
    ) -> T:
        """Writes; where that meets damage, once more around the pages that cannot be read, with indexes made anew."""
        try:
            return self._store.writer.call(partial(run, frozenset()), applied)
        except StoreCorrupt:
            with self._store.readers.connection() as connection:
                spoilt = writes.spoilt(connection, self._row(connection).id, ids)
            if not spoilt:
                self._store.writer.call(writes.reindex)
            return self._store.writer.call(partial(run, spoilt), applied)

    def _rewrite(self, id: str, encoded: Callable[[Item], tuple[Metadata, str]]) -> Item:
        def run(connection: apsw.Connection) -> tuple[Change, Item]:
            head = self._row(connection)
            row = items.row_by_id(connection, head.id, self._name, id)
            metadata, text = encoded(row.item)
            if text == row.metadata:
                return Change(head.id), row.item
            return writes.patch(connection, head, row, metadata, text, time.time())

        return self._store.writer.call(run, lambda result: self._apply(result[0]))[1]

    def _insert(self, head: Head, batch: Batch, connection: apsw.Connection) -> tuple[list[Change], Imported]:
        self._row(connection)
        return bulk_insert.insert(connection, head, batch, time.time())

    def _apply_all(self, result: tuple[list[Change], Imported]) -> None:
        for change in result[0]:
            self._apply(change)

    def _apply(self, change: Change) -> None:
        bound = self._state
        if change.collection != bound.head.id or change.empty or self._gone:
            return
        try:
            self._store.failpoints.hit("index.apply")
            bound.fields.apply(change.metadata, change.added, change.removed)
            if change.added or change.removed:
                vectors = stack(change.vectors, bound.head.dim)
                added, removed = np.array(change.added, np.int64), np.array(change.removed, np.int64)
                bound.index.apply(added, vectors, change.ids, removed, change.seq)
        except Exception as error:  # noqa: BLE001 - whatever it was, the store is right and the rest is made from it again
            bound.index.distrust(error)
            bound.reset()
        bound.heal(change.removed)
        if change.released:
            self._store.release()
