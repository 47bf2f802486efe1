"""Job: work that takes longer than a request, as a value, and every decision about it as a pure function.

queued → running → done | failed | cancelled; a running one whose process ends is queued again, and goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

State = Literal["queued", "running", "done", "failed", "cancelled"]
FINISHED: frozenset[State] = frozenset({"done", "failed", "cancelled"})

# Finished jobs of a collection that are remembered.
HISTORY = 100
# Seconds without a sign of life after which another process may take over what a runner had.
LEASE = 60.0
# Seconds over which speed is averaged,
# and below which nothing is said about it.
WINDOW, SHORTEST = 30.0, 0.1


@dataclass(frozen=True, slots=True)
class Counts:
    """How far a job is. total: 0 until it is known; done: written; handled ones are done, unchanged or failed."""

    total: int = 0
    done: int = 0
    unchanged: int = 0
    failed: int = 0
    removed: int = 0

    @property
    def handled(self) -> int:
        return self.done + self.unchanged + self.failed


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a job failed. slug: the kind of problem, as the HTTP API calls it; detail: one line."""

    slug: str
    detail: str


@dataclass(frozen=True, slots=True)
class Job:
    """One job. Times are UTC seconds.

    request: what was asked, as its kind reads it. key: a second request with the same one may join this job.
    cancelling: somebody wants it to end. runner: who runs it, or ran it last; home: who has its files, empty where it
    has none. saved: what its kind keeps to go on from, and after the end. note: one line for people. seconds_left: None
    where nobody can say.
    """

    id: str
    kind: str
    collection: str
    request: Mapping[str, Any]
    created_at: float
    state: State = "queued"
    counts: Counts = field(default_factory=Counts)
    images_per_second: float = 0.0
    seconds_left: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    changed_at: float = 0.0
    key: str = ""
    cancelling: bool = False
    runner: str = ""
    home: str = ""
    saved: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    trouble: Trouble | None = None

    @property
    def finished(self) -> bool:
        return self.state in FINISHED


def as_record(job: Job) -> dict[str, Any]:
    """A job as JSON."""
    return asdict(job)


def of_record(value: Mapping[str, Any]) -> Job:
    """The job that `as_record` made; fields that this version does not know are left out."""
    known = {name: each for name, each in value.items() if name in Job.__dataclass_fields__}
    counts = {name: each for name, each in known.pop("counts", {}).items() if name in Counts.__dataclass_fields__}
    trouble = known.pop("trouble", None)
    return Job(**known, counts=Counts(**counts), trouble=None if trouble is None else Trouble(**trouble))


def claimable(job: Job, runner: str, now: float, *, alone: bool) -> bool:
    """Whether a runner that does not run it may take a job.

    alone: nobody else uses this catalogue, so whoever had it is gone.
    """
    if job.finished:
        return False
    if alone:
        return True
    if job.home not in ("", runner):
        return False
    return job.state == "queued" or job.runner == runner or now - job.changed_at > LEASE


def claimed(job: Job, runner: str, now: float) -> Job:
    """The job as it runs from now on."""
    return replace(
        job, state="running", runner=runner, started_at=job.started_at or now, changed_at=now, seconds_left=None
    )


def released(job: Job, now: float) -> Job:
    """The job as its runner leaves it, to go on later."""
    return replace(job, state="queued", changed_at=now, images_per_second=0.0, seconds_left=None)


def ended(job: Job, state: State, now: float, trouble: Trouble | None = None) -> Job:
    """The job at its end; its speed is that of the whole."""
    took = now - job.started_at if job.started_at is not None else 0.0
    speed = job.counts.done / took if took > 0 else 0.0
    return replace(
        job,
        state=state,
        finished_at=now,
        changed_at=now,
        images_per_second=speed,
        seconds_left=0.0 if state == "done" else None,
        trouble=trouble,
    )


def due(waiting: Iterable[Job], running: Iterable[Job], limit: int) -> list[Job]:
    """The queued jobs that may start now, oldest first: at most `limit` of a kind at once.

    Of one kind and collection one at a time, in the order in which they came: the later feed has the last word.
    """
    places: dict[str, int] = {}
    taken: set[tuple[str, str]] = set()
    for job in running:
        places[job.kind] = places.get(job.kind, 0) + 1
        taken.add((job.kind, job.collection))
    found = []
    for job in sorted(waiting, key=lambda each: each.id):
        if places.get(job.kind, 0) < limit and (job.kind, job.collection) not in taken:
            found.append(job)
            places[job.kind] = places.get(job.kind, 0) + 1
        taken.add((job.kind, job.collection))
    return found


def outdated(jobs: Iterable[Job]) -> list[Job]:
    """Of one collection's jobs, the finished ones that are forgotten: all but the last HISTORY."""
    finished = sorted((job for job in jobs if job.finished), key=lambda job: (job.finished_at or 0.0, job.id))
    return finished[: max(0, len(finished) - HISTORY)]


def further(shown: Counts, now: Counts) -> Counts:
    """What to show of a job that goes on: nothing less than was shown before it was cut off."""
    return now if now.handled >= shown.handled else replace(shown, total=now.total or shown.total)


class Speed:
    """How fast a job goes, over the last WINDOW seconds. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, Counts]] = deque()

    def add(self, counts: Counts, now: float) -> None:
        """The counts as of now."""
        self._points.append((now, counts))
        while len(self._points) > 2 and now - self._points[0][0] > WINDOW:
            self._points.popleft()

    def figures(self) -> tuple[float, float | None]:
        """Images written per second, and seconds until all is handled (None where nobody can say)."""
        if len(self._points) < 2:
            return 0.0, None
        (began, first), (now, last) = self._points[0], self._points[-1]
        seconds = now - began
        if seconds < SHORTEST:
            return 0.0, None
        speed = max(0.0, (last.done - first.done) / seconds)
        pace = (last.handled - first.handled) / seconds
        left = last.total - last.handled
        if not last.total or pace <= 0 or left < 0:
            return speed, None
        return speed, left / pace
