"""A binding: a collection's name, the row it names now, and what is known of it.

The name outlives its row in the store: emptied, it names another one; dropped, every call raises.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Self

import apsw

from index.embedded.bound import Bound
from index.embedded.live.live import LiveIndex
from index.embedded.live.upkeep.policy import Policy
from index.embedded.store import collections
from index.embedded.store.collections import Head
from index.embedded.store.records import StoredRecords
from index.embedded.store.store import Store
from index.errors import (
    CollectionNotFound,
    InvalidRecall,
    RecordNotFound,
    StoreCorrupt,
)
from index.filters import is_number
from index.info import CollectionInfo
from index.limits import MIN_RECALL, RECALL_RULE

_THRESHOLD, _RECALL = ("threshold", "manual"), ("recall", "manual")  # kind and name of the record
_PAUSE = 0.05  # seconds between slices of a check beside the serving


class Binding:
    """The part of a collection that its reads and writes have in common."""

    def __init__(self, store: Store, head: Head, *, policy: Policy, indexes: bool) -> None:
        self._store = store
        self._policy = policy
        self._indexes = indexes
        self._name = head.name
        self._gone = False
        self._revision = 0
        self._records = StoredRecords(
            store.writer, store.readers, lambda connection: self._row(connection).id, self._reread
        )
        self._state = self._bind(head)

    @property
    def _bound(self) -> Bound:
        if self._gone:
            raise CollectionNotFound(f"no collection {self._name!r}; create it first")
        return self._state

    @property
    def name(self) -> str:
        return self._name

    @property
    def model(self) -> str:
        return self._bound.head.model

    @property
    def fingerprint(self) -> str:
        return self._bound.head.fingerprint

    @property
    def dim(self) -> int:
        return self._bound.head.dim

    @property
    def score_threshold(self) -> float | None:
        return self._bound.threshold

    @property
    def recall(self) -> float | None:
        return self._bound.recall

    @property
    def records(self) -> StoredRecords:
        """Records that go when the collection is dropped or emptied."""
        return self._records

    @property
    def revision(self) -> int:
        """As `Collection.revision`."""
        return self._revision

    @property
    def ready(self) -> bool:
        """As `Collection.ready`."""
        return self._bound.index.failure is None

    @property
    def index(self) -> LiveIndex:
        """The search index as it is bound now; for maintenance and tests."""
        return self._state.index

    @property
    def version(self) -> str:
        """As `Collection.version`."""
        head = self._head()
        return f"{head.token}-{head.seq}"

    @property
    def cache(self) -> Path:
        """As `Collection.cache`: beside the search index, whose folder is the row's own."""
        return self._store.directory / "index" / str(self._bound.head.id) / "analysis"

    @property
    def sequence(self) -> int:
        """As `Collection.sequence`."""
        return self._head().seq

    def info(self) -> CollectionInfo:
        """As of now; count and bytes from the store."""
        head, bound = self._head(), self._bound
        return CollectionInfo(
            name=head.name,
            count=head.count,
            model=head.model,
            fingerprint=head.fingerprint,
            dim=head.dim,
            score_threshold=bound.threshold,
            indexing=bound.index.indexing,
            bytes=head.bytes,
            created_at=head.created_at,
            index=replace(bound.index.detail, filter_bytes=bound.fields.nbytes, damaged=bound.damaged),
            recall=bound.index.recall,
            recall_set=bound.recall is not None,
        )

    def set_score_threshold(self, threshold: float | None) -> None:
        """None: back to what is calibrated, or the model's."""
        if threshold is not None:
            self._records.put(*_THRESHOLD, {"score": threshold})
            return
        with contextlib.suppress(RecordNotFound):
            self._records.delete(*_THRESHOLD)

    def set_recall(self, recall: float | None) -> None:
        """As `Collection.set_recall`."""
        if recall is not None:
            if not is_number(recall) or not MIN_RECALL <= recall <= 1:
                raise InvalidRecall(f"a recall is {RECALL_RULE}")
            self._records.put(*_RECALL, {"recall": recall})
            return
        with contextlib.suppress(RecordNotFound):
            self._records.delete(*_RECALL)

    def check(self, stop: threading.Event) -> None:
        """Reads every row of a large collection, a tenth of the time, and leaves out what is damaged."""
        bound = self._state
        if bound.large and self._indexes:
            bound.check(partial(stop.wait, _PAUSE))

    def close(self) -> None:
        """Ends the background work and saves the search index; the catalogue closes the store after."""
        self._state.index.close()

    def rebind(self, head: Head) -> LiveIndex:
        """The name means another row from now on; in the writer thread. Returns the index nobody uses any more."""
        old, self._state = self._state.index, self._bind(head)
        self._revision += 1
        return old

    def trade(self, other: Self, ours: Head, theirs: Head) -> None:
        """This name means the other's row from now on, and the other for this one's; in the writer thread.

        ours, theirs: the rows that this one and the other mean then, with their names.
        """
        self._state, other._state = (
            replace(other._state, head=ours),
            replace(self._state, head=theirs),
        )
        other._name = theirs.name
        for each in (self, other):
            each._state.index.rename(each._state.head)
            each._revision += 1

    def dropped(self, gone: bool) -> None:
        """The collection is being removed, or was not after all; in the writer thread, where no write comes between."""
        self._gone = gone

    def _reread(self) -> None:
        self._revision += 1
        if not self._gone:
            recall = self._set(_RECALL, "recall")
            self._state = replace(self._state, threshold=self._set(_THRESHOLD, "score"), recall=recall)
            self._state.index.want(self._policy.recall if recall is None else recall)

    def _set(self, record: tuple[str, str], part: str) -> float | None:
        """What was set by hand; None where nothing was, or what was is damaged."""
        try:
            value = self._records.get(*record).value[part]
        except (RecordNotFound, StoreCorrupt, KeyError):
            return None
        return float(value) if is_number(value) else None

    def _row(self, connection: apsw.Connection) -> Head:
        # By name: emptied meanwhile, the collection goes on. Removed, it does not, even if another has its name now.
        if self._gone:
            raise CollectionNotFound(f"no collection {self._name!r}; create it first")
        return collections.head(connection, self._name)

    def _head(self) -> Head:
        with self._store.readers.connection() as connection:
            return self._row(connection)

    def _bind(self, head: Head) -> Bound:
        threshold, recall = self._set(_THRESHOLD, "score"), self._set(_RECALL, "recall")
        policy = self._policy if recall is None else replace(self._policy, recall=recall)
        return Bound.load(self._store, head, threshold, recall, policy, indexes=self._indexes)
