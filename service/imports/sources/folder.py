"""A folder as a source: which of its files are pictures, planned before anything is read in full.

The same folder gives the same plan on every run, so an import can be repeated.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from service.imports.sources.names import id_of, is_system, other_id_of, rivals, root_of
from service.imports.sources.source import Bad, Source, SourceError, Unreadable, too_large
from service.text import readable

# Files with these names are meant to be pictures: one that is none, or of a kind not accepted, is reported as bad.
PICTURE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif")
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a folder holds. paths: pictures in path order; bad: what already fails.

    Paths are below `root`, with `/`, as the operating system names them (undecodable bytes as surrogates). ignored:
    files that are no pictures; skipped: files and folders that a system keeps there, or that are hidden. rivals: of ids
    that several of the pictures could have, the names of these.
    """

    root: Path
    prefix: str
    paths: list[str]
    bad: list[Bad]
    ignored: int
    skipped: int
    rivals: Mapping[str, frozenset[str]]

    @property
    def count(self) -> int:
        return len(self.paths)

    def close(self) -> None:
        return None

    def sources(self) -> Iterator[Source]:
        """The pictures, made one by one as they are asked for."""
        root, top = root_of(self.root), str(self.root)
        for path in self.paths:
            file = os.path.join(top, path)  # noqa: PTH118 (a Path per picture buys nothing)
            yield source_of(path, self.prefix, partial(read_file, file), root, self.rivals)


def source_of(
    path: str, prefix: str, read: Callable[[int], bytes], root: str, rivals: Mapping[str, frozenset[str]]
) -> Source:
    """The source of a file at a path below a root of this name; its metadata says where it was."""
    id, name = id_of(path, prefix), readable(path)
    return Source(
        id=id,
        metadata={"path": name, "folder": name.rpartition("/")[0]},
        read=read,
        name=name,
        root=root,
        earlier=other_id_of(path, prefix),
        rivals=rivals.get(id, frozenset()),
    )


def plan(root: Path, *, prefix: str = "", leave_out: Sequence[Path] = ()) -> Plan:
    """Walks `root` and plans its import. prefix: put before every id. Raises SourceError.

    Hidden and system files and folders are skipped, and `leave_out` wherever it lies: a catalogue is not a source of
    its own.
    """
    walk = _Walk(root, leave_out)
    walk.run()
    paths = sorted(walk.pictures, key=os.fsencode)
    bad = sorted(walk.bad, key=lambda row: row.path)
    return Plan(root, prefix, paths, bad, walk.ignored, walk.skipped, rivals(paths, prefix))


def read_file(file: str, max_bytes: int) -> bytes:
    """A file's bytes. Raises Unreadable, also where there are more than `max_bytes`.

    A table may name anything: a device has no end, and a pipe waits for somebody to write.
    """
    try:
        with open(file, "rb", buffering=0, opener=_at_once) as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Unreadable("cannot be read: it is a device or a pipe, and no file")
            if status.st_size > max_bytes:
                raise too_large(max_bytes)
            data = opened.read()
            if data is None or len(data) > max_bytes:  # of the kernel's own making, without a size
                raise Unreadable("cannot be read: it is no file with a picture in it")
            return data
    except OSError as error:
        slug = "not-found" if isinstance(error, FileNotFoundError) else "unreadable"
        raise Unreadable(f"cannot be read: {error.strerror or error}", slug) from None
    except ValueError:
        raise Unreadable("cannot be read: no file has such a name") from None


def _at_once(file: str, flags: int) -> int:
    """Opens without waiting for whoever is at the other end of a pipe."""
    return os.open(file, flags | os.O_NONBLOCK)


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
        self.skipped = 0
        there = [folder.stat() for folder in leave_out if folder.is_dir()]
        self._visited = {(status.st_dev, status.st_ino) for status in there}
        self._links: list[str] = []

    def run(self) -> None:
        try:
            if not self.root.is_dir():
                raise SourceError(
                    f"{self.root} is not a folder" if self.root.exists() else f"{self.root} does not exist"
                )
            os.scandir(self.root).close()
        except OSError as error:
            raise SourceError(f"{self.root}: {error.strerror or error}") from None
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
                    found = list(entries)
            except OSError as error:
                self.bad.append(Bad(readable(folder), f"folder cannot be read: {error.strerror or error}"))
                continue
            visible = [entry for entry in found if not is_system(entry.name)]
            self.skipped += len(found) - len(visible)
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
