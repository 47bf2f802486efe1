"""A restore as a transaction: unpacked into a folder beside, and decided by one rename of that folder.

`restore-<id>` is a restore that may be given up: whatever was killed before the rename leaves the old catalogue.
`restored-<id>` is one that is decided: whoever opens the directory next finishes it. Originals are linked into place
before; the second link, in the folder, says which ones a restore that was given up takes with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import apsw

from index.embedded.store import database
from index.embedded.store.directory import high_water
from index.embedded.store.directory.originals import NAME as ORIGINALS
from index.embedded.store.directory.originals import sync_directory

_OPEN, _DECIDED = "restore-", "restored-"


def recover(directory: Path) -> None:
    """Finishes or gives up what a killed restore has left; with the directory's lock held."""
    for folder in directory.glob(_DECIDED + "*"):
        _finish(folder, directory)
    for folder in directory.glob(_OPEN + "*"):
        _give_up(folder, directory)


@contextlib.contextmanager
def unpacking(directory: Path) -> Iterator[Path]:
    """A new folder to unpack into; given up where the block does not end in `place`."""
    folder = directory / f"{_OPEN}{uuid.uuid4().hex}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        if folder.exists():
            _give_up(folder, directory)


def place(folder: Path, directory: Path) -> None:
    """What lies checked in `folder` is the directory's catalogue from now on."""
    _link_originals(folder / ORIGINALS, directory / ORIGINALS)
    _fold(directory / database.NAME)
    sync_directory(folder)
    decided = directory / folder.name.replace(_OPEN, _DECIDED)
    folder.rename(decided)
    sync_directory(directory)
    _finish(decided, directory)


def _finish(folder: Path, directory: Path) -> None:
    new, target = folder / database.NAME, directory / database.NAME
    if new.exists():
        for end in ("-wal", "-shm", "-journal"):
            # Of the old database; beside the new one they would be taken for its own.
            with contextlib.suppress(FileNotFoundError):
                target.with_name(target.name + end).rename(folder / f"old{end}")
        shutil.rmtree(directory / "index", ignore_errors=True)
        sync_directory(directory)
        high_water.forget(directory)
        new.rename(target)
        sync_directory(directory)
    shutil.rmtree(folder, ignore_errors=True)


def _give_up(folder: Path, directory: Path) -> None:
    brought = folder / ORIGINALS
    for path in brought.iterdir() if brought.is_dir() else ():
        placed = directory / ORIGINALS / path.name[:2] / path.name
        with contextlib.suppress(FileNotFoundError):
            if path.samefile(placed):
                placed.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _link_originals(source: Path, target: Path) -> None:
    for path in source.iterdir() if source.is_dir() else ():
        placed = target / path.name[:2] / path.name
        placed.parent.mkdir(parents=True, exist_ok=True)
        try:
            placed.hardlink_to(path)
        except FileExistsError:
            if _sha256(placed) != path.name:
                path.rename(placed)  # the one there is damaged
        except OSError:
            path.rename(placed)  # a file system without links: after a kill here the file stays, unknown to the old one
    for folder in target.iterdir() if target.is_dir() else ():
        if folder.is_dir():
            sync_directory(folder)


def _fold(path: Path) -> None:
    """Folds the write-ahead log into the old database, so that the file alone is the old catalogue until the end."""
    if path.exists():
        with contextlib.suppress(apsw.Error):
            connection = database.open_file(path, apsw.SQLITE_OPEN_READWRITE)
            try:
                connection.pragma("wal_checkpoint(TRUNCATE)")
            finally:
                connection.close()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
