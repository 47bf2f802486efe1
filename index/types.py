"""The types everything above the store speaks, and the two Protocols with more than one implementation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from index.filters import Filter

Vector = npt.NDArray[np.float32]
Metadata = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Media:
    """What is remembered of an uploaded file. `index` never looks inside the bytes.

    width, height: pixels of the upright picture; format: "jpeg", "png", …; bytes: size of the upload; sha256:
    lower-case hex.
    """

    width: int
    height: int
    format: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a collection. `media` is None for an item imported as a ready vector. Times are UTC seconds."""

    id: str
    metadata: Metadata
    media: Media | None
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class Entry:
    """What a caller hands to `Collection.upsert`.

    vector: float32 (dim,), finite and not zero; it is normalised to unit length on the way in.
    original: the uploaded bytes, kept by sha256 where the catalogue keeps originals; needs `media`.
    """

    id: str
    vector: Vector
    metadata: Metadata = field(default_factory=dict)
    media: Media | None = None
    thumbnail: bytes | None = None
    original: bytes | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """One upsert's outcome:

    `created` a new id; `changed` False when item, vector and metadata already stood like this.
    """

    item: Item
    created: bool
    changed: bool


@dataclass(frozen=True, slots=True)
class Imported:
    """What a bulk import did, in numbers of items."""

    created: int
    replaced: int
    unchanged: int

    def __add__(self, other: Imported) -> Imported:
        return Imported(self.created + other.created, self.replaced + other.replaced, self.unchanged + other.unchanged)


@dataclass(frozen=True, slots=True)
class Match:
    """One search result. score: cosine in -1…1. group: the `group_by` value, None without grouping."""

    item: Item
    score: float
    group: str | int | float | bool | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """matches: best first, `offset` and `limit` applied, all with score >= min_score.

    best_score: the nearest item's score over the filtered set, exclusions left out, whatever `min_score` and `offset`;
    None where there is nothing to search. filtered_count: items that pass the filter (all, without one).
    """

    matches: list[Match]
    best_score: float | None
    filtered_count: int


@dataclass(frozen=True, slots=True)
class Page:
    """A slice of a collection in id order. next_cursor: opaque, None at the end."""

    items: list[Item]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A collection as it stands.

    bytes: on disk, roughly. created_at: UTC seconds. score_threshold: set by hand, else None.
    """

    name: str
    count: int
    model: str
    fingerprint: str
    dim: int
    score_threshold: float | None
    index_kind: str
    indexing: bool
    bytes: int
    created_at: float
    index: Mapping[str, Any] = field(default_factory=dict)


class Collection(Protocol):
    """Items with unit vectors of one model.

    Safe to call from any thread; calls block, writes until they are on disk.
    """

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def dim(self) -> int: ...

    @property
    def score_threshold(self) -> float | None:
        """Set by hand; None where it is not."""
        ...

    @property
    def ready(self) -> bool:
        """False while the search index is being rebuilt from the store after damage or a failed change."""
        ...

    def info(self) -> CollectionInfo: ...

    def set_score_threshold(self, threshold: float | None) -> None: ...

    def upsert(self, entries: Sequence[Entry], *, fingerprint: str) -> list[Written]:
        """Creates or replaces, all or none, in one transaction. Raises ModelMismatch, InvalidVector, StorageFull."""
        ...

    def merge_metadata(self, id: str, patch: Metadata) -> Item:
        """RFC 7396 merge patch. Raises ItemNotFound."""
        ...

    def replace_metadata(self, id: str, metadata: Metadata, *, sha256: str) -> Item:
        """Replaces the metadata of an item that still has the upload with this sha256, in one step.

        Raises ItemNotFound where there is no such item, or it has another picture now.
        """
        ...

    def delete(self, ids: Iterable[str]) -> int:
        """Number of items that were there."""
        ...

    def delete_where(self, filter: Filter) -> int: ...

    def get(self, id: str) -> Item:
        """Raises ItemNotFound."""
        ...

    def vectors(self, ids: Sequence[str]) -> Vector:
        """float32 (n, dim), unit rows, in the order asked. Raises ItemNotFound."""
        ...

    def thumbnail(self, id: str) -> bytes:
        """Raises ItemNotFound, also for an item that has none."""
        ...

    def scan(self, *, limit: int = 100, cursor: str | None = None, filter: Filter | None = None) -> Page:
        """Raises InvalidCursor."""
        ...

    def count(self, filter: Filter | None = None) -> int: ...

    def search(
        self,
        vector: Vector,
        *,
        limit: int = 10,
        offset: int = 0,
        min_score: float = -1.0,
        filter: Filter | None = None,
        group_by: str | None = None,
        exclude: Iterable[str] = (),
    ) -> SearchResult:
        """Nearest by cosine to float32 (dim,). Raises InvalidVector (length, not finite, zero)."""
        ...

    def close(self) -> None: ...


class VectorIndex(Protocol):
    """Search structure inside the embedded engine: int64 keys and unit float32 vectors.

    Not thread-safe for mutation.
    """

    kind: str

    def add(self, keys: npt.NDArray[np.int64], vectors: Vector) -> None: ...

    def remove(self, keys: npt.NDArray[np.int64]) -> None: ...

    def search(
        self, vectors: Vector, k: int, allowed: npt.NDArray[np.int64] | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """(n, dim) → scores float32 (n, k) descending and keys int64 (n, k), padded with -inf and -1."""
        ...

    def __len__(self) -> int: ...
