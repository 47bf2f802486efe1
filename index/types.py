"""The Protocols of an engine: what everything above it calls.

An engine keeps a `Catalogue` of named `Collection`s. Calls block and are safe from any thread; a write returns when it
is on disk, and every later call sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from index.facets import Found
from index.filters import Filter
from index.info import CollectionInfo
from index.items import Entry, Imported, Item, Keys, Metadata, Nearest, Page, SearchResult, Vector, Written
from index.records import Records

Progress = Callable[[int, int], None]  # bytes done, bytes in all
# What opening does where originals are kept that no item refers to: it refuses, opens all the same, or also makes a
# lost database anew, so that items can be made of them.
Unclaimed = Literal["refuse", "report", "adopt"]


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
class Erased:
    """What an erasure did. bytes: by which the database shrank; left: what could not be erased yet, a line each."""

    bytes: int
    left: tuple[str, ...]
    seconds: float


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
    def version(self) -> str:
        """A word that is another after every change of an item, also where the collection was emptied or replaced."""
        ...

    @property
    def cache(self) -> Path:
        """A folder for what can be made again of these items; it may not be there yet.

        It goes when the collection is dropped or emptied, and with a restore. It holds numbers of items and scores, and
        nothing that was sent: an erasure leaves it.
        """
        ...

    @property
    def records(self) -> Records:
        """Records that go when the collection is dropped or emptied."""
        ...

    @property
    def revision(self) -> int:
        """Another number after every change of its records, however it came about; read without touching the disk."""
        ...

    def set_score_threshold(self, threshold: float | None) -> None:
        """None: back to what is calibrated, or the model's."""
        ...

    @property
    def recall(self) -> float | None:
        """Set by hand; None where it is not."""
        ...

    def set_recall(self, recall: float | None) -> None:
        """Share of the true nearest that searches are to find, MIN_RECALL…1; None: back to the catalogue's.

        Searches of a large collection become as hard as it takes in the background. Raises InvalidRecall.
        """
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

    def with_vector(self, id: str) -> tuple[Item, Vector]:
        """An item and its vector float32 (dim,), unit, both of one moment. Raises ItemNotFound, ItemDamaged."""
        ...

    def thumbnail(self, id: str) -> bytes:
        """Raises ItemNotFound, also for an item that has none."""
        ...

    def scan(self, *, limit: int = 100, cursor: str | None = None, filter: Filter | None = None) -> Page:
        """Raises InvalidCursor."""
        ...

    def scan_vectors(
        self, *, limit: int = 100, cursor: str | None = None, filter: Filter | None = None
    ) -> tuple[Page, Vector]:
        """As `scan`, and the vectors of these items, float32 (n, dim), unit, of the same moment.

        Items whose vector is damaged are left out.
        """
        ...

    def keys(self) -> tuple[Keys, list[str]]:
        """Of every item as of one moment: numbers int64 (n,), increasing, and ids in their order.

        A number is an item's until its vector is replaced or it is deleted, and is never given again: what was
        computed from vectors is told by it from what has changed.
        """
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

    def facets(
        self,
        vector: Vector,
        *,
        keys: Sequence[str],
        min_score: float,
        bound: int = 1_000,
        buckets: int = 20,
        filter: Filter | None = None,
        exclude: Iterable[str] = (),
        sha256: str | None = None,
    ) -> Found:
        """How many items score at least `min_score`, counted to `bound`, and what they have under metadata keys.

        buckets: values shown of a key, at most. The other arguments, and errors, as of `search`.
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

    def erase(self, stopped: Callable[[], bool] = ...) -> Erased:
        """Returns when what was deleted before the call is in no file of the storage any more, but for what it names.

        Searches and reads go on; writes wait for a part of it. stopped: asked often; True gives up, without harm.
        Raises StorageError, StoreCorrupt, StoreClosed.
        """
        ...

    def erase_due(self) -> float | None:
        """UTC seconds since when something that was deleted may still be in a file; None where nothing may."""
        ...

    def close(self) -> None:
        """Finishes what was written and gives the storage free. A second call does nothing."""
        ...
