"""Erasing: what was deleted leaves the database's own files for good.

SQLite gives room free and leaves the bytes in it: in free pages, between the rows of a page, in the write-ahead log.
Writing the whole file anew from what is there now is the only way that leaves none of them. A record says since when
something waits for that, so that no restart forgets it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import apsw

from index.embedded.store.database import spare
from index.embedded.store.encoding import checksum
from index.errors import StorageFull, StoreClosed

_KIND = "erase"
_DUE, _RUNNING = "due", "running"  # what was deleted before an erasure began, and since
_EMPTY = "{}"  # their value
_STEPS = 100_000  # of SQLite's machine, some milliseconds
_SPARE = 64 * 2**20  # bytes of the disk that are left to others


def note(connection: apsw.Connection) -> None:
    """Something was deleted in this transaction."""
    connection.execute(
        "INSERT INTO records (scope, kind, name, value, crc, updated_at) SELECT 0, ?1, ?2, ?4, ?5, ?3"
        " WHERE NOT EXISTS (SELECT 1 FROM records WHERE scope = 0 AND kind = ?1 AND name = ?2)",
        (_KIND, _DUE, time.time(), _EMPTY, checksum(_EMPTY)),
    )


def since(connection: apsw.Connection) -> float | None:
    """UTC seconds since when something that was deleted may still be in a file; None where nothing may."""
    found = connection.execute("SELECT min(updated_at) FROM records WHERE scope = 0 AND kind = ?", (_KIND,)).get
    return None if found is None else float(str(found))


def begin(connection: apsw.Connection) -> None:
    """What is deleted from now on is noted apart: this erasure may miss it."""
    earliest = since(connection)
    if earliest is not None:
        connection.execute("DELETE FROM records WHERE scope = 0 AND kind = ?", (_KIND,))
        connection.execute(
            "INSERT INTO records (scope, kind, name, value, crc, updated_at) VALUES (0, ?, ?, ?, ?, ?)",
            (_KIND, _RUNNING, _EMPTY, checksum(_EMPTY), earliest),
        )


def done(connection: apsw.Connection) -> None:
    """All that was deleted before `begin` is gone."""
    connection.execute("DELETE FROM records WHERE scope = 0 AND kind = ? AND name = ?", (_KIND, _RUNNING))


def rewrite(connection: apsw.Connection, path: Path, stopped: Callable[[], bool]) -> None:
    """Writes the database at `path` anew, whole or not at all; outside of a transaction.

    Takes twice the room of what is in it meanwhile. stopped: asked often; True gives up. Raises StorageFull where the
    disk has less, StoreClosed where it was given up.
    """
    free, pages = spare(connection)
    needed = 2 * (pages - free) * int(connection.pragma("page_size")) + _SPARE
    there = shutil.disk_usage(path.parent).free
    if needed > there:
        raise StorageFull(
            f"erasing needs {needed >> 20:,} MB below {path.parent} for a while and {there >> 20:,} MB are free; "
            "nothing was changed: free some space"
        )
    with contextlib.suppress(UnicodeDecodeError, apsw.Error):  # else beside other programs' temporary files
        connection.pragma("temp_store_directory", os.fsencode(path.parent).decode())
    connection.set_progress_handler(stopped, _STEPS)
    try:
        if stopped():
            raise apsw.InterruptError
        connection.execute("VACUUM")
    except apsw.InterruptError:
        raise StoreClosed("erasing was given up, as the service ends; erase again") from None
    finally:
        connection.set_progress_handler(None)
        with contextlib.suppress(apsw.Error):
            connection.pragma("temp_store_directory", "")


def fold(connection: apsw.Connection) -> bool:
    """Folds the write-ahead log into the database and empties it; False where a reader is in the way."""
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]
    return not busy
