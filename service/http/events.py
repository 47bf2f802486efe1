"""EventStream: a job's progress as server-sent events, until it has ended or the service ends."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from index.errors import NotFound
from service.http.middleware import while_connected
from service.http.schemas import jobs as schemas
from service.jobs.runner import Jobs
from service.jobs.state import Job

# Seconds without an event after which a comment shows that the connection is alive, and between two events.
KEEP_ALIVE = 15.0
PAUSE = 0.25
# Milliseconds after which a browser that lost the stream asks again.
RETRY = 2000


class EventStream(Response):
    """`event: progress` while the job goes on, `event: end` once it has ended; `data` is the Job.

    seen: the `Last-Event-ID` that the client has; what it has seen is not sent again.
    """

    media_type = "text/event-stream"

    def __init__(self, jobs: Jobs, job: Job, seen: int) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._jobs = jobs
        self._job = job
        self._seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await while_connected(receive, self._stream(send))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _stream(self, send: Send) -> None:
        async def piece(text: str) -> None:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

        await piece(f"retry: {RETRY}\n\n")
        with contextlib.suppress(NotFound):  # its collection was removed meanwhile
            async for job in self._jobs.watch(self._job.collection, self._job.id, pause=KEEP_ALIVE):
                if job is None:
                    await piece(": keep-alive\n\n")
                elif event_id(job) > self._seen:
                    await piece(_event(job))
                    if not job.finished:
                        await asyncio.sleep(PAUSE)


def event_id(job: Job) -> int:
    """Of the event that shows the job as it is: grows with every change, through restarts too."""
    return int(job.changed_at * 1000)


def seen(header: str | None) -> int:
    """The event that a client saw last; -1 where it says nothing that we have sent."""
    return int(header) if header is not None and header.isascii() and header.isdigit() and len(header) < 20 else -1


def _event(job: Job) -> str:
    name = "end" if job.finished else "progress"
    return f"id: {event_id(job)}\nevent: {name}\ndata: {schemas.Job.of(job).encoded().decode()}\n\n"
