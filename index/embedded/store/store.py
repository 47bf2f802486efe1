"""What the collections of one data directory share: the writer, the readers, the originals."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import apsw

from index.embedded.failpoints import Failpoints
from index.embedded.store.database import Readers
from index.embedded.store.directory import references
from index.embedded.store.directory.originals import Originals
from index.embedded.store.writer import Writer
from index.errors import StorageError, StoreClosed


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

    def release(self) -> None:
        """Removes the originals that the database has let go; soon, in the writer thread."""
        with contextlib.suppress(StoreClosed, StorageError):  # then the next start does
            with self.readers.connection() as connection:
                owed = references.owed(connection)
            if owed:
                self.writer.submit(references.released, self._remove)

    def referred(self, sha256: str) -> bool:
        """Whether an item has this original, as committed now."""
        with self.readers.connection() as connection:
            return references.referred(connection, sha256)

    def _remove(self, hashes: list[str]) -> None:
        # After the commit, and between two others: nothing refers to them, and nothing will unseen.
        gone = [sha256 for sha256 in hashes if self.originals.remove(sha256)]

        def forget(connection: apsw.Connection) -> None:
            references.forget(connection, [sha256 for sha256 in gone if not self.originals.path(sha256).exists()])

        if gone:
            with contextlib.suppress(StoreClosed, StorageError):
                self.writer.submit(forget)
