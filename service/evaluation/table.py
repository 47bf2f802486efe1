"""Queries of an evaluation: a table of pictures and of what each should find, read row by row; a bad row costs itself.

A column `image` (a path beside the table), and `label` or the metadata key's own name, or `id` of the item. A row that
names neither is a stranger: a picture without a match.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from service.imports.sources.opening import open_pictures
from service.imports.sources.rows import Fault
from service.imports.sources.source import Source, SourceError, Unreadable
from service.imports.sources.tables.image_cell import beside, pictured, unread
from service.imports.sources.tables.table import SUFFIXES
from service.imports.sources.tables.text_rows import rows
from service.quality.pairs import PICTURE, normal
from service.text import readable

By = Literal["label", "id"]

MAX_QUERIES = 100_000
_DECIMAL = re.compile(r"-?[0-9]+\.[0-9]+")


@dataclass(frozen=True, slots=True)
class Query:
    """name: the picture, as a person finds it. read: as of `Source`. wanted: label or id; empty: a stranger."""

    name: str
    read: Callable[[int], bytes]
    wanted: str = ""


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is left out of an evaluation, or a person should know of it. what: a picture, a row, a column, a label."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Queries:
    """by: what `wanted` is. name: of the table's column that says it."""

    by: By
    column: str
    queries: list[Query]
    complaints: list[Complaint] = field(default_factory=list)


def read_queries(path: Path, key: str, by: By | None = None) -> Queries:
    """The queries of a table. key: the metadata key of labels; by: what decides, where a table has both.

    Without it labels do: a table of queries often has ids of its own. Raises SourceError.
    """
    if not path.name.lower().endswith(SUFFIXES):
        raise SourceError(f"{readable(path)} is no table of queries ({', '.join(SUFFIXES)})")
    found = list(_rows(path))
    titles = list(dict.fromkeys(title for _, row in found if not isinstance(row, Fault) for title in row))
    titles = list(dict.fromkeys([*_header(path), *titles]))
    picture = next((title for title in PICTURE if title in titles), None)
    if picture is None:
        raise SourceError(f"{readable(path.name)} has no column image (it has {_listed(titles)})")
    label = next((title for title in (key.lower(), "label") if title in titles), None)
    if label is None and "metadata" in titles:
        label = "metadata"
    chosen = label if by == "label" else "id" if by == "id" else label or "id"
    if chosen is None or chosen not in titles:
        asked = f"a column {by}" if by else f"a column label (or {key}) or id"
        raise SourceError(f"{readable(path.name)} has no {asked.removeprefix('a ')} (it has {_listed(titles)})")
    made = Queries("id" if chosen == "id" else "label", chosen, [])
    unused = [title for title in titles if title not in (picture, chosen)]
    if unused:
        made.complaints.append(Complaint(f"column{'s' * (len(unused) > 1)} {_listed(unused)}", "not used"))
    resolve = beside(path, uploaded=False)
    for line, row in found:
        where = f"{readable(path.name)} line {line}"
        query = row if isinstance(row, Fault) else _query(row, where, picture, chosen, key, resolve)
        if isinstance(query, Fault):
            made.complaints.append(Complaint(where, query.reason))
        else:
            made.queries.append(query)
    if len(made.queries) > MAX_QUERIES:
        raise SourceError(f"{readable(path.name)} has more than {MAX_QUERIES:,} queries")
    return made


def read_strangers(path: Path) -> tuple[list[Query], list[Complaint]]:
    """Pictures without a match: a folder, an archive or a table of pictures. Raises SourceError."""
    opened = open_pictures(path)
    bad = [Complaint(each.path, each.reason) for each in opened.bad]
    if not opened.count:
        raise SourceError(f"{readable(path)} has no picture in it")
    return [Query(each.name, _reader(each)) for each in opened.sources()], bad


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    for line, row in rows(readable(path.name), lambda: path.open("rb"), needed=()):
        yield line, row if isinstance(row, Fault) else {title.lower(): value for title, value in row.items()}


def _header(path: Path) -> list[str]:
    """The columns of a table, whether or not a row has something there; nothing of a .jsonl."""
    from service.imports.sources.tables.text_rows import NotPictures

    try:
        next(rows(readable(path.name), lambda: path.open("rb"), needed=("\n",)), None)
    except NotPictures as told:  # no column is called so
        return [title.lower() for title in told.header if title]
    return []


def _query(
    row: Mapping[str, Any],
    where: str,
    picture: str,
    chosen: str,
    key: str,
    resolve: Callable[[str], Callable[[int], bytes]],
) -> Query | Fault:
    cell = row.get(picture)
    if cell in (None, ""):
        return Fault("names no picture")
    wanted = row.get(chosen)
    if chosen == "metadata":
        wanted = wanted.get(key) if isinstance(wanted, dict) else None
    image = str(cell).strip()
    try:
        source = pictured(Source("", {}, unread, where), image if _foreign(image) else normal(image), resolve)
    except Unreadable as error:
        return Fault(str(error))
    if source.url:
        return Fault("an address; only files are evaluated: download it first")
    return Query(where if image[:5].lower() == "data:" else image, source.read, as_label(wanted))


def as_label(value: Any) -> str:
    """A cell or a metadata value as it is compared; "" for none. Tables and JSON write one number in several ways."""
    if isinstance(value, bool):
        return str(value).lower()
    text = "" if value is None else str(value).strip()
    return text.rstrip("0").rstrip(".") if _DECIMAL.fullmatch(text) else text


def _foreign(image: str) -> bool:
    return image[:5].lower() == "data:" or "://" in image


def _reader(source: Source) -> Callable[[int], bytes]:
    def read(max_bytes: int) -> bytes:
        if source.url:
            raise Unreadable("an address; only files are evaluated: download it first")
        return source.read(max_bytes)

    return read


def _listed(titles: list[str]) -> str:
    return ", ".join(titles[:8])[:200] + (", …" if len(titles) > 8 else "") or "none"
