"""Jobs: runs what was asked for beside the requests; knows no kind of job, the application registers them.

Every state is on disk before it is told. A process that is killed leaves its jobs to whoever opens the catalogue next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from index.errors import CollectionNotFound, NotFound, RecordConflict, RecordNotFound, StorageError, StoreClosed
from index.records import Records
from service.errors import Overloaded, ShuttingDown
from service.jobs.folders import ID, Folders
from service.jobs.news import News, wait
from service.jobs.saving import AGAIN, Saving
from service.jobs.state import Job, State, Trouble, claimable, claimed, due, ended
from service.jobs.store import JobNotFound, JobStore, Kept
from service.jobs.task import JobFailed, Stopped, Task, Work
from service.metrics import Metrics
from service.threads import Threads

log = logging.getLogger("lookalike.jobs")

# What people are told of an error; None where it is a bug, which goes into the log.
Explain = Callable[[Exception], Trouble | None]

# Jobs that may wait; a runaway client is refused before it fills the disk.
WAITING = 100
# Seconds between two looks for jobs that other runners have left.
LOOK = 20.0
# Seconds that running jobs may take to stop, before they are ended the hard way: containers are given ten in all.
LEAVE = 5.0


class Jobs:
    """Lives on one event loop. It runs what is submitted here; after `start` also what was left before.

    directory: the data directory; at_once: jobs of a kind that run side by side; most_waiting: jobs that may wait for
    that; alone: nobody else uses the catalogue.
    """

    def __init__(
        self,
        records: Records,
        directory: Path,
        threads: Threads,
        metrics: Metrics,
        *,
        at_once: int = 2,
        most_waiting: int = WAITING,
        alone: bool = True,
    ) -> None:
        self._store = JobStore(records)
        self._folders = Folders(directory)
        self._threads = threads
        self._at_once = at_once
        self._most_waiting = most_waiting
        self._alone = alone
        self._kinds: dict[str, tuple[Work, Explain]] = {}
        self._waiting: dict[str, Kept] = {}
        self._tasks: dict[str, Task] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._keeping: asyncio.Task[None] | None = None
        self._news = News()
        self._saving = Saving(self._store, self._folders, threads, self._news.tell)
        self._closing = False
        self._submitting = asyncio.Lock()
        self._last_id = 0
        metrics.gauge("lookalike_jobs_running", "Jobs that run", lambda: len(self._tasks))
        metrics.gauge("lookalike_jobs_waiting", "Jobs that wait for their turn", lambda: len(self._waiting))

    def register(self, kind: str, work: Work, explain: Explain) -> None:
        """Names what runs jobs of a kind, and what makes of its errors what people are told; before `start`."""
        self._kinds[kind] = work, explain

    # ---- what a request asks ----

    async def submit(
        self,
        kind: str,
        collection: str,
        request: Mapping[str, Any],
        *,
        key: str = "",
        join: Callable[[Job], bool] | None = None,
        files: Path | None = None,
    ) -> Job:
        """Queues a job; it is on disk when this returns. files: a folder on the data directory's disk, which it takes.

        join: whether a job with the same key is as good as a new one, which is not made then, and `files` is left.
        Raises Overloaded where too many wait, ShuttingDown, StorageError, InvalidRecord (a request that is too large).
        """
        async with self._submitting:  # of two who ask for the same at once one joins
            if join is not None:
                for job in await self.all(collection, kind):
                    if job.key == key and not job.cancelling and join(job):
                        return job
            return await self._submit(kind, collection, request, key, files)

    async def _submit(
        self, kind: str, collection: str, request: Mapping[str, Any], key: str, files: Path | None
    ) -> Job:
        if kind not in self._kinds:
            raise ValueError(f"no kind of job is called {kind}")
        if self._closing:
            raise ShuttingDown
        if len(self._waiting) >= self._most_waiting:
            raise Overloaded(30.0, f"{self._most_waiting} jobs wait already; try again when some of them are done")
        now = time.time()
        job = Job(self._new_id(now), kind, collection, request, created_at=now, changed_at=now, key=key)
        if files is not None:
            job = replace(job, home=await self._threads.write(self._folders.adopt, files, job.id))
        try:
            kept = await self._threads.write(self._store.create, job)
        except BaseException:
            await self._threads.write(self._folders.remove, job.id)
            raise
        self._waiting[job.id] = kept
        self._pump()
        return job

    async def get(self, collection: str, id: str) -> Job:
        """The job as of now. Raises JobNotFound."""
        if (task := self._task(collection, id)) is not None:
            return task.job
        if not ID.fullmatch(id):
            raise JobNotFound(f"no job of that id in collection {collection!r}")
        return (await self._threads.read(self._store.get, collection, id)).job

    async def all(self, collection: str, kind: str | None = None) -> list[Job]:
        """The collection's jobs that are remembered, the newest first."""
        stored = await self._threads.read(lambda: [kept.job for kept in self._store.all(collection)])
        shown = [self._tasks[job.id].job if job.id in self._tasks else job for job in stored]
        return [job for job in reversed(shown) if kind in (None, job.kind)]

    async def cancel(self, collection: str, id: str) -> Job:
        """Has a job end; what is done stays done. A finished one stays as it is. Raises JobNotFound, StorageError."""
        while True:
            if (task := self._task(collection, id)) is not None:
                task.cancelled = True
                task.stop.set()
                return await self.settled(collection, id, 1.0)
            await self.get(collection, id)  # so that an id that is none is refused
            kept = await self._threads.read(self._store.get, collection, id)
            job = kept.job
            if job.finished:
                return job
            if job.state == "queued":
                job = ended(replace(job, cancelling=True), "cancelled", time.time())
            else:
                job = replace(job, cancelling=True)
            try:
                await self._threads.write(self._store.save, kept, job)
            except (RecordConflict, RecordNotFound):
                continue  # it began just now, or ended
            if job.finished:
                self._waiting.pop(id, None)
                await self._threads.write(self._folders.remove, id)
                self._news.tell()
            return job

    async def settled(self, collection: str, id: str, seconds: float) -> Job:
        """The job once it has ended, or as it is after so many seconds. Raises JobNotFound."""
        until = time.monotonic() + seconds
        while True:
            changed = self._news.now
            job = await self.get(collection, id)
            left = until - time.monotonic()
            if job.finished or left <= 0 or self._closing:
                return job
            # A job that another runner has changes without a word here.
            await wait(changed, min(left, 1.0))

    async def watch(self, collection: str, id: str, *, pause: float) -> AsyncIterator[Job | None]:
        """The job, again whenever it has changed, until it has ended or this process ends; None after `pause` seconds
        without a change. Raises JobNotFound, also where the job goes meanwhile.
        """
        shown: Job | None = None
        told = time.monotonic()
        while True:
            changed = self._news.now
            job = await self.get(collection, id)
            if job != shown:
                shown, told = job, time.monotonic()
                yield job
            elif time.monotonic() - told >= pause:
                told = time.monotonic()
                yield None
            if job.finished or self._closing:
                return
            local = id in self._tasks or id in self._waiting
            await wait(changed, min(pause, pause if local else 1.0))

    async def result(self, job: Job) -> str:
        """What came of a job that is done, as JSON. Raises JobNotFound where it has no result."""
        return await self._threads.read(self._store.result, job)

    async def lines(self, job: Job) -> str:
        """What is kept of the lines about a job, one JSON document each."""
        if (task := self._task(job.collection, job.id)) is not None:
            return "".join(line + "\n" for line in task.texts())
        return await self._threads.read(self._store.lines, job)

    async def drop(self, collection: str, *, forget: bool) -> None:
        """Ends every job of a collection that is emptied or removed. forget: they are not remembered either."""
        running = [id for id, task in self._tasks.items() if task.job.collection == collection]
        for job in await self.all(collection):
            if not job.finished:
                with contextlib.suppress(NotFound):
                    await self.cancel(collection, job.id)
        runs = [self._runs[id] for id in running if id in self._runs]
        if runs:
            await asyncio.wait(runs, timeout=LEAVE)
        if forget:
            jobs = await self.all(collection)
            await self._threads.write(self._store.forget, jobs)

    # ---- its life ----

    async def start(self) -> None:
        """Takes up what was left before, and goes on doing so; removes folders that no job has any more."""
        await self._look()
        await self._threads.write(self._sweep)
        self._keeping = asyncio.create_task(self._keep())

    def stop(self) -> None:
        """Has running jobs stop soon, and nothing new begin; whoever waits for a job is told now."""
        self._closing = self._saving.closing = True
        for task in self._tasks.values():
            task.stop.set()
        self._news.tell()

    async def close(self) -> None:
        """Returns once no job runs any more. Those that did go on when the catalogue is opened again."""
        self.stop()
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        if runs := list(self._runs.values()):
            _, late = await asyncio.wait(runs, timeout=LEAVE)
            for run in late:
                run.cancel()
            if late:
                await asyncio.wait(late)

    # ---- running ----

    def _pump(self) -> None:
        """Starts what may start now."""
        if self._closing:
            return
        waiting = [kept.job for kept in self._waiting.values() if kept.job.kind in self._kinds]
        for job in due(waiting, [task.job for task in self._tasks.values()], self._at_once):
            kept = self._waiting.pop(job.id)
            task = self._tasks[job.id] = Task(kept.job, self._folders.of(job.id))
            run = self._runs[job.id] = asyncio.create_task(self._run(kept, task))
            run.add_done_callback(partial(self._over, job.id))

    def _over(self, id: str, _: asyncio.Task[None]) -> None:
        self._tasks.pop(id, None)
        self._runs.pop(id, None)
        self._news.tell()
        self._pump()

    async def _run(self, kept: Kept, task: Task) -> None:
        try:
            job = claimed(kept.job, await self._threads.write(self._folders.name), time.time())
            kept = await self._threads.write(self._store.save, kept, job)
        except (RecordConflict, RecordNotFound):
            return  # cancelled, or somebody else was quicker
        except StorageError as error:
            log.warning("job %s waits: %s", kept.job.id, error)
            await asyncio.sleep(AGAIN)
            self._waiting[kept.job.id] = kept
            return
        task.show(job)
        self._news.tell()
        saver = asyncio.create_task(self._saving.often(kept, task, job.runner))
        state: State | None
        trouble: Trouble | None = None
        try:
            state, trouble = await self._work(task)
        finally:
            saver.cancel()
            await asyncio.wait([saver])
        await self._saving.end(task, state, trouble)

    async def _work(self, task: Task) -> tuple[State | None, Trouble | None]:
        """How the work ended; None: it goes on after a restart."""
        job = task.job
        work, explain = self._kinds[job.kind]
        try:
            await self._threads.write(lambda: task.folder.mkdir(parents=True, exist_ok=True))
            result = await work(task)
            if result is not None:
                text = orjson.dumps(result, option=orjson.OPT_SERIALIZE_NUMPY).decode()
                await self._threads.write(self._store.put_result, job, text)
        except (Stopped, asyncio.CancelledError, StoreClosed, ShuttingDown):
            return ("cancelled" if task.cancelled else None), None
        except (CollectionNotFound, JobNotFound):
            return "cancelled", Trouble("not-found", "The collection was deleted")
        except JobFailed as failed:
            return "failed", Trouble(failed.slug, failed.detail[:2000])
        except Exception as error:
            if (trouble := explain(error)) is not None:
                log.warning("job %s (%s) failed: %s", job.id, job.kind, trouble.detail)
                return "failed", trouble
            log.exception("job %s (%s) failed", job.id, job.kind)
            return "failed", Trouble("internal", "Something went wrong on our side; the log has the details")
        return "done", None

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            if not self._alone:
                await self._look()
            self._pump()

    async def _look(self) -> None:
        """Takes in what nobody runs."""
        now, runner = time.time(), await self._threads.write(self._folders.name)
        found = await self._threads.read(
            lambda: [kept for kept in self._store.all() if claimable(kept.job, runner, now, alone=self._alone)]
        )
        for kept in found:
            if kept.job.id in self._tasks or self._closing:
                continue
            if kept.job.cancelling:
                with contextlib.suppress(RecordConflict, NotFound):
                    job = ended(kept.job, "cancelled", now)
                    await self._threads.write(self._store.save, kept, job)
                continue
            self._waiting[kept.job.id] = kept
        self._pump()

    def _task(self, collection: str, id: str) -> Task | None:
        task = self._tasks.get(id)
        return task if task is not None and task.job.collection == collection else None

    def _sweep(self) -> None:
        self._folders.sweep({kept.job.id for kept in self._store.all() if not kept.job.finished})

    def _new_id(self, now: float) -> str:
        """24 hex digits, in the order in which they were made."""
        self._last_id = max(self._last_id + 1, int(now * 1000))
        return f"{self._last_id:012x}{secrets.token_hex(6)}"
