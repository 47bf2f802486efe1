"""Jobs: list, look at, follow, fetch what came of them, cancel."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from service.http.answers import answered
from service.http.bodies.reading import query_fields
from service.http.events import EventStream, event_id, seen
from service.http.openapi.describe import query_string, refusals
from service.http.routing import Direct, JobPath, Loaded, Named
from service.http.schemas import jobs as schemas
from service.http.schemas.pages import PageFields
from service.http.working import accepted, job_answer, result_or_job
from service.jobs.state import Job
from service.jobs.store import JobNotFound
from service.runtime import Runtime

router = APIRouter(prefix="/v1/collections/{c}/jobs", tags=["jobs"], route_class=Direct)

# As text: what one event holds no generator makes use of, and some make a wrong class of it.
EVENT = {"type": "string", "maxLength": 2**24, "description": "Each with an id for Last-Event-ID, its name, and data"}
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: `progress` with the Job as data, and `end` as the last one",
        "content": {"text/event-stream": {"schema": EVENT}},
    },
    204: {"description": "It has ended, and the event of Last-Event-ID was the last: do not ask again"},
}


class JobResult(BaseModel):
    """What came of a job: an object as its kind says."""

    model_config = ConfigDict(extra="allow")


def paged(request: Request, jobs: list[Job]) -> Response:
    """The part of these jobs that was asked for."""
    asked = query_fields(request, PageFields)
    left = [job for job in jobs if asked.cursor is None or job.id < asked.cursor]
    shown = left[: asked.limit]
    more = len(left) > len(shown)
    items = [schemas.Job.of(job) for job in shown]
    return answered(schemas.JobPage(items=items, next_cursor=shown[-1].id if more else None))


async def of_kind(runtime: Runtime, collection: str, id: str, kind: str | None) -> Job:
    """The job, which must be of that kind where one is named. Raises JobNotFound."""
    job = await runtime.jobs.get(collection, id)
    if kind not in (None, job.kind):
        raise JobNotFound(f"job {id} in collection {collection!r} is no {kind}")
    return job


def followed(request: Request, runtime: Runtime, job: Job) -> Response:
    """The job's events."""
    last = seen(request.headers.get("last-event-id"))
    if job.finished and last >= event_id(job):
        return Response(status_code=204)
    return EventStream(runtime.jobs, job, last)


@router.get(
    "",
    operation_id="list_jobs",
    response_model=schemas.JobPage,
    responses=refusals("not-found"),
    openapi_extra=query_string(PageFields),
)
async def list_jobs(collection: Named, request: Request, runtime: Loaded) -> Response:
    """Lists a collection's jobs, the newest first: all that wait or run, and the last hundred that have ended."""
    return paged(request, await runtime.jobs.all(collection.name))


@router.get("/{job}", operation_id="get_job", response_model=schemas.Job, responses=refusals("not-found"))
async def get_job(collection: Named, job: JobPath, runtime: Loaded) -> Response:
    """Says how far a job is."""
    return job_answer(runtime, await runtime.jobs.get(collection.name, job))


@router.get(
    "/{job}/result",
    operation_id="get_job_result",
    response_model=JobResult,
    responses=accepted(JobResult) | refusals("not-found", "storage"),
)
async def get_job_result(collection: Named, job: JobPath, runtime: Loaded) -> Response:
    """Gives what came of a job; while it has not ended, the job itself (202). A failed one answers with its problem."""
    return await result_or_job(runtime, await runtime.jobs.get(collection.name, job), seconds=0.0)


@router.get(
    "/{job}/events",
    operation_id="job_events",
    response_class=Response,
    responses=EVENTS | refusals("not-found", binary=True),
)
async def job_events(collection: Named, job: JobPath, request: Request, runtime: Loaded) -> Response:
    """Follows a job as server-sent events until it has ended; goes on behind Last-Event-ID."""
    return followed(request, runtime, await runtime.jobs.get(collection.name, job))


@router.delete(
    "/{job}",
    operation_id="cancel_job",
    response_model=schemas.Job,
    responses=refusals("not-found", "storage"),
)
async def cancel_job(collection: Named, job: JobPath, runtime: Loaded) -> Response:
    """Has a job end soon; what it has done stays. One that has ended stays as it is."""
    return job_answer(runtime, await runtime.jobs.cancel(collection.name, job))
