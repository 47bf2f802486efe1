"""An archive as a source: the pictures of a .zip or .tar(.gz, .bz2, .xz), read one by one and never unpacked to disk.

Nothing in an archive is believed: a path that leads out of it, a link, an encrypted or endless entry costs itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from service.imports.sources.archives.entries import Entry
from service.imports.sources.archives.tar_entries import open_tar
from service.imports.sources.archives.zip_entries import open_zip
from service.imports.sources.feeds import feed
from service.imports.sources.folder import PICTURE_SUFFIXES, looks_like_picture, source_of
from service.imports.sources.names import is_system, rivals, root_of
from service.imports.sources.source import BROKEN, Bad, Pictures, Source, SourceError, Unreadable
from service.imports.sources.tables import table
from service.imports.sources.tables.text_rows import NotPictures
from service.text import readable

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MANIFEST = "catalogue.csv"


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
        close, listed = open_zip(file) if file.suffix.lower() == ".zip" else open_tar(file)
    except BROKEN as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"{readable(file)} cannot be read as an archive: {reason}") from None
    try:
        return _pictures(file, prefix, listed, close)
    except BaseException:
        close()
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
        except NotPictures:
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
