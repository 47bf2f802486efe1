"""The database's shape is a list of numbered steps; a released step never changes, a new need is a new step."""

from __future__ import annotations

from pathlib import Path

import apsw

from index.embedded.store.encoding import checksum
from index.errors import SchemaTooNew, StoreCorrupt

APPLICATION_ID = 0x4C4F4F4B  # "LOOK": tells our database from a foreign file of the same name

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
)
VERSION = len(_STEPS)


def migrate(connection: apsw.Connection, path: Path) -> None:
    """Brings the database up to VERSION, each step in a transaction of its own.

    Raises SchemaTooNew for a database of a newer Lookalike, StoreCorrupt for one that is not ours.
    """
    version = int(connection.pragma("user_version"))
    application = int(connection.pragma("application_id"))
    if version > VERSION and application == APPLICATION_ID:
        raise SchemaTooNew(
            f"{path} has schema {version}, this version knows {VERSION}: it was written by a newer Lookalike; upgrade, "
            "or restore a snapshot made with this version"
        )
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").get == 0
    if application != APPLICATION_ID and not empty:
        raise StoreCorrupt(f"{path} is a database of another program; move it away or choose another data directory")
    connection.create_scalar_function("checksum", lambda *stored: checksum(stored[0]), 1, deterministic=True)
    for number in range(version, VERSION):
        with connection:
            connection.execute(_STEPS[number])
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", number + 1)
