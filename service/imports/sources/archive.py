"""An archive as a source: the pictures of a .zip or .tar(.gz, .bz2, .xz), read one by one and never unpacked to disk.

Nothing in an archive is believed: a path that leads out of it, a link, an encrypted or endless entry costs itself.
"""

from __future__ import annotations

import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from service.imports.sources import feed, table
from service.imports.sources.folder import PICTURE_SUFFIXES, looks_like_picture, source_of
from service.imports.sources.names import is_system, rivals, root_of
from service.imports.sources.source import BROKEN, Bad, Pictures, Source, SourceError, Unreadable, too_large
from service.text import readable

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MANIFEST = "catalogue.csv"


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


@dataclass(frozen=True, slots=True)
class ArchivePictures:
    """The pictures of an archive without a list of its own; ids and metadata come from their paths."""

    file: Path
    prefix: str
    entries: list[Entry]
    bad: list[Bad]
    ignored: int
    skipped: int
    close: Callable[[], None]

    @property
    def count(self) -> int:
        return len(self.entries)

    def sources(self) -> Iterator[Source]:
        root = root_of(self.file)
        shared = rivals([entry.path for entry in self.entries], self.prefix)
        for entry in self.entries:
            yield source_of(entry.path, self.prefix, entry.read, root, shared)


def open_archive(file: Path, *, prefix: str = "") -> Pictures:
    """Reads an archive's list of files. A `catalogue.csv`, or a single .csv or .jsonl, at its root is its manifest.

    Raises SourceError.
    """
    try:
        archive, listed = _zip(file) if file.suffix.lower() == ".zip" else _tar(file)
    except BROKEN as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"{readable(file)} cannot be read as an archive: {reason}") from None
    try:
        return _pictures(file, prefix, listed, archive.close)
    except BaseException:
        archive.close()
        raise


def _pictures(file: Path, prefix: str, listed: list[Entry | Bad], close: Callable[[], None]) -> Pictures:
    entries = [each for each in listed if isinstance(each, Entry)]
    bad = [each for each in listed if isinstance(each, Bad)]
    own = [entry for entry in entries if not any(is_system(part) for part in entry.path.split("/"))]
    skipped = len(entries) - len(own)
    if manifest := _manifest(own):
        known = {entry.path: entry.read for entry in own}
        try:
            return feed.open_list(
                manifest.path,
                manifest.open,
                partial(_of_archive, known),
                prefix=prefix,
                bad=bad,
                skipped=skipped,
                close=close,
            )
        except table.NotPictures:
            if manifest.path == MANIFEST:
                raise  # otherwise a table of something else, beside pictures
    pictures = [entry for entry in own if _is_picture(entry)]
    return ArchivePictures(file, prefix, pictures, bad, len(own) - len(pictures), skipped, close)


def _manifest(entries: list[Entry]) -> Entry | None:
    tables = [entry for entry in entries if "/" not in entry.path and entry.path.lower().endswith(table.SUFFIXES)]
    named = [entry for entry in tables if entry.path == MANIFEST]
    return named[0] if named else tables[0] if len(tables) == 1 else None


def _of_archive(known: Mapping[str, Callable[[int], bytes]], image: str) -> Callable[[int], bytes]:
    path = "/".join(part for part in image.replace("\\", "/").split("/") if part not in ("", "."))
    if path not in known:
        raise Unreadable(f"{image[:200]} is not in the archive", "not-found")
    return known[path]


def _is_picture(entry: Entry) -> bool:
    name = entry.path.rpartition("/")[2].lower()
    return f".{name.rpartition('.')[2]}" in PICTURE_SUFFIXES or looks_like_picture(entry.head())


def _path(name: str) -> str:
    """A name in an archive as a path below its root. Raises Unreadable for one that leads out of it."""
    plain = name.replace("\\", "/")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    if plain.startswith("/") or ".." in parts or plain[1:2] == ":" or not parts:
        raise Unreadable("its path leads out of the archive", "unsafe-entry")
    return "/".join(parts)


def _zip(file: Path) -> tuple[zipfile.ZipFile, list[Entry | Bad]]:
    archive = zipfile.ZipFile(file)
    return archive, list(_zip_entries(archive))


def _zip_entries(archive: zipfile.ZipFile) -> Iterator[Entry | Bad]:
    for info in archive.infolist():
        if info.is_dir():
            continue
        name = _zip_name(info)
        mode = info.external_attr >> 16
        try:
            path = _path(name)
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise Unreadable("is a link or a device, no file", "unsafe-entry")
            if info.flag_bits & 1:
                raise Unreadable("is encrypted", "encrypted")
        except Unreadable as error:
            yield Bad(readable(name), str(error), error.slug)
            continue
        yield Entry(path, info.file_size, partial(archive.open, info))


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name; where its encoding is not said it is UTF-8 if it can be, as most programs write it."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _tar(file: Path) -> tuple[tarfile.TarFile, list[Entry | Bad]]:
    archive = tarfile.open(file, errors="surrogateescape")  # noqa: SIM115 (entries are read from it later)
    try:
        return archive, list(_tar_entries(archive))
    except BaseException:
        archive.close()
        raise


def _tar_entries(archive: tarfile.TarFile) -> Iterator[Entry | Bad]:
    for member in archive:
        if member.isdir():
            continue
        try:
            path = _path(member.name)
            if not member.isfile():
                raise Unreadable("is a link or a device, no file", "unsafe-entry")
        except Unreadable as error:
            yield Bad(readable(member.name), str(error), error.slug)
            continue
        yield Entry(path, member.size, partial(_member, archive, member))


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    opened = archive.extractfile(member)
    if opened is None:
        raise tarfile.ReadError("is no file")
    return opened
