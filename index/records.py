"""Records: small versioned JSON documents by kind and name, for state that is no item, on every engine.

A write names the version that it expects, so that of two writers one is refused and no change is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from index.items import Metadata


@dataclass(frozen=True, slots=True)
class Record:
    """A small JSON document. version: of this value; no later value of any record has the same.

    updated_at: UTC seconds.
    """

    kind: str
    name: str
    value: Metadata
    version: int
    updated_at: float


@dataclass(frozen=True, slots=True)
class RecordPage:
    """Records of one kind in the order of their names. next_cursor: opaque, None at the end."""

    records: list[Record]
    next_cursor: str | None


class Records(Protocol):
    """Small versioned documents by kind and name, as durable as items; snapshots carry them.

    For state that is no item: thresholds, jobs, keys. A kind and a name are 1 to 200 characters; a value is a JSON
    object of at most `MAX_RECORD` bytes. Raises InvalidRecord for others.
    """

    def get(self, kind: str, name: str) -> Record:
        """Raises RecordNotFound."""
        ...

    def put(self, kind: str, name: str, value: Metadata, *, expected: int | None = None) -> Record:
        """Creates or replaces. expected: the version that must be there, 0 for none yet, None for whichever.

        Raises RecordConflict where another is there; then nothing was changed.
        """
        ...

    def delete(self, kind: str, name: str, *, expected: int | None = None) -> None:
        """Raises RecordNotFound, and RecordConflict where `expected` is given and another version is there."""
        ...

    def list(self, kind: str, *, prefix: str = "", limit: int = 100, cursor: str | None = None) -> RecordPage:
        """Those whose name starts with `prefix`. Raises InvalidCursor."""
        ...
