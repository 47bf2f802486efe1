"""Files of ready vectors are read in blocks, never whole, and every row has an id.

`.npy`: float16, 32 or 64 (n, dim); ids and metadata in a text file beside it. `.parquet`: columns `id`, `vector` (lists
of floats) and optionally `metadata` (JSON text or a struct); without that column, the others become metadata.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

SUFFIXES = (".npy", ".parquet")
BLOCK = 8192


class VectorFileError(Exception):
    """A file of vectors cannot be read. One line: which, where in it, and what to do."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that follow each other. vectors: float32 (n, dim) with n ids; metadata: n objects, or None for none."""

    ids: list[str]
    vectors: npt.NDArray[np.float32]
    metadata: list[Mapping[str, Any]] | None


@dataclass(frozen=True, slots=True)
class VectorFile:
    """An opened file. count: rows; dim: numbers in each; blocks: once through, raising VectorFileError."""

    count: int
    dim: int
    blocks: Iterator[Block]


def open_vectors(file: Path, ids: Path | None = None) -> VectorFile:
    """Opens a `.npy` or `.parquet` file of vectors.

    ids: for `.npy` alone, a `.txt` (an id per line) or `.jsonl` (`{"id": …, "metadata": {…}}` per line); by default the
    file of the same name beside it, and where there is none the row numbers are the ids. Raises VectorFileError.
    """
    try:
        if file.suffix == ".npy":
            return _open_npy(file, ids)
        if file.suffix == ".parquet" and ids is None:
            return _open_parquet(file)
    except OSError as error:
        raise VectorFileError(f"{error.filename or file}: {error.strerror or error}") from None
    if file.suffix == ".parquet":
        raise VectorFileError(f"{file} has its ids in the column `id`: leave --ids out")
    raise VectorFileError(f"{file} is neither .npy nor .parquet")


def _open_npy(file: Path, ids: Path | None) -> VectorFile:
    try:
        array = np.lib.format.open_memmap(file, mode="r")
    except (ValueError, EOFError, OverflowError) as error:
        raise VectorFileError(f"{file} is no .npy array ({error})") from None
    if array.ndim != 2 or array.dtype.kind != "f":
        raise VectorFileError(f"{file} must hold floats in two dimensions, one row per vector")
    if ids is None:
        ids = next((beside for end in (".jsonl", ".txt") if (beside := file.with_suffix(end)).exists()), None)
    return VectorFile(len(array), array.shape[1], _npy_blocks(array, ids))


def _npy_blocks(array: npt.NDArray[Any], ids: Path | None) -> Iterator[Block]:
    rows = _numbered(len(array)) if ids is None else _named(ids)
    for start in range(0, len(array), BLOCK):
        vectors = np.asarray(array[start : start + BLOCK], np.float32)
        named = list(islice(rows, len(vectors)))
        if len(named) < len(vectors):
            raise VectorFileError(f"{ids} has {start + len(named)} ids for {len(array)} vectors: one line for each")
        has_metadata = any(metadata for _, metadata in named)
        yield Block([id for id, _ in named], vectors, [metadata for _, metadata in named] if has_metadata else None)
    if next(rows, None) is not None:
        raise VectorFileError(f"{ids} has more than {len(array)} ids: one line for each vector (those are imported)")


Row = tuple[str, Mapping[str, Any]]


def _numbered(count: int) -> Iterator[Row]:
    return ((str(row), {}) for row in range(count))


def _named(ids: Path) -> Iterator[Row]:
    try:
        with ids.open(encoding="utf-8") as lines:
            blank = 0
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    blank = blank or number  # at the end of a file, and only there, that is all right
                    continue
                if blank:
                    raise VectorFileError(f"{ids} line {blank} is empty: one id for each vector")
                yield _row(line, f"{ids} line {number}") if ids.suffix == ".jsonl" else (line.rstrip("\r\n"), {})
    except UnicodeDecodeError:
        raise VectorFileError(f"{ids} is not UTF-8 text") from None
    except OSError as error:
        raise VectorFileError(f"{ids}: {error.strerror or error}") from None


def _row(line: str, where: str) -> Row:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise VectorFileError(f"{where}: no JSON ({error})") from None
    if not isinstance(value, dict) or not isinstance(value.get("id"), str):
        raise VectorFileError(f'{where}: must be an object with "id", a string')
    if foreign := sorted(value.keys() - {"id", "metadata"}):
        raise VectorFileError(f'{where}: {foreign[0]!r} is neither "id" nor "metadata"; metadata goes into an object')
    return value["id"], _object(value.get("metadata"), where)


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise VectorFileError(f"{where}: metadata is no JSON ({error})") from None
    if not isinstance(value, dict):
        raise VectorFileError(f"{where}: metadata must be a JSON object")
    return value


def _open_parquet(file: Path) -> VectorFile:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise VectorFileError("parquet files need pyarrow: pip install 'lookalike[parquet]'") from None
    try:
        opened = parquet.ParquetFile(file)
    except arrow.ArrowInvalid as error:
        raise VectorFileError(f"{file} is no parquet file ({error})") from None
    names = opened.schema_arrow.names
    for needed in ("id", "vector"):
        if needed not in names:
            raise VectorFileError(f"{file} has no column `{needed}` (it has {', '.join(names[:8])})")
    kind = opened.schema_arrow.field("vector").type
    lists = (arrow.types.is_list, arrow.types.is_large_list, arrow.types.is_fixed_size_list)
    if not any(is_kind(kind) for is_kind in lists) or not arrow.types.is_floating(kind.value_type):
        raise VectorFileError(f"{file}: the column `vector` must be a list of floats, it is {kind}")
    blocks = _parquet_blocks(opened, file, [name for name in names if name not in ("id", "vector", "metadata")])
    count = opened.metadata.num_rows
    if count == 0:
        raise VectorFileError(f"{file} has no rows")
    first = next(opened.iter_batches(1, columns=["vector"])).column(0)
    return VectorFile(count, len(first[0].as_py() or ()), blocks)


def _parquet_blocks(opened: Any, file: Path, others: list[str]) -> Iterator[Block]:
    done = 0
    for batch in opened.iter_batches(BLOCK):
        where = f"{file} from row {done}"
        column, ids = batch.column("vector"), batch.column("id").to_pylist()
        if column.null_count or None in ids:
            raise VectorFileError(f"{where}: an id or a vector is missing")
        flat = column.flatten().to_numpy(zero_copy_only=False)
        if len(flat) % len(column) or len(set(column.value_lengths().to_pylist())) > 1:
            raise VectorFileError(f"{where}: vectors of different lengths")
        vectors = np.asarray(flat, np.float32).reshape(len(column), -1)
        metadata: list[Mapping[str, Any]] | None = None
        if "metadata" in batch.schema.names:
            metadata = [_object(value, where) for value in batch.column("metadata").to_pylist()]
        elif others:
            metadata = batch.select(others).to_pylist()
        yield Block([str(id) for id in ids], vectors, metadata)
        done += len(ids)
