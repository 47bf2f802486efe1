"""Writing items: each function runs inside a transaction of the caller's and gives the change for others to follow.

A change of vector gives the item a new key and leaves a tombstone; a change of anything else keeps its key. A damaged
item is never changed in place: it is removed, and what was sent is written anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import apsw
import numpy as np

from index.embedded.store import erasing
from index.embedded.store.collections import KEY_BITS, KEY_MASK, Head, current, finish, vid_of
from index.embedded.store.database import UNREADABLE
from index.embedded.store.directory.references import release
from index.embedded.store.encoding import (
    Stored,
    check_id,
    checksum,
    encode_metadata,
    stored_type,
    unit,
)
from index.embedded.store.items import in_id_order, keys_by_id, rows_by_id, rows_by_key
from index.embedded.store.rows import Broken, Row, seal
from index.items import Entry, Item, Media, Metadata, Vector, Written


@dataclass(frozen=True, slots=True)
class Prepared:
    """An entry ready for the disk. data: stored vector (dim,); crc: of its bytes; text: `metadata` as JSON."""

    id: str
    data: Stored
    crc: int
    metadata: Metadata
    text: str
    media: Media | None
    thumbnail: bytes | None
    created_at: float | None = None

    @property
    def size(self) -> int:
        """Bytes this item costs on disk, roughly."""
        media = self.media.bytes if self.media else 0
        return self.data.nbytes + len(self.text) + len(self.thumbnail or b"") + media + 200


def prepare(entries: Sequence[Entry], dim: int) -> list[Prepared]:
    """Entries as they go to disk. Raises InvalidId, InvalidVector, InvalidMetadata."""
    vectors = unit(np.stack([_one(entry, dim) for entry in entries]), dim).astype(stored_type(dim))
    prepared = []
    for entry, row in zip(entries, vectors, strict=True):
        metadata, text = encode_metadata(entry.metadata)
        id, crc, created_at = check_id(entry.id), checksum(row), entry.created_at
        prepared.append(Prepared(id, row, crc, metadata, text, entry.media, entry.thumbnail, created_at))
    return prepared


def _one(entry: Entry, dim: int) -> Vector:
    return unit(entry.vector, dim)[0] if np.shape(entry.vector) != (dim,) else np.asarray(entry.vector, np.float32)


@dataclass(slots=True)
class Change:
    """What a transaction did to one collection, for the search index and the filters to follow after the commit."""

    collection: int
    added: list[int] = field(default_factory=list)
    vectors: list[Stored] | Stored = field(default_factory=list)
    ids: list[str] = field(default_factory=list)  # of the added
    metadata: dict[int, Metadata] = field(default_factory=dict)  # by key: of new items, and what changed
    removed: list[int] = field(default_factory=list)
    released: bool = False  # whether an original lost its last item
    seq: int = 0

    @property
    def empty(self) -> bool:
        return not (self.added or self.removed or self.metadata)


def put(
    connection: apsw.Connection,
    target: Head,
    entries: Sequence[Prepared],
    now: float,
    spoilt: frozenset[int] = frozenset(),
) -> tuple[Change, list[Written]]:
    """Creates or replaces items. spoilt: row numbers whose vector or thumbnail lies on a damaged page, see `spoilt`.

    Raises ModelMismatch where the collection was bound to another model meanwhile.
    """
    target = current(connection, target)
    change = Change(target.id, seq=target.seq + 1)
    known = rows_by_id(connection, target.id, (entry.id for entry in entries))
    pending = _Pending(connection, target.id, change.seq)
    written: list[Written] = []
    next_key, count, size = target.next_key, target.count, target.bytes
    vectors: list[Stored] = []
    change.vectors = vectors
    for entry in entries:
        old = known.get(entry.id)
        if old is not None and old.vid in pending.vids:
            pending.flush()  # the same id twice in one call: the second replaces the first
        created_at = old.item.created_at if isinstance(old, Row) else entry.created_at or now
        item = Item(entry.id, entry.metadata, entry.media, created_at, _later(now, old))
        if isinstance(old, Row) and old.vid not in spoilt and _same_vector(connection, old, entry):
            changed = _update(connection, old, entry, item, change)
            written.append(Written(item if changed else old.item, created=False, changed=changed))
            if changed:
                size += entry.size - old.size
                known[entry.id] = Row(old.vid, item, entry.text, entry.size, _crc(entry.thumbnail))
            continue
        vid = vid_of(target.id, next_key)
        if old is not None:
            pending.flush()
            _remove(connection, target.id, [old], change, spoilt)
            size -= old.size
        else:
            count += 1
        pending.add(vid, entry, item)
        known[entry.id] = Row(vid, item, entry.text, entry.size, _crc(entry.thumbnail))
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


def patch(
    connection: apsw.Connection, target: Head, row: Row, metadata: Metadata, text: str, now: float
) -> tuple[Change, Item]:
    """Replaces one item's metadata, given as an object and as its JSON text."""
    target = current(connection, target)
    change = Change(target.id, seq=target.seq + 1)
    size = row.size + len(text) - len(row.metadata)
    old = row.item
    item = Item(old.id, metadata, old.media, old.created_at, _later(now, row))
    _rewrite(connection, row.vid, item, text, size, change.seq, row.thumbnail_crc)
    change.metadata[row.key] = metadata
    finish(
        connection,
        change.collection,
        seq=change.seq,
        next_key=target.next_key,
        count=target.count,
        size=target.bytes + size - row.size,
    )
    return change, item


def remove(
    connection: apsw.Connection, target: Head, rows: Sequence[Row | Broken], spoilt: frozenset[int] = frozenset()
) -> Change:
    """Deletes items with all that belongs to them. spoilt: as of `put`."""
    target = current(connection, target)
    change = Change(target.id, seq=target.seq + 1)
    _remove(connection, target.id, rows, change, spoilt)
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


def sealed_row(vid: int, item: Item, text: str, size: int, seq: int, thumbnail_crc: int | None) -> tuple[Any, ...]:
    """A row for `INSERT_ITEM`."""
    media = _media_columns(item.media)
    crc = seal(vid, item.id, text, media, size, item.created_at, item.updated_at, seq, thumbnail_crc)
    collection = vid >> KEY_BITS
    return (vid, collection, item.id, text, *media, size, item.created_at, item.updated_at, seq, thumbnail_crc, crc)


INSERT_ITEM = (
    "INSERT INTO items (vid, collection, id, metadata, width, height, format, bytes, sha256, size, created_at,"
    " updated_at, seq, thumbnail_crc, crc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class _Pending:
    """Rows waiting to be inserted together."""

    def __init__(self, connection: apsw.Connection, collection: int, seq: int) -> None:
        self._connection = connection
        self._collection = collection
        self._seq = seq
        self.vids: set[int] = set()
        self._items: list[tuple[Any, ...]] = []
        self._vectors: list[tuple[int, int, Any]] = []
        self._thumbnails: list[tuple[int, bytes]] = []

    def add(self, vid: int, entry: Prepared, item: Item) -> None:
        self.vids.add(vid)
        self._items.append(sealed_row(vid, item, entry.text, entry.size, self._seq, _crc(entry.thumbnail)))
        self._vectors.append((vid, entry.crc, entry.data.view(np.uint8)))
        if entry.thumbnail is not None:
            self._thumbnails.append((vid, entry.thumbnail))

    def flush(self) -> None:
        if self._items:
            self._connection.executemany(INSERT_ITEM, self._items)
            self._connection.executemany("INSERT INTO vectors (vid, crc, data) VALUES (?, ?, ?)", self._vectors)
            self._connection.executemany("INSERT INTO thumbnails (vid, data) VALUES (?, ?)", self._thumbnails)
        self.vids.clear()
        self._items, self._vectors, self._thumbnails = [], [], []


def _same_vector(connection: apsw.Connection, old: Row, entry: Prepared) -> bool:
    stored = connection.execute("SELECT data FROM vectors WHERE vid = ? AND crc = ?", (old.vid, entry.crc)).get
    return isinstance(stored, bytes) and stored == entry.data.tobytes()


def _update(connection: apsw.Connection, old: Row, entry: Prepared, item: Item, change: Change) -> bool:
    """Whether anything was to be changed."""
    stored = connection.execute("SELECT data FROM thumbnails WHERE vid = ?", (old.vid,)).get
    crc = _crc(entry.thumbnail)
    if (old.metadata, old.item.media, old.thumbnail_crc, stored) == (entry.text, entry.media, crc, entry.thumbnail):
        return False
    _rewrite(connection, old.vid, item, entry.text, entry.size, change.seq, crc)
    connection.execute("DELETE FROM thumbnails WHERE vid = ?", (old.vid,))
    if entry.thumbnail is not None:
        connection.execute("INSERT INTO thumbnails (vid, data) VALUES (?, ?)", (old.vid, entry.thumbnail))
    if old.sha256 is not None and old.item.media != entry.media:
        change.released |= release(connection, [old.sha256])
    change.metadata[old.key] = entry.metadata
    return True


def _rewrite(
    connection: apsw.Connection, vid: int, item: Item, text: str, size: int, seq: int, thumbnail_crc: int | None
) -> None:
    _, _, _, *rest = sealed_row(vid, item, text, size, seq, thumbnail_crc)
    connection.execute(
        "UPDATE items SET metadata = ?, width = ?, height = ?, format = ?, bytes = ?, sha256 = ?, size = ?,"
        " created_at = ?, updated_at = ?, seq = ?, thumbnail_crc = ?, crc = ? WHERE vid = ?",
        (*rest, vid),
    )


def _remove(
    connection: apsw.Connection,
    collection: int,
    rows: Sequence[Row | Broken],
    change: Change,
    spoilt: frozenset[int],
) -> None:
    _delete(connection, [row.vid for row in rows], spoilt)
    if rows:
        erasing.note(connection)
    connection.executemany(
        "INSERT INTO tombstones (collection, seq, key) VALUES (?, ?, ?)",
        ((collection, change.seq, row.key) for row in rows),
    )
    change.removed += [row.key for row in rows]
    change.released |= release(connection, [row.sha256 for row in rows if row.sha256 is not None])


def _delete(connection: apsw.Connection, vids: Sequence[int], spoilt: frozenset[int] = frozenset()) -> None:
    connection.executemany("DELETE FROM items WHERE vid = ?", ((vid,) for vid in vids))
    for table in ("vectors", "thumbnails"):
        # What lies on a damaged page stays there, and nothing refers to it again.
        rows = ((vid,) for vid in vids if vid not in spoilt)
        connection.executemany(f"DELETE FROM {table} WHERE vid = ?", rows)


def spoilt(connection: apsw.Connection, collection: int, ids: Sequence[str]) -> frozenset[int]:
    """Row numbers of those items whose vector or thumbnail lies on a page that cannot be read.

    To be asked outside of a transaction that writes: SQLite commits none that met damage.
    """
    found = set()
    for key in keys_by_id(connection, collection, ids).values():
        vid = vid_of(collection, key)
        try:
            for table in ("vectors", "thumbnails"):
                connection.execute(f"SELECT data FROM {table} WHERE vid = ?", (vid,)).fetchall()
        except UNREADABLE:
            found.add(vid)
    return frozenset(found)


def reindex(connection: apsw.Connection) -> None:
    """Makes the indexes of items anew: a row whose indexed columns changed on disk is not found in them any more."""
    connection.execute("REINDEX items")


def purge(connection: apsw.Connection, limit: int) -> tuple[bool, bool]:
    """Deletes up to `limit` items of dropped collections.

    Returns whether more is left, and whether an original lost its last item.
    """
    found = connection.execute("SELECT id FROM collections WHERE dropped ORDER BY id LIMIT 1").get
    if found is None:
        return False, False
    collection = int(str(found))
    keys = [key for _, key in islice(in_id_order(connection, collection, ""), limit)]
    rows = rows_by_key(connection, collection, keys)
    _delete(connection, [vid_of(collection, key) for key in keys])
    if not keys:
        low, high = vid_of(collection, 0), vid_of(collection, KEY_MASK)
        for table in ("items", "vectors", "thumbnails"):  # what no index names any more
            connection.execute(f"DELETE FROM {table} WHERE vid BETWEEN ? AND ?", (low, high))
        connection.execute("DELETE FROM tombstones WHERE collection = ?", (collection,))
        connection.execute("DELETE FROM collections WHERE id = ?", (collection,))
    return True, release(connection, [row.sha256 for row in rows.values() if row.sha256 is not None])


def _later(now: float, old: Row | Broken | None) -> float:
    # The clock may have been set back since the item was written.
    return max(now, old.item.updated_at) if isinstance(old, Row) else now


def _crc(thumbnail: bytes | None) -> int | None:
    return None if thumbnail is None else checksum(thumbnail)


def _media_columns(media: Media | None) -> tuple[Any, ...]:
    if media is None:
        return (None, None, None, None, None)
    return (media.width, media.height, media.format, media.bytes, media.sha256)
