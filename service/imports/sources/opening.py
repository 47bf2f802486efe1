"""Which source a path is: a folder, an archive or a table of pictures, by what it is and how its name ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from service.imports.sources import folder
from service.imports.sources.archives import archive
from service.imports.sources.feeds import feed, feed_xml
from service.imports.sources.source import Pictures, SourceError
from service.imports.sources.tables import parquet_pictures, table
from service.imports.sources.tables.image_cell import beside
from service.imports.sources.vectors import vector_table
from service.text import readable

# What files to import are called. A .parquet may also have pictures.
VECTORS = (".npy", ".parquet")
SUFFIXES = (*archive.SUFFIXES, *table.SUFFIXES, *feed_xml.SUFFIXES, *VECTORS)


def holds_vectors(path: Path) -> bool:
    """Whether a file brings ready vectors (`vectors.open_vectors`) instead of pictures."""
    if path.is_dir():
        return False
    if path.suffix.lower() == ".parquet":
        return not parquet_pictures.is_picture_file(path)
    return path.suffix.lower() in VECTORS or vector_table.is_vector_table(path)


def open_pictures(path: Path, *, prefix: str = "", leave_out: Sequence[Path] = (), uploaded: bool = False) -> Pictures:
    """The pictures at a path. prefix: put before every id; leave_out: folders that are passed over.

    uploaded: somebody else sent the file, so that paths in a table name nothing of this machine. Raises SourceError.
    """
    name = path.name.lower()
    if path.is_file():
        if name.endswith(archive.SUFFIXES):
            return archive.open_archive(path, prefix=prefix)
        if name.endswith((*table.SUFFIXES, *feed_xml.SUFFIXES)):
            return feed.open_list(
                readable(path.name), lambda: path.open("rb"), beside(path, uploaded=uploaded), prefix=prefix
            )
        if name.endswith(".parquet"):
            resolve = beside(path, uploaded=uploaded)
            return parquet_pictures.open_parquet_pictures(path, resolve, prefix=prefix)
        kinds = ", ".join((*archive.SUFFIXES, *table.SUFFIXES, *feed_xml.SUFFIXES))
        raise SourceError(f"{readable(path)} is no folder, no pictures ({kinds}) and no vectors (.npy, .parquet)")
    return folder.plan(path, prefix=prefix, leave_out=leave_out)
