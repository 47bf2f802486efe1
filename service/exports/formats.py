"""Formats: a collection's pages as the bytes of one file, piece by piece, so that none is ever whole in memory.

Metadata is JSON, so that every type comes back; in .csv its text is ASCII, which no spreadsheet reads wrongly.
A vector is a list of the shortest decimals that give the same float32 again.
"""

from __future__ import annotations

import csv
import io
import json
import re
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np
import orjson

from index.errors import ItemNotFound, StoreCorrupt
from index.items import Item, Vector

Pages = Iterator[tuple[list[Item], Vector | None]]  # items, and their vectors float32 (n, dim) where wanted
Original = Callable[[str], bytes]  # kept bytes by sha256

MANIFEST, LEFT_OUT = "catalogue.csv", "left-out.txt"
_MANIFEST_COLUMNS = ("id", "image", "metadata")
_EXTENSIONS = {"jpeg": "jpg"}
_IN_MEMORY = 2**20
_PIECE = 2**18
_OLDEST = (1980, 1, 1, 0, 0, 0)  # that a .zip can say


def csv_bytes(pages: Pages) -> Iterator[bytes]:
    """Columns `id`, `metadata` and, where wanted, `vector`; a row is one line.

    No cell can be a formula that does anything: metadata begins with `{`, a vector with `[`, and an id has none of the
    characters that a call, a link or a query needs.
    """
    header = True
    for items, vectors in pages:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if header:
            writer.writerow(["id", "metadata", *([] if vectors is None else ["vector"])])
            header = False
        for place, item in enumerate(items):
            cells = [item.id, _ascii(item)]
            writer.writerow(cells if vectors is None else [*cells, _numbers(vectors[place])])
        yield text.getvalue().encode()


def jsonl_bytes(pages: Pages) -> Iterator[bytes]:
    """Objects with `id`, `metadata` and, where wanted, `vector`."""
    for items, vectors in pages:
        lines = []
        for place, item in enumerate(items):
            row: dict[str, Any] = {"id": item.id, "metadata": item.metadata}
            if vectors is not None:
                row["vector"] = vectors[place]
            lines.append(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE))
        yield b"".join(lines)


def parquet_bytes(pages: Pages, *, dim: int, vectors: bool, told: dict[str, str]) -> Iterator[bytes]:
    """Columns `id`, `metadata` as JSON text and, where wanted, `vector`, a list of `dim` floats. told: of the file."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    fields = [arrow.field("id", arrow.string()), arrow.field("metadata", arrow.string())]
    if vectors:
        fields.append(arrow.field("vector", arrow.list_(arrow.float32(), dim)))
    schema = arrow.schema(fields, metadata=told)
    drain = Drain()
    with parquet.ParquetWriter(drain, schema, use_dictionary=False) as writer:
        for items, rows in pages:
            columns = [
                arrow.array([item.id for item in items], arrow.string()),
                arrow.array([orjson.dumps(item.metadata).decode() for item in items], arrow.string()),
            ]
            if rows is not None:
                flat = arrow.array(np.ascontiguousarray(rows).reshape(-1), arrow.float32())
                columns.append(arrow.FixedSizeListArray.from_arrays(flat, dim))
            writer.write_table(arrow.table(columns, schema=schema))
            yield drain.taken()
    yield drain.taken()


def zip_bytes(pages: Pages, original: Original) -> Iterator[bytes]:
    """The uploaded bytes of every picture, and a manifest that an import reads: `id`, `image`, `metadata`.

    Items of which no sound upload is kept are named in `left-out.txt`.
    """
    drain = Drain()
    now = max(_OLDEST, time.gmtime()[:6])
    left: list[str] = []
    with (
        zipfile.ZipFile(drain, "w", allowZip64=True) as archive,
        tempfile.SpooledTemporaryFile(_IN_MEMORY) as manifest,
    ):
        manifest.write(_row(_MANIFEST_COLUMNS))
        number = 0
        for items, _ in pages:
            for item in items:
                try:
                    data = original(item.media.sha256) if item.media is not None else None
                except (ItemNotFound, StoreCorrupt, OSError):
                    data = None
                if item.media is None or data is None:
                    left.append(item.id)
                    continue
                number += 1
                name = _name(number, item.id, item.media.format)
                archive.writestr(zipfile.ZipInfo(name, now), data)  # stored: pictures are compressed already
                manifest.write(_row((item.id, name, _ascii(item))))
                yield drain.taken()
        info = zipfile.ZipInfo(MANIFEST, now)
        info.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(info, "w", force_zip64=manifest.tell() > 2**30) as entry:
            yield from _copied(manifest, entry, drain)
        if left:
            archive.writestr(zipfile.ZipInfo(LEFT_OUT, now), "".join(f"{id}\n" for id in left))
    yield drain.taken()


class Drain(io.RawIOBase):
    """A file that is only written to, and from which what was written is taken as it comes."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._at += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._at

    def taken(self) -> bytes:
        """What was written since it was asked last."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def _copied(manifest: IO[bytes], entry: IO[bytes], drain: Drain) -> Iterator[bytes]:
    manifest.seek(0)
    while piece := manifest.read(_PIECE):
        entry.write(piece)
        yield drain.taken()


def _row(cells: tuple[str, ...]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _ascii(item: Item) -> str:
    return json.dumps(item.metadata, separators=(",", ":"))


def _numbers(vector: Vector) -> str:
    return orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _name(number: int, id: str, format: str) -> str:
    """Of a picture in an archive: apart on every file system, and led out of no folder by its id."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", id)[:60]
    ending = re.sub(r"[^a-z0-9]", "", _EXTENSIONS.get(format, format)) or "bin"
    return f"pictures/{number:07d}-{plain}.{ending}"
