"""The vectors of one collection as the store holds them: every one checked before it goes anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apsw
import numpy as np
import numpy.typing as npt

from index.embedded.store import collections, items
from index.embedded.store.collections import Head
from index.embedded.store.encoding import Stored, checksum, decode_metadata, stored_type
from index.embedded.store.store import Store
from index.errors import StoreCorrupt

Keys = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """Reads committed state, a slice at a time, so that no long snapshot holds the write-ahead log back."""

    store: Store
    head: Head

    def after(self, key: int, limit: int) -> tuple[Keys, Stored, list[str]]:
        """Keys int64 (n,) above `key`, increasing, with their vectors (n, dim) and ids; n <= limit, 0 at the end.

        Raises StoreCorrupt, naming the item.
        """
        with self.store.readers.connection() as connection:
            rows = items.vectors_after(connection, self.head.id, key, limit)
        for _, crc, data, id in rows:
            if not sound(crc, data, self.head.dim):
                raise damaged(id, self.head.name)
        keys = np.array([one for one, _, _, _ in rows], np.int64)
        blob = b"".join(data for _, _, data, _ in rows)
        vectors = np.frombuffer(blob, stored_type(self.head.dim)).reshape(len(rows), self.head.dim)
        return keys, vectors, [id for _, _, _, id in rows]

    def keys(self) -> Keys:
        """All keys, in no order."""
        with self.store.readers.connection() as connection:
            found = (key for _, key in items.in_id_order(connection, self.head.id, ""))
            return np.fromiter(found, np.int64)

    def metadata(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(key, metadata) of every item, as of one moment."""
        with self.store.readers.connection() as connection:
            for key, text in items.metadata_texts(connection, self.head.id):
                yield key, decode_metadata(text)

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


def sound(crc: int, data: bytes, dim: int) -> bool:
    """Whether a stored vector is what was written."""
    return checksum(data) == crc and len(data) == dim * stored_type(dim).itemsize


def damaged(id: str, collection: str) -> StoreCorrupt:
    """The one message for a stored vector that is not what was written."""
    return StoreCorrupt(
        f"the stored vector of item {id!r} in collection {collection!r} does not match its checksum; upload that item "
        "again or delete it, or restore a snapshot"
    )


def stack(vectors: list[Any] | Stored, dim: int) -> Stored:
    """Rows → (n, dim), also for no rows."""
    if isinstance(vectors, np.ndarray):
        return vectors
    return np.stack(vectors) if vectors else np.empty((0, dim), stored_type(dim))
