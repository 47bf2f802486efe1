"""Reading items: each function runs inside a transaction of the caller's and knows nothing of threads or search.

Keys of one collection are 1, 2, 3 … in the order of commit and are never used again. What is damaged comes back as
`Broken`, or is left out where the result says so.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any

import apsw

from index.embedded.store.collections import KEY_BITS, KEY_MASK, vid_of
from index.embedded.store.database import UNREADABLE
from index.embedded.store.encoding import checksum
from index.embedded.store.rows import COLUMNS, Broken, Row, read
from index.errors import ItemDamaged, ItemNotFound

_CHUNK = 100  # keys per statement
StoredRow = tuple[int, int, bytes | None, str]  # key, checksum, vector, id; None where the vector is lost


def rows_by_id(connection: apsw.Connection, collection: int, ids: Iterable[str]) -> dict[str, Row | Broken]:
    """Rows of those ids that exist."""
    # By key, from the table: asked by id, SQLite would take the id from the index, and damage in the table unseen.
    found: dict[str, Row | Broken] = {}
    asked: dict[str, int] = {}
    keys = keys_by_id(connection, collection, ids)
    while keys:
        rows = rows_by_key(connection, collection, keys.values())
        found |= {id: rows[key] for id, key in keys.items() if key in rows}
        # Two statements see two moments: an item that was replaced between them has another key by now.
        asked |= keys
        moved = keys_by_id(connection, collection, [id for id, key in keys.items() if key not in rows])
        keys = {id: key for id, key in moved.items() if key != asked[id]}
    return found


def row_by_id(connection: apsw.Connection, collection: int, name: str, id: str) -> Row:
    """Raises ItemNotFound, and ItemDamaged where its row is."""
    row = rows_by_id(connection, collection, [id]).get(id)
    if row is None:
        raise ItemNotFound(f"no item {id!r} in collection {name!r}")
    if isinstance(row, Broken):
        raise damaged(id, name)
    return row


def damaged(id: str, name: str) -> ItemDamaged:
    """The one message for an item whose stored bytes are not what was written."""
    return ItemDamaged(f"item {id!r} in collection {name!r} is damaged on disk; upload it again or delete it")


def rows_by_key(connection: apsw.Connection, collection: int, keys: Iterable[int]) -> dict[int, Row | Broken]:
    """Rows of those keys that exist, by key."""
    wanted = list(keys)
    try:
        return {row.key: row for row in map(read, _among(connection, COLUMNS, collection, wanted))}
    except UNREADABLE:
        if len(wanted) == 1:
            return {wanted[0]: Broken(vid_of(collection, wanted[0]), 0, None)}
        found: dict[int, Row | Broken] = {}
        for key in wanted:
            found |= rows_by_key(connection, collection, [key])
        return found


def ids_by_key(connection: apsw.Connection, collection: int, keys: Iterable[int]) -> dict[int, str]:
    """Ids of those keys that exist and can be read, by key."""
    found = _among(connection, "vid, CAST(id AS BLOB)", collection, keys)
    return {vid & KEY_MASK: id.decode(errors="replace") for vid, id in found}


def indexed_ids(connection: apsw.Connection, collection: int, keys: Iterable[int]) -> dict[int, str]:
    """Ids by key as the index of ids has them, also of rows that cannot be read; reads that whole index."""
    wanted = set(keys)
    return {key: id for id, key in in_id_order(connection, collection, "") if key in wanted}


def keys_by_id(connection: apsw.Connection, collection: int, ids: Iterable[str]) -> dict[str, int]:
    """Keys of those ids that exist, by id; from the index alone."""
    sql = "SELECT ?2, vid FROM items INDEXED BY items_id WHERE collection = ?1 AND id = ?2"
    return {str(id): vid & KEY_MASK for id, vid in connection.executemany(sql, ((collection, id) for id in ids))}


def keys_by_sha256(connection: apsw.Connection, collection: int, sha256: str) -> list[int]:
    """Keys of the items whose upload has this sha256, increasing."""
    sql = "SELECT vid FROM items WHERE sha256 = ? AND vid BETWEEN ? AND ? ORDER BY vid"
    low = collection << KEY_BITS
    return [vid & KEY_MASK for (vid,) in connection.execute(sql, (sha256, low, low | KEY_MASK))]


def in_id_order(connection: apsw.Connection, collection: int, after: str) -> Generator[tuple[str, int]]:
    """(id, key) of a collection from the first id greater than `after`; lazily, from the index alone."""
    sql = "SELECT CAST(id AS BLOB), vid FROM items INDEXED BY items_id WHERE collection = ? AND id > ? ORDER BY id"
    for id, vid in connection.execute(sql, (collection, after)):
        yield id.decode(errors="replace"), vid & KEY_MASK


def vector_by_id(connection: apsw.Connection, collection: int, name: str, id: str) -> tuple[int, bytes]:
    """(crc, bytes) as stored, in one statement: the item may be replaced at any moment.

    Raises ItemNotFound, and ItemDamaged where the vector is gone or unreadable.
    """
    crc, data = _part(connection, "v.crc, v.data", "vectors", collection, name, id)
    if data is None:
        raise damaged(id, name)
    return crc, data


def thumbnail_by_id(connection: apsw.Connection, collection: int, name: str, id: str) -> bytes:
    """Raises ItemNotFound, also for an item without one, and ItemDamaged."""
    crc, data = _part(connection, "i.thumbnail_crc, v.data", "thumbnails", collection, name, id)
    if crc is None and data is None:
        raise ItemNotFound(f"item {id!r} in collection {name!r} has no thumbnail")
    if data is None or checksum(data) != crc:
        raise damaged(id, name)
    return bytes(data)


def _part(connection: apsw.Connection, columns: str, table: str, collection: int, name: str, id: str) -> Any:
    sql = (
        f"SELECT {columns} FROM items AS i LEFT JOIN {table} AS v ON v.vid = i.vid WHERE i.collection = ? AND i.id = ?"
    )
    try:
        found: list[Any] = connection.execute(sql, (collection, id)).fetchall()
    except UNREADABLE:
        raise damaged(id, name) from None
    if not found:
        raise ItemNotFound(f"no item {id!r} in collection {name!r}")
    return found[0]


def keys(connection: apsw.Connection, collection: int) -> Iterator[int]:
    """Every key, in no order; from an index alone."""
    for (vid,) in connection.execute("SELECT vid FROM items INDEXED BY items_id WHERE collection = ?", (collection,)):
        yield int(vid) & KEY_MASK


def vectors_after(
    connection: apsw.Connection, collection: int, after: int, limit: int, *, until: int = KEY_MASK
) -> list[StoredRow]:
    """Up to `limit` stored vectors of items with keys above `after` and up to `until`, in the order of keys."""
    sql = (
        "SELECT i.vid, v.crc, v.data, CAST(i.id AS BLOB) FROM items AS i LEFT JOIN vectors AS v ON v.vid = i.vid"
        " WHERE i.vid > ? AND i.vid <= ? ORDER BY i.vid LIMIT ?"
    )
    found: list[Any] = connection.execute(sql, (vid_of(collection, after), vid_of(collection, until), limit)).fetchall()
    return [(vid & KEY_MASK, crc, data, id.decode(errors="replace")) for vid, crc, data, id in found]


def vectors_by_key(
    connection: apsw.Connection, collection: int, keys: Sequence[int]
) -> dict[int, tuple[int, bytes | None]]:
    """(crc, bytes) as stored, of those keys that have a vector that can be read, by key."""
    try:
        found: list[Any] = list(_among(connection, "vid, crc, data", collection, keys, table="vectors"))
    except UNREADABLE:
        if len(keys) == 1:
            return {}
        found_each: dict[int, tuple[int, bytes | None]] = {}
        for key in keys:
            found_each |= vectors_by_key(connection, collection, [key])
        return found_each
    return {vid & KEY_MASK: (crc, data) for vid, crc, data in found}


def rows_after(connection: apsw.Connection, collection: int, after: int, limit: int) -> list[Row | Broken]:
    """Up to `limit` rows with greater keys, in the order of keys."""
    sql = f"SELECT {COLUMNS} FROM items WHERE vid > ? AND vid <= ? ORDER BY vid LIMIT ?"
    span = vid_of(collection, after), vid_of(collection, KEY_MASK)
    return [read(row) for row in connection.execute(sql, (*span, limit))]


def is_there(connection: apsw.Connection, collection: int, key: int) -> bool:
    """Whether an item has this key."""
    sql = "SELECT EXISTS (SELECT 1 FROM items WHERE vid = ?)"
    return bool(connection.execute(sql, (vid_of(collection, key),)).get)


def texts_after(connection: apsw.Connection, collection: int, after: int, limit: int) -> list[tuple[int, bytes]]:
    """(key, metadata as JSON text) of up to `limit` rows with greater keys, unchecked, in the order of keys."""
    sql = "SELECT vid, CAST(metadata AS BLOB) FROM items WHERE vid > ? AND vid <= ? ORDER BY vid LIMIT ?"
    span = vid_of(collection, after), vid_of(collection, KEY_MASK)
    return [(vid & KEY_MASK, text) for vid, text in connection.execute(sql, (*span, limit))]


def raw_vectors_after(
    connection: apsw.Connection, collection: int, after: int, limit: int
) -> list[tuple[int, int, bytes]]:
    """(key, crc, bytes) of up to `limit` rows of vectors with greater keys, whether or not an item is there."""
    sql = "SELECT vid, crc, data FROM vectors WHERE vid > ? AND vid <= ? ORDER BY vid LIMIT ?"
    span = vid_of(collection, after), vid_of(collection, KEY_MASK)
    return [(vid & KEY_MASK, crc, data) for vid, crc, data in connection.execute(sql, (*span, limit))]


def thumbnail_differs(connection: apsw.Connection, collection: int, key: int) -> bool:
    """Whether an item that is there has another thumbnail than its row says."""
    sql = (
        "SELECT i.thumbnail_crc, t.data FROM items AS i LEFT JOIN thumbnails AS t ON t.vid = i.vid"
        " WHERE i.vid = ? AND i.thumbnail_crc IS NOT NULL"
    )
    return any(
        data is None or checksum(data) != crc for crc, data in connection.execute(sql, (vid_of(collection, key),))
    )


def thumbnails_after(connection: apsw.Connection, collection: int, after: int, limit: int) -> list[tuple[int, bytes]]:
    """(key, bytes) of up to `limit` thumbnails with greater keys, in the order of keys."""
    sql = "SELECT vid, data FROM thumbnails WHERE vid > ? AND vid <= ? ORDER BY vid LIMIT ?"
    span = vid_of(collection, after), vid_of(collection, KEY_MASK)
    return [(vid & KEY_MASK, data) for vid, data in connection.execute(sql, (*span, limit))]


def _among(
    connection: apsw.Connection, columns: str, collection: int, keys: Iterable[int], *, table: str = "items"
) -> Iterator[Any]:
    # One statement for many keys: each statement is a read transaction of its own and costs as much as several rows.
    base = collection << KEY_BITS
    vids = [base | key for key in keys]
    for start in range(0, len(vids), _CHUNK):
        part = vids[start : start + _CHUNK]
        marks = "?" if len(part) == 1 else "?, " * (len(part) - 1) + "?"
        yield from connection.execute(f"SELECT {columns} FROM {table} WHERE vid IN ({marks})", part)
