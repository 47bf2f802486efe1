"""Items and what is found of them, as frozen values: what goes into a collection and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
Keys = npt.NDArray[np.int64]
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
    original: the uploaded bytes, kept by sha256 where the catalogue keeps originals; needs `media`. created_at: UTC
    seconds, of an item that is new here and older elsewhere; None is now.
    """

    id: str
    vector: Vector
    metadata: Metadata = field(default_factory=dict)
    media: Media | None = None
    thumbnail: bytes | None = None
    original: bytes | None = None
    created_at: float | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """One upsert's outcome:

    `created` a new id; `changed` False when item, vector and metadata were already these.
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
    """One search result. score: cosine in -1…1. group: the `group_by` value, None without grouping.

    same: the item was stored from the very bytes that are searched with; its score is exactly 1.
    """

    item: Item
    score: float
    group: str | int | float | bool | None = None
    same: bool = False


@dataclass(frozen=True, slots=True)
class SearchResult:
    """matches: best first, `offset` and `limit` applied, all with score >= min_score.

    best_score: the nearest item's score over the filtered set, exclusions left out, whatever `min_score` and `offset`;
    None where there is nothing to search. filtered_count: items that pass the filter (all, without one). same: of
    these, exclusions left out, the ones stored from the bytes that are searched with. groupable: False where nothing
    was found because none of them has one value under the key that `group_by` names.
    """

    matches: list[Match]
    best_score: float | None
    filtered_count: int
    same: int = 0
    groupable: bool = True


@dataclass(frozen=True, slots=True)
class Page:
    """A slice of a collection in id order. next_cursor: opaque, None at the end; large items make fewer a page."""

    items: list[Item]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Nearest:
    """One query's neighbours without their metadata: ids and scores float32 (m,) in -1…1, best first."""

    ids: list[str]
    scores: Vector
