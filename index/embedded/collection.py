"""A collection is a thin hand over the store and its search index: writes go through the writer, reads through a
reader.

The store is the truth. A search that meets a key the store no longer has waits until what was committed is applied, and
asks again: a reader sees an item's old or its new state, never neither.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TypeVar

import apsw
import numpy as np

from index.embedded.bound import Bound
from index.embedded.live import neighbours
from index.embedded.live.live import LiveIndex
from index.embedded.live.policy import Policy
from index.embedded.live.searcher import Moved, RowsDamaged, Searcher, same_file
from index.embedded.store import bulk_insert, collections, items, writes
from index.embedded.store.bulk_insert import Batch
from index.embedded.store.collections import Head
from index.embedded.store.encoding import (
    check_id,
    decode_cursor,
    encode_cursor,
    encode_metadata,
    merge_patch,
    stored_type,
    unit,
    unit_query,
)
from index.embedded.store.records import StoredRecords
from index.embedded.store.rows import Broken, Row
from index.embedded.store.store import Store
from index.embedded.store.vectors import sound, stack
from index.embedded.store.writes import Change
from index.errors import (
    CollectionNotFound,
    IndexNotReady,
    ItemNotFound,
    ModelMismatch,
    RecordNotFound,
    StorageFailed,
    StoreCorrupt,
)
from index.filters import Filter, is_number
from index.types import CollectionInfo, Entry, Imported, Item, Metadata, Nearest, Page, SearchResult, Vector, Written

_THRESHOLD = ("threshold", "manual")  # kind and name of the record
T = TypeVar("T")
_BATCH = 4_096  # vectors per transaction of a bulk import
_PAUSE = 0.05  # seconds between slices of a check beside the serving
_TRIES = 4  # searches beside writes, before one is put between them
PAGE_BYTES = 2 * 2**20  # metadata of one page of a list: what a client that does not read can make a server hold
PAGE_STEP = 64  # items of a page that are read at once
_DELETE = 5_000  # items per transaction when a filter deletes many, so that other writes get through


class EmbeddedCollection:
    """`Collection` over SQLite and FAISS. Made by `Catalogue` only."""

    def __init__(self, store: Store, head: Head, *, policy: Policy, indexes: bool) -> None:
        self._store = store
        self._policy = policy
        self._indexes = indexes
        self._name = head.name
        self._gone = False
        self._records = StoredRecords(
            store.writer, store.readers, lambda connection: self._row(connection).id, self._reread_threshold
        )
        self._state = self._bind(head)

    @property
    def _bound(self) -> Bound:
        if self._gone:
            raise CollectionNotFound(f"no collection {self._name!r}; create it first")
        return self._state

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
        return self._bound.threshold

    @property
    def records(self) -> StoredRecords:
        """Records that go when the collection is dropped or emptied."""
        return self._records

    @property
    def ready(self) -> bool:
        """As `Collection.ready`."""
        return self._bound.index.failure is None

    @property
    def index(self) -> LiveIndex:
        """The search index as it is bound now; for maintenance and tests."""
        return self._state.index

    @property
    def sequence(self) -> int:
        """As `Collection.sequence`."""
        return self._head().seq

    def info(self) -> CollectionInfo:
        """As it stands; count and bytes from the store."""
        head, bound = self._head(), self._bound
        return CollectionInfo(
            name=head.name,
            count=head.count,
            model=head.model,
            fingerprint=head.fingerprint,
            dim=head.dim,
            score_threshold=bound.threshold,
            indexing=bound.index.indexing,
            bytes=head.bytes,
            created_at=head.created_at,
            index=replace(bound.index.detail, filter_bytes=bound.fields.nbytes, damaged=bound.damaged),
        )

    def set_score_threshold(self, threshold: float | None) -> None:
        """None: back to what is calibrated, or the model's."""
        if threshold is not None:
            self._records.put(*_THRESHOLD, {"score": threshold})
            return
        with contextlib.suppress(RecordNotFound):
            self._records.delete(*_THRESHOLD)

    def upsert(self, entries: Sequence[Entry], *, fingerprint: str) -> list[Written]:
        """As `Collection.upsert`. Raises InvalidId and InvalidMetadata as well."""
        head = self._bound.head
        self._check_model(fingerprint)
        if not entries:
            return []
        prepared = writes.prepare(entries, head.dim)
        files = [
            (entry.media.sha256, entry.original)
            for entry in entries
            if self._store.keep_originals and entry.original is not None and entry.media is not None
        ]

        def run(connection: apsw.Connection) -> tuple[Change, list[Written]]:
            self._row(connection)
            return writes.put(connection, head, prepared, time.time())

        try:
            with self._store.originals.held(files, self._store.referred):
                return self._store.writer.call(run, lambda result: self._apply(result[0]))[1]
        except StorageFailed as error:
            self._store.writer.stop(error)
            raise
        finally:
            if files and self._store.originals.take_deferred():
                self._store.release()

    def import_vectors(
        self, ids: Sequence[str], vectors: Vector, metadata: Sequence[Metadata] | None = None, *, fingerprint: str
    ) -> Imported:
        """Creates or replaces items from ready vectors float32 (n, dim), in transactions of some thousand each.

        Each transaction is whole or absent; after an error the ones before it stand. Raises as `upsert`.
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

    def replace_metadata(self, id: str, metadata: Metadata, *, sha256: str) -> Item:
        """As `Collection.replace_metadata`. Raises InvalidMetadata."""
        encoded = encode_metadata(metadata)

        def replaced(item: Item) -> tuple[Metadata, str]:
            if item.media is None or item.media.sha256 != sha256:
                raise ItemNotFound(f"item {id!r} in collection {self._name!r} has another picture now")
            return encoded

        return self._rewrite(id, replaced)

    def delete(self, ids: Iterable[str]) -> int:
        """Number of items that were there; ids twice count once."""
        wanted = list(dict.fromkeys(ids))

        def run(connection: apsw.Connection) -> Change:
            head = self._row(connection)
            return writes.remove(connection, head, list(items.rows_by_id(connection, head.id, wanted).values()))

        return len(self._store.writer.call(run, self._apply).removed)

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

    def thumbnail(self, id: str) -> bytes:
        """Raises ItemNotFound, also for an item that has none."""
        with self._store.readers.connection() as connection:
            return items.thumbnail_by_id(connection, self._bound.head.id, self._name, id)

    def scan(self, *, limit: int = 100, cursor: str | None = None, filter: Filter | None = None) -> Page:
        """As `Collection.scan`; one page costs its own length, with a rare filter that of the ids passed over."""
        bound = self._bound
        passing = None if filter is None or filter.empty else bound.fields.matching(filter).keys
        after = "" if cursor is None else decode_cursor(cursor, check_id)
        with self._store.readers.connection() as connection, connection:  # one moment for both statements
            keys: list[int] = []
            ids: list[str] = []
            ordered = items.in_id_order(connection, bound.head.id, after)
            for id, key in ordered:
                if passing is None or key in passing:
                    keys.append(key)
                    ids.append(id)
                    if len(keys) > limit:
                        break
            ordered.close()
            rows, shown = _page(connection, bound.head.id, keys[:limit])
        names = dict(zip(keys, ids, strict=True))
        bound.leave_out(key for key, row in rows.items() if isinstance(row, Broken))
        page = [row.item for row in (rows.get(key) for key in shown) if isinstance(row, Row)]
        return Page(page, encode_cursor(names[shown[-1]]) if len(keys) > len(shown) > 0 else None)

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
            return searcher.run(limit, offset, min_score=min_score, matching=matching, group_by=group_by)

        return self._settled(run)

    def nearest(self, vectors: Vector, limit: int = 10) -> list[Nearest]:
        """As `Collection.nearest`. Raises IndexNotReady."""

        def run(settled: bool) -> list[Nearest]:
            bound = self._bound
            bound.follow()
            queries = unit(vectors, bound.head.dim)
            return neighbours.nearest(self._store, bound.head.id, bound.index, queries, limit, bound.broken)

        return self._settled(run)

    def _settled(self, run: Callable[[bool], T]) -> T:
        """What a search finds, asked again where it met a change or a damaged row. run: is told when nothing moves."""
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

    def check(self, stop: threading.Event) -> None:
        """Reads every row of a large collection, a tenth of the time, and leaves out what is damaged."""
        bound = self._state
        if bound.large and self._indexes:
            bound.check(partial(stop.wait, _PAUSE))

    def close(self) -> None:
        """Ends the work behind the scenes and saves the search index; the catalogue closes the store after."""
        self._state.index.close()

    def rebind(self, head: Head) -> LiveIndex:
        """The name stands for another row from now on; in the writer thread. Returns the index nobody uses any more."""
        old, self._state = self._state.index, self._bind(head)
        return old

    def trade(self, other: EmbeddedCollection, ours: Head, theirs: Head) -> None:
        """This name stands for the other's row from now on, and the other for this one's; in the writer thread.

        ours, theirs: the rows that this one and the other stand for then, with their names.
        """
        self._state, other._state = (
            replace(other._state, head=ours),
            replace(self._state, head=theirs),
        )
        other._name = theirs.name
        for each in (self, other):
            each._state.index.rename(each._state.head)

    def dropped(self, gone: bool) -> None:
        """The collection is being removed, or was not after all; in the writer thread, where no write comes between."""
        self._gone = gone

    def _reread_threshold(self) -> None:
        if not self._gone:
            self._state = replace(self._state, threshold=self._threshold())

    def _threshold(self) -> float | None:
        try:
            value = self._records.get(*_THRESHOLD).value["score"]
        except (RecordNotFound, StoreCorrupt, KeyError):
            return None
        return float(value) if is_number(value) else None

    def _row(self, connection: apsw.Connection) -> Head:
        # By name: emptied meanwhile, the collection goes on. Removed, it does not, even if another has its name now.
        if self._gone:
            raise CollectionNotFound(f"no collection {self._name!r}; create it first")
        return collections.head(connection, self._name)

    def _head(self) -> Head:
        with self._store.readers.connection() as connection:
            return self._row(connection)

    def _check_model(self, fingerprint: str) -> None:
        if fingerprint != self.fingerprint:
            raise ModelMismatch(
                f"collection {self._name!r} holds vectors of {self.fingerprint}, these are of {fingerprint}; "
                "use another collection, or empty this one"
            )

    def _rewrite(self, id: str, encoded: Callable[[Item], tuple[Metadata, str]]) -> Item:
        def run(connection: apsw.Connection) -> tuple[Change, Item]:
            head = self._row(connection)
            row = items.row_by_id(connection, head.id, self._name, id)
            metadata, text = encoded(row.item)
            if text == row.metadata:
                return Change(head.id), row.item
            return writes.patch(connection, head, row, metadata, text, time.time())

        return self._store.writer.call(run, lambda result: self._apply(result[0]))[1]

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

    def _bind(self, head: Head) -> Bound:
        return Bound.load(self._store, head, self._threshold(), self._policy, indexes=self._indexes)


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
