"""A table of pictures as a source: .csv or .jsonl with the columns `id` and `image`; the others become metadata.

`image` is a path beside the table (or in its archive), an http(s) address or a data URI. Numbers of a .csv become
numbers, empty cells are left out, and a column `metadata` holds more of it as a JSON object, whose types all stay: an
export writes `COLUMNS`. A bad row costs itself.
"""

from __future__ import annotations

import base64
import binascii
import csv
import gzip
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import unquote_to_bytes

from index.limits import ID, ID_RULE
from service.imports.sources.folder import read_file
from service.imports.sources.lines import LONGEST_ROW, WRONG_BYTES, Lines
from service.imports.sources.rows import Fault, described
from service.imports.sources.source import BROKEN, Bad, Source, SourceError, Unreadable, too_large
from service.strict_json import JsonRefused, loads
from service.text import encoding_of

SUFFIXES = (".csv", ".tsv", ".jsonl", ".csv.gz", ".tsv.gz", ".jsonl.gz")
# What an export writes, .csv, .jsonl and .parquet alike, and an import takes without loss: `metadata` is all of an
# item's as a JSON object (in .csv and .parquet as text), so that no type is guessed.
COLUMNS = ("id", "image", "metadata")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,15})?")

R = TypeVar("R")
Resolve = Callable[[str], Callable[[int], bytes]]


class NotPictures(SourceError):
    """A table that lacks a column for ids or pictures. header: the columns that it has."""

    def __init__(self, message: str, header: Sequence[str]) -> None:
        super().__init__(message)
        self.header = header


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


def beside(file: Path, *, uploaded: bool) -> Resolve:
    """What paths in a table name: files beside it, or nothing where it is `uploaded`."""
    return _nowhere if uploaded else partial(_beside, file.parent)


def _beside(folder: Path, image: str) -> Callable[[int], bytes]:
    return partial(read_file, str(folder / image))


def _nowhere(image: str) -> Callable[[int], bytes]:
    raise Unreadable("the table came without pictures: send both in one .zip, or name addresses", "not-found")


def pictured(source: Source, image: str | bytes, resolve: Resolve) -> Source:
    """A source whose picture is what a cell holds, or names. Raises Unreadable."""
    if isinstance(image, bytes):
        return replace(source, read=partial(_held, image))
    if image[:5].lower() == "data:":
        return replace(source, read=_embedded(image))
    if re.match(r"https?://", image, re.IGNORECASE):
        return replace(source, url=image)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", image):
        raise Unreadable("pictures are fetched from http and https addresses alone", "url-refused")
    return replace(source, read=resolve(image))


def unread(max_bytes: int) -> bytes:
    """Reads what has to be fetched and is not. Raises Unreadable."""
    raise Unreadable("pictures are fetched from addresses only with LOOKALIKE_FETCH_URLS=true", "url-refused")


def refused(fault: Fault, where: str, id: str = "") -> Source:
    """A source that cannot be read, so that it is counted and reported in its place."""
    return Source(id, {}, partial(_refused, fault), where)


def _embedded(uri: str) -> Callable[[int], bytes]:
    head, comma, body = uri.partition(",")
    if not comma:
        raise Unreadable("the data URI has no comma")

    def read(max_bytes: int) -> bytes:
        try:
            data = unquote_to_bytes(body)
            data = base64.b64decode(data, validate=True) if head.lower().endswith(";base64") else data
        except binascii.Error as error:
            raise Unreadable(f"the data URI is no base64 ({error})") from None
        return _held(data, max_bytes)

    return read


def _held(data: bytes, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        raise too_large(max_bytes)
    return data


def _refused(fault: Fault, max_bytes: int) -> bytes:
    raise Unreadable(fault.reason, fault.slug)


def rows(
    name: str, open: Callable[[], IO[bytes]], needed: Sequence[str] = ("id", "image")
) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    """Line and content of every row, the columns of a .csv in their types. needed: of these. Raises SourceError."""
    of_json = name.lower().removesuffix(".gz").endswith(".jsonl")
    yield from _whole(name, open, _json_rows if of_json else lambda text: _csv_rows(name, text, needed, _typed))


def cells(name: str, open: Callable[[], IO[bytes]]) -> Iterator[tuple[int, dict[str, list[str]] | Fault]]:
    """Line and cells of every row of a .csv as they stand there. Raises SourceError."""

    def plain(row: dict[str, str]) -> dict[str, list[str]]:
        return {title: [cell] for title, cell in row.items()}

    yield from _whole(name, open, lambda text: _csv_rows(name, text, (), plain))


def _whole(
    name: str, open: Callable[[], IO[bytes]], read: Callable[[io.TextIOWrapper], Iterator[tuple[int, R | Fault]]]
) -> Iterator[tuple[int, R | Fault]]:
    """What `read` makes of a file's text; what cannot be read behind a row is the last one's fault."""
    line = 0
    try:
        for line, row in _decoded(name, open, read):
            yield line, row
    except SourceError as error:
        if not line or isinstance(error, NotPictures):
            raise
        yield line + 1, Fault(f"from here on, {error}", "cut-off")


def _decoded(
    name: str, open: Callable[[], IO[bytes]], read: Callable[[io.TextIOWrapper], Iterator[tuple[int, R | Fault]]]
) -> Iterator[tuple[int, R | Fault]]:
    def unpacked(file: IO[bytes]) -> IO[bytes]:
        return gzip.GzipFile(fileobj=file) if name.lower().endswith(".gz") else file  # type: ignore[return-value]

    try:
        with open() as file:
            encoding = encoding_of(unpacked(file).read(4))
        # A wrong byte is its row's fault; UTF-16 behind one cannot be trusted.
        errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
        with open() as file, io.TextIOWrapper(unpacked(file), encoding=encoding, errors=errors, newline="") as text:
            yield from read(text)
    except UnicodeError:
        raise SourceError(f"{name} is no text in UTF-8, or in UTF-16 with its mark: save it as UTF-8") from None
    except csv.Error as error:
        raise SourceError(f"{name} is no table ({error})") from None
    except BROKEN as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise SourceError(f"{name} cannot be read: {reason}") from None


def _json_rows(text: io.TextIOWrapper) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    text.reconfigure(newline=None)
    lines = Lines(text)
    for line, row in enumerate(lines, 1):
        wrong = lines.wrong
        lines.begin()
        if not row.strip():
            continue
        if wrong:
            yield line, WRONG_BYTES
            continue
        try:
            value = loads(row)
        except JsonRefused as error:
            yield line, Fault(str(error))
            continue
        yield line, value if isinstance(value, dict) else Fault("must be a JSON object")


def _csv_rows(
    name: str, text: io.TextIOWrapper, needed: Sequence[str], made: Callable[[dict[str, str]], R | Fault]
) -> Iterator[tuple[int, R | Fault]]:
    csv.field_size_limit(LONGEST_ROW)
    first = text.readline(2**16)
    text.seek(0)
    delimiter = max(",;\t", key=first.count)
    lines = Lines(text)
    reader = csv.reader(lines, delimiter=delimiter, strict=False)
    header = [title.strip() for title in next(reader, [])]
    if lines.wrong:
        raise SourceError(f"{name} {WRONG_BYTES.reason}")
    lines.begin()
    for column in needed:
        if column not in header:
            raise NotPictures(
                f"{name} has no column `{column}` (it has {', '.join(header[:8])[:200] or 'none'})", header
            )
    if len(set(header)) < len(header):
        raise SourceError(f"{name} has two columns of one name: {', '.join(header)[:200]}")
    before = reader.line_num
    for cells in reader:
        line, before = before + 1, reader.line_num
        wrong = lines.wrong
        lines.begin()
        if lines.ended:  # the reader asks for a line behind the last one, in a row, only to find the end of quotes
            yield line, Fault("the table ends inside quotes that this row begins", "cut-off")
            return
        if not any(cells):
            continue
        if wrong:
            yield line, WRONG_BYTES
            continue
        if len(cells) > len(header):
            yield line, Fault(f"has {len(cells)} cells for {len(header)} columns")
            continue
        yield line, made(dict(zip(header, cells, strict=False)))


def _typed(cells: dict[str, str]) -> dict[str, Any] | Fault:
    row: dict[str, Any] = {}
    for title, cell in cells.items():
        if title in ("id", "image"):
            row[title] = cell.strip()
        elif title == "metadata" and cell.lstrip().startswith("{"):
            try:
                row[title] = loads(cell)
            except JsonRefused as error:
                return Fault(f"the column metadata is {error}", "invalid-metadata")
        elif cell and title:
            number = _NUMBER.fullmatch(cell)
            row[title] = (float(cell) if "." in cell else int(cell)) if number else cell
    return row
