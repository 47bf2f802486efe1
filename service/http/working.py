"""Work that may outlast its request: the result where it is there within a second, else the job that makes it."""

from __future__ import annotations

from typing import Any

from fastapi import Response
from pydantic import BaseModel

from service.http.answers import answered
from service.http.openapi.describe import LOCATION
from service.http.problems import Problem
from service.http.schemas import jobs as schemas
from service.jobs.state import Job
from service.runtime import Runtime

# Seconds that a request waits for its job.
PATIENCE = 1.0


def accepted(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that answers with `result_or_job`; model: of the result."""
    return {
        200: {"model": model, "description": "The result"},
        202: {"model": schemas.Job, "description": "It takes longer: the job that makes it", "headers": LOCATION},
    }


async def result_or_job(runtime: Runtime, job: Job, *, seconds: float = PATIENCE) -> Response:
    """The result as JSON (200), or the job (202) with its Location where it has not ended in time.

    Raises the Problem that the job failed for, and `not-found` where it was cancelled.
    """
    job = await runtime.jobs.settled(job.collection, job.id, seconds)
    if not job.finished:
        return job_answer(runtime, job, 202)
    if job.trouble is not None and job.state == "failed":
        failed = schemas.problem(job.trouble)
        raise Problem(failed.type.rpartition("/")[2], failed.detail)
    if job.state == "cancelled":
        raise Problem("not-found", "The job was cancelled before it had a result")
    return Response(await runtime.jobs.result(job), media_type="application/json")


def job_answer(runtime: Runtime, job: Job, status: int = 200) -> Response:
    """The job itself; with 202 its Location too."""
    headers = {"Location": path(runtime, job)} if status == 202 else {}
    return answered(schemas.Job.of(job), status, headers)


def path(runtime: Runtime, job: Job) -> str:
    """Where a job is found."""
    noun = "imports" if job.kind == "import" else "jobs"
    return f"{runtime.settings.root_path}/v1/collections/{job.collection}/{noun}/{job.id}"
