"""A file of ready vectors as a source: read in blocks, never whole; every row has an id, and a bad row costs itself.

`.npy`: float16, 32 or 64 (n, dim), with ids and metadata in a text file beside it. `.parquet`: see `parquet`; `.csv`
and `.jsonl`: see `vector_table`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.imports.sources.rows import Fault, Row, described
from service.imports.sources.tables.table import SUFFIXES as TABLES
from service.imports.sources.vectors.sieve import Block, Sieve, VectorFileError
from service.imports.sources.vectors.vector_table import open_vector_table
from service.strict_json import JsonRefused, loads
from service.text import encoding_of, readable

BLOCK = 8192


@dataclass(frozen=True, slots=True)
class VectorFile:
    """An opened file. count: rows; dim: numbers in each; blocks: once through, raising VectorFileError."""

    count: int
    dim: int
    blocks: Iterator[Block]


def open_vectors(file: Path, ids: Path | None = None) -> VectorFile:
    """Opens a `.npy` or `.parquet` file of vectors. Rows count from 0.

    ids: for `.npy` alone, a `.txt` (an id per line) or `.jsonl` (`{"id": …, "metadata": {…}}` per line); by default the
    file of the same name beside it, and where there is none the row numbers are the ids. Raises VectorFileError.
    """
    kind = file.suffix.lower()
    try:
        if kind == ".npy":
            return _open_npy(file, ids)
        if kind in TABLES and ids is None:
            return VectorFile(*open_vector_table(file, BLOCK))
        if kind == ".parquet" and ids is None:
            from service.imports.sources.vectors import vector_parquet

            return VectorFile(*vector_parquet.open_parquet(file, BLOCK))
    except OSError as error:
        raise VectorFileError(f"{error.filename or file}: {error.strerror or error}") from None
    if kind in (".parquet", *TABLES):
        raise VectorFileError(f"{file} has its ids in the column `id`: leave --ids out")
    raise VectorFileError(f"{file} is neither .npy nor .parquet, nor a .csv or .jsonl")


def _open_npy(file: Path, ids: Path | None) -> VectorFile:
    try:
        array = np.lib.format.open_memmap(file, mode="r")
    except (ValueError, EOFError, OverflowError) as error:
        raise VectorFileError(f"{file} is no .npy array ({error})") from None
    if array.ndim != 2 or array.dtype.kind != "f":
        raise VectorFileError(f"{file} must hold floats in two dimensions, one row per vector")
    if ids is None:
        ids = next((beside for end in (".jsonl", ".txt") if (beside := file.with_suffix(end)).exists()), None)
    return VectorFile(len(array), array.shape[1], _npy_blocks(array, file, ids))


def _npy_blocks(array: npt.NDArray[Any], file: Path, ids: Path | None) -> Iterator[Block]:
    rows: Iterator[Row | Fault]
    if ids is None:
        rows = (Row(str(row), {}) for row in range(len(array)))
        sieve = Sieve(lambda row: f"{readable(file.name)} row {row}")
    else:
        rows = _named(ids)
        sieve = Sieve(lambda row: f"{readable(ids.name)} line {row + 1}")
    for start in range(0, len(array), BLOCK):
        # In memory order of C, whatever order the file has: the store takes rows as they lie.
        vectors = np.ascontiguousarray(array[start : start + BLOCK], np.float32)
        named = list(islice(rows, len(vectors)))
        if len(named) < len(vectors):
            raise VectorFileError(f"{ids} has {start + len(named)} ids for {len(array)} vectors: one line for each")
        yield sieve.block(start, named, vectors)
    if next(rows, None) is not None:
        raise VectorFileError(f"{ids} has more than {len(array)} ids: one line for each vector (those are imported)")


def _named(ids: Path) -> Iterator[Row | Fault]:
    try:
        with ids.open("rb") as file:
            encoding = encoding_of(file.read(4))
        with ids.open(encoding=encoding) as lines:
            blank = 0
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    blank = blank or number  # at the end of a file, and only there, that is all right
                    continue
                if blank:
                    raise VectorFileError(f"{ids} line {blank} is empty: one id for each vector")
                yield _from_json(line) if ids.suffix.lower() == ".jsonl" else Row(line.strip(), {})
    except UnicodeError:
        raise VectorFileError(f"{ids} is no text in UTF-8, or in UTF-16 with its mark") from None
    except OSError as error:
        raise VectorFileError(f"{ids}: {error.strerror or error}") from None


def _from_json(line: str) -> Row | Fault:
    try:
        value = loads(line)
    except JsonRefused as error:
        return Fault(str(error))
    if not isinstance(value, dict) or not isinstance(value.get("id"), str):
        return Fault('must be an object with "id", a string')
    if foreign := sorted(value.keys() - {"id", "metadata"}):
        return Fault(f'{foreign[0][:60]!r} is neither "id" nor "metadata"; metadata goes into an object')
    return described(value["id"], value.get("metadata"))
