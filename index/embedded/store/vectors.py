"""The vectors of one collection as the store holds them: every one checked before it goes anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import apsw
import numpy as np
import numpy.typing as npt

from index.embedded.store import collections, items
from index.embedded.store.collections import Head
from index.embedded.store.encoding import Stored, checksum, decode_metadata, stored_type
from index.embedded.store.items import StoredRow
from index.embedded.store.rows import Broken, Row
from index.embedded.store.store import Store
from index.embedded.store.walk import Gap, Walk
from index.errors import StoreCorrupt
from index.limits import MAX_KEY

Keys = npt.NDArray[np.int64]
_UNREADABLE = (StoreCorrupt, apsw.IOError, UnicodeDecodeError)  # a page, a sector, a text


@dataclass(frozen=True, slots=True)
class Slice:
    """Keys int64 (n,), increasing, with their vectors (n, dim) and ids. damaged: id by key of rows that lie among them
    and are not what was written. last: the greatest key looked at.
    """

    keys: Keys
    vectors: Stored
    ids: list[str]
    damaged: dict[int, str]
    last: int


@dataclass(slots=True)
class StoredVectors:
    """Reads committed state, a slice at a time, so that no long snapshot holds the write-ahead log back.

    met: is given the keys of damaged rows that a scan comes across.
    """

    store: Store
    head: Head
    met: Callable[[Iterable[int]], None] = lambda keys: None

    def after(self, key: int, limit: int) -> Slice:
        """Of the rows above `key`, the first `limit`; `last` is `key` itself at the end.

        Raises StoreCorrupt where not even the keys can be read.
        """
        try:
            with self.store.readers.connection() as connection:
                rows = items.vectors_after(connection, self.head.id, key, limit)
        except _UNREADABLE:
            keys = np.sort(self.keys())
            return self._each(keys[keys > key][:limit].tolist(), key)
        return self._checked(rows, key)

    def damaged_among(self, keys: Keys) -> dict[int, str]:
        """Id by key of those rows that are not what was written."""
        return self._each(keys.tolist(), 0).damaged

    def keys(self) -> Keys:
        """All keys, in no order."""
        with self.store.readers.connection() as connection:
            return np.fromiter(items.keys(connection, self.head.id), np.int64)

    def ids(self, keys: Keys) -> dict[int, str]:
        """Ids of those keys that exist, by key."""
        with self.store.readers.connection() as connection:
            return items.ids_by_key(connection, self.head.id, keys.tolist())

    def _each(self, keys: list[int], last: int) -> Slice:
        """Row by row: what cannot be read does not take its neighbours with it."""
        rows: list[StoredRow] = []
        for key in keys:
            try:
                with self.store.readers.connection() as connection:
                    rows += items.vectors_after(connection, self.head.id, key - 1, 1, until=key)
            except _UNREADABLE:
                rows.append((key, 0, None, f"with the number {key}"))
        return self._checked(rows, last)

    def _checked(self, rows: list[StoredRow], last: int) -> Slice:
        good = [row for row in rows if sound(row[1], row[2], self.head.dim)]
        kept = {row[0] for row in good} if len(good) < len(rows) else None
        damaged = {} if kept is None else {key: id for key, _, _, id in rows if key not in kept}
        blob = b"".join(data for _, _, data, _ in good if data is not None)
        return Slice(
            np.array([key for key, _, _, _ in good], np.int64),
            np.frombuffer(blob, stored_type(self.head.dim)).reshape(len(good), self.head.dim),
            [id for _, _, _, id in good],
            damaged,
            rows[-1][0] if rows else last,
        )

    def rows(self) -> Walk[Row | Broken]:
        """Every row, slice by slice."""
        return Walk(self.store.readers, partial(_rows_after, self.head.id), lambda row: row.key)

    def metadata(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(key, metadata) of every item that can be read, slice by slice; others are handed to `met`."""
        texts = Walk(self.store.readers, partial(_texts_after, self.head.id), lambda row: row[0])
        for part in texts:
            if isinstance(part, Gap):
                self.met(self.keys_between(part.after, part.until))
                continue
            for key, text in part:
                try:
                    metadata = decode_metadata(text)
                except ValueError:
                    metadata = None
                if isinstance(metadata, dict) and 0 <= key <= MAX_KEY:
                    yield key, metadata
                else:
                    self.met([key])

    def keys_between(self, after: int, until: int) -> list[int]:
        """Keys above `after` and below `until`, by the index of ids, which lies elsewhere than the rows."""
        return [key for key in self.keys().tolist() if after < key < until]

    def removed_since(self, sequence: int) -> Keys:
        """Keys removed by changes after `sequence`."""
        with self.store.readers.connection() as connection:
            return np.array(collections.tombstones(connection, self.head.id, sequence), np.int64)

    def now(self) -> Head:
        """The collection's row as committed. Raises CollectionNotFound."""
        with self.store.readers.connection() as connection:
            return collections.head_by_id(connection, self.head.id)

    def forget(self, sequence: int) -> None:
        """Tombstones up to `sequence` are needed no more: an index file on disk has seen them."""

        def run(connection: apsw.Connection) -> None:
            collections.forget_tombstones(connection, self.head.id, sequence)

        self.store.writer.submit(run)


def _rows_after(collection: int, connection: apsw.Connection, after: int, limit: int) -> list[Row | Broken]:
    return items.rows_after(connection, collection, after, limit)


def _texts_after(collection: int, connection: apsw.Connection, after: int, limit: int) -> list[tuple[int, bytes]]:
    return items.texts_after(connection, collection, after, limit)


def sound(crc: int, data: bytes | None, dim: int) -> bool:
    """Whether a stored vector is what was written; None: there is none."""
    return isinstance(data, bytes) and checksum(data) == crc and len(data) == dim * stored_type(dim).itemsize


def stack(vectors: list[Any] | Stored, dim: int) -> Stored:
    """Rows → (n, dim), also for no rows."""
    if isinstance(vectors, np.ndarray):
        return vectors
    return np.stack(vectors) if vectors else np.empty((0, dim), stored_type(dim))
