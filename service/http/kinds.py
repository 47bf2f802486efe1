"""Kinds of jobs: what each is called and what runs it. The one place that knows jobs and their work both."""

from __future__ import annotations

from service.analysis import neighbours
from service.analysis.neighbours import NeighboursWork
from service.http.problems import problem_of
from service.imports import job
from service.imports.job import ImportWork
from service.jobs.state import Trouble
from service.quality import calibrating
from service.quality.calibrating import CalibrationWork
from service.runtime import Runtime
from service.sample.presence import give_way


def register(runtime: Runtime) -> None:
    """Names every kind of job of the application."""

    async def give_way_in(collection: str) -> None:
        await runtime.write(give_way, runtime.catalogue, collection, runtime.model.record)

    work = ImportWork(
        runtime.catalogue,
        runtime.pipeline,
        runtime.threads,
        runtime.settings.max_upload_bytes,
        before=give_way_in,
        fetcher=runtime.fetcher,
    )
    runtime.jobs.register(job.KIND, work, explained)
    neighbours_work = NeighboursWork(runtime.catalogue, runtime.threads, max(1, runtime.cores - 1))
    runtime.jobs.register(neighbours.KIND, neighbours_work, explained)

    calibration = CalibrationWork(
        runtime.catalogue, runtime.pipeline, runtime.threads, runtime.settings.max_upload_bytes
    )
    runtime.jobs.register(calibrating.KIND, calibration, explained)


def explained(error: Exception) -> Trouble | None:
    """An error as the API tells it; None for a bug."""
    problem = problem_of(error)
    return None if problem.slug == "internal" else Trouble(problem.slug, problem.detail)
