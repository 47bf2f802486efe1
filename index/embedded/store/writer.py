"""One thread writes. It takes whatever waits into one transaction, and answers only when that is on disk and applied.

Each job runs in a savepoint: one that raises is undone alone and its caller gets the exception. After the commit, jobs
are applied to the search index in order; a job's future is set last, so whoever got an answer reads their write.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import apsw

from index.embedded.failpoints import Failpoints
from index.embedded.store.database import aborts, flush_failed, translation
from index.errors import StorageError, StorageFailed, StoreClosed

T = TypeVar("T")
_GROUP = 128
_AGAIN = 60.0  # seconds before the same failure of the disk is logged again
_log = logging.getLogger("lookalike.index")


@dataclass(slots=True)
class _Job:
    run: Callable[[apsw.Connection], Any]
    applied: Callable[[Any], None] | None
    future: Future[Any]
    apart: bool = False  # outside of a transaction, between two others


class Writer:
    """Owns the writing connection and its thread."""

    def __init__(self, connection: apsw.Connection, path: Path, failpoints: Failpoints) -> None:
        self._connection = connection
        self._path = path
        self._failpoints = failpoints
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._state = threading.Condition()
        self._closed = False
        self._stopped = ""
        self._logged: tuple[type[BaseException], float] = (BaseException, 0.0)
        self._committed = 0
        self._applied = 0
        self._thread = threading.Thread(target=self._loop, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, run: Callable[[apsw.Connection], T], applied: Callable[[T], None] | None = None) -> Future[T]:
        """Queues a job.

        `run` changes the database; `applied` gets its result after the commit. Both in the writer thread.
        """
        future: Future[T] = Future()
        with self._state:
            if self._closed:
                raise StoreClosed("the catalogue is closed")
            if self._stopped:
                raise StorageFailed(self._stopped)
            self._jobs.put(_Job(run, applied, future))
        return future

    def call(self, run: Callable[[apsw.Connection], T], applied: Callable[[T], None] | None = None) -> T:
        """`submit`, then wait. Raises what `run` raised, or StorageError."""
        return self.submit(run, applied).result()

    def apart(self, run: Callable[[apsw.Connection], T]) -> T:
        """Runs what cannot be in a transaction, between two of them. Raises what `run` raised, or StorageError."""
        future: Future[T] = Future()
        with self._state:
            if self._closed:
                raise StoreClosed("the catalogue is closed")
            if self._stopped:
                raise StorageFailed(self._stopped)
            self._jobs.put(_Job(run, None, future, apart=True))
        return future.result()

    def stop(self, error: BaseException) -> None:
        """No write is taken any more: what the disk holds is uncertain until a restart has read it."""
        with self._state:
            if not self._stopped:
                self._stopped = f"{error}; no write is taken until the service is started again"
                _log.critical("%s", self._stopped)

    @property
    def waiting(self) -> bool:
        """Whether jobs wait: background work makes way for them."""
        return not self._jobs.empty()

    def settle(self) -> None:
        """Waits until everything committed so far is applied to the search index."""
        if threading.current_thread() is self._thread:
            return
        with self._state:
            target = self._committed
            self._state.wait_for(lambda: self._applied >= target, timeout=60)

    def close(self) -> None:
        """Finishes what was queued, then stops. A second call does nothing."""
        with self._state:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()

    def _loop(self) -> None:
        running = True
        while running:
            group: list[_Job] = []
            job = self._jobs.get()
            while True:
                if job is None:
                    running = False
                    break
                if job.apart:
                    if group:
                        self._write(group)
                        group = []
                    self._run_apart(job)
                    break
                group.append(job)
                if len(group) >= _GROUP:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            if group:
                self._write(group)
        self._connection.close(True)

    def _run_apart(self, job: _Job) -> None:
        try:
            result = job.run(self._connection)
        except BaseException as error:  # noqa: BLE001 - as below
            named = self._translated(error)
            if flush_failed(error):
                self.stop(named)
            job.future.set_exception(named)
        else:
            job.future.set_result(result)

    def _write(self, group: list[_Job]) -> None:
        try:
            done = self._commit(group)
        except BaseException as error:  # noqa: BLE001 - the thread outlives any job; the callers get the error
            named = self._translated(error)
            if flush_failed(error):
                self.stop(named)
            with contextlib.suppress(apsw.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            for job in group:
                if not job.future.done():
                    # A fresh object each: one raised by many callers would gather all their tracebacks.
                    each = type(named)(*named.args) if isinstance(named, StorageError) else self._translated(error)
                    each.__cause__ = error
                    job.future.set_exception(each)
            return
        for job, result in done:
            try:
                if job.applied is not None:
                    job.applied(result)
            except Exception:  # noqa: BLE001 - logged
                # What the job wrote stays: it is on disk. `applied` handles its own failures; this is the last net.
                _log.exception("a committed change could not be applied")
        with self._state:
            self._applied = self._committed
            self._state.notify_all()
        for job, result in done:
            job.future.set_result(result)

    def _commit(self, group: list[_Job]) -> list[tuple[_Job, Any]]:
        connection = self._connection
        done: list[tuple[_Job, Any]] = []
        if self._stopped:
            raise StorageFailed(self._stopped)
        connection.execute("BEGIN IMMEDIATE")
        for job in group:
            connection.execute("SAVEPOINT job")
            try:
                result = job.run(connection)
            except apsw.CorruptError as error:
                # SQLite commits no transaction that met damage: the others of the group start over without this job.
                connection.execute("ROLLBACK")
                job.future.set_exception(self._translated(error))
                return self._commit([other for other in group if not other.future.done()])
            except Exception as error:
                if not connection.in_transaction or aborts(error):
                    raise  # SQLite has given up the whole transaction, or will not get it onto the disk
                connection.execute("ROLLBACK TO job; RELEASE job")
                job.future.set_exception(self._translated(error))
            else:
                connection.execute("RELEASE job")
                done.append((job, result))
        self._failpoints.hit("writer.before_commit")
        connection.execute("COMMIT")
        with self._state:
            self._committed += 1
        self._failpoints.hit("writer.after_commit")
        return done

    def _translated(self, error: BaseException) -> BaseException:
        named = translation(error, self._path, self._connection.system_errno)
        if isinstance(named, StorageError):
            kind, at = self._logged
            if kind is not type(named) or time.monotonic() - at > _AGAIN:
                self._logged = type(named), time.monotonic()
                _log.error("a write failed: %s (%s)", named, error)
        return named
