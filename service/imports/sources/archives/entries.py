"""Files in an archive, whichever kind it is, and how far it may swell: limits on its list, each entry and the whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from service.imports.sources.source import BROKEN, SourceError, Unreadable, too_large

# Entries of one archive: their list is in memory, about 600 bytes for each.
MOST_ENTRIES = 1_000_000
# An entry of more than SMALL bytes may be that many times what it takes in a .zip; deflate reaches 1,032, photographs
# 1, a table about 20. A smaller one is bounded by the bytes a picture may have.
MOST_SWOLLEN, SMALL = 250, 16 * 2**20
# All of an archive may be FREE bytes, or that many times its file.
MOST_SWOLLEN_WHOLE, FREE = 100, 2**30


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in an archive. path: with `/`, below its root; size: of its bytes as the archive says."""

    path: str
    size: int
    open: Callable[[], IO[bytes]]

    def read(self, max_bytes: int) -> bytes:
        """Its bytes. Raises Unreadable, also where there are more than `max_bytes`, whatever the archive says."""
        try:
            with self.open() as file:
                data = file.read(max_bytes + 1)
        except BROKEN as error:
            raise Unreadable(f"cannot be read from the archive: {error}") from None
        if len(data) > max_bytes:
            raise too_large(max_bytes)
        return data

    def head(self) -> bytes:
        """Its first bytes; none where they cannot be read."""
        try:
            with self.open() as file:
                return file.read(12)
        except BROKEN:
            return b""


def whole_limit(file_bytes: int) -> int:
    """The bytes that everything in an archive of this size may have."""
    return max(FREE, MOST_SWOLLEN_WHOLE * file_bytes)


def check_count(count: int) -> None:
    """Raises SourceError for an archive of more entries than are read."""
    if count > MOST_ENTRIES:
        raise SourceError(f"the archive has more than {MOST_ENTRIES:,} entries: split it")


def check_entry(size: int, packed: int) -> None:
    """Raises Unreadable for an entry of `size` bytes that takes `packed` in the archive."""
    if size > SMALL and size > MOST_SWOLLEN * max(packed, 1):
        raise Unreadable(f"swells to {size // max(packed, 1):,} times its size in the archive", "archive-limit")


def swollen(limit: int) -> Unreadable:
    """For what lies behind the first `limit` unpacked bytes of an archive."""
    return Unreadable(f"the archive has more than {limit / 2**30:.3g} GiB unpacked: split it", "archive-limit")


def path_of(name: str) -> str:
    """A name in an archive as a path below its root. Raises Unreadable for one that leads out of it."""
    plain = name.replace("\\", "/")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    if plain.startswith("/") or ".." in parts or plain[1:2] == ":" or not parts:
        raise Unreadable("its path leads out of the archive", "unsafe-entry")
    return "/".join(parts)
