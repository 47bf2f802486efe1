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


class SourceError(Exception):
    """What is to be imported cannot be read. One line: which, and why."""


class Unreadable(Exception):
    """A source's bytes cannot be had. One line: why."""


@dataclass(frozen=True, slots=True)
class Source:
    """A picture to import.

    read: given the most bytes a picture may have, returns all of them; blocks; raises Unreadable. name: how a person
    finds the picture (a path below the root, a line of a file). root: what all pictures of its folder share, kept with
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


@dataclass(frozen=True, slots=True)
class Bad:
    """A picture that was not imported. path: how a person finds it; reason: one line."""

    path: str
    reason: str


def too_large(limit: int) -> Unreadable:
    """For a picture of more than `limit` bytes."""
    return Unreadable(f"larger than {limit / 2**20:.3g} MiB (LOOKALIKE_MAX_UPLOAD_BYTES)")


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
