"""A table of pictures as a source: .csv or .jsonl with the columns `id` and `image`; the others become metadata.

`image` is a path beside the table (or in its archive), an http(s) address or a data URI. Numbers of a .csv become
numbers, empty cells are left out, and a column `metadata` holds more of it as a JSON object, whose types all stay: an
export writes `COLUMNS`. A bad row costs itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import IO, Any

from index.limits import ID, ID_RULE
from service.imports.sources.rows import Fault, described, refused
from service.imports.sources.source import Bad, Source, Unreadable
from service.imports.sources.tables.image_cell import Resolve, pictured, unread
from service.imports.sources.tables.text_rows import rows

SUFFIXES = (".csv", ".tsv", ".jsonl", ".csv.gz", ".tsv.gz", ".jsonl.gz")
# What an export writes, .csv, .jsonl and .parquet alike, and an import takes without loss: `metadata` is all of an
# item's as a JSON object (in .csv and .parquet as text), so that no type is guessed.
COLUMNS = ("id", "image", "metadata")


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a table. name: of its file; open: its bytes; resolve: what `image` names, raising Unreadable."""

    name: str
    open: Callable[[], IO[bytes]]
    resolve: Resolve
    prefix: str
    count: int
    bad: list[Bad]
    ignored: int
    skipped: int
    close: Callable[[], None]

    def sources(self) -> Iterator[Source]:
        for line, row in rows(self.name, self.open):
            where = f"{self.name} line {line}"
            if isinstance(row, Fault):
                yield replace(refused(row, where), row=line)
            else:
                yield replace(source_of_row(row, where, self.prefix, self.resolve), row=line)


def source_of_row(row: dict[str, Any], where: str, prefix: str, resolve: Resolve) -> Source:
    """The source of a row, which is used up: `id`, `image` (what `pictured` takes), `metadata`; the others join it."""
    id, image = row.pop("id", None), row.pop("image", None)
    id = str(id) if isinstance(id, int) and not isinstance(id, bool) else id
    if not isinstance(id, str) or not id:
        return refused(Fault("has no id", "invalid-id"), where)
    if not isinstance(image, str | bytes) or not image:
        return refused(Fault("has no image", "missing-image"), where, id)
    id = f"{prefix}:{id}" if prefix else id
    if not ID.fullmatch(id):
        return refused(Fault(f"{id[:60]!r} is no id, which is {ID_RULE}", "invalid-id"), where)
    more = row.pop("metadata", None)
    if isinstance(more, dict):
        row = {**more, **row}
    elif more is not None:
        row["metadata"] = more
    found = described(id, row)
    if isinstance(found, Fault):
        return refused(found, where, id)
    try:
        return pictured(Source(id, found.metadata, unread, where), image, resolve)
    except Unreadable as error:
        return refused(Fault(str(error), error.slug), where, id)


def open_table(
    name: str,
    open: Callable[[], IO[bytes]],
    resolve: Resolve,
    *,
    prefix: str = "",
    bad: list[Bad] | None = None,
    ignored: int = 0,
    skipped: int = 0,
    close: Callable[[], None] = lambda: None,
) -> Table:
    """Reads a table once through, to know that it is one and how many rows it has. Raises SourceError."""
    count = sum(1 for _ in rows(name, open))
    return Table(name, open, resolve, prefix, count, bad or [], ignored, skipped, close)
