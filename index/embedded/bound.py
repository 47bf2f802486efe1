"""What a collection's name means now: a row of the store, the search index and the filters over it.

Replaced as a whole when the collection is emptied or bound to another model.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from index.embedded.filters.fields import Fields
from index.embedded.filters.sorted import bitmap, bitmap_of
from index.embedded.live.live import LiveIndex
from index.embedded.live.upkeep.policy import Policy
from index.embedded.store import items
from index.embedded.store.collections import Head
from index.embedded.store.rows import Broken
from index.embedded.store.store import Store
from index.embedded.store.vectors import StoredVectors
from index.embedded.store.walk import Gap

_AT_ONCE = 20_000  # rows that a start checks before it serves; more are checked beside
_NAMED = 10  # damaged items that a log line names
_log = logging.getLogger("lookalike.index")


@dataclass(slots=True)
class Bound:
    """threshold, recall: set by hand, else None. broken: keys of damaged rows met so far, left out of everything."""

    head: Head
    threshold: float | None
    recall: float | None
    source: StoredVectors
    index: LiveIndex
    fields: Fields
    broken: frozenset[int] = frozenset()
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def load(
        cls, store: Store, head: Head, threshold: float | None, recall: float | None, policy: Policy, *, indexes: bool
    ) -> Bound:
        """policy: with the recall that searches are to have. indexes: whether the search index is loaded, or made, and
        the rows of a small collection are checked.
        """
        source = StoredVectors(store, head)
        directory = store.directory / "index" / str(head.id)
        index = LiveIndex(source, directory, policy, store.failpoints, load=indexes)
        fields = Fields(bitmap(index.keys()), source.metadata)
        bound = cls(head, threshold, recall, source, index, fields)
        bound.follow()
        if indexes and head.count <= _AT_ONCE:
            bound.check()
        return bound

    def __post_init__(self) -> None:
        self.source.met = self.leave_out

    @property
    def large(self) -> bool:
        """Whether `check` is left to be called beside the serving."""
        return self.head.count > _AT_ONCE

    @property
    def damaged(self) -> int:
        """Items that are left out because what is stored of them does not match its checksum."""
        return len(self.broken.union(self.index.damaged))

    def check(self, pause: Callable[[], bool] = lambda: False) -> None:
        """Reads every row and leaves out what is damaged. pause: called between slices; True ends it."""
        for part in self.source.rows():
            if isinstance(part, Gap):
                self.leave_out(self.source.keys_between(part.after, part.until))
            else:
                self.leave_out(row.key for row in part if isinstance(row, Broken))
            if pause():
                return

    def leave_out(self, keys: Iterable[int]) -> None:
        """These rows are damaged: they pass no filter, are no result, and are counted."""
        with self._lock:
            new = frozenset(keys) - self.broken
            self.broken |= new
        if new:
            self.fields.leave_out(bitmap_of(new))
            self._say(new)

    def reset(self) -> None:
        """The filters start over from the store."""
        self.fields.reset(bitmap(self.source.keys()))
        self.fields.leave_out(bitmap_of(self.broken))

    def follow(self) -> None:
        """What the index has left out since is left out here too."""
        if damaged := self.index.damaged - self.broken:
            with self._lock:
                self.broken |= damaged
            self.fields.leave_out(bitmap_of(damaged))

    def heal(self, removed: Iterable[int]) -> None:
        """These rows are gone; what was written anew has other keys."""
        if self.broken:
            with self._lock:
                self.broken -= frozenset(removed)

    def _say(self, keys: frozenset[int]) -> None:
        with self.source.store.readers.connection() as connection:
            known = items.indexed_ids(connection, self.head.id, sorted(keys)[:_NAMED])
        names = ", ".join(known.get(key, f"number {key}") for key in sorted(keys)[:_NAMED])
        _log.error(
            "collection %s: %d items are damaged on disk and left out (%s%s); upload them again or delete them",
            *(self.head.name, len(keys), names, ", …" if len(keys) > _NAMED else ""),
        )
