"""A live index: what a collection searches, always exactly the items whose writes were applied, whatever structure
holds them.

The store is the truth. A structure (exact in memory, or compressed beside files) is made from it beside the one that
serves and takes its place in one step; whatever is wrong with the files here, they are thrown away and made again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from index.embedded.ann.exact import FlatIndex
from index.embedded.failpoints import Failpoints
from index.embedded.filters.fields import Matching
from index.embedded.live.builder import Builder
from index.embedded.live.current import Current
from index.embedded.live.generation import Generation
from index.embedded.live.state import Phase
from index.embedded.live.structure import Structure
from index.embedded.live.upkeep.policy import Action, Policy
from index.embedded.live.upkeep.upkeep import Upkeep
from index.embedded.store.collections import Head
from index.embedded.store.encoding import Stored, stored_type
from index.embedded.store.vectors import Keys, StoredVectors
from index.errors import CacheUnusable, IndexNotReady, StoreError
from index.info import Effort, FilteredRecall, IndexState, Recall
from index.items import Vector

_PILE = 4  # times `compress_from` that may wait in memory before a bulk import is held back
_PATIENCE = 3_600.0  # seconds that `verify` waits for a build


class LiveIndex:
    """Searches from any thread; changes come in the order of commit, from the writer alone."""

    def __init__(
        self, source: StoredVectors, directory: Path, policy: Policy, failpoints: Failpoints, *, load: bool = True
    ) -> None:
        """Loads what lies in `directory`. Without a usable index a large collection is built by a thread of its own.

        load: False for work that never searches; the files stay as they are, and the next load catches up.
        """
        self.source = source
        if stored_type(source.head.dim).itemsize > 2:  # few dimensions stay exact: in float16 their scores would not be
            policy = replace(policy, compress_from=sys.maxsize)
        self._policy = policy
        self._builder = Builder(source, directory, policy, failpoints)
        self._current = Current(source.head.name, source.head.seq, policy.recall)
        self._upkeep = Upkeep(self._current, source, self._builder, policy, failpoints)
        if load:
            self._upkeep.load()

    def rename(self, head: Head) -> None:
        """The same row under another name."""
        self.source = replace(self.source, head=head)
        self._current.name = head.name

    @property
    def recall(self) -> float:
        """Share of the true nearest that searches are to find."""
        return self._current.recall

    def want(self, recall: float) -> None:
        """As `recall`, from now on; searches become as hard as it takes in the background."""
        self._current.want(recall)
        self._upkeep.worker.wake()

    @property
    def kind(self) -> str:
        """`flat`, or the name of the compressed structure."""
        structure = self._current.structure
        return FlatIndex.kind if structure is None else structure.kind

    @property
    def failure(self) -> StoreError | None:
        """Why no search is possible now; None when all is well."""
        state = self._current.state
        return None if state.searched else state.refusal(self._current.name)

    @property
    def indexing(self) -> bool:
        """Whether work is under way, or nothing is searched until some was done."""
        return self._current.state.busy or self._upkeep.worker.running

    @property
    def detail(self) -> IndexState:
        """What it holds, and the work on it: for people, logs and metrics."""
        current, state, structure, figures = (
            self._current,
            self._current.state,
            self._current.structure,
            self._current.figures,
        )
        memory, disk = (0, 0) if structure is None else structure.nbytes
        note = state.note
        if isinstance(structure, Generation) and figures.spilt and not note:
            note = f"{figures.spilt} new vectors are kept in memory: {structure.spill_reason}"
        recall = effort = None
        if isinstance(structure, Generation) and (measured := structure.watch.measured) is not None:
            found, now = measured.recall, structure.watch.effort
            filtered = tuple(
                FilteredRecall(share, one.value, one.low, one.high) for share, one in measured.found.filtered
            )
            taken = round(measured.found.seconds, 3)
            recall = Recall(found.value, found.low, found.high, found.queries, measured.at, filtered, taken)
            shape = measured.shape
            effort = Effort(now.lists, now.most, now.depth, measured.tuning.exact, shape.axes, shape.bits)
        return IndexState(
            kind=self.kind,
            note=note,
            vectors=figures.alive,
            damaged=len(current.damaged),
            indexed=figures.indexed,
            tail=figures.tail,
            dead=figures.dead,
            trained=figures.trained,
            agreement=round(figures.agreement, 4),
            recall=recall,
            effort=effort,
            memory_bytes=memory,
            file_bytes=disk,
            action=None if state.action is None else state.action.value,
            progress=round(self._builder.progress, 3),
            last=self._upkeep.last,
            work=dict(self._upkeep.spent),
        )

    @property
    def damaged(self) -> frozenset[int]:
        """Keys of items that are left out because their stored vector is damaged."""
        return frozenset(self._current.damaged)

    def __len__(self) -> int:
        return self._current.figures.alive

    def keys(self) -> Keys:
        """Keys of every item, increasing: also of those whose vector is damaged."""
        current = self._current
        with current.lock:
            if current.structure is None or not current.state.searched:
                return np.sort(self.source.keys())
            return np.union1d(current.structure.alive(), np.array(list(current.damaged), np.int64))

    def apply(self, added: Keys, vectors: Stored, ids: Sequence[str], removed: Keys, sequence: int) -> None:
        """Follows a committed change.

        added: increasing keys with stored vectors (n, dim) and ids; removed: any keys.
        """
        self._current.apply(added, vectors, ids, removed, sequence)
        self._upkeep.worker.wake()

    def search(self, query: Vector, k: int, matching: Matching | None = None) -> tuple[Vector, Keys]:
        """query float32 (dim,), unit → scores float32 (m,) in -1…1, descending, and keys int64 (m,), m <= k.

        Raises IndexNotReady while no structure answers.
        """
        structure = self._current.searched
        k = min(k, len(structure))
        if k < 1 or (matching is not None and not len(matching)):
            return np.empty(0, np.float32), np.empty(0, np.int64)
        self._current.asked.note(query)
        try:
            scores, keys = structure.search(query, k, matching)
        except CacheUnusable as error:
            raise self.distrust(error, structure) from error
        return clipped(scores), keys

    def nearest(self, queries: Vector, k: int) -> tuple[Vector, Keys, dict[int, str]]:
        """`search` of many, float32 (n, dim) → scores and keys (n, m), m <= k, and the ids of those keys known here.

        Missing places hold -inf and -1.
        """
        structure = self._current.searched
        try:
            scores, keys = structure.nearest(queries, max(0, min(k, len(structure))))
            ids = structure.names(np.unique(keys[keys >= 0]))
        except CacheUnusable as error:
            raise self.distrust(error, structure) from error
        return np.where(keys < 0, scores, np.clip(scores, -1.0, 1.0)), keys, ids

    def distrust(self, error: Exception, seen: Structure | None = None) -> IndexNotReady:
        """The structure that serves (`seen`, where given) is wrong: nothing is searched until it is built anew."""
        if self._current.distrust(error, seen):
            self._upkeep.distrusted()
        name = self._current.name
        return IndexNotReady(f"the search index of {name!r} is being built from the store; try again shortly")

    def wake(self) -> None:
        """Starts the work that is due, where none is under way."""
        self._upkeep.worker.wake()

    def wait(self, timeout: float) -> bool:
        """Whether, within `timeout` seconds, no work is left to do."""
        return self._upkeep.worker.wait(timeout)

    def wait_for_room(self) -> None:
        """Holds a bulk import back while exact vectors pile up in memory faster than a first build takes them over."""
        current, most = self._current, _PILE * self._policy.compress_from
        while not (figures := current.figures).compressed and figures.alive > most:
            if self._builder.stop.wait(0.05) or current.state.action is not Action.BUILD:
                return

    def renew(self, timeout: float) -> bool:
        """Makes files anew that hold what was removed; whether that was done within `timeout` seconds."""
        return self._upkeep.renew(timeout)

    def save(self) -> None:
        """Writes the index file where it is not up to date, so that the next start need not replay. Raises OSError."""
        self._upkeep.save()

    def verify(self) -> Iterator[str]:
        """One line for each thing wrong between the search index and the store, checking every row.

        Loads the index where that was left out, and waits for a build under way.
        """
        current = self._current
        if current.state.phase is Phase.EMPTY:
            self._upkeep.load()
        self.wait(_PATIENCE)
        with current.lock:
            structure = current.structure
            if structure is None or not current.state.searched:
                yield str(current.state.refusal(current.name))
                return
        lost, extra = self._differences()
        if len(lost) or len(extra):
            # A change may be in the store and not applied yet; between two changes of the writer none is.
            lost, extra = self.source.store.writer.call(lambda _: self._differences())
        if len(lost) or len(extra):
            yield f"the search index lacks {len(lost)} items and holds {len(extra)} that are gone"
        try:
            structure.verify()
        except CacheUnusable as error:
            yield str(error)

    def _differences(self) -> tuple[Keys, Keys]:
        """Keys that the store has and the index lacks, and the other way round."""
        with self._current.lock:
            stored, keys = self.source.keys(), self.keys()
        return np.setdiff1d(stored, keys), np.setdiff1d(keys, stored)

    def close(self, *, discard: bool = False) -> None:
        """Ends the work and saves; with `discard`, removes the files instead."""
        self._upkeep.close(discard=discard)


def clipped(scores: Vector) -> Vector:
    """Descending scores inside -1…1, past which rounding may lead."""
    if len(scores) and (scores[0] > 1.0 or scores[-1] < -1.0):
        return np.clip(scores, -1.0, 1.0)
    return scores
