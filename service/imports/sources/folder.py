"""An import is planned before anything is read in full: which files are pictures, under which id, and which clash.

The same folder gives the same plan on every run, so an import can be repeated.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from service.imports.sources.names import id_of, readable
from service.imports.sources.source import Bad, Source, Unreadable, too_large

# Files with these names are meant to be pictures: one that is none, or of a kind not accepted, is told as bad.
PICTURE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif")
)


class FolderError(Exception):
    """The folder to import cannot be read. One line: which, and why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a folder holds. paths: pictures in path order, ids distinct; bad: what already fails; ignored: other files.

    Paths are below `root`, with `/`, as the operating system names them (undecodable bytes as surrogates).
    """

    root: str
    paths: list[str]
    bad: list[Bad]
    ignored: int

    def sources(self) -> Iterator[Source]:
        """The pictures, made one by one as they are asked for."""
        for path in self.paths:
            shown = readable(path)
            folder = shown.rpartition("/")[0]
            file = os.path.join(self.root, path)  # noqa: PTH118 (a Path per picture buys nothing)
            yield Source(id_of(path), {"path": shown, "folder": folder}, partial(read_file, file), shown)


def plan(root: Path, *, leave_out: Sequence[Path] = ()) -> Plan:
    """Walks `root` and plans its import. Raises FolderError.

    Hidden files and folders are skipped, and `leave_out` wherever it lies: a catalogue is not a source of its own.
    """
    walk = _Walk(root, leave_out)
    walk.run()
    assigned = assign(walk.pictures, root=str(root))
    bad = sorted((*walk.bad, *assigned.bad), key=lambda row: row.path)
    return Plan(assigned.root, assigned.paths, bad, walk.ignored)


def assign(paths: Iterable[str], *, root: str) -> Plan:
    """A plan of these paths below `root`, in path order; of two with the same id the first takes it."""
    kept: list[str] = []
    bad: list[Bad] = []
    taken: dict[str, str] = {}
    for path in sorted(paths, key=os.fsencode):
        id = id_of(path)
        if id in taken:
            reason = f"would get the id {id}, which {readable(taken[id])} already has: rename one of them"
            bad.append(Bad(readable(path), reason))
            continue
        taken[id] = path
        kept.append(path)
    return Plan(root, kept, bad, 0)


def read_file(file: str, max_bytes: int) -> bytes:
    """A file's bytes. Raises Unreadable, also where there are more than `max_bytes`."""
    try:
        with open(file, "rb", buffering=0) as opened:  # noqa: PTH123 (a Path per picture buys nothing)
            if os.fstat(opened.fileno()).st_size > max_bytes:
                raise too_large(max_bytes)
            return opened.read()
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror or error}") from None


def looks_like_picture(head: bytes) -> bool:
    """Whether a file's first 12 bytes are those of a JPEG, PNG or WebP, whatever the file is called."""
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


class _Walk:
    """Every real folder once, whatever links lead to it: those with a name of their own before links are followed."""

    def __init__(self, root: Path, leave_out: Sequence[Path]) -> None:
        self.root = root
        self.pictures: list[str] = []
        self.bad: list[Bad] = []
        self.ignored = 0
        there = [folder.stat() for folder in leave_out if folder.is_dir()]
        self._visited = {(status.st_dev, status.st_ino) for status in there}
        self._links: list[str] = []

    def run(self) -> None:
        try:
            if not self.root.is_dir():
                raise FolderError(
                    f"{self.root} is not a folder" if self.root.exists() else f"{self.root} does not exist"
                )
            os.scandir(self.root).close()
        except OSError as error:
            raise FolderError(f"{self.root}: {error.strerror or error}") from None
        self._below("")
        while self._links:
            links, self._links = sorted(self._links, key=os.fsencode), []
            for link in links:
                self._below(link)

    def _below(self, start: str) -> None:
        folders = [start]
        while folders:
            folder = folders.pop()
            try:
                status = (self.root / folder).stat()
                if (status.st_dev, status.st_ino) in self._visited:
                    continue
                self._visited.add((status.st_dev, status.st_ino))
                with os.scandir(self.root / folder) as entries:
                    visible = [entry for entry in entries if not entry.name.startswith(".")]
            except OSError as error:
                self.bad.append(Bad(readable(folder), f"folder cannot be read: {error.strerror or error}"))
                continue
            for entry in sorted(visible, key=lambda entry: os.fsencode(entry.name)):
                self._sort(entry, f"{folder}/{entry.name}" if folder else entry.name, folders)

    def _sort(self, entry: os.DirEntry[str], path: str, folders: list[str]) -> None:
        named = os.path.splitext(entry.name)[1].lower() in PICTURE_SUFFIXES  # noqa: PTH122
        try:
            mode = entry.stat().st_mode
            if stat.S_ISDIR(mode):
                (self._links if entry.is_symlink() else folders).append(path)
            elif stat.S_ISREG(mode) and (named or looks_like_picture(_head(entry.path))):
                self.pictures.append(path)
            else:
                self.ignored += 1
        except OSError as error:
            if named:
                self.bad.append(Bad(readable(path), f"cannot be read: {error.strerror or error}"))
            else:
                self.ignored += 1


def _head(file: str) -> bytes:
    with open(file, "rb", buffering=0) as opened:  # noqa: PTH123 (a Path per file costs more than the read)
        return opened.read(12)
