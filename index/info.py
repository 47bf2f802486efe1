"""CollectionInfo: a collection and its search index in numbers, alike for every engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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
class FilteredRecall:
    """As `Recall`, where a random `share` (0…1) of the items pass a filter."""

    share: float
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Recall:
    """Share of the true ten nearest that searches find, measured on a sample of the collection's own vectors.

    value: as measured; low, high: its 95 % interval; queries: how many were asked; measured_at: UTC seconds. filtered:
    the same under filters that a share of the items pass; seconds: that measuring took.
    """

    value: float
    low: float
    high: float
    queries: int
    measured_at: float
    filtered: tuple[FilteredRecall, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard a search for ten looks: into `lists` to `most_lists` of the lists, re-scoring `depth` vectors.

    exact: instead, every vector is compared. axes, bits: kept of each vector in the lists, at so many bits an axis.
    """

    lists: int
    most_lists: int
    depth: int
    exact: bool
    axes: int = 0
    bits: int = 1


@dataclass(frozen=True, slots=True)
class IndexState:
    """A search index, in numbers of vectors, bytes and shares 0…1; what an engine does not count is 0.

    kind: the structure's name. vectors: may be found; indexed: in the compressed part, removed ones included; tail:
    newer, searched exactly; dead: removed but still taking room; trained: there when the compressed part was trained;
    agreement: share of a far harder search's answers that an ordinary one finds; recall: what was measured, None before
    and where the search is exact anyway; effort: chosen by that; damaged: items whose stored vector is
    damaged, left out until they are written anew. action: the work under way (`build`, `merge`, `measure`, `save`),
    None when idle; progress: of that build; last: the work finished last; work: by action. note: what went wrong, and
    what is done about it; empty when all is well.
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
    merge of the index is under way, or a rebuild is needed. recall: share of the true nearest that searches are to find
    at least; recall_set: whether it was set by hand.
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
    recall: float = 1.0
    recall_set: bool = False

    @property
    def index_kind(self) -> str:
        """The search structure's name."""
        return self.index.kind
