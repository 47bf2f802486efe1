"""The upkeep of a live index: it is loaded, built, merged and saved, by one thread, as the policy says.

Work that fails is tried again after a pause that doubles each time. Where index files cannot be had (no space, nothing
that can be written to) and nothing serves, the collection is searched exactly, if memory holds it.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Callable

from index.embedded.failpoints import Failpoints
from index.embedded.live.builder import Builder, BuildStopped, Made
from index.embedded.live.current import Current
from index.embedded.live.generation import Generation
from index.embedded.live.reading import Reading
from index.embedded.live.state import Phase
from index.embedded.live.upkeep import warm
from index.embedded.live.upkeep.policy import Action, Policy
from index.embedded.live.upkeep.worker import Worker
from index.embedded.store.vectors import StoredVectors
from index.errors import CacheUnusable, CollectionNotFound, StoreClosed, StoreCorrupt, StoreError
from index.info import Spent, Work

_GRACE = 5.0  # seconds that `close` waits for the worker
_TOMBSTONES = 10_000  # left in the store by a collection that has no index file to replay them into
_log = logging.getLogger("lookalike.index")


class Upkeep:
    """last: the work finished last; spent: by action."""

    def __init__(
        self, current: Current, source: StoredVectors, builder: Builder, policy: Policy, failpoints: Failpoints
    ) -> None:
        self.worker = Worker(lambda: self._due() is not None, self._step, builder.stop)
        self.last: Work | None = None
        self.spent: dict[str, Spent] = {}
        self._current = current
        self._source = source
        self._builder = builder
        self._policy = policy
        self._failpoints = failpoints
        self._retry_at = 0.0
        self._timer = _timer(0.0, self.worker.wake)
        self._renewals = self._renewed = 0  # asked for, and the last one that a build has seen

    @property
    def progress(self) -> float:
        """Of the build under way, 0…1."""
        return self._builder.progress

    def load(self) -> None:
        """Takes up the newest usable files; without any, a small collection is read now and a large one built later."""
        began, current = time.monotonic(), self._current
        with current.lock:
            current.state = current.state.load()
            try:
                self._resume()
                if isinstance(current.structure, Generation):
                    _log.info("collection %s: index loaded in %.2f s", current.name, time.monotonic() - began)
                    warm.begin(current.structure, current.name, self._builder.stop)
                elif self._source.now().count < self._policy.compress_from:
                    self._take_over(self._builder.exact())
            except StoreCorrupt as error:
                self._failed(str(error))
                _log.error("%s", error)
        self.worker.wake()

    def save(self) -> None:
        """Writes the index file where it is not up to date and no work is under way. Raises OSError."""
        with self._current.lock:
            big, state = self._current.structure, self._current.state
        if isinstance(big, Generation) and state.searched and not state.action and (big.unsaved or big.saved < 0):
            self._save(big)

    def renew(self, timeout: float) -> bool:
        """Makes files anew that hold what was removed; whether that was done within `timeout` seconds.

        What serves goes on serving. Queries that were remembered go too: one may be an item's own vector.
        """
        current, until = self._current, time.monotonic() + timeout
        with current.lock:
            current.asked.forget()
            if not isinstance(current.structure, Generation) or current.state.phase is Phase.CLOSED:
                return True
            self._renewals += 1
            wanted, self._retry_at = self._renewals, 0.0
        while self._renewed < wanted and not self._builder.stop.is_set():
            self.worker.wake()
            done = self.worker.wait(until - time.monotonic())
            if not done or time.monotonic() < self._retry_at or self._builder.stop.wait(0.01):
                break
        return self._renewed >= wanted

    def distrusted(self) -> None:
        """A build is due, at once."""
        self._retry_at = 0.0
        self.worker.wake()

    def close(self, *, discard: bool) -> None:
        """Ends the work and saves; with `discard`, removes the files instead."""
        current = self._current
        self._builder.stop.set()
        self._timer.cancel()
        if discard:  # at once: nobody is to find it any more
            self._closed(dropped=True)
        # Training cannot be interrupted. What it was for is thrown away; its files are swept at the next load.
        self._builder.left = not self.worker.close(_GRACE)
        if not self._builder.left and discard:
            if current.structure is not None:
                current.structure.discard()
            shutil.rmtree(self._builder.directory, ignore_errors=True)
        elif not self._builder.left and current.structure is not None:
            try:
                self.save()
                current.structure.close()
            except (OSError, StoreError) as error:  # the next start replays more
                _log.warning("collection %s: index not saved: %s", current.name, error)
        self._closed(dropped=discard)

    def _due(self) -> Action | None:
        state = self._current.state
        if time.monotonic() < self._retry_at or state.phase in (Phase.EMPTY, Phase.CLOSED):
            return None
        stale = self._renewed < self._renewals
        return self._policy.next(self._current.figures) if state.searched and not stale else Action.BUILD

    def _step(self) -> None:
        current = self._current
        with current.lock:
            action = self._due()
            if action is None:
                return
            current.state = current.state.begin(action)
            self._builder.progress = 0.0
        began = time.monotonic()
        try:
            rows = self._do(action)
        except (BuildStopped, CollectionNotFound, StoreClosed):
            self._builder.stop.set()
            self._finished()
        except Exception as error:  # noqa: BLE001 - logged and tried again; what serves goes on
            if isinstance(error, CacheUnusable) and action is not Action.BUILD:
                self._finished()
                current.distrust(error, None)
                return
            reason, bug = _reason(error), not isinstance(error, OSError | StoreError)
            _log.error(
                "collection %s: %s failed, it is tried again: %s", current.name, action.value, reason, exc_info=bug
            )
            self._failed(_exactly(reason) if current.state.phase is Phase.EXACT else reason)
        else:
            self._note(action, rows, time.monotonic() - began)
            self._finished()

    def _do(self, action: Action) -> int:
        big = self._current.structure
        if action is Action.BUILD or not isinstance(big, Generation):
            return self._build()
        if action is Action.MERGE:
            self._failpoints.hit("index.before_merge")
            self._settle(big)
            return big.merge(self._current.lock, breathe=self._builder.check)
        if action is Action.MEASURE:
            return big.measure(self._builder.check)
        self._save(big)
        return big.figures.indexed

    def _build(self) -> int:
        """Reads the whole collection from the store into a new structure, and lets it take the old one's place."""
        note, current, renewals = "", self._current, self._renewals
        serving = current.structure
        start = serving.watch.shape if isinstance(serving, Generation) else None
        if self._source.now().count < self._policy.compress_from:
            made = self._builder.exact()
        else:
            try:
                made = self._builder.generation(current.asked, current.recall, start)
            except (BuildStopped, CollectionNotFound, StoreClosed, StoreCorrupt):
                raise
            except Exception as error:
                if self._current.state.searched or not self._builder.fits_in_memory():
                    raise
                note = _exactly(_reason(error))
                _log.error("collection %s: %s", self._current.name, note)
                made = self._builder.exact()
        self._take_over(made, note)
        self._renewed = renewals
        if not isinstance(made.structure, Generation) and len(self._source.removed_since(0)) > _TOMBSTONES:
            self._source.forget(self._current.sequence)
        return len(made.structure)

    def _take_over(self, made: Made, note: str = "") -> None:
        current = self._current
        try:
            with current.lock:
                self._builder.check()
                old = current.take_over(made, self._source.removed_since(made.began.seq), note)
        except BaseException:
            if not self._builder.left:
                made.structure.discard()
            raise
        if note:
            self._retry()
        try:
            if isinstance(made.structure, Generation) and made.structure.saved < 0:
                self._save(made.structure)
        except OSError as error:
            _log.warning("collection %s: the index that was built is not saved yet: %s", current.name, error)
        finally:
            if old is not None:
                old.discard()

    def _settle(self, big: Generation) -> None:
        """Brings what was spilt into the files, in slices that searches and writes hardly wait for."""
        while big.figures.spilt:
            with self._current.lock:
                part = Reading(self._source, big.filed_key).next()
                if not len(part.keys):
                    return  # removed a moment ago, as is about to be applied
                big.settle(part.keys, part.vectors, part.ids)

    def _save(self, big: Generation) -> None:
        with self._current.lock:
            sequence, changes = self._current.sequence, big.unsaved
        big.save(sequence)
        with self._current.lock:
            big.unsaved -= changes
        with contextlib.suppress(StoreClosed):
            self._source.forget(sequence)

    def _resume(self) -> None:
        for directory in reversed(self._builder.generations()):
            if self._current.structure is None:
                try:
                    self._take_over(self._builder.resume(directory, self._current.asked))
                    continue
                except CacheUnusable as error:
                    _log.warning("collection %s: %s", self._current.name, error)
            shutil.rmtree(directory, ignore_errors=True)

    def _note(self, action: Action, rows: int, seconds: float) -> None:
        before = self.spent.get(action.value, Spent())
        self.spent[action.value] = Spent(before.runs + 1, before.seconds + seconds)
        self.last = Work(action.value, rows, round(seconds, 3), time.time())
        level = logging.INFO if action is Action.BUILD else logging.DEBUG
        _log.log(level, "collection %s: %s of %d in %.2f s", self._current.name, action.value, rows, seconds)

    def _finished(self) -> None:
        with self._current.lock:
            self._current.state = self._current.state.finish()

    def _failed(self, note: str) -> None:
        with self._current.lock:
            self._current.state = self._current.state.fail(note)
        self._retry()

    def _retry(self) -> None:
        pause = self._policy.pause(self._current.state.failures)
        self._retry_at = time.monotonic() + pause
        self._timer.cancel()
        self._timer = _timer(pause, self.worker.wake)
        self._timer.start()

    def _closed(self, *, dropped: bool) -> None:
        with self._current.lock:
            self._current.state = self._current.state.close(dropped=dropped)


def _timer(seconds: float, action: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    return timer


def _exactly(reason: str) -> str:
    return f"searched exactly, since no index can be built: {reason}"


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError | StoreError):
        return str(error)
    return f"{type(error).__name__}: {error}"
