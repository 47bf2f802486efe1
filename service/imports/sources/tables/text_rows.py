"""The rows of a table in text: .csv, .tsv or .jsonl, gzipped or not, in whatever encoding its mark or first bytes say.

A bad row costs itself; what cannot be read behind a row is told in its place, as cut off.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, TypeVar

from service.imports.sources.rows import Fault
from service.imports.sources.source import BROKEN, SourceError
from service.imports.sources.tables.lines import LONGEST_ROW, WRONG_BYTES, Lines
from service.strict_json import JsonRefused, loads
from service.text import encoding_of

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,15})?")

R = TypeVar("R")


class NotPictures(SourceError):
    """A table that lacks a column for ids or pictures. header: the columns that it has."""

    def __init__(self, message: str, header: Sequence[str]) -> None:
        super().__init__(message)
        self.header = header


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
