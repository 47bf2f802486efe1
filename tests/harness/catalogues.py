"""What the store's tests share: vectors from a number, and entries around them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from index.embedded.catalogue import EmbeddedCatalogue
from index.embedded.collection import EmbeddedCollection
from index.info import IndexState
from index.items import Entry, Media
from index.open import open_catalogue
from index.types import Catalogue

# Every engine, by name, as a function that opens a directory: what `tests/embedded/test_engines.py` runs through.
ENGINES: dict[str, Callable[[Path], Catalogue]] = {"embedded": open_catalogue}

DIM = 64


class Model(TypedDict):
    model: str
    fingerprint: str
    dim: int


MODEL = Model(model="test", fingerprint="test-1", dim=DIM)


def vector(seed: int, dim: int = DIM) -> npt.NDArray[np.float32]:
    """The same unit vector for the same number."""
    raw = np.random.default_rng(seed).standard_normal(dim)
    return (raw / np.linalg.norm(raw)).astype(np.float32)


def entry(id: str, seed: int, data: bytes | None = None, **metadata: Any) -> Entry:
    """An entry with the vector of `seed`, and an original where there is data."""
    media = None if data is None else Media(4, 3, "png", len(data), hashlib.sha256(data).hexdigest())
    return Entry(id, vector(seed), metadata, media, None if data is None else b"thumb" + data, data)


def default(catalogue: EmbeddedCatalogue) -> EmbeddedCollection:
    """The collection the tests write to."""
    return catalogue.create("default", **MODEL)[0]


def put(collection: EmbeddedCollection, *entries: Entry) -> None:
    collection.upsert(entries, fingerprint=collection.fingerprint)


def settled(collection: EmbeddedCollection, seconds: float = 60) -> IndexState:
    """Waits until nothing is left to do on the search index; returns its state."""
    end = time.monotonic() + seconds
    while (info := collection.info()).indexing:
        assert time.monotonic() < end, info
        time.sleep(0.002)
    return info.index


def originals(directory: Path) -> set[str]:
    """The sha256 of every original on disk."""
    return {path.name for path in (directory / "originals").rglob("*") if path.is_file()}
