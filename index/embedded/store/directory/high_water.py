"""High-water mark: how far each collection's changes were when last looked at, kept beside the database.

A database that is behind it was exchanged for an older one, or lost its write-ahead log: what is missing was
acknowledged. The mark is written after the changes are on disk, so it is never ahead of them.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from index.embedded.store.collections import Head
from index.errors import StoreCorrupt

NAME = "high-water.json"


def note(directory: Path, heads: Iterable[Head]) -> None:
    """Writes the mark; the old one stays where that fails. Not flushed: a mark that is lost proves nothing."""
    marks = json.dumps({head.token: head.seq for head in heads}, sort_keys=True).encode()
    path, new = directory / NAME, directory / f".{NAME}"
    with contextlib.suppress(OSError):
        if not path.exists() or path.read_bytes() != marks:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(marks)
            new.replace(path)
        new.unlink(missing_ok=True)  # of a process that was killed


def forget(directory: Path) -> None:
    """For what goes back on purpose: a restore."""
    (directory / NAME).unlink(missing_ok=True)


def check(directory: Path, heads: Iterable[Head]) -> None:
    """Raises StoreCorrupt where a collection has fewer changes than it had. A mark that cannot be read says nothing."""
    try:
        marks = json.loads((directory / NAME).read_bytes())
    except (OSError, ValueError):
        return
    if not isinstance(marks, dict):
        return
    for head in heads:
        mark = marks.get(head.token)
        if isinstance(mark, int) and mark > head.seq:
            raise StoreCorrupt(
                f"{directory} lost changes: collection {head.name} is at change {head.seq:,} and was at {mark:,}; "
                f"bring catalogue.db back with its catalogue.db-wal, or a snapshot with `lookalike snapshot restore "
                f"FILE --force`; to go on with what is there, remove {os.fspath(directory / NAME)}"
            )
