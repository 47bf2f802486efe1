"""Findings: every byte that the store answers from, read and compared. Nothing is changed, and no damage ends it.

What is being written meanwhile is no damage: each suspicion is looked at a second time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import apsw

from index.embedded.live.live import LiveIndex
from index.embedded.store import collections, integrity, items, records
from index.embedded.store.collections import Head
from index.embedded.store.database import UNREADABLE
from index.embedded.store.directory import high_water, references
from index.embedded.store.encoding import checksum
from index.embedded.store.rows import Broken, Row
from index.embedded.store.store import Store
from index.embedded.store.vectors import sound
from index.embedded.store.walk import Gap, Walk
from index.errors import StoreCorrupt, StoreError
from index.types import Finding

_T = TypeVar("_T")
_AGAIN = "upload the item again, or delete it"


def verify(store: Store, indexes: Iterable[LiveIndex]) -> Iterator[Finding]:
    """Findings as they come; none when all is well. Reads everything once: minutes for a million items."""
    yield from _database(store)
    try:
        high_water.check(store.directory, _heads(store))
    except StoreCorrupt as error:
        yield Finding("database", str(error))
    for head in _heads(store):
        yield from _collection(store, head)
    yield from _records(store)
    yield from _originals(store)
    for index in indexes:
        subject = f"index {index.source.head.name}"
        try:
            yield from (Finding(subject, problem) for problem in index.verify())
        except StoreError as error:
            yield Finding(subject, str(error))


def _heads(store: Store) -> list[Head]:
    try:
        with store.readers.connection() as connection:
            return collections.heads(connection)
    except (StoreCorrupt, *UNREADABLE):
        return []  # found by `_database`


def _database(store: Store) -> Iterator[Finding]:
    for line in _asked(store, integrity.damage, lambda error: [str(error)]):
        yield Finding("database", f"{line}; restore a snapshot")
    for what, count in integrity.MISFITS.items():
        if found := _asked(store, count, lambda error: 0):
            yield Finding("database", f"{found} {what}; restore a snapshot")
    for head in _heads(store):
        counted, there = _asked(store, partial(integrity.counted, collection=head.id), lambda error: (0, 0))
        if there != counted:
            problem = f"collection {head.name} counts {counted} items and has {there}"
            yield Finding("database", f"{problem}; restore a snapshot")


@dataclass(slots=True)
class _Items:
    """The items of one collection. names: by key, read once when something is wrong."""

    store: Store
    head: Head
    names: dict[int, str] = field(default_factory=dict)

    def finding(self, key: int, problem: str) -> Iterator[Finding]:
        """None where the item was removed meanwhile."""
        if _asked(self.store, lambda connection: items.is_there(connection, self.head.id, key), lambda error: True):
            yield Finding(f"item {self.head.name}/{self._name(key)}", f"{problem}; {_AGAIN}")

    def gap(self, gap: Gap, problem: str) -> Iterator[Finding]:
        """One for each item whose key lies in it."""
        self._name(0)
        for key in sorted(key for key in self.names if gap.after < key < gap.until):
            yield from self.finding(key, problem)

    def _name(self, key: int) -> str:
        if not self.names:
            read = partial(_names, self.head.id)
            self.names = _asked(self.store, read, lambda error: {})
        return self.names.get(key, f"number {key}")


def _collection(store: Store, head: Head) -> Iterator[Finding]:
    found = _Items(store, head)
    keys: set[int] = set()
    thumbnails: dict[int, int] = {}
    for rows in Walk(store.readers, partial(_rows, head.id), lambda row: row.key):
        if isinstance(rows, Gap):
            yield from found.gap(rows, "its row cannot be read")
            continue
        for row in rows:
            if isinstance(row, Broken):
                yield from found.finding(row.key, "its row does not match its checksum")
                continue
            keys.add(row.key)
            if row.thumbnail_crc is not None:
                thumbnails[row.key] = row.thumbnail_crc
    yield from _vectors(found, keys)
    yield from _thumbnails(found, thumbnails)


def _vectors(found: _Items, keys: set[int]) -> Iterator[Finding]:
    head = found.head
    for vectors in Walk(found.store.readers, partial(_vector_rows, head.id), lambda row: row[0]):
        if isinstance(vectors, Gap):
            yield from found.gap(vectors, "the stored vector cannot be read")
            keys.difference_update([key for key in keys if vectors.after < key < vectors.until])
            continue
        for key, crc, data in vectors:
            if key in keys and not sound(crc, data, head.dim):
                yield from found.finding(key, "the stored vector does not match its checksum")
            keys.discard(key)
    for key in sorted(keys):
        yield from found.finding(key, "the stored vector is lost")


def _thumbnails(found: _Items, thumbnails: dict[int, int]) -> Iterator[Finding]:
    def differs(key: int) -> bool:  # still, and both read in one moment
        read = partial(_thumbnail_differs, found.head.id, key)
        return bool(_asked(found.store, read, lambda error: True))

    for pictures in Walk(found.store.readers, partial(_thumbnail_rows, found.head.id), lambda row: row[0]):
        if isinstance(pictures, Gap):
            yield from found.gap(pictures, "the thumbnail cannot be read")
            for key in [key for key in thumbnails if pictures.after < key < pictures.until]:
                del thumbnails[key]
            continue
        for key, data in pictures:
            expected = thumbnails.pop(key, None)
            if expected is not None and checksum(data) != expected and differs(key):
                yield from found.finding(key, "its thumbnail does not match its checksum")
    for key in thumbnails:
        if differs(key):
            yield from found.finding(key, "its thumbnail is lost")


def _records(store: Store) -> Iterator[Finding]:
    for kind, name, fits in _asked(store, records.checked, lambda error: []):
        if not fits:
            yield Finding(
                f"record {kind}/{name}", "it does not match its checksum; write it again, or restore a snapshot"
            )


def _originals(store: Store) -> Iterator[Finding]:
    known = set(_asked(store, references.originals, lambda error: []))
    for sha256 in sorted(known) if store.keep_originals else ():
        path = store.originals.path(sha256)
        try:
            with path.open("rb") as file:
                right = hashlib.file_digest(file, "sha256").hexdigest() == sha256
            problem = None if right else "does not match its name; upload that picture again"
        except OSError as error:
            problem = f"cannot be read ({error.strerror}); upload that picture again"
        if problem and _asked(store, partial(_referred, sha256), lambda error: True):  # else removed meanwhile
            yield Finding(f"original {sha256}", problem)
    for names in store.originals.stored():
        for sha256 in sorted(set(names) - known):
            # In this order nothing that is being written or removed is taken for damage: a file is held before it is
            # there and until it is referred to, and let go of before it is removed.
            busy = store.originals.busy(sha256)
            if busy or _asked(store, partial(_accounted, sha256), lambda error: True):
                continue
            if store.originals.path(sha256).exists():
                yield Finding(f"original {sha256}", "no item refers to it; `lookalike adopt` makes one of it")


def _asked(store: Store, read: Callable[[apsw.Connection], _T], otherwise: Callable[[Exception], _T]) -> _T:
    """What `read` gives, or what is assumed where the database is too damaged for it."""
    try:
        with store.readers.connection() as connection:
            return read(connection)
    except (StoreError, apsw.Error, UnicodeDecodeError) as error:
        return otherwise(error)


def _rows(collection: int, connection: apsw.Connection, after: int, limit: int) -> list[Row | Broken]:
    return items.rows_after(connection, collection, after, limit)


def _vector_rows(collection: int, connection: apsw.Connection, after: int, limit: int) -> list[tuple[int, int, bytes]]:
    return items.raw_vectors_after(connection, collection, after, limit)


def _thumbnail_rows(collection: int, connection: apsw.Connection, after: int, limit: int) -> list[tuple[int, bytes]]:
    return items.thumbnails_after(connection, collection, after, limit)


def _names(collection: int, connection: apsw.Connection) -> dict[int, str]:
    return {key: id for id, key in items.in_id_order(connection, collection, "")}


def _thumbnail_differs(collection: int, key: int, connection: apsw.Connection) -> bool:
    return items.thumbnail_differs(connection, collection, key)


def _referred(sha256: str, connection: apsw.Connection) -> bool:
    return references.referred(connection, sha256)


def _accounted(sha256: str, connection: apsw.Connection) -> bool:
    return references.accounts_for(connection, sha256)
