"""Saving: how far running jobs are, and how they ended, written so that another process could go on from there.

Another one may have cancelled a job, taken it over or removed it meanwhile: its task learns of that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from index.errors import RecordConflict, RecordNotFound, StorageError
from service.jobs.folders import Folders
from service.jobs.state import LEASE, Job, State, Trouble, ended, released
from service.jobs.store import JobNotFound, JobStore, Kept
from service.jobs.task import Task
from service.threads import Threads

log = logging.getLogger("lookalike.jobs")

# Seconds between two looks at how far the jobs are, and between two saves of a job.
TICK, SAVE = 0.25, 2.0
# Seconds until what could not be written is written again.
AGAIN = 5.0


class Saving:
    """Lives on one event loop. told: called when a job has changed."""

    def __init__(self, store: JobStore, folders: Folders, threads: Threads, told: Callable[[], None]) -> None:
        self._store = store
        self._folders = folders
        self._threads = threads
        self._told = told
        self.closing = False

    async def often(self, kept: Kept, task: Task, runner: str) -> None:
        """Shows and saves how far a job is, until it is cancelled. kept: as it was claimed by `runner`."""
        saved = time.monotonic()
        while True:
            await asyncio.sleep(TICK)
            if task.refresh():
                self._told()
            age = time.monotonic() - saved
            same = task.job == replace(kept.job, changed_at=task.job.changed_at)
            if age < SAVE or (same and age < LEASE / 3):
                continue
            saved = time.monotonic()
            try:
                kept = await self._threads.write(self._store.save, kept, replace(task.job, changed_at=time.time()))
            except (RecordConflict, RecordNotFound):
                kept = await self._heard(kept, task, runner)
            except StorageError as error:
                log.warning("how far job %s is was not written: %s", task.job.id, error)

    async def end(self, task: Task, state: State | None, trouble: Trouble | None) -> None:
        """Writes how a job ended, and removes its files; None: it goes on later.

        A full disk is waited for: the job's files are the first to go.
        """
        if task.lost:
            return
        job = task.settle() if state is not None else task.job
        job = released(job, time.time()) if state is None else ended(job, state, time.time(), trouble)
        lines = task.texts()
        while True:
            try:
                await self._threads.write(self._conclude, job, lines)
                break
            except (RecordNotFound, JobNotFound):
                break
            except StorageError as error:
                log.warning("the end of job %s is not written yet: %s", job.id, error)
                if job.finished:
                    await self._threads.write(self._folders.remove, job.id)
                if self.closing:
                    return
                await asyncio.sleep(AGAIN)
        task.show(job)
        if job.finished:
            await self._threads.write(self._folders.remove, job.id)

    def _conclude(self, job: Job, lines: list[str]) -> None:
        if job.finished:
            self._store.put_lines(job, lines)
        while True:
            kept = self._store.get(job.collection, job.id)
            with contextlib.suppress(RecordConflict):
                self._store.save(kept, job)
                return

    async def _heard(self, kept: Kept, task: Task, runner: str) -> Kept:
        """Somebody else has written the job: it was cancelled, taken over, or removed."""
        try:
            now = await self._threads.read(self._store.get, task.job.collection, task.job.id)
        except JobNotFound:
            task.cancelled = task.lost = True
            task.stop.set()
            return kept
        if now.job.cancelling:
            task.cancelled = True
        elif now.job.runner != runner:
            task.lost = True
        if task.cancelled or task.lost:
            task.stop.set()
        return now
