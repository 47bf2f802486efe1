"""A table of ready vectors, as an export writes it: .csv or .jsonl with columns `id` and `vector`, a list of numbers.

`metadata` is a JSON object, and other columns join it, as in a table of pictures. A table that has a column `image` is
one of pictures, whatever else it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.imports.sources.rows import Fault, Row, described
from service.imports.sources.source import SourceError
from service.imports.sources.tables.table import SUFFIXES
from service.imports.sources.tables.text_rows import rows
from service.imports.sources.vectors.sieve import Block, Sieve, VectorFileError
from service.strict_json import JsonRefused, loads
from service.text import readable

COLUMNS = ("id", "vector")


def is_vector_table(file: Path) -> bool:
    """Whether its first row that can be read has a vector and no picture."""
    if not file.name.lower().endswith(SUFFIXES):
        return False
    try:
        for _, row in rows(file.name, lambda: file.open("rb"), COLUMNS):
            if not isinstance(row, Fault):
                return "vector" in row and "image" not in row
    except SourceError:  # what is wrong with it is said when it is read
        return False
    return False


def open_vector_table(file: Path, block: int) -> tuple[int, int, Iterator[Block]]:
    """Rows, numbers in each vector, and the rows in blocks of at most `block`. Raises VectorFileError."""
    count, dim = 0, 0
    for _, row in _rows(file):
        count += 1
        if not dim and not isinstance(row, Fault):
            numbers = _numbers(row.get("vector"))
            dim = 0 if isinstance(numbers, Fault) else len(numbers)
    if not dim:
        raise VectorFileError(f"{readable(file)} has no vector in the column `vector`: a list of numbers, as [0.1,0.2]")
    return count, dim, _blocks(file, dim, block)


def _rows(file: Path) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    try:
        yield from rows(readable(file.name), lambda: file.open("rb"), COLUMNS)
    except SourceError as error:
        raise VectorFileError(str(error)) from None


def _blocks(file: Path, dim: int, size: int) -> Iterator[Block]:
    lines: list[int] = []
    sieve = Sieve(lambda row: f"{readable(file.name)} line {lines[row - start]}")
    listed = _rows(file)
    start = 0
    while part := list(islice(listed, size)):
        lines = [line for line, _ in part]
        vectors = np.zeros((len(part), dim), np.float32)
        rows = [_row(row, vectors[place]) for place, (_, row) in enumerate(part)]
        yield sieve.block(start, rows, vectors)
        start += len(part)


def _row(row: dict[str, Any] | Fault, into: npt.NDArray[np.float32]) -> Row | Fault:
    if isinstance(row, Fault):
        return row
    id, numbers = row.pop("id", None), _numbers(row.pop("vector", None))
    id = str(id) if isinstance(id, int) and not isinstance(id, bool) else id
    if not isinstance(id, str) or not id:
        return Fault("has no id", "invalid-id")
    if isinstance(numbers, Fault):
        return numbers
    if len(numbers) != len(into):
        return Fault(f"the vector has {len(numbers)} numbers, the first one {len(into)}")
    into[:] = numbers
    more = row.pop("metadata", None)
    if isinstance(more, dict):
        row = {**more, **row}
    elif more is not None:
        row["metadata"] = more
    return described(id, row)


def _numbers(cell: Any) -> npt.NDArray[np.float32] | Fault:
    if isinstance(cell, str):
        try:
            cell = loads(cell)
        except JsonRefused as error:
            return Fault(f"the column vector is {error}")
    if not isinstance(cell, list) or not cell or not {int, float}.issuperset(map(type, cell)):
        return Fault("the vector is missing, or no list of numbers")
    with np.errstate(over="ignore"):  # what does not fit is told as not finite
        return np.array(cell, np.float64).astype(np.float32)
