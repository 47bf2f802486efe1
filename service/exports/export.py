"""An export: a collection as one file that an import makes the same collection of again.

Items come in the order of their ids, some hundred at a time, each page as of one moment: what is written meanwhile is
in the file or not, item by item, and none is in it twice or half. A snapshot is the copy of one moment.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from index.filters import Filter
from index.items import Item, Vector
from index.types import Catalogue, Collection
from service.errors import InvalidRequest
from service.exports import formats

Format = Literal["csv", "jsonl", "parquet", "zip"]
FORMATS: tuple[Format, ...] = get_args(Format)
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Written:
    """What a finished file holds. left_out: ids of a .zip's items of which no upload is kept."""

    items: int
    left_out: list[str]


def format_of(file: Path) -> Format:
    """By the end of a file's name. Raises InvalidRequest."""
    for format in FORMATS:
        if file.name.lower().endswith(f".{format}"):
            return format
    raise InvalidRequest("out", f"the name must end in one of {', '.join('.' + each for each in FORMATS)}")


def pieces(
    catalogue: Catalogue, name: str, format: Format, *, vectors: bool = True, filter: Filter | None = None
) -> Iterator[bytes]:
    """The bytes of the file, made while they are taken; blocks.

    vectors: as numbers; a .zip has the pictures instead. Raises CollectionNotFound at once; InvalidRequest with the
    first piece; while it goes on, StoreError.
    """
    collection = catalogue.get(name)
    vectors = vectors and format != "zip"
    pages = _pages(collection, vectors, filter)
    match format:
        case "csv":
            return formats.csv_bytes(pages)
        case "jsonl":
            return formats.jsonl_bytes(pages)
        case "parquet":
            told = {"lookalike.model": collection.model, "lookalike.fingerprint": collection.fingerprint}
            return formats.parquet_bytes(pages, dim=collection.dim, vectors=vectors, told=told)
        case "zip":
            return formats.zip_bytes(pages, catalogue.original)


def _pages(collection: Collection, vectors: bool, filter: Filter | None) -> Iterator[tuple[list[Item], Vector | None]]:
    cursor: str | None = None
    while True:
        rows: Vector | None = None
        if vectors:
            page, rows = collection.scan_vectors(limit=_PAGE, cursor=cursor, filter=filter)
        else:
            page = collection.scan(limit=_PAGE, cursor=cursor, filter=filter)
        yield page.items, rows
        cursor = page.next_cursor
        if cursor is None:
            return


class Output:
    """A file that has its name once it is whole: written beside, flushed to disk, renamed. Use it in a `with`."""

    def __init__(self, file: Path) -> None:
        """Raises OSError."""
        self._file = file
        handle, name = tempfile.mkstemp(prefix=f".{file.name[:64]}-", dir=file.parent)
        self._part = Path(name)
        self._open = os.fdopen(handle, "wb")

    def __enter__(self) -> Output:
        return self

    def write(self, data: bytes) -> None:
        self._open.write(data)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._open.flush()
                os.fchmod(self._open.fileno(), 0o666 & ~_umask())
                os.fsync(self._open.fileno())
            self._open.close()
            if kind is None:
                self._part.replace(self._file)
        finally:
            with suppress(OSError):
                self._open.close()
            self._part.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def counted(file: Path, format: Format) -> Written:
    """What is in a file that was written here."""
    match format:
        case "parquet":
            import pyarrow.parquet as parquet

            return Written(parquet.read_metadata(file).num_rows, [])
        case "zip":
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
                left = archive.read(formats.LEFT_OUT).decode().split() if formats.LEFT_OUT in names else []
            return Written(sum(name.startswith("pictures/") for name in names), left)
        case _:
            with file.open("rb") as lines:
                return Written(sum(1 for _ in lines) - (format == "csv"), [])
