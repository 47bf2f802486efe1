"""Known pairs: a table of pictures and of what each should find, an item by its id or any with its label."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from service.quality.conformal import Scores
from service.quality.shares import Share, share

MAX_PAIRS = 100_000
MAX_CELL = 4096  # characters of a path, an id or a label
PICTURE = ("image", "picture", "path", "file", "filename", "query")
_SEPARATORS = ",;\t"


class PairsRefused(Exception):
    """The table cannot be read. One line: where, and what is missing."""


@dataclass(frozen=True, slots=True)
class Pair:
    """picture: its path in the archive. id, label: what it should find; one of them is empty."""

    picture: str
    id: str
    label: str


@dataclass(frozen=True, slots=True)
class Genuine:
    """A picture that has a match. score: of the nearest item; right: whether that is the one it should find."""

    name: str
    score: float
    right: bool


@dataclass(frozen=True, slots=True)
class Point:
    """A threshold with what it keeps of the genuine queries and accepts of the strangers."""

    score_threshold: float
    kept: Share
    false_accepts: Share


def read_pairs(data: bytes) -> list[Pair]:
    """From a table with a header: one column of PICTURE, and `id` or `label`. Raises PairsRefused."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PairsRefused("pairs: the table is no UTF-8; save it as CSV UTF-8") from None
    head = text.partition("\n")[0]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=max(_SEPARATORS, key=head.count))
    found: dict[str, Pair] = {}
    try:
        header = [cell.strip().lower() for cell in next(rows, [])]
        picture = next((header.index(name) for name in PICTURE if name in header), None)
        columns = {name: header.index(name) for name in ("id", "label") if name in header}
        if picture is None or not columns:
            raise PairsRefused("pairs: the first line must name a column image and a column id or label")
        for row in rows:
            # Checked here: the csv module's own limit is one for the whole process, and tables of pictures raise it.
            if any(len(cell) > MAX_CELL for cell in row):
                raise csv.Error(f"a cell has more than {MAX_CELL:,} characters")
            if not any(cell.strip() for cell in row):
                continue
            cells = {name: row[at].strip() if at < len(row) else "" for name, at in columns.items()}
            path = row[picture].strip() if picture < len(row) else ""
            id, label = cells.get("id", ""), cells.get("label", "")
            if not path or not (id or label):
                raise PairsRefused(f"pairs: line {rows.line_num} lacks the picture or what it should find")
            pair = Pair(normal(path), id, "" if id else label)
            if found.setdefault(pair.picture, pair) != pair:
                raise PairsRefused(f"pairs: line {rows.line_num} says something else of {pair.picture[:100]}")
            if len(found) > MAX_PAIRS:
                raise PairsRefused(f"pairs: more than {MAX_PAIRS:,} lines")
    except csv.Error as error:
        raise PairsRefused(f"pairs: line {rows.line_num} cannot be read: {error}") from None
    if not found:
        raise PairsRefused("pairs: the table has no line beside its header")
    return list(found.values())


def normal(path: str) -> str:
    """A path as archives name it."""
    return str(PurePosixPath(path.replace("\\", "/")))


def recommended(genuine: Scores, strangers: Scores) -> Point | None:
    """Where the share kept less the share accepted is largest, the highest such threshold; None without both.

    genuine, strangers: (n,) best scores. (W. Youden, Cancer 3, 1950: both errors cost the same.)
    """
    if not len(genuine) or not len(strangers):
        return None
    own, other = np.sort(genuine), np.sort(strangers)
    every = np.unique(own)  # between two genuine scores only strangers are gained
    kept = len(own) - np.searchsorted(own, every)
    accepted = len(other) - np.searchsorted(other, every)
    gain = kept / len(own) - accepted / len(other)
    best = len(every) - 1 - int(np.argmax(gain[::-1]))
    return Point(float(every[best]), share(int(kept[best]), len(own)), share(int(accepted[best]), len(other)))


def scores_of(genuine: Sequence[Genuine]) -> Scores:
    """float32 (n,)."""
    return np.array([each.score for each in genuine], np.float32)
