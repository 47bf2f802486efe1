"""Which engine keeps the catalogue: plain arguments in, a `Catalogue` out. Nothing else names an engine.

An engine's code is imported when it is chosen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from index.types import Catalogue, Progress, Snapshot

Engine = Literal["embedded"]


def open_catalogue(
    directory: Path, *, engine: Engine = "embedded", keep_originals: bool = True, indexes: bool = True
) -> Catalogue:
    """Takes the data directory for this process and loads its collections; an empty directory is a new catalogue.

    keep_originals: uploaded bytes are kept by sha256. indexes: False for work that never searches (snapshots,
    imports): searching then raises IndexNotReady. Raises DirectoryLocked, StoreCorrupt, SchemaTooNew, StorageFull.
    """
    match engine:
        case "embedded":
            from index.embedded.catalogue import EmbeddedCatalogue

            return EmbeddedCatalogue.open(directory, keep_originals=keep_originals, indexes=indexes)


def restore(
    file: Path, directory: Path, *, engine: Engine = "embedded", force: bool = False, progress: Progress | None = None
) -> Snapshot:
    """Puts a snapshot's catalogue into a directory that nobody uses. Without `force` there must be none yet.

    Everything is checked first. Raises StoreCorrupt, SnapshotExists, DirectoryLocked, StorageFull.
    """
    match engine:
        case "embedded":
            from index.embedded.store import backup

            return backup.restore(file, directory, force=force, progress=progress)


def exists(directory: Path, *, engine: Engine = "embedded") -> bool:
    """Whether the directory holds a catalogue."""
    match engine:
        case "embedded":
            from index.embedded.store import database

            return (directory / database.NAME).is_file()
