"""What a collection searches: always exactly the items whose writes were applied, whatever structure holds them.

Small collections are searched exactly in memory; larger ones by a generation (see `generation`). A new structure
is built from the store beside the old one, and takes its place in one step. The store is the truth: whatever is wrong
with the files here, they are thrown away and built again.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pyroaring import BitMap

from index.embedded.ann.exact import FlatIndex
from index.embedded.failpoints import Failpoints
from index.embedded.filters.fields import Matching
from index.embedded.live import warm
from index.embedded.live.builder import Builder, BuildStopped
from index.embedded.live.generation import Generation, clipped
from index.embedded.live.policy import Action, Figures, Policy
from index.embedded.live.rwlock import ReadWriteLock
from index.embedded.store.encoding import Stored, stored_type
from index.embedded.store.vectors import Keys, StoredVectors
from index.errors import CacheUnusable, CollectionNotFound, IndexNotReady, StoreClosed, StoreCorrupt, StoreError
from index.types import IndexState, Spent, Vector, Work

_PILE = 4  # times `compress_from` that may wait in memory before a bulk import is held back
_PATIENCE = 3_600.0  # seconds that `verify` waits for a build
_GRACE = 5.0  # seconds that `close` waits for the worker
_TOMBSTONES = 10_000  # left in the store by a collection that has no index file to replay them into
_RETRY = 60.0  # seconds before work that failed is tried again
_log = logging.getLogger("lookalike.index")


class LiveIndex:
    """Searches from any thread; changes come in the order of commit, from the writer alone."""

    def __init__(
        self, source: StoredVectors, directory: Path, policy: Policy, failpoints: Failpoints, *, load: bool = True
    ) -> None:
        """Loads what lies in `directory`. Without a usable index a large collection is built behind the scenes.

        load: False for work that never searches; the files stay as they are, and the next load catches up.
        """
        self.source = source
        if stored_type(source.head.dim).itemsize > 2:  # few dimensions stay exact: in float16 their scores would not be
            policy = replace(policy, compress_from=sys.maxsize)
        self._builder = Builder(source, directory, policy, failpoints)
        self._policy = policy
        self._failpoints = failpoints
        self._dim = source.head.dim
        self._changing = threading.RLock()  # keeps changes, merges and take-overs apart
        self._flat_lock = ReadWriteLock()
        self._flat: FlatIndex | None = None
        self._big: Generation | None = None
        self._failure: StoreError | None = IndexNotReady(f"the search index of {source.head.name!r} is loading")
        self._removed: BitMap | None = None  # keys removed while a build reads the store
        self._sequence = source.head.seq
        self._unsaved = 0
        self._action: Action | None = None
        self._last: Work | None = None
        self._work_done: dict[str, Spent] = {}  # by action
        self._retry_at = 0.0
        self._worker: threading.Thread | None = None
        self._asleep = not load
        if load:
            self._load()

    @property
    def kind(self) -> str:
        """`flat`, or the name of the compressed structure."""
        big = self._big
        return FlatIndex.kind if big is None else big.kind

    @property
    def failure(self) -> StoreError | None:
        """Why no search is possible now; None when all is well."""
        return self._failure

    @property
    def indexing(self) -> bool:
        """Whether a build or merge is under way, or a rebuild is needed."""
        return self._action is not None or self._failure is not None

    @property
    def detail(self) -> IndexState:
        """What it holds, and the work on it: for people, logs and metrics."""
        big, figures = self._big, self._figures()
        memory, disk = (0, 0) if big is None else big.nbytes
        return IndexState(
            kind=self.kind,
            vectors=figures.alive,
            indexed=figures.indexed,
            tail=figures.tail,
            dead=figures.dead,
            trained=figures.trained,
            agreement=round(figures.agreement, 4),
            memory_bytes=memory,
            file_bytes=disk,
            action=None if self._action is None else self._action.value,
            progress=round(self._builder.progress, 3),
            last=self._last,
            work=dict(self._work_done),
        )

    def __len__(self) -> int:
        return self._figures().alive

    def keys(self) -> Keys | None:
        """Keys a search may find, increasing; None while the index is not ready."""
        with self._changing:
            if self._failure is not None:
                return None
            if self._big is not None:
                return self._big.alive()
            return None if self._flat is None else self._flat.keys

    def apply(self, added: Keys, vectors: Stored, ids: Sequence[str], removed: Keys, sequence: int) -> None:
        """Follows a committed change.

        added: increasing keys with stored vectors (n, dim) and ids; removed: any keys.
        """
        with self._changing:
            self._sequence = max(self._sequence, sequence)
            if self._removed is not None:
                self._removed |= BitMap(removed.tolist())
            if self._big is not None:
                self._big.append(added, vectors, ids)
                self._big.remove(removed)
                self._unsaved += len(added) + len(removed)
            elif self._flat is not None:
                with self._flat_lock.writing():
                    fresh = added > self._flat.last_key
                    self._flat.add(added[fresh], vectors[fresh])
                    self._flat.remove(removed)
            if isinstance(self._failure, StoreCorrupt) and len(removed):
                self._retry_at = 0.0  # what was removed may be the damaged item
        self.wake()

    def search(self, query: Vector, k: int, matching: Matching | None = None) -> tuple[Vector, Keys]:
        """query float32 (dim,), unit → scores float32 (m,) in -1…1, descending, and keys int64 (m,), m <= k.

        Raises IndexNotReady while the index is loading or rebuilt, StoreCorrupt where a stored vector is damaged.
        """
        big = self._big
        if self._failure is not None:
            raise self._failure
        if k < 1 or (matching is not None and not len(matching)):
            return np.empty(0, np.float32), np.empty(0, np.int64)
        if big is not None:
            try:
                scores, keys = big.search(query, min(k, len(big)), matching)
            except CacheUnusable as error:
                raise self.distrust(error, big) from error
            return clipped(scores), keys
        flat = self._flat
        if flat is None:
            return self.search(query, k, matching)  # a generation has just taken its place
        among = None if matching is None else np.frombuffer(matching.keys.to_array(), np.uint32).astype(np.int64)
        with self._flat_lock.reading():
            found, found_keys = flat.search(query[None], min(k, len(flat)), among)
        known = found_keys[0] >= 0
        return clipped(found[0][known]), found_keys[0][known]

    def names(self, keys: Keys) -> list[str] | None:
        """Ids of keys a search has just found, without SQL; None where only the store knows them."""
        big = self._big
        if big is None:
            return None
        try:
            return big.names(keys)
        except CacheUnusable as error:
            raise self.distrust(error, big) from error

    def distrust(self, error: Exception, seen: Generation | None = None) -> IndexNotReady:
        """The structure that serves is wrong: nothing is searched until it is rebuilt from the store."""
        name = self.source.head.name
        failure = IndexNotReady(f"the search index of {name!r} is being rebuilt from the store; try again shortly")
        with self._changing:
            if self._failure is not None or (seen is not None and seen is not self._big):
                return failure  # known, or of a structure that serves no more
            _log.error("collection %s: index not to be trusted, rebuilding it from the store: %s", name, error)
            self._failure = failure
            self._retry_at = 0.0
        self.wake()
        return failure

    def wake(self) -> None:
        """Starts the worker where there is something to do behind the scenes."""
        with self._changing:
            idle = self._worker is None and not self._asleep and not self._builder.stop.is_set()
            if idle and self._next() is not None:
                self._worker = threading.Thread(target=self._work, name="index-worker", daemon=True)
                self._worker.start()

    def wait(self, timeout: float) -> bool:
        """Whether, within `timeout` seconds, nothing is left to do behind the scenes."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            worker = self._worker
            if worker is None:
                return True
            worker.join(min(1.0, max(0.0, deadline - time.monotonic())))
        return self._worker is None

    def wait_for_room(self) -> None:
        """Holds a bulk import back while exact vectors pile up in memory faster than a first build takes them over."""
        while (flat := self._flat) is not None and len(flat) > _PILE * self._policy.compress_from:
            if self._builder.stop.wait(0.05) or self._action is not Action.BUILD:
                return

    def save(self) -> None:
        """Writes the index file now, so that the next start need not replay; for `close` and for tests."""
        big = self._big
        if big is not None and self._failure is None and (self._unsaved or big.saved < 0):
            self._save(big)

    def verify(self) -> Iterator[str]:
        """One line for each thing wrong between the search index and the store, checking every row.

        Loads the index where that was left out, and waits for a build under way.
        """
        if self._asleep:
            self._load()
        self.wait(_PATIENCE)
        with self._changing:
            keys, big = self.keys(), self._big
            if keys is None:
                yield f"the search index is not ready: {self._failure}"
                return
            stored = self.source.keys()
        lost, extra = np.setdiff1d(stored, keys), np.setdiff1d(keys, stored)
        if len(lost) or len(extra):
            yield f"the search index lacks {len(lost)} items and holds {len(extra)} that are gone"
        if big is not None:
            try:
                big.verify()
            except CacheUnusable as error:
                yield str(error)

    def close(self, *, discard: bool = False) -> None:
        """Stops the work behind the scenes and saves; with `discard`, removes the files instead."""
        self._builder.stop.set()
        if discard:
            self._failure = CollectionNotFound(f"collection {self.source.head.name!r} was removed")
        worker = self._worker
        if worker is not None and worker is not threading.current_thread():
            worker.join(_GRACE)
            # Training cannot be interrupted. What it was for is thrown away; its files are swept at the next load.
            self._builder.left = worker.is_alive()
        if self._builder.left:
            return
        if self._big is not None and not discard:
            try:
                self.save()
            except (OSError, StoreError) as error:  # the next start replays more
                _log.warning("collection %s: index not saved: %s", self.source.head.name, error)
            self._big.close()
        if discard:
            if self._big is not None:
                self._big.close()
            shutil.rmtree(self._builder.directory, ignore_errors=True)

    # Loading

    def _load(self) -> None:
        began, name = time.monotonic(), self.source.head.name
        with self._changing:
            self._asleep = False
            for directory in reversed(self._builder.generations()):
                if self._big is None:
                    try:
                        self._big, self._unsaved = self._builder.resume(directory)
                        continue
                    except CacheUnusable as error:
                        _log.warning("collection %s: %s", name, error)
                    except StoreCorrupt as error:
                        self._failure = error
                shutil.rmtree(directory, ignore_errors=True)
            if self._big is not None:
                self._failure = None
                _log.info("collection %s: index loaded in %.2f s", name, time.monotonic() - began)
                warm.begin(self._big, name, self._builder.stop)
            elif self.source.now().count < self._policy.compress_from:
                try:
                    self._build()
                except StoreCorrupt as error:
                    _log.error("%s", error)
                    self._retry_at = time.monotonic() + _RETRY
        self.wake()

    # Behind the scenes

    def _holding(self) -> Generation | FlatIndex | None:
        big = self._big
        return big if big is not None else self._flat

    def _figures(self) -> Figures:
        big = self._big
        if big is None:
            return Figures(False, 0 if self._flat is None else len(self._flat))
        return Figures(True, len(big), big.indexed, big.tail, big.dead, big.trained, self._unsaved, big.agreement)

    def _next(self) -> Action | None:
        if time.monotonic() < self._retry_at:
            return None
        return Action.BUILD if self._failure is not None else self._policy.next(self._figures())

    def _work(self) -> None:
        while True:
            with self._changing:
                action = None if self._builder.stop.is_set() else self._next()
                self._action = action
                self._builder.progress = 0.0
                if action is None:
                    self._worker = None
                    return
            began = time.monotonic()
            try:
                rows = self._do(action)
                seconds = time.monotonic() - began
                before = self._work_done.get(action.value, Spent())
                self._work_done[action.value] = Spent(before.runs + 1, before.seconds + seconds)
                self._last = Work(action.value, rows, round(seconds, 3), time.time())
                level = logging.INFO if action is Action.BUILD else logging.DEBUG
                _log.log(level, "collection %s: %s of %d in %.2f s", self.source.head.name, action.value, rows, seconds)
            except (BuildStopped, CollectionNotFound, StoreClosed):
                with self._changing:
                    self._action = self._worker = None
                return
            except Exception as error:  # noqa: BLE001 - the worker tries again later; searches go on where they can
                with self._changing:
                    self._retry_at = time.monotonic() + _RETRY
                    if isinstance(error, StoreCorrupt) and self._failure is not None:
                        self._failure = error
                _log.exception(
                    "collection %s: %s failed, trying again in a minute", self.source.head.name, action.value
                )

    def _do(self, action: Action) -> int:
        big = self._big
        if action is Action.BUILD or big is None:
            return self._build()
        if action is Action.MERGE:
            self._failpoints.hit("index.before_merge")
            return big.merge(self._changing)
        self._save(big)
        return big.indexed

    def _save(self, big: Generation) -> None:
        with self._changing:
            sequence, self._unsaved = self._sequence, 0
        big.save(sequence, self._failpoints)
        with contextlib.suppress(StoreClosed):
            self.source.forget(sequence)

    def _build(self) -> int:
        """Reads the whole collection from the store into a new structure, and lets it take the old one's place."""
        with self._changing:
            self._removed = BitMap()
        try:
            if self.source.now().count < self._policy.compress_from:
                return self._build_flat()
            return self._build_generation()
        except StoreCorrupt as error:
            with self._changing:
                if self._holding() is None:
                    self._failure = error
            raise
        finally:
            with self._changing:
                self._removed = None

    def _build_flat(self) -> int:
        flat = self._builder.flat()
        with self._changing:
            self._builder.catch_up(flat)
            flat.remove(self._taken())
            old, self._flat, self._big = self._big, flat, None
            self._failure = None
        if old is not None:
            old.discard()
        if len(self.source.removed_since(0)) > _TOMBSTONES:
            self.source.forget(self._sequence)
        return len(flat)

    def _build_generation(self) -> int:
        big = self._builder.generation()
        with self._changing:
            self._builder.catch_up(big)
            big.remove(self._taken())
            old, self._big, self._flat = self._big, big, None
            self._failure = None
        self._save(big)
        if old is not None:
            old.discard()
        return len(big)

    def _taken(self) -> Keys:
        return np.array([] if self._removed is None else self._removed.to_array(), np.int64)
