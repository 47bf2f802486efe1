"""Snapshots that were made: where they lie, so that an erasure can name those that hold what was deleted since.

Records of the catalogue: a restore elsewhere brings them along, so that a file is believed only with its own time.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path

from index.errors import InvalidRecord, NotFound
from index.open import snapshot_made_at
from index.types import Catalogue
from service.owner import path_of, path_text

KIND = "snapshot"


@dataclass(frozen=True, slots=True)
class Held:
    """A snapshot that is still there. made_at: UTC seconds."""

    file: Path
    made_at: float


def remember(catalogue: Catalogue, file: Path, made_at: float) -> None:
    """A snapshot was written. Blocks."""
    with contextlib.suppress(InvalidRecord):  # a path too long to keep
        catalogue.records.put(KIND, _name(file), {"file": path_text(file), "made_at": made_at})


def held(catalogue: Catalogue) -> list[Held]:
    """Those that are there, oldest first; what is gone or replaced is forgotten. Blocks."""
    found, cursor = [], None
    while True:
        page = catalogue.records.list(KIND, limit=1000, cursor=cursor)
        for record in page.records:
            file, made_at = path_of(str(record.value["file"])), float(record.value["made_at"])
            if snapshot_made_at(file) == made_at:
                found.append(Held(file, made_at))
            else:
                forget(catalogue, file)
        cursor = page.next_cursor
        if cursor is None:
            return sorted(found, key=lambda each: each.made_at)


def forget(catalogue: Catalogue, file: Path) -> None:
    """It is not there any more. Blocks."""
    with contextlib.suppress(NotFound):
        catalogue.records.delete(KIND, _name(file))


def _name(file: Path) -> str:
    return hashlib.sha256(bytes(file)).hexdigest()
