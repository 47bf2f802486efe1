"""What the collections of one data directory share: the writer, the readers, the originals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import apsw

from index.embedded.failpoints import Failpoints
from index.embedded.store.database import Readers
from index.embedded.store.items import referred
from index.embedded.store.originals import Originals
from index.embedded.store.writer import Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """directory: the data directory; path: the database in it; keep_originals: whether new uploads are kept."""

    directory: Path
    path: Path
    writer: Writer
    readers: Readers
    originals: Originals
    keep_originals: bool
    failpoints: Failpoints

    def release(self, hashes: set[str]) -> None:
        """Removes those originals that no item refers to any more; in the writer thread, a moment later."""
        if hashes:
            self.writer.submit(lambda connection: self._release(connection, hashes))

    def _release(self, connection: apsw.Connection, hashes: set[str]) -> None:
        for sha256 in hashes:
            if not referred(connection, sha256):
                self.originals.remove(sha256)
