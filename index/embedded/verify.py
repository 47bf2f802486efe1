"""Every byte that the store answers from, read and compared: what does not fit is told, nothing is changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import apsw

from index.embedded.live.live import LiveIndex
from index.embedded.store import collections, items
from index.embedded.store.encoding import decode_metadata
from index.embedded.store.store import Store
from index.embedded.store.vectors import sound
from index.types import Finding

_AT_ONCE = 2_048


def verify(store: Store, indexes: Iterable[LiveIndex]) -> Iterator[Finding]:
    """Findings as they come; none when all is well. Reads everything once: minutes for a million items."""
    with store.readers.connection() as connection:
        yield from _database(connection)
        found = collections.heads(connection)
    for head in found:
        yield from _vectors(store, head)
    yield from _originals(store)
    for index in indexes:
        subject = f"index {index.source.head.name}"
        yield from (Finding(subject, problem) for problem in index.verify())


def _database(connection: apsw.Connection) -> Iterator[Finding]:
    for (line,) in connection.execute("PRAGMA integrity_check(20)").fetchall():
        if line != "ok":
            yield Finding("database", f"{line}; restore a snapshot")
    counts = {
        "items without a vector": "SELECT count(*) FROM items WHERE vid NOT IN (SELECT vid FROM vectors)",
        "vectors without an item": "SELECT count(*) FROM vectors WHERE vid NOT IN (SELECT vid FROM items)",
        "thumbnails without an item": "SELECT count(*) FROM thumbnails WHERE vid NOT IN (SELECT vid FROM items)",
    }
    for what, sql in counts.items():
        if number := connection.execute(sql).get:
            yield Finding("database", f"{number} {what}; restore a snapshot")
    for head in collections.heads(connection):
        sql = "SELECT count(*) FROM items WHERE collection = ?"
        if (number := connection.execute(sql, (head.id,)).get) != head.count:
            yield Finding("database", f"collection {head.name} counts {head.count} items and has {number}")


def _vectors(store: Store, head: collections.Head) -> Iterator[Finding]:
    after = 0
    while True:
        with store.readers.connection() as connection:
            rows = items.vectors_after(connection, head.id, after, _AT_ONCE)
        for _, crc, data, id in rows:
            if not sound(crc, data, head.dim):
                what = "the stored vector is lost" if data is None else "the stored vector does not match its checksum"
                yield Finding(f"item {head.name}/{id}", f"{what}; upload the item again, or delete it")
        if not rows:
            break
        after = rows[-1][0]
    with store.readers.connection() as connection:
        unreadable = [key for key, text in items.metadata_texts(connection, head.id) if not _readable(text)]
        names = items.ids_by_key(connection, head.id, unreadable)
    for name in names.values():
        yield Finding(f"item {head.name}/{name}", "its metadata is no JSON; send the item again, or delete it")


def _originals(store: Store) -> Iterator[Finding]:
    if store.keep_originals:
        with store.readers.connection() as connection:
            referred = items.originals(connection)
        for sha256 in referred:
            path = store.originals.path(sha256)
            try:
                with path.open("rb") as file:
                    right = hashlib.file_digest(file, "sha256").hexdigest() == sha256
                problem = None if right else "does not match its name; upload that picture again"
            except OSError as error:
                problem = f"cannot be read ({error.strerror}); upload that picture again"
            if problem:
                with store.readers.connection() as connection:
                    if items.referred(connection, sha256):  # else removed meanwhile
                        yield Finding(f"original {sha256}", problem)
    for names in store.originals.stored():
        with store.readers.connection() as connection:
            orphans = [sha256 for sha256 in names if not items.referred(connection, sha256)]
        for sha256 in orphans:
            yield Finding(f"original {sha256}", "no item refers to it; the next start removes it")


def _readable(text: str) -> bool:
    try:
        return isinstance(decode_metadata(text), dict)
    except ValueError:
        return False
