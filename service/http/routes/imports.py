"""Imports: send a file, see how far it is, what was left out and why, cancel."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response

from index.errors import StorageFull
from index.types import Collection
from service.http.bodies.body import Upload, incoming, media_type, to_file, too_large
from service.http.bodies.digests import announced, differs
from service.http.openapi.describe import LOCATION, form_body, query_string, refusals
from service.http.problems import Problem, invalid
from service.http.routes.jobs import EVENTS, followed, of_kind, paged
from service.http.routing import Direct, JobPath, Loaded, Named
from service.http.schemas import jobs as schemas
from service.http.schemas.imports import ImportForm
from service.http.schemas.pages import PageFields
from service.http.working import job_answer
from service.imports.job import KIND, Wish
from service.imports.sources.source import SourceError
from service.imports.uploaded import HEAD, stored_name
from service.jobs.state import Job
from service.runtime import Runtime

router = APIRouter(prefix="/v1/collections/{c}/imports", tags=["imports"], route_class=Direct)

# From what was sent to what can be asked about it.
FOLLOWING = {
    name: {
        "operationId": name,
        "parameters": {"c": "$request.path.c", "job": "$response.body#/id"},
    }
    for name in ("get_import", "get_import_errors", "import_events", "cancel_import", "get_job_result")
}
FIELDS = ("mode", "dry_run", "max_remove_share")
ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {"model": schemas.Job, "description": "The job that imports it", "headers": LOCATION, "links": FOLLOWING}
}
LINES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One JSON object for each row or file that was left out: `row`, `id`, `path`, `slug`, `reason`; "
        "at most 10,000, and then a last one that says how many more there were",
        "content": {"application/x-ndjson": {"schema": {"type": "string", "maxLength": 2**26}}},
    },
}


@router.post(
    "",
    operation_id="create_import",
    status_code=202,
    response_model=schemas.Job,
    responses=ACCEPTED | refusals("not-found", "body", "queue", "storage"),
    openapi_extra=form_body(ImportForm),
)
async def create_import(collection: Named, request: Request, runtime: Loaded) -> Response:
    """Takes a file of pictures or vectors to import. The job goes on by itself, through restarts too.

    With `Content-Digest` or `Digest` (sha-256, of the file or of the whole body) a damaged upload is refused, and the
    same file sent again joins the job that there is.
    """
    digest = announced(request.headers)
    if media_type(request) != "multipart/form-data":
        raise Problem("unsupported-media-type", "Send multipart/form-data with the file as a part called file")
    settings = runtime.settings
    _room(settings.data_dir, request.headers.get("content-length"), settings.max_import_bytes)
    with incoming(settings.data_dir) as folder:
        files = folder / "files"
        files.mkdir()
        sent = await to_file(
            request,
            files,
            settings.max_import_bytes,
            settings.request_timeout,
            files=("file",),
            fields=FIELDS,
            whole=digest is not None,
        )
        if "file" not in sent.files:
            raise invalid("file", "missing; send the file to import as a file part called file")
        if digest is not None and digest not in (sent.sha256["file"], sent.whole_sha256):
            raise differs()
        wish = _wish(sent)
        job = await _submitted(runtime, collection, wish, files, join=digest is not None)
    return job_answer(runtime, job, 202)


def _room(directory: Path, announced: str | None, limit: int) -> None:
    """Refuses what cannot fit before it is sent. Raises `content-too-large`, StorageFull."""
    if announced is None or not announced.isdigit():
        return
    if int(announced) > limit:
        raise too_large(limit)
    if int(announced) > shutil.disk_usage(directory).free:
        raise StorageFull("The disk has no room for the file; nothing of it was kept")


def _wish(sent: Upload) -> Wish:
    """What is asked for; the file is called as it will stay. Raises FieldsRefused, `unsupported-media-type`."""
    asked = ImportForm.read({"file": "", **sent.fields})
    path = sent.files["file"]
    with path.open("rb") as opened:
        head = opened.read(HEAD)
    try:
        name = stored_name(sent.names["file"], head)
    except SourceError as error:
        raise Problem("unsupported-media-type", str(error)) from None
    path.rename(path.with_name(name))
    return Wish(name, sent.sha256["file"], asked.mode, asked.dry_run, asked.max_remove_share)


async def _submitted(runtime: Runtime, collection: Collection, wish: Wish, files: Path, *, join: bool) -> Job:
    """The job for this file: a new one, or the one there is where that still says the same."""
    sequence = await runtime.read(lambda: collection.sequence)

    def as_good(job: Job) -> bool:
        return not job.finished or (job.state == "done" and job.saved.get("sequence") == sequence)

    return await runtime.jobs.submit(
        KIND, collection.name, wish.as_json(), key=wish.key, join=as_good if join else None, files=files
    )


@router.get(
    "",
    operation_id="list_imports",
    response_model=schemas.JobPage,
    responses=refusals("not-found"),
    openapi_extra=query_string(PageFields),
)
async def list_imports(collection: Named, request: Request, runtime: Loaded) -> Response:
    """Lists a collection's imports, the newest first: all that wait or run, and the last ones that have ended."""
    return paged(request, await runtime.jobs.all(collection.name, KIND))


@router.get("/{job}", operation_id="get_import", response_model=schemas.Job, responses=refusals("not-found"))
async def get_import(collection: Named, job: JobPath, runtime: Loaded) -> Response:
    """Says how far an import is."""
    return job_answer(runtime, await of_kind(runtime, collection.name, job, KIND))


@router.get(
    "/{job}/errors",
    operation_id="get_import_errors",
    response_class=Response,
    responses=LINES | refusals("not-found", binary=True),
)
async def get_import_errors(collection: Named, job: JobPath, runtime: Loaded) -> Response:
    """Lists what was left out and why, one JSON object a line; of a running import, so far."""
    found = await of_kind(runtime, collection.name, job, KIND)
    return Response(await runtime.jobs.lines(found), media_type="application/x-ndjson")


@router.get(
    "/{job}/events",
    operation_id="import_events",
    response_class=Response,
    responses=EVENTS | refusals("not-found", binary=True),
)
async def import_events(collection: Named, job: JobPath, request: Request, runtime: Loaded) -> Response:
    """Follows an import as server-sent events until it has ended; goes on behind Last-Event-ID."""
    return followed(request, runtime, await of_kind(runtime, collection.name, job, KIND))


@router.delete(
    "/{job}",
    operation_id="cancel_import",
    response_model=schemas.Job,
    responses=refusals("not-found", "storage"),
)
async def cancel_import(collection: Named, job: JobPath, runtime: Loaded) -> Response:
    """Has an import end soon; what is in stays in. One that has ended stays as it is."""
    await of_kind(runtime, collection.name, job, KIND)
    return job_answer(runtime, await runtime.jobs.cancel(collection.name, job))
