"""Which engine keeps the catalogue: plain arguments in, a `Catalogue` out. Nothing else names an engine.

An engine's code is imported when it is chosen.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Literal

from index.limits import RECALL
from index.types import Catalogue, Progress, Snapshot, Unclaimed

Engine = Literal["embedded"]


def open_catalogue(
    directory: Path,
    *,
    engine: Engine = "embedded",
    keep_originals: bool = True,
    indexes: bool = True,
    unclaimed: Unclaimed = "refuse",
    recall: float = RECALL,
) -> Catalogue:
    """Takes the data directory for this process and loads its collections; an empty directory is a new catalogue.

    keep_originals: uploaded bytes are kept by sha256. indexes: False for work that never searches (snapshots,
    imports): searching then raises IndexNotReady. unclaimed: what originals without an item mean, see
    `Catalogue.unclaimed`. recall: that searches are to have in collections that set none, MIN_RECALL…1. Raises
    DirectoryLocked, StoreCorrupt, SchemaTooNew, StorageError.
    """
    match engine:
        case "embedded":
            from index.embedded.catalogue import EmbeddedCatalogue

            return EmbeddedCatalogue.open(
                directory, keep_originals=keep_originals, indexes=indexes, unclaimed=unclaimed, recall=recall
            )


def restore(
    file: Path, directory: Path, *, engine: Engine = "embedded", force: bool = False, progress: Progress | None = None
) -> Snapshot:
    """Puts a snapshot's catalogue into a directory that nobody uses. Without `force` there must be none yet.

    Everything is checked first. Raises StoreCorrupt, SnapshotExists, DirectoryLocked, StorageError.
    """
    match engine:
        case "embedded":
            from index.embedded.store.directory import backup

            return backup.restore(file, directory, force=force, progress=progress)


def snapshot_made_at(file: Path, *, engine: Engine = "embedded") -> float | None:
    """UTC seconds at which a snapshot was made; None where the file is none, or cannot be read."""
    match engine:
        case "embedded":
            from index.embedded.store.directory import backup

            return backup.made_at(file)


def exists(directory: Path, *, engine: Engine = "embedded") -> bool:
    """Whether the directory holds a catalogue, or what is left of one."""
    match engine:
        case "embedded":
            from index.embedded.store.directory import opening

            return opening.exists(directory)


def versions(*, engine: Engine = "embedded") -> dict[str, str]:
    """The versions of the libraries that the engine works with, by name."""
    match engine:
        case "embedded":
            import apsw

            return {"faiss": version("faiss-cpu"), "sqlite": apsw.sqlite_lib_version()}
