"""What everything above an engine speaks: items and answers as frozen values, and the Protocols of an engine.

An engine keeps a `Catalogue` of named `Collection`s. Calls block and are safe from any thread; a write returns when it
is on disk, and every later call sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from index.filters import Filter

Vector = npt.NDArray[np.float32]
Metadata = Mapping[str, Any]
Progress = Callable[[int, int], None]  # bytes done, bytes in all
# What opening does where originals are kept that no item refers to: it refuses, opens all the same, or also makes a
# lost database anew, so that items can be made of them.
Unclaimed = Literal["refuse", "report", "adopt"]


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


@dataclass(frozen=True, slots=True)
class Work:
    """A finished piece of an index's upkeep. rows: vectors it covered; finished_at: UTC seconds."""

    action: str
    rows: int
    seconds: float
    finished_at: float


@dataclass(frozen=True, slots=True)
class Spent:
    """What one kind of an index's upkeep has cost since the start."""

    runs: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Recall:
    """Share of the true ten nearest that searches find, measured on a sample of the collection's own vectors.

    value: as measured; low, high: its 95 % interval; queries: how many were asked; measured_at: UTC seconds.
    """

    value: float
    low: float
    high: float
    queries: int
    measured_at: float


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard a search for ten looks: into `lists` to `most_lists` of the lists, re-scoring `depth` vectors.

    exact: instead, every vector is compared.
    """

    lists: int
    most_lists: int
    depth: int
    exact: bool


@dataclass(frozen=True, slots=True)
class IndexState:
    """A search index, in numbers of vectors, bytes and shares 0…1; what an engine does not count is 0.

    kind: the structure's name. vectors: may be found; indexed: in the compressed part, removed ones included; tail:
    newer, searched exactly; dead: removed but still taking room; trained: there when the compressed part was trained;
    agreement: share of a far harder search's answers that an ordinary one finds; recall: what was measured, None before
    and where the search is exact anyway; effort: chosen by that; damaged: items whose stored vector is
    damaged, left out until they are written anew. action: the work under way (`build`, `merge`, `save`), None when
    idle; progress: of that build; last: the work finished last; work: by action. note: what went wrong, and what is
    done about it; empty when all is well.
    """

    kind: str
    note: str = ""
    vectors: int = 0
    damaged: int = 0
    indexed: int = 0
    tail: int = 0
    dead: int = 0
    trained: int = 0
    agreement: float = 1.0
    recall: Recall | None = None
    effort: Effort | None = None
    memory_bytes: int = 0
    filter_bytes: int = 0
    file_bytes: int = 0
    action: str | None = None
    progress: float = 0.0
    last: Work | None = None
    work: Mapping[str, Spent] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A collection as of one moment.

    bytes: on disk, roughly. created_at: UTC seconds. score_threshold: set by hand, else None. indexing: a build or
    merge of the index is under way, or a rebuild is needed.
    """

    name: str
    count: int
    model: str
    fingerprint: str
    dim: int
    score_threshold: float | None
    indexing: bool
    bytes: int
    created_at: float
    index: IndexState

    @property
    def index_kind(self) -> str:
        """The search structure's name."""
        return self.index.kind


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a snapshot file holds. missing: originals that the database refers to and the disk did not have."""

    format: int
    schema: int
    created_at: float
    items: int
    database_bytes: int
    database_sha256: str
    originals: int
    missing: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with what is stored.

    subject: where (`database`, `item c/id`, `original …`, `index c`); problem: what, and what to do.
    """

    subject: str
    problem: str


@dataclass(frozen=True, slots=True)
class Record:
    """A small JSON document. version: of this value; no later value of any record has the same.

    updated_at: UTC seconds.
    """

    kind: str
    name: str
    value: Metadata
    version: int
    updated_at: float


@dataclass(frozen=True, slots=True)
class RecordPage:
    """Records of one kind in the order of their names. next_cursor: opaque, None at the end."""

    records: list[Record]
    next_cursor: str | None


class Records(Protocol):
    """Small versioned documents by kind and name, as durable as items; snapshots carry them.

    For state that is no item: thresholds, jobs, keys. A kind and a name are 1 to 200 characters; a value is a JSON
    object of at most `MAX_RECORD` bytes. Raises InvalidRecord for others.
    """

    def get(self, kind: str, name: str) -> Record:
        """Raises RecordNotFound."""
        ...

    def put(self, kind: str, name: str, value: Metadata, *, expected: int | None = None) -> Record:
        """Creates or replaces. expected: the version that must be there, 0 for none yet, None for whichever.

        Raises RecordConflict where another is there; then nothing was changed.
        """
        ...

    def delete(self, kind: str, name: str, *, expected: int | None = None) -> None:
        """Raises RecordNotFound, and RecordConflict where `expected` is given and another version is there."""
        ...

    def list(self, kind: str, *, prefix: str = "", limit: int = 100, cursor: str | None = None) -> RecordPage:
        """Those whose name starts with `prefix`. Raises InvalidCursor."""
        ...


class Collection(Protocol):
    """Items with unit vectors of one model. Every call raises CollectionNotFound once the collection is dropped."""

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

    @property
    def sequence(self) -> int:
        """Grows with every change of an item."""
        ...

    @property
    def records(self) -> Records:
        """Records that go when the collection is dropped or emptied."""
        ...

    def set_score_threshold(self, threshold: float | None) -> None:
        """None: back to what is calibrated, or the model's."""
        ...

    def upsert(self, entries: Sequence[Entry], *, fingerprint: str) -> list[Written]:
        """Creates or replaces, all or none, in one transaction. Raises ModelMismatch, InvalidVector, StorageFull."""
        ...

    def import_vectors(
        self, ids: Sequence[str], vectors: Vector, metadata: Sequence[Metadata] | None = None, *, fingerprint: str
    ) -> Imported:
        """Creates or replaces items from ready vectors float32 (n, dim), in transactions of some thousand each.

        Each transaction is whole or absent; after an error the ones before it stay. Raises as `upsert`.
        """
        ...

    def merge_metadata(self, id: str, patch: Metadata) -> Item:
        """RFC 7396 merge patch. Raises ItemNotFound."""
        ...

    def replace_metadata(self, id: str, metadata: Metadata, *, sha256: str, keep: bool = False) -> Item:
        """Replaces the metadata of an item that still has the upload with this sha256, in one step.

        keep: keys that only the item has stay, as they are at that moment.
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

    def whole(self, ids: Sequence[str], *, originals: bool = False) -> dict[str, Item]:
        """Of these ids, the items of which every stored byte matches its checksum; others have to be written anew.

        originals: whether the kept uploads are read too, instead of looked at.
        """
        ...

    def vectors(self, ids: Sequence[str]) -> Vector:
        """float32 (n, dim), unit rows, in the order asked. Raises ItemNotFound, ItemDamaged."""
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
        sha256: str | None = None,
    ) -> SearchResult:
        """Nearest by cosine to float32 (dim,).

        sha256: of the file the whole of which the vector was made from, if any: items stored from the same bytes score
        exactly 1, whatever was rounded on the way. Raises InvalidVector (length, not finite, zero) and IndexNotReady.
        """
        ...

    def nearest(self, vectors: Vector, limit: int = 10) -> list[Nearest]:
        """The lean search: float32 (n, dim) → each row's nearest ids and scores. Errors as `search`."""
        ...


class Catalogue(Protocol):
    """Collections by name, and records that belong to none of them. Every call raises StoreClosed after `close`."""

    @property
    def records(self) -> Records: ...

    def create(self, name: str, *, model: str, fingerprint: str, dim: int) -> tuple[Collection, bool]:
        """The collection, and whether it was created now; one that is there is returned as it is. Raises InvalidId."""
        ...

    def get(self, name: str) -> Collection:
        """Raises CollectionNotFound."""
        ...

    def names(self) -> list[str]:
        """Of all collections, sorted; without touching the disk."""
        ...

    def infos(self) -> list[CollectionInfo]:
        """Every collection, by name."""
        ...

    def drop(self, name: str) -> None:
        """Removes a collection at once for every reader. Raises CollectionNotFound."""
        ...

    def clear(
        self, name: str, *, model: str | None = None, fingerprint: str | None = None, dim: int | None = None
    ) -> None:
        """Empties a collection; with model, fingerprint and dim it belongs to that model from now on.

        Its records go, a threshold set by hand among them. Raises CollectionNotFound.
        """
        ...

    def replace(self, name: str, by: str, *, kept: str, sequence: int) -> bool:
        """The collection `by` takes the name `name`, whose own goes on as `kept`: at once, for every reader.

        sequence: of the one that is replaced; where it has changed since, nothing is done and False returned. Records
        stay with their items. Raises CollectionNotFound, and InvalidId where there is a collection `kept`.
        """
        ...

    def original(self, sha256: str) -> bytes:
        """The uploaded bytes. Raises ItemNotFound where none are kept, StoreCorrupt where they are damaged."""
        ...

    def unclaimed(self) -> list[str]:
        """The sha256 of kept originals that no item refers to, to make items of."""
        ...

    def leave(self, hashes: Iterable[str]) -> None:
        """These originals stay unclaimed, and are no damage from now on."""
        ...

    def snapshot(self, file: Path, *, force: bool = False, progress: Progress | None = None) -> Snapshot:
        """Writes one file that `index.open.restore` takes, while reads and writes go on.

        Raises SnapshotExists, StorageError, StoreCorrupt, OSError.
        """
        ...

    def verify(self) -> Iterator[Finding]:
        """Reads every stored byte and compares it with its checksum: one finding for each thing wrong."""
        ...

    def close(self) -> None:
        """Finishes what was written and gives the storage free. A second call does nothing."""
        ...
