"""Opening a data directory: leftovers of what was killed are cleared, and damage that would lose pictures is refused.

Originals without their rows are such damage: the database is missing, empty, or older than they are. Serving on would
hide that, so the start says what is wrong and what brings the pictures back.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import apsw

from index.embedded.store import database
from index.embedded.store.directory import backup, references, restoring
from index.embedded.store.directory.originals import NAME as ORIGINALS
from index.embedded.store.directory.originals import stored
from index.embedded.store.migrations import STRAYS, migrate
from index.embedded.store.store import Store
from index.errors import StoreCorrupt
from index.types import Unclaimed


def exists(directory: Path) -> bool:
    """Whether there is a database, or are originals of one."""
    return (directory / database.NAME).is_file() or any(any(names) for names in stored(directory / ORIGINALS))


def prepare(directory: Path) -> None:
    """Clears what killed restores and snapshots left. Raises StoreCorrupt where a file is in a folder's place."""
    for name in (ORIGINALS, f"{ORIGINALS}/tmp"):
        path = directory / name
        if path.exists() and not path.is_dir():
            raise StoreCorrupt(f"{path} is a file where a folder is needed; move it away, then start again")
    if (directory / database.NAME).is_dir():
        raise StoreCorrupt(f"{directory / database.NAME} is a folder where a file is needed; move it away")
    restoring.recover(directory)
    backup.sweep(directory)


def connect(directory: Path, unclaimed: Unclaimed) -> apsw.Connection:
    """The writing connection, of a database of this version. Raises StoreCorrupt, SchemaTooNew.

    A missing or empty database beside originals is made anew only where they are to be adopted.
    """
    path = directory / database.NAME
    kept = [sha256 for names in stored(directory / ORIGINALS) for sha256 in names]
    log = path.with_name(path.name + "-wal")
    if not path.exists() or not path.stat().st_size:
        if unclaimed != "adopt":
            _refuse(directory, kept)
        if log.exists() and log.stat().st_size:
            raise StoreCorrupt(
                f"{path} is missing or empty and its write-ahead log is there; bring the file back, or move {log.name} "
                f"away and bring a snapshot back with `lookalike snapshot restore FILE --force`"
            )
    connection = database.connect(path, write=True)
    try:
        version = int(connection.pragma("user_version"))
        if 0 < version < STRAYS and not connection.execute("SELECT EXISTS (SELECT 1 FROM items)").get:
            if unclaimed == "refuse":
                _refuse(directory, kept)
            kept = []
        migrate(connection, path, kept)
    except BaseException:
        connection.close(True)
        raise
    return connection


def check(store: Store) -> None:
    """Raises StoreCorrupt where originals lie on disk that the database neither has nor let go.

    Where as many damaged rows have lost the name of theirs, nothing else was lost: those originals are left alone.
    """
    kept = {sha256 for names in store.originals.stored() for sha256 in names}
    with store.readers.connection() as connection:
        unknown = kept - references.accounted(connection)
        if unknown and len(unknown) <= references.astray(connection, kept):
            store.writer.call(lambda writing: references.accept(writing, unknown))
            return
    _refuse(store.directory, unknown)


def _refuse(directory: Path, unknown: Iterable[str]) -> None:
    if number := sum(1 for _ in unknown):
        raise StoreCorrupt(
            f"{directory} holds {number:,} originals that {database.NAME} does not know: it is missing, empty or older "
            "than they are; bring a snapshot back with `lookalike snapshot restore FILE --force`, or make items of "
            "them with `lookalike adopt`"
        )
