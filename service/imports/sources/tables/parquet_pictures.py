"""A parquet file of pictures: a column `image` and no `vector`; the other columns become metadata with their types.

`image` is bytes, text as in a table (a path, an address, a data URI), or a struct of `bytes` and `path` as Hugging
Face's datasets write it. Without a column `id` a row is called by its file and its number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from service.imports.sources.names import id_of
from service.imports.sources.rows import Fault, refused
from service.imports.sources.source import Bad, Source, SourceError
from service.imports.sources.tables.image_cell import Resolve
from service.imports.sources.tables.table import source_of_row
from service.strict_json import JsonRefused, loads
from service.text import readable

# Rows that are in memory at once, with their pictures.
ROWS = 16


@dataclass(frozen=True, slots=True)
class ParquetPictures:
    """The rows of a file, those of a group that cannot be read among them. groups: rows of each."""

    file: Path
    resolve: Resolve
    prefix: str
    groups: list[int]
    bad: list[Bad] = field(default_factory=list)
    ignored: int = 0
    skipped: int = 0

    @property
    def count(self) -> int:
        return sum(self.groups)

    def close(self) -> None:
        return None

    def sources(self) -> Iterator[Source]:
        start, name = 0, readable(self.file.name)
        for group, count in enumerate(self.groups):
            done = 0
            try:
                for row in _rows(self.file, group):
                    where = f"{name} row {start + done}"
                    yield replace(self._source(row, start + done, where), row=start + done)
                    done += 1
            except _Damaged as error:
                for number in range(start + done, start + count):
                    yield replace(refused(Fault(str(error), "unreadable"), f"{name} row {number}"), row=number)
            start += count

    def _source(self, row: dict[str, Any], number: int, where: str) -> Source:
        if "id" not in row:
            named = id_of(f"{self.file.stem}/{number}", self.prefix)
            return source_of_row({**_plain(row), "id": named}, where, "", self.resolve)
        if isinstance(row["id"], bytes):
            row["id"] = row["id"].decode("utf-8", "replace")
        if isinstance(row.get("metadata"), str):
            try:
                row["metadata"] = loads(row["metadata"])
            except JsonRefused as error:
                return refused(Fault(f"the metadata is {error}", "invalid-metadata"), where, str(row["id"] or ""))
        return source_of_row(_plain(row), where, self.prefix, self.resolve)


class _Damaged(Exception):
    """A group of rows that cannot be read. One line: why."""


def is_picture_file(file: Path) -> bool:
    """Whether it has a column `image` and no `vector`; what is no parquet file has not."""
    try:
        names = _schema(file)[0].names
    except (SourceError, OSError):
        return False
    return "image" in names and "vector" not in names


def open_parquet_pictures(file: Path, resolve: Resolve, *, prefix: str = "") -> ParquetPictures:
    """Reads what columns a file has. Raises SourceError."""
    name = readable(file)
    try:
        schema, groups = _schema(file)
    except OSError as error:
        raise SourceError(f"{name} cannot be read: {error.strerror or error}") from None
    if len(set(schema.names)) < len(schema.names):
        raise SourceError(f"{name} has two columns of one name: {', '.join(schema.names)[:200]}")
    if "image" not in schema.names:
        raise SourceError(f"{name} has no column `image` (it has {', '.join(schema.names[:8])[:200] or 'none'})")
    if not _may_be_picture(schema.field("image").type):
        raise SourceError(
            f"{name}: the column `image` must be bytes, text or a struct of `bytes` and `path`, "
            f"it is {str(schema.field('image').type)[:100]}"
        )
    for column in schema:
        if column.name not in ("id", "image") and _holds_bytes(column.type):
            raise SourceError(f"{name}: the column `{column.name}` holds bytes, which are no metadata: leave it out")
    return ParquetPictures(file, resolve, prefix, groups)


def _schema(file: Path) -> tuple[Any, list[int]]:
    """Columns, and rows of each group. Raises SourceError, OSError."""
    import pyarrow as arrow  # takes a third of a second, which other imports need not wait for
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(file) as opened:
            about = opened.metadata
            return opened.schema_arrow, [about.row_group(each).num_rows for each in range(about.num_row_groups)]
    except arrow.ArrowException as error:
        raise SourceError(f"{readable(file)} is no parquet file ({' '.join(str(error).split())})") from None


def _rows(file: Path, group: int) -> Iterator[dict[str, Any]]:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    # Told apart from what the caller raises between two rows: nothing is yielded inside.
    try:
        opened = parquet.ParquetFile(file)
    except (arrow.ArrowException, OSError) as error:
        raise _Damaged(_reason(error)) from None
    with opened:
        batches = opened.iter_batches(ROWS, row_groups=[group], use_threads=False)
        while True:
            try:
                batch = next(batches, None)
                rows = [] if batch is None else batch.to_pylist()
            except (arrow.ArrowException, OSError, ValueError) as error:
                raise _Damaged(_reason(error)) from None
            if batch is None:
                return
            yield from rows


def _reason(error: Exception) -> str:
    return f"its group of rows cannot be read ({' '.join(str(error).split())[:200]})"


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its picture as bytes, or as the text that names it."""
    image = row.get("image")
    if isinstance(image, dict):
        row["image"] = image.get("bytes") or image.get("path")
    return row


def _may_be_picture(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        return _may_be_picture(kind.value_type)
    if types.is_struct(kind):
        named = {kind.field(each).name: kind.field(each).type for each in range(kind.num_fields)}
        return bool(named.keys() & {"bytes", "path"}) and all(
            _may_be_picture(named[name]) and not types.is_struct(named[name])
            for name in ("bytes", "path")
            if name in named
        )
    return types.is_null(kind) or _is_bytes(kind) or _is_text(kind)


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return any(is_kind(kind) for is_kind in (types.is_string, types.is_large_string, types.is_string_view))


def _is_bytes(kind: Any) -> bool:
    from pyarrow import types

    kinds = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return any(is_kind(kind) for is_kind in kinds)


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    return _is_bytes(kind) or any(_holds_bytes(kind.field(each).type) for each in range(kind.num_fields))
