"""Kept originals as a source: pictures whose items were lost, each under its sha256 as id and without metadata."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from index.errors import ItemNotFound, StoreCorrupt
from index.types import Catalogue
from service.imports.sources.source import Source, Unreadable, too_large


def originals(catalogue: Catalogue, hashes: Sequence[str]) -> Iterator[Source]:
    """One picture for each sha256."""
    for sha256 in hashes:
        yield Source(sha256, {}, partial(_read, catalogue, sha256), sha256)


def _read(catalogue: Catalogue, sha256: str, limit: int) -> bytes:
    try:
        data = catalogue.original(sha256)
    except (ItemNotFound, StoreCorrupt) as error:
        raise Unreadable(str(error)) from None
    if len(data) > limit:
        raise too_large(limit)
    return data
