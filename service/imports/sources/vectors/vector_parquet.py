"""A parquet file of vectors: columns `id`, `vector` (lists of floats) and optionally `metadata`.

`metadata` is JSON text or a struct; without it the other columns become metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from service.imports.sources.rows import Fault, Row, described
from service.imports.sources.vectors.sieve import Block, Sieve, VectorFileError
from service.strict_json import JsonRefused, loads
from service.text import readable

COLUMNS = ("id", "vector", "metadata")


def open_parquet(file: Path, block: int) -> tuple[int, int, Iterator[Block]]:
    """Rows, numbers in each vector, and the rows in blocks of at most `block`. Raises VectorFileError, OSError."""
    import pyarrow as arrow  # takes a third of a second, which other imports need not wait for
    import pyarrow.parquet as parquet

    try:
        opened = parquet.ParquetFile(file)
    except arrow.ArrowInvalid as error:
        raise VectorFileError(f"{file} is no parquet file ({error})") from None
    names = opened.schema_arrow.names
    for needed in ("id", "vector"):
        if needed not in names:
            also = " and no `image`" if needed == "vector" else ""
            raise VectorFileError(f"{file} has no column `{needed}`{also} (it has {', '.join(names[:8])})")
    kind = opened.schema_arrow.field("vector").type
    lists = (arrow.types.is_list, arrow.types.is_large_list, arrow.types.is_fixed_size_list)
    if not any(is_kind(kind) for is_kind in lists) or not arrow.types.is_floating(kind.value_type):
        raise VectorFileError(f"{file}: the column `vector` must be a list of floats, it is {kind}")
    if opened.metadata.num_rows == 0:
        raise VectorFileError(f"{file} has no rows")
    dim = _dim(opened, file, arrow)
    return opened.metadata.num_rows, dim, _blocks(opened, file, arrow, dim, block)


def _dim(opened: Any, file: Path, arrow: Any) -> int:
    """Of the first row that has a vector."""
    try:
        for batch in opened.iter_batches(64, columns=["vector"]):
            for each in batch.column(0).value_lengths().to_pylist():
                if each:
                    return int(each)
    except arrow.ArrowException as error:
        raise VectorFileError(f"{file} cannot be read ({error})") from None
    raise VectorFileError(f"{file} has no vector in the column `vector`")


def _blocks(opened: Any, file: Path, arrow: Any, dim: int, size: int) -> Iterator[Block]:
    sieve = Sieve(lambda row: f"{readable(file.name)} row {row}")
    done = 0
    batches = opened.iter_batches(size)
    while True:
        try:
            batch = next(batches, None)
        except (arrow.ArrowException, OSError) as error:
            raise VectorFileError(f"{file} from row {done} on cannot be read ({error})") from None
        if batch is None:
            return
        yield sieve.block(done, *_rows(batch, dim))
        done += len(batch)


def _rows(batch: Any, dim: int) -> tuple[list[Row | Fault], Any]:
    """The rows of a batch and their vectors float32 (n, dim), zero where there is none."""
    column = batch.column("vector")
    lengths = np.array([-1 if each is None else each for each in column.value_lengths().to_pylist()])
    if column.null_count:  # of fixed size, a missing list has a length all the same
        lengths[column.is_null().to_numpy(zero_copy_only=False)] = -1
    fits = lengths == dim
    if fits.all():
        vectors = column.flatten().to_numpy(zero_copy_only=False)
    else:
        vectors = np.zeros((len(column), dim), np.float32)
        vectors[fits] = column.filter(fits.tolist()).flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    rows = [
        _row(id, metadata, int(length), dim)
        for id, metadata, length in zip(batch.column("id").to_pylist(), _metadata(batch), lengths, strict=True)
    ]
    return rows, np.asarray(vectors, np.float32).reshape(len(column), dim)


def _metadata(batch: Any) -> list[Any]:
    names = batch.schema.names
    if "metadata" in names:
        return list(batch.column("metadata").to_pylist())
    others = [name for name in names if name not in COLUMNS]
    return list(batch.select(others).to_pylist()) if others else [None] * len(batch)


def _row(id: Any, metadata: Any, length: int, dim: int) -> Row | Fault:
    if id is None:
        return Fault("the id is missing", "invalid-id")
    if length != dim:
        reason = "the vector is missing" if length < 0 else f"the vector has {length} numbers, the first one {dim}"
        return Fault(reason, "invalid-vector")
    if isinstance(metadata, str):
        try:
            metadata = loads(metadata)
        except JsonRefused as error:
            return Fault(f"the metadata is {error}", "invalid-metadata")
    return described(id.decode("utf-8", "replace") if isinstance(id, bytes) else str(id), metadata)
