"""The SQL behind collections: their rows, their counters, their removal in small steps."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any

import apsw

from index.embedded.store import erasing
from index.errors import CollectionNotFound, ModelMismatch

KEY_BITS = 40
KEY_MASK = (1 << KEY_BITS) - 1


@dataclass(frozen=True, slots=True)
class Head:
    """A collection's row."""

    id: int
    name: str
    model: str
    fingerprint: str
    dim: int
    created_at: float
    next_key: int
    count: int
    bytes: int
    seq: int
    token: str
    replay_from: int


_HEAD = "id, name, model, fingerprint, dim, created_at, next_key, count, bytes, seq, token, replay_from"


def heads(connection: apsw.Connection) -> list[Head]:
    """Every collection that is not dropped, by name."""
    rows: list[Any] = connection.execute(f"SELECT {_HEAD} FROM collections WHERE NOT dropped ORDER BY name").fetchall()
    return [Head(*row) for row in rows]


def head(connection: apsw.Connection, name: str) -> Head:
    """Raises CollectionNotFound."""
    sql = f"SELECT {_HEAD} FROM collections WHERE name = ? AND NOT dropped"
    found: list[Any] = connection.execute(sql, (name,)).fetchall()
    if found:
        return Head(*found[0])
    raise CollectionNotFound(f"no collection {name!r}; create it first")


def head_by_id(connection: apsw.Connection, collection: int) -> Head:
    """Raises CollectionNotFound."""
    sql = f"SELECT {_HEAD} FROM collections WHERE id = ? AND NOT dropped"
    found: list[Any] = connection.execute(sql, (collection,)).fetchall()
    if found:
        return Head(*found[0])
    raise CollectionNotFound("the collection was removed")


def insert(
    connection: apsw.Connection, name: str, model: str, fingerprint: str, dim: int, created_at: float | None = None
) -> Head:
    """A new, empty collection; created_at: now, where it is left out."""
    connection.execute(
        "INSERT INTO collections (name, model, fingerprint, dim, created_at, token) VALUES (?, ?, ?, ?, ?, ?)",
        (name, model, fingerprint, dim, time.time() if created_at is None else created_at, uuid.uuid4().hex),
    )
    return head(connection, name)


def drop(connection: apsw.Connection, name: str) -> Head:
    """Hides a collection at once and deletes its records; its items go with `purge`. Raises CollectionNotFound."""
    old = head(connection, name)
    connection.execute("UPDATE collections SET dropped = 1 WHERE id = ?", (old.id,))
    connection.execute("DELETE FROM records WHERE scope = ?", (old.id,))
    if old.seq:
        erasing.note(connection)
    return old


def replace(connection: apsw.Connection, name: str, by: str, kept: str, sequence: int) -> tuple[Head, Head] | None:
    """Renames `name` to `kept` and `by` to `name`; both as they are then, or None where `name` has changed since.

    Raises CollectionNotFound.
    """
    old, new = head(connection, name), head(connection, by)
    if old.seq != sequence:
        return None
    connection.execute("UPDATE collections SET name = ? WHERE id = ?", (kept, old.id))
    connection.execute("UPDATE collections SET name = ?, created_at = ? WHERE id = ?", (name, old.created_at, new.id))
    return head(connection, name), head(connection, kept)


def tombstones(connection: apsw.Connection, collection: int, after: int) -> list[int]:
    """Keys removed by changes with a greater sequence."""
    sql = "SELECT key FROM tombstones WHERE collection = ? AND seq > ?"
    return [int(str(key)) for (key,) in connection.execute(sql, (collection, after))]


def forget_tombstones(connection: apsw.Connection, collection: int, upto: int) -> None:
    """Deletes tombstones up to a sequence, and notes that changes before it cannot be replayed any more."""
    connection.execute("DELETE FROM tombstones WHERE collection = ? AND seq <= ?", (collection, upto))
    connection.execute("UPDATE collections SET replay_from = max(replay_from, ?) WHERE id = ?", (upto, collection))


def current(connection: apsw.Connection, target: Head) -> Head:
    """The collection as it is inside this transaction. Raises CollectionNotFound, ModelMismatch."""
    # Emptied or bound to another model since the caller looked: write into what is there now, if the model still fits.
    current = head(connection, target.name)
    if (current.fingerprint, current.dim) != (target.fingerprint, target.dim):
        raise ModelMismatch(f"collection {target.name!r} was bound to another model meanwhile; send the item again")
    return current


def finish(connection: apsw.Connection, collection: int, *, seq: int, next_key: int, count: int, size: int) -> None:
    """Writes the collection's counters after a change."""
    connection.execute(
        "UPDATE collections SET next_key = ?, count = ?, bytes = ?, seq = ? WHERE id = ?",
        (next_key, count, max(size, 0), seq, collection),
    )


def dropped(connection: apsw.Connection) -> bool:
    """Whether rows of a dropped collection wait to be purged."""
    return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM collections WHERE dropped)").get)


def vid_of(collection: int, key: int) -> int:
    """The table's row number of a key."""
    return collection << KEY_BITS | key
