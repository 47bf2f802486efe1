"""The SQL behind items: each function runs inside a transaction of the caller's and knows nothing of threads or search.

A change of vector gives the item a new key and leaves a tombstone; a change of anything else keeps its key. Keys of one
collection are 1, 2, 3 … in the order of commit and are never used again.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import apsw
import numpy as np

from index.embedded.store.collections import KEY_BITS, KEY_MASK, Head, current, finish, vid_of
from index.embedded.store.encoding import (
    Stored,
    check_id,
    checksum,
    decode_metadata,
    encode_metadata,
    stored_type,
    unit,
)
from index.errors import ItemNotFound, StoreCorrupt
from index.types import Entry, Item, Media, Vector, Written

_COLUMNS = "vid, id, metadata, width, height, format, bytes, sha256, created_at, updated_at, size"
_CHUNK = 100  # keys per statement
StoredRow = tuple[int, int, bytes | None, str]  # key, checksum, vector, id; None where the vector is lost


@dataclass(frozen=True, slots=True)
class Prepared:
    """An entry ready for the disk. data: stored vector (dim,); crc: of its bytes; metadata: JSON text."""

    id: str
    data: Stored
    crc: int
    metadata: str
    media: Media | None
    thumbnail: bytes | None

    @property
    def size(self) -> int:
        """Bytes this item costs on disk, roughly."""
        media = self.media.bytes if self.media else 0
        return self.data.nbytes + len(self.metadata) + len(self.thumbnail or b"") + media + 200


def prepare(entries: Sequence[Entry], dim: int) -> list[Prepared]:
    """Entries as they go to disk. Raises InvalidId, InvalidVector, InvalidMetadata."""
    vectors = unit(np.stack([_one(entry, dim) for entry in entries]), dim).astype(stored_type(dim))
    return [
        Prepared(check_id(entry.id), row, checksum(row), encode_metadata(entry.metadata), entry.media, entry.thumbnail)
        for entry, row in zip(entries, vectors, strict=True)
    ]


def _one(entry: Entry, dim: int) -> Vector:
    return unit(entry.vector, dim)[0] if np.shape(entry.vector) != (dim,) else np.asarray(entry.vector, np.float32)


@dataclass(frozen=True, slots=True)
class Row:
    """An item as it lies in the table."""

    vid: int
    item: Item
    metadata: str
    size: int

    @property
    def key(self) -> int:
        return self.vid & KEY_MASK


@dataclass(slots=True)
class Change:
    """What a transaction did to one collection, for the search index and the filters to follow after the commit."""

    collection: int
    added: list[int] = field(default_factory=list)
    vectors: list[Stored] | Stored = field(default_factory=list)
    ids: list[str] = field(default_factory=list)  # of the added
    metadata: dict[int, str] = field(default_factory=dict)  # by key: new items and changed metadata
    removed: list[int] = field(default_factory=list)
    orphans: set[str] = field(default_factory=set)  # sha256 that lost an item
    seq: int = 0

    @property
    def empty(self) -> bool:
        return not (self.added or self.removed or self.metadata)


def rows_by_id(connection: apsw.Connection, collection: int, ids: Iterable[str]) -> dict[str, Row]:
    """Rows of those ids that exist."""
    sql = f"SELECT {_COLUMNS} FROM items WHERE collection = ? AND id = ?"
    return {row[1]: _row(row) for row in connection.executemany(sql, ((collection, id) for id in ids))}


def row_by_id(connection: apsw.Connection, collection: int, name: str, id: str) -> Row:
    """Raises ItemNotFound."""
    rows = rows_by_id(connection, collection, [id])
    if id not in rows:
        raise ItemNotFound(f"no item {id!r} in collection {name!r}")
    return rows[id]


def rows_by_key(connection: apsw.Connection, collection: int, keys: Iterable[int]) -> dict[int, Row]:
    """Rows of those keys that exist, by key."""
    return {row[0] & KEY_MASK: _row(row) for row in _among(connection, _COLUMNS, collection, keys)}


def ids_by_key(connection: apsw.Connection, collection: int, keys: Iterable[int]) -> dict[int, str]:
    """Ids of those keys that exist, by key."""
    return {vid & KEY_MASK: id for vid, id in _among(connection, "vid, id", collection, keys)}


def keys_by_id(connection: apsw.Connection, collection: int, ids: Iterable[str]) -> dict[str, int]:
    """Keys of those ids that exist, by id."""
    sql = "SELECT id, vid FROM items WHERE collection = ? AND id = ?"
    return {id: vid & KEY_MASK for id, vid in connection.executemany(sql, ((collection, id) for id in ids))}


def keys_by_sha256(connection: apsw.Connection, collection: int, sha256: str) -> list[int]:
    """Keys of the items whose upload has this sha256, increasing."""
    sql = "SELECT vid FROM items WHERE sha256 = ? AND vid BETWEEN ? AND ? ORDER BY vid"
    low = collection << KEY_BITS
    return [vid & KEY_MASK for (vid,) in connection.execute(sql, (sha256, low, low | KEY_MASK))]


def in_id_order(connection: apsw.Connection, collection: int, after: str) -> Generator[tuple[str, int]]:
    """(id, key) of a collection from the first id greater than `after`; lazily, from the index alone."""
    sql = "SELECT id, vid FROM items WHERE collection = ? AND id > ? ORDER BY id"
    for id, vid in connection.execute(sql, (collection, after)):
        yield id, vid & KEY_MASK


def vector_by_id(connection: apsw.Connection, collection: int, name: str, id: str) -> tuple[int, bytes]:
    """(crc, bytes) as stored, in one statement: the item may be replaced at any moment. Raises ItemNotFound."""
    crc, data = _part(connection, "v.crc, v.data", "vectors", collection, name, id)
    if data is None:
        raise StoreCorrupt(f"item {id!r} in collection {name!r} has lost its vector; upload it again")
    return crc, data


def thumbnail_by_id(connection: apsw.Connection, collection: int, name: str, id: str) -> bytes:
    """Raises ItemNotFound, also for an item without one."""
    (data,) = _part(connection, "v.data", "thumbnails", collection, name, id)
    if data is None:
        raise ItemNotFound(f"item {id!r} in collection {name!r} has no thumbnail")
    return bytes(data)


def _part(connection: apsw.Connection, columns: str, table: str, collection: int, name: str, id: str) -> Any:
    sql = (
        f"SELECT {columns} FROM items AS i LEFT JOIN {table} AS v ON v.vid = i.vid WHERE i.collection = ? AND i.id = ?"
    )
    found: list[Any] = connection.execute(sql, (collection, id)).fetchall()
    if not found:
        raise ItemNotFound(f"no item {id!r} in collection {name!r}")
    return found[0]


def keys(connection: apsw.Connection, collection: int) -> Iterator[int]:
    """Every key, in no order; from an index alone."""
    for (vid,) in connection.execute("SELECT vid FROM items WHERE collection = ?", (collection,)):
        yield int(vid) & KEY_MASK


def vectors_after(
    connection: apsw.Connection, collection: int, after: int, limit: int, *, until: int = KEY_MASK
) -> list[StoredRow]:
    """Up to `limit` stored vectors of items with keys above `after` and up to `until`, in the order of keys."""
    sql = (
        "SELECT i.vid, v.crc, v.data, i.id FROM items AS i LEFT JOIN vectors AS v ON v.vid = i.vid"
        " WHERE i.vid > ? AND i.vid <= ? ORDER BY i.vid LIMIT ?"
    )
    found: list[Any] = connection.execute(sql, (vid_of(collection, after), vid_of(collection, until), limit)).fetchall()
    return [(vid & KEY_MASK, crc, data, id) for vid, crc, data, id in found]


def metadata_texts(connection: apsw.Connection, collection: int) -> Iterator[tuple[int, str]]:
    """(key, metadata as JSON text) of every item, in the order of keys; lazily."""
    sql = "SELECT vid, metadata FROM items WHERE vid BETWEEN ? AND ?"
    for vid, text in connection.execute(sql, (vid_of(collection, 0), vid_of(collection, KEY_MASK))):
        yield int(vid) & KEY_MASK, str(text)


def originals(connection: apsw.Connection) -> list[str]:
    """The sha256 of every original that an item refers to."""
    sql = "SELECT DISTINCT sha256 FROM items WHERE sha256 IS NOT NULL"
    return [str(sha256) for (sha256,) in connection.execute(sql)]


def put(
    connection: apsw.Connection, target: Head, entries: Sequence[Prepared], now: float
) -> tuple[Change, list[Written]]:
    """Creates or replaces items. Raises ModelMismatch where the collection was bound to another model meanwhile."""
    target = current(connection, target)
    change = Change(target.id, seq=target.seq + 1)
    known = rows_by_id(connection, target.id, (entry.id for entry in entries))
    pending = _Pending(connection, target.id)
    written: list[Written] = []
    next_key, count, size = target.next_key, target.count, target.bytes
    vectors: list[Stored] = []
    change.vectors = vectors
    for entry in entries:
        old = known.get(entry.id)
        if old is not None and old.vid in pending.vids:
            pending.flush()  # the same id twice in one call: the second replaces the first
        if old is not None and _same_vector(connection, old, entry):
            item, changed = _update(connection, old, entry, now, change)
            written.append(Written(item, created=False, changed=changed))
            if changed:
                size += entry.size - old.size
                known[entry.id] = Row(old.vid, item, entry.metadata, entry.size)
            continue
        vid = vid_of(target.id, next_key)
        item = Item(entry.id, decode_metadata(entry.metadata), entry.media, old.item.created_at if old else now, now)
        if old is not None:
            pending.flush()
            _remove(connection, target.id, [old], change)
            size -= old.size
        else:
            count += 1
        pending.add(vid, entry, item, change.seq)
        known[entry.id] = Row(vid, item, entry.metadata, entry.size)
        change.added.append(next_key)
        change.ids.append(entry.id)
        vectors.append(entry.data)
        change.metadata[next_key] = entry.metadata
        size += entry.size
        next_key += 1
        written.append(Written(item, created=old is None, changed=True))
    pending.flush()
    if not change.empty:
        finish(connection, change.collection, seq=change.seq, next_key=next_key, count=count, size=size)
    return change, written


def patch(connection: apsw.Connection, target: Head, row: Row, metadata: str, now: float) -> tuple[Change, Item]:
    """Replaces one item's metadata."""
    target = current(connection, target)
    change = Change(target.id, seq=target.seq + 1)
    size = row.size + len(metadata) - len(row.metadata)
    connection.execute(
        "UPDATE items SET metadata = ?, size = ?, updated_at = ?, seq = ? WHERE vid = ?",
        (metadata, size, now, change.seq, row.vid),
    )
    change.metadata[row.key] = metadata
    finish(
        connection,
        change.collection,
        seq=change.seq,
        next_key=target.next_key,
        count=target.count,
        size=target.bytes + size - row.size,
    )
    old = row.item
    return change, Item(old.id, decode_metadata(metadata), old.media, old.created_at, now)


def remove(connection: apsw.Connection, target: Head, rows: Sequence[Row]) -> Change:
    """Deletes items with all that belongs to them."""
    target = current(connection, target)
    change = Change(target.id, seq=target.seq + 1)
    _remove(connection, target.id, rows, change)
    if rows:
        size = target.bytes - sum(row.size for row in rows)
        finish(
            connection,
            change.collection,
            seq=change.seq,
            next_key=target.next_key,
            count=target.count - len(rows),
            size=size,
        )
    return change


def referred(connection: apsw.Connection, sha256: str) -> bool:
    """Whether any item still has this original."""
    return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM items WHERE sha256 = ?)", (sha256,)).get)


def _among(connection: apsw.Connection, columns: str, collection: int, keys: Iterable[int]) -> Iterator[Any]:
    # One statement for many keys: each statement is a read transaction of its own and costs as much as several rows.
    base = collection << KEY_BITS
    vids = [base | key for key in keys]
    for start in range(0, len(vids), _CHUNK):
        part = vids[start : start + _CHUNK]
        marks = "?" if len(part) == 1 else "?, " * (len(part) - 1) + "?"
        yield from connection.execute(f"SELECT {columns} FROM items WHERE vid IN ({marks})", part)


class _Pending:
    """Rows waiting to be inserted together."""

    def __init__(self, connection: apsw.Connection, collection: int) -> None:
        self._connection = connection
        self._collection = collection
        self.vids: set[int] = set()
        self._items: list[tuple[Any, ...]] = []
        self._vectors: list[tuple[int, int, Any]] = []
        self._thumbnails: list[tuple[int, bytes]] = []

    def add(self, vid: int, entry: Prepared, item: Item, seq: int) -> None:
        self.vids.add(vid)
        self._items.append(
            (
                *(vid, self._collection, entry.id, entry.metadata),
                *_media_columns(entry.media),
                *(entry.size, item.created_at, item.updated_at, seq),
            )
        )
        self._vectors.append((vid, entry.crc, entry.data.view(np.uint8)))
        if entry.thumbnail is not None:
            self._thumbnails.append((vid, entry.thumbnail))

    def flush(self) -> None:
        if self._items:
            self._connection.executemany(
                "INSERT INTO items (vid, collection, id, metadata, width, height, format, bytes, sha256, size,"
                " created_at, updated_at, seq) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                self._items,
            )
            self._connection.executemany("INSERT INTO vectors (vid, crc, data) VALUES (?, ?, ?)", self._vectors)
            self._connection.executemany("INSERT INTO thumbnails (vid, data) VALUES (?, ?)", self._thumbnails)
        self.vids.clear()
        self._items, self._vectors, self._thumbnails = [], [], []


def _same_vector(connection: apsw.Connection, old: Row, entry: Prepared) -> bool:
    sql = "SELECT data FROM vectors WHERE vid = ? AND crc = ?"
    stored = connection.execute(sql, (old.vid, entry.crc)).get
    return stored is not None and bytes(stored) == entry.data.tobytes()


def _update(connection: apsw.Connection, old: Row, entry: Prepared, now: float, change: Change) -> tuple[Item, bool]:
    thumbnail = connection.execute("SELECT data FROM thumbnails WHERE vid = ?", (old.vid,)).get
    if old.metadata == entry.metadata and old.item.media == entry.media and thumbnail == entry.thumbnail:
        return old.item, False
    connection.execute(
        "UPDATE items SET metadata = ?, width = ?, height = ?, format = ?, bytes = ?, sha256 = ?, size = ?,"
        " updated_at = ?, seq = ? WHERE vid = ?",
        (entry.metadata, *_media_columns(entry.media), entry.size, now, change.seq, old.vid),
    )
    connection.execute("DELETE FROM thumbnails WHERE vid = ?", (old.vid,))
    if entry.thumbnail is not None:
        connection.execute("INSERT INTO thumbnails (vid, data) VALUES (?, ?)", (old.vid, entry.thumbnail))
    if old.item.media and old.item.media != entry.media:
        change.orphans.add(old.item.media.sha256)
    change.metadata[old.key] = entry.metadata
    return Item(entry.id, decode_metadata(entry.metadata), entry.media, old.item.created_at, now), True


def _remove(connection: apsw.Connection, collection: int, rows: Sequence[Row], change: Change) -> None:
    vids = [(row.vid,) for row in rows]
    for table in ("items", "vectors", "thumbnails"):
        connection.executemany(f"DELETE FROM {table} WHERE vid = ?", vids)
    connection.executemany(
        "INSERT INTO tombstones (collection, seq, key) VALUES (?, ?, ?)",
        ((collection, change.seq, row.key) for row in rows),
    )
    for row in rows:
        change.removed.append(row.key)
        if row.item.media:
            change.orphans.add(row.item.media.sha256)


def _media_columns(media: Media | None) -> tuple[Any, ...]:
    if media is None:
        return (None, None, None, None, None)
    return (media.width, media.height, media.format, media.bytes, media.sha256)


def _row(values: tuple[Any, ...]) -> Row:
    vid, id, metadata, width, height, format, bytes_, sha256, created_at, updated_at, size = values
    media = None if sha256 is None else Media(width, height, format, bytes_, sha256)
    return Row(vid, Item(id, decode_metadata(metadata), media, created_at, updated_at), metadata, size)
