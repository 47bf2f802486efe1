"""An import of ready vectors from a file, in blocks: each is whole or absent, the next is read while it is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from index.errors import CollectionNotFound
from index.types import Catalogue
from service.imports.sources.source import Bad
from service.imports.sources.vectors.sieve import Block, VectorFileError
from service.imports.sources.vectors.vector_file import open_vectors
from service.text import readable

# Rows done and in all.
Progress = Callable[[int, int], None]
Model = Mapping[str, Any]
# A file of the wrong kind has nothing but bad rows; so many are named.
ERRORS = 1000


def import_vectors(
    catalogue: Catalogue,
    file: Path,
    name: str,
    *,
    ids: Path | None = None,
    default: Callable[[], Model],
    foreign: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Imports a file of ready vectors into a collection, which is made where there is none.

    default: model, fingerprint and dim of the service's own model; foreign: the name of another model that made the
    vectors, whose collection is then searched by vector and id alone. A bad row is reported and left out; blocks before
    an error stay. Raises VectorFileError, ModelMismatch, StorageFull.
    """
    began = time.monotonic()
    opened = open_vectors(file, ids)
    try:
        collection = catalogue.get(name)
    except CollectionNotFound:
        model = {"model": foreign, "fingerprint": foreign, "dim": opened.dim} if foreign else dict(default())
        if model["dim"] != opened.dim:
            raise VectorFileError(
                f"{file} holds vectors of {opened.dim} numbers, the model {model['model']} makes {model['dim']}: "
                "name the model that made them with --model"
            ) from None
        collection, _ = catalogue.create(name, **model)
    if collection.dim != opened.dim:
        raise VectorFileError(
            f"{file} holds vectors of {opened.dim} numbers, the collection {name} of {collection.dim}"
        )
    created = replaced = unchanged = failed = 0
    errors: list[Bad] = []
    for block in ahead(opened.blocks):
        done = collection.import_vectors(
            block.ids, block.vectors, block.metadata, fingerprint=foreign or collection.fingerprint
        )
        created, replaced, unchanged = created + done.created, replaced + done.replaced, unchanged + done.unchanged
        failed += len(block.bad)
        errors.extend(block.bad[: ERRORS - len(errors)])
        if progress is not None:
            progress(created + replaced + unchanged + failed, opened.count)
    return {
        "source": readable(file),
        "collection": name,
        "total": opened.count,
        "done": created + replaced,
        "created": created,
        "replaced": replaced,
        "unchanged": unchanged,
        "failed": failed,
        "errors": [bad.as_json() for bad in errors],
        "seconds": round(time.monotonic() - began, 3),
    }


def ahead(blocks: Iterator[Block]) -> Iterator[Block]:
    """The same blocks; the next one is read while the caller works on the last."""
    with ThreadPoolExecutor(1, thread_name_prefix="read-vectors") as pool:
        coming = pool.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = pool.submit(next, blocks, None)
            yield block
