"""A source: a picture on its way in, whatever it comes from; its bytes are read when they are asked for."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

# What reading a damaged archive, or a file in it, raises.
BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    NotImplementedError,  # a compression that this Python does not know
)


# Why a picture or a row was not imported, for programs. What is wrong with a picture or its address is called as in the
# HTTP API.
REASONS = frozenset(
    (
        "invalid-row",  # no row of this table: cells, JSON, encoding
        "invalid-id",  # none, or none that an item may have
        "invalid-metadata",
        "invalid-vector",
        "duplicate-id",
        "missing-image",  # the row names none
        "not-found",  # what the row names is not there
        "unreadable",  # the file, the entry of an archive or the data URI cannot be read
        "unsafe-entry",  # a path that leads out of the archive, a link, a device
        "encrypted",
        "archive-limit",  # it swells, or there are too many
        "cut-off",  # the source ends in the middle
        "url-refused",
        "url-failed",
        "content-too-large",
        "unsupported-image",
        "image-undecodable",
        "image-too-large",
        "invalid-request",
    )
)


class SourceError(Exception):
    """What is to be imported cannot be read. One line: which, and why."""


class Unreadable(Exception):
    """A source's bytes cannot be had. One line: why; slug: one of REASONS."""

    def __init__(self, message: str, slug: str = "unreadable") -> None:
        super().__init__(message)
        self.slug = slug


@dataclass(frozen=True, slots=True)
class Source:
    """A picture to import.

    read: given the most bytes a picture may have, returns all of them; blocks; raises Unreadable. name: how a person
    finds the picture (a path below the root, a line of a file). row: its line in a text, from 1, or its row in a
    parquet file, from 0, as `name` says it; None for a file. url: where the engine fetches it from; then `read` raises.
    root: what all pictures of its folder share, kept with
    the item; empty where there is none. earlier: an id that an item stored under this name may have instead. rivals:
    names of the pictures of one import that could have the same id, this one's among them.
    """

    id: str
    metadata: Mapping[str, Any]
    read: Callable[[int], bytes]
    name: str
    root: str = ""
    earlier: str = ""
    rivals: frozenset[str] = frozenset()
    row: int | None = None
    url: str = ""


@dataclass(frozen=True, slots=True)
class Bad:
    """A picture that was not imported. path: how a person finds it; reason: one line; slug: one of REASONS.

    id: that it would have got, empty where it has none; row: as of `Source`.
    """

    path: str
    reason: str
    slug: str = "unreadable"
    id: str = ""
    row: int | None = None

    def as_json(self) -> dict[str, Any]:
        """What a program reads, of a summary as of a job's errors."""
        return {"row": self.row, "id": self.id or None, "path": self.path, "slug": self.slug, "reason": self.reason}


def too_large(limit: int) -> Unreadable:
    """For a picture of more than `limit` bytes."""
    return Unreadable(f"larger than {limit / 2**20:.3g} MiB (LOOKALIKE_MAX_UPLOAD_BYTES)", "content-too-large")


class Pictures(Protocol):
    """What a folder, an archive or a table holds; `close` it."""

    @property
    def count(self) -> int:
        """Sources there are."""
        ...

    @property
    def bad(self) -> list[Bad]:
        """What already fails, beside the sources."""
        ...

    @property
    def ignored(self) -> int:
        """Files that are no pictures."""
        ...

    @property
    def skipped(self) -> int:
        """Files and folders that a system keeps there, or that are hidden."""
        ...

    def sources(self) -> Iterator[Source]:
        """Every picture once, in an order that stays."""
        ...

    def close(self) -> None:
        """Gives the file free that the pictures are read from."""
        ...
