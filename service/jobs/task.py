"""Task: one running job as its work sees it: what was asked, where to keep files, how to tell how far it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import orjson

from service.jobs.state import Counts, Job, Speed, further

# Lines about a job that are kept; all are counted.
MAX_LINES = 10_000


class Stopped(Exception):
    """Raised by work that ends early because it was asked to."""


class JobFailed(Exception):
    """Raised by work that cannot be done. slug: of the HTTP API's problems; the message is one line."""

    def __init__(self, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.slug = slug
        self.detail = detail


class Task:
    """folder: the job's own, removed with all that is in it when the job has ended.

    Its methods may be called from any thread, `save` from the event loop. `stop` is set, on the event loop, when the
    work should end soon: what is done by then stays done, and the job goes on from there after a restart.
    """

    def __init__(self, job: Job, folder: Path) -> None:
        self.folder = folder
        self.stop = asyncio.Event()
        self.cancelled = False
        self.lost = False  # another runner has the job, or it is not there any more
        self._job = job
        self._shown = job.counts
        self._counts = Counts()
        self._saved = job.saved
        self._note = job.note
        self._speed = Speed()
        self._lines: list[dict[str, Any]] = []
        self._cut = 0

    def show(self, job: Job) -> None:
        """For the runner: the job as it has claimed or ended it."""
        self._job = job

    @property
    def job(self) -> Job:
        """The job as of now."""
        return self._job

    @property
    def saved(self) -> Mapping[str, Any]:
        """What was kept last by `save`, before a restart too."""
        return self._saved

    @property
    def stopping(self) -> bool:
        """Whether the work should end soon."""
        return self.stop.is_set()

    def check(self) -> None:
        """Raises Stopped where the work should end soon."""
        if self.stop.is_set():
            raise Stopped

    def progress(self, counts: Counts) -> None:
        """How far the work is, counted from its beginning, whatever was done before a restart. Costs nothing."""
        self._counts = counts

    def note(self, text: str) -> None:
        """One line for people, shown with the job."""
        self._note = text

    def keep(self, saved: Mapping[str, Any]) -> None:
        """What to go on from, a small JSON object; on disk within seconds. What is kept stays with the finished job."""
        self._saved = saved

    def line(self, line: dict[str, Any]) -> None:
        """One more line about the job: a row that was bad, and why. At most MAX_LINES are kept."""
        if len(self._lines) < MAX_LINES:
            self._lines.append(line)
        else:
            self._cut += 1

    def arrange(self, key: Callable[[dict[str, Any]], Any]) -> None:
        """Puts the lines so far in order."""
        self._lines.sort(key=key)

    def texts(self) -> list[str]:
        """The lines so far as JSON; the last one says how many more there were than are kept."""
        found = [orjson.dumps(line).decode() for line in list(self._lines)]
        if self._cut:
            more = f"{self._cut:,} more lines are not kept; send the rows again that are left, or read the log"
            found.append(orjson.dumps({"row": None, "id": None, "reason": "cut", "detail": more}).decode())
        return found

    def refresh(self) -> bool:
        """Makes `job` what the work has said since; whether anything has changed."""
        counts = further(self._shown, self._counts)
        self._speed.add(self._counts, time.monotonic())
        speed, left = self._speed.figures()
        job = self._job
        same = (counts, self._note, self._saved) == (job.counts, job.note, job.saved)
        if same and job.cancelling == self.cancelled:
            return False
        self._job = replace(
            job,
            counts=counts,
            images_per_second=speed,
            seconds_left=left,
            note=self._note,
            saved=self._saved,
            cancelling=self.cancelled,
            changed_at=time.time(),
        )
        return True

    def settle(self) -> Job:
        """The job at its end: nothing but what this run has counted."""
        self.refresh()
        self._job = replace(self._job, counts=self._counts)
        return self._job


class Work(Protocol):
    """What a kind of job does. It may have begun before, in a process that was killed: it finds out what is left."""

    def __call__(self, task: Task, /) -> Awaitable[Mapping[str, Any] | None]:
        """The result, as JSON. Raises JobFailed, Stopped, CollectionNotFound (then the job is cancelled)."""
        ...
