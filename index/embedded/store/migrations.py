"""The database's shape is a list of numbered steps; a released step never changes, a new need is a new step."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import apsw

from index.embedded.store.directory.references import accept
from index.embedded.store.encoding import checksum
from index.embedded.store.rows import seal_stored
from index.errors import SchemaTooNew, StoreCorrupt

APPLICATION_ID = 0x4C4F4F4B  # "LOOK": distinguishes our database from a foreign file of the same name

# vid = collection << 40 | key: rows of one collection lie together, and its keys are small and dense, fit for bitmaps.
_STEPS: tuple[str, ...] = (
    """
    CREATE TABLE collections (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        model TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        dim INTEGER NOT NULL,
        score_threshold REAL,
        created_at REAL NOT NULL,
        next_key INTEGER NOT NULL DEFAULT 1,
        count INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0,
        seq INTEGER NOT NULL DEFAULT 0,
        dropped INTEGER NOT NULL DEFAULT 0
    );
    CREATE UNIQUE INDEX collections_name ON collections (name) WHERE NOT dropped;
    CREATE TABLE items (
        vid INTEGER PRIMARY KEY,
        collection INTEGER NOT NULL,
        id TEXT NOT NULL,
        metadata TEXT NOT NULL,
        width INTEGER, height INTEGER, format TEXT, bytes INTEGER, sha256 TEXT,
        size INTEGER NOT NULL,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL,
        seq INTEGER NOT NULL
    );
    CREATE UNIQUE INDEX items_id ON items (collection, id);
    CREATE INDEX items_sha256 ON items (sha256) WHERE sha256 IS NOT NULL;
    CREATE TABLE vectors (vid INTEGER PRIMARY KEY, crc INTEGER NOT NULL, data BLOB NOT NULL);
    CREATE TABLE thumbnails (vid INTEGER PRIMARY KEY, data BLOB NOT NULL);
    CREATE TABLE tombstones (
        collection INTEGER NOT NULL, seq INTEGER NOT NULL, key INTEGER NOT NULL,
        PRIMARY KEY (collection, seq, key)
    ) WITHOUT ROWID;
    """,
    # token: what index files belong to; replay_from: tombstones up to this sequence are forgotten.
    """
    ALTER TABLE collections ADD COLUMN token TEXT NOT NULL DEFAULT '';
    ALTER TABLE collections ADD COLUMN replay_from INTEGER NOT NULL DEFAULT 0;
    UPDATE collections SET token = lower(hex(randomblob(16)));
    """,
    # version: the number of the row; AUTOINCREMENT never gives one twice. scope: a collection's id, 0 for the
    # catalogue's own.
    """
    CREATE TABLE records (
        version INTEGER PRIMARY KEY AUTOINCREMENT,
        scope INTEGER NOT NULL,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        crc INTEGER NOT NULL,
        updated_at REAL NOT NULL
    );
    CREATE UNIQUE INDEX records_name ON records (scope, kind, name);
    INSERT INTO records (scope, kind, name, value, crc, updated_at)
        SELECT id, 'threshold', 'manual', value, checksum(value), created_at
        FROM (SELECT id, created_at, json_object('score', score_threshold) AS value FROM collections
              WHERE score_threshold IS NOT NULL AND NOT dropped);
    ALTER TABLE collections DROP COLUMN score_threshold;
    """,
    # crc: over a whole row, the thumbnail's checksum included. released: originals to be removed; strays: originals
    # that no item refers to and that are left alone.
    """
    ALTER TABLE items ADD COLUMN thumbnail_crc INTEGER;
    ALTER TABLE items ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;
    UPDATE items SET thumbnail_crc = (SELECT checksum(data) FROM thumbnails WHERE thumbnails.vid = items.vid);
    UPDATE items SET crc = seal(vid, CAST(id AS BLOB), CAST(metadata AS BLOB), width, height, CAST(format AS BLOB),
        bytes, CAST(sha256 AS BLOB), size, created_at, updated_at, seq, thumbnail_crc);
    CREATE TABLE released (sha256 TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE strays (sha256 TEXT PRIMARY KEY) WITHOUT ROWID;
    """,
)
VERSION = len(_STEPS)
STRAYS = 4  # the step that made the table


def migrate(connection: apsw.Connection, path: Path, kept: Iterable[str]) -> None:
    """Brings the database up to VERSION, each step in a transaction of its own. kept: sha256 of all originals on disk.

    Raises SchemaTooNew for a database of a newer Lookalike, StoreCorrupt for one that is not ours.
    """
    version, application = int(connection.pragma("user_version")), int(connection.pragma("application_id"))
    if version > VERSION and application == APPLICATION_ID:
        raise SchemaTooNew(
            f"{path} has schema {version}, this version knows {VERSION}: it was written by a newer Lookalike; upgrade, "
            "or restore a snapshot made with this version"
        )
    if application != APPLICATION_ID and not is_empty(connection):
        raise StoreCorrupt(f"{path} is a database of another program; move it away or choose another data directory")
    try:
        _steps(connection, version, kept)
        missing = _shape(_fresh()) - _shape(connection)
    except (apsw.SQLError, UnicodeDecodeError) as error:
        # Our own statements are right: what the database says of its own shape is not.
        raise apsw.CorruptError(str(error)) from error
    if missing:
        raise apsw.CorruptError(f"{min(missing)[1]} of {min(missing)[0]} is not as it was made")


def _steps(connection: apsw.Connection, version: int, kept: Iterable[str]) -> None:
    connection.create_scalar_function("checksum", lambda *stored: checksum(stored[0]), 1, deterministic=True)
    connection.create_scalar_function("seal", _sealed, 13, deterministic=True)
    for number in range(version, VERSION):
        with connection:
            connection.execute(_STEPS[number])
            if number + 1 == STRAYS and version:
                # Earlier versions kept no account of what they let go, and may have left files behind when killed.
                accept(connection, kept)
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", number + 1)


def _fresh() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    _steps(connection, 0, ())
    return connection


def _shape(connection: apsw.Connection) -> set[tuple[Any, ...]]:
    """(table or index, column, type, whether it may be null, place in the key) of every column."""
    tables = 'SELECT m.name, c.name, c.type, c."notnull", c.pk FROM sqlite_schema m, pragma_table_xinfo(m.name) c'
    indexes = "SELECT m.name, c.name, '', 0, c.seqno FROM sqlite_schema m, pragma_index_info(m.name) c"
    return {
        *connection.execute(f"{tables} WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite!_%' ESCAPE '!'"),
        *connection.execute(f"{indexes} WHERE m.type = 'index' AND m.sql IS NOT NULL"),
    }


def is_empty(connection: apsw.Connection) -> bool:
    """Whether the database holds nothing at all."""
    return not connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_schema)").get


def _sealed(*values: Any) -> int:
    try:
        return seal_stored(*values)
    except (ValueError, TypeError, AttributeError, struct.error):
        return -1  # damaged already: no checksum is negative
