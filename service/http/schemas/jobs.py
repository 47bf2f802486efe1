"""Job: work that goes on after its request was answered, and how far it is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from service.http.schemas.base import Answer
from service.http.schemas.fields import MAX_PAGE, Count, Milliseconds, Name, Seconds, Text, Timestamp, text, timestamp
from service.http.schemas.pages import Page
from service.http.schemas.problems import KINDS, ProblemType
from service.jobs.state import Job as Going
from service.jobs.state import Trouble

JobId = Annotated[
    str,
    Field(
        pattern="^[0-9a-f]{24}$",
        min_length=24,
        max_length=24,
        description="Of a job",
        examples=["019abc0de4f15a2b3c4d5e6f"],
    ),
]


class JobProblem(Answer):
    """Why a job failed, as an error of a request would say it."""

    type: ProblemType
    title: Annotated[str, text(200)] = Field(description="The kind of problem in words")
    status: Annotated[int, Field(json_schema_extra={"minimum": 400, "maximum": 599})] = Field(
        description="The HTTP status of this kind"
    )
    detail: Annotated[str, text(2000)] = Field(description="One line: what is wrong, and what to do")


class Job(Answer):
    """A job as it is now. It goes on after a restart of the service."""

    id: JobId
    kind: Text = Field(description="What it does, such as `import`")
    collection: Name
    state: Literal["queued", "running", "done", "failed", "cancelled"] = Field(
        description="`done`, `failed` and `cancelled` are final"
    )
    total: Count = Field(description="What there is to do; 0 until it is known")
    done: Count = Field(description="Written, or worked on")
    unchanged: Count = Field(description="Found to be there already; nothing was embedded for them")
    failed: Count = Field(description="Left out; of an import, `errors` says why")
    removed: Count = Field(description="Items removed")
    images_per_second: Milliseconds = Field(description="Written per second: lately, of a finished job on the whole")
    seconds_left: Seconds | None = Field(description="null where nobody can say")
    created_at: Timestamp = Field(description="RFC 3339, UTC")
    started_at: Timestamp | None = Field(description="null while it waits for its turn")
    finished_at: Timestamp | None = Field(description="null until it has ended")
    note: Annotated[str, text(2000)] | None = Field(description="What people should know of how it went")
    error: JobProblem | None = Field(description="Why it failed; else null")

    @classmethod
    def of(cls, job: Going) -> Job:
        """The same job as it is sent."""
        counts = job.counts
        return cls(
            id=job.id,
            kind=job.kind,
            collection=job.collection,
            state=job.state,
            total=counts.total,
            done=counts.done,
            unchanged=counts.unchanged,
            failed=counts.failed,
            removed=counts.removed,
            images_per_second=round(job.images_per_second, 2),
            seconds_left=None if job.seconds_left is None else round(job.seconds_left, 1),
            created_at=timestamp(job.created_at),
            started_at=None if job.started_at is None else timestamp(job.started_at),
            finished_at=None if job.finished_at is None else timestamp(job.finished_at),
            note=job.note or None,
            error=None if job.trouble is None or job.state != "failed" else problem(job.trouble),
        )


class JobPage(Page):
    """Jobs, the newest first."""

    items: Annotated[list[Job], Field(max_length=MAX_PAGE)] = Field(description="At most as many as were asked for")


def problem(trouble: Trouble) -> JobProblem:
    """A job's trouble in the words of the API."""
    slug = trouble.slug if trouble.slug in KINDS else "internal"
    status, title = KINDS[slug]
    return JobProblem(type=f"/problems/{slug}", title=title, status=status, detail=trouble.detail)
