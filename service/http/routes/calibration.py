"""Calibration: measure a collection's threshold, look at what was measured, go back to the default."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from index.errors import RecordNotFound
from service.http.answers import answered, matches_tag
from service.http.bodies.body import Upload, incoming, media_type, to_file
from service.http.openapi.describe import conditional, etag, form_body, refusals
from service.http.problems import Problem
from service.http.routing import Direct, Loaded, Named
from service.http.schemas.calibration import Calibration, CalibrationForm
from service.http.working import accepted, result_or_job
from service.imports.sources.archives.archive import SUFFIXES
from service.imports.sources.source import SourceError
from service.imports.uploaded import HEAD, stored_name
from service.quality.calibrating import KIND, described, forget, plotted

router = APIRouter(prefix="/v1/collections/{c}/calibration", tags=["collections"], route_class=Direct)

PARTS = ("negatives", "pairs", "pictures")
NONE = "This collection is not calibrated"
ETAG = etag("Another one after each calibration")
PLOT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The plot",
        "headers": ETAG,
        "content": {"image/png": {"schema": {"type": "string", "format": "binary", "contentMediaType": "image/png"}}},
    },
    304: {"description": "Unchanged since it was sent with the ETag of If-None-Match", "headers": ETAG},
}


@router.get("", operation_id="get_calibration", response_model=Calibration, responses=refusals("not-found"))
async def get_calibration(collection: Named, runtime: Loaded) -> Response:
    """Shows the calibration in force, with what a person should know of it now."""
    try:
        return answered(Calibration.of(await runtime.read(described, collection)))
    except RecordNotFound:
        raise Problem("not-found", NONE) from None


@router.get(
    "/plot",
    operation_id="get_calibration_plot",
    response_class=Response,
    responses=PLOT | refusals("not-found", binary=True),
    openapi_extra=conditional({}),
)
async def get_calibration_plot(collection: Named, request: Request, runtime: Loaded) -> Response:
    """Shows the calibration in force as PNG: how pictures score, what thresholds do, and the chosen one."""
    try:
        tag, png = await runtime.read(plotted, collection, partial(matches_tag, request))
    except RecordNotFound:
        raise Problem("not-found", NONE) from None
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if png is None:
        return Response(status_code=304, headers=headers)
    return Response(png, media_type="image/png", headers=headers)


@router.post(
    "",
    operation_id="create_calibration",
    response_model=Calibration,
    responses=accepted(Calibration) | refusals("not-found", "source-unreadable", "body", "queue", "storage"),
    openapi_extra=form_body(CalibrationForm),
)
async def create_calibration(collection: Named, request: Request, runtime: Loaded) -> Response:
    """Measures which score is a match, and searches by it from then on; a job (202) where that takes longer.

    Until it is done, and where it is refused, the calibration before it stays in force. A threshold set by hand goes
    before a calibrated one.
    """
    if media_type(request) != "multipart/form-data":
        raise Problem("unsupported-media-type", "Send multipart/form-data")
    settings = runtime.settings
    with incoming(settings.data_dir) as folder:
        files = folder / "files"
        files.mkdir()
        sent = await to_file(
            request,
            files,
            settings.max_import_bytes,
            settings.request_timeout,
            files=PARTS,
            fields=("false_accept_rate", "label"),
        )
        asked = CalibrationForm.read(sent.fields)
        wish: dict[str, Any] = {"rate": asked.false_accept_rate, "label": asked.label}
        if ("pairs" in sent.files) != ("pictures" in sent.files):
            raise Problem("invalid-request", "Send pairs (.csv) and pictures (an archive of those it names) together")
        for part in sent.files:
            wish[part] = named(sent, part)
        job = await runtime.jobs.submit(KIND, collection.name, wish, files=files)
    return await result_or_job(runtime, job)


def named(sent: Upload, part: str) -> str:
    """The name under which a part's file lies from now on. Raises unsupported-media-type."""
    path = sent.files[part]
    if part == "pairs":
        suffix = ".csv"
    else:
        with path.open("rb") as opened:
            head = opened.read(HEAD)
        try:
            stored = stored_name(sent.names[part], head).lower()
        except SourceError as error:
            raise Problem("unsupported-media-type", f"{part}: {error}") from None
        found = next((each for each in SUFFIXES if stored.endswith(each)), None)
        if found is None:
            raise Problem("unsupported-media-type", f"{part}: send an archive ({', '.join(SUFFIXES)})")
        suffix = found
    path.rename(path.with_name(part + suffix))
    return part + suffix


@router.delete(
    "",
    operation_id="delete_calibration",
    status_code=204,
    response_class=Response,
    responses=refusals("not-found", "storage"),
)
async def delete_calibration(collection: Named, runtime: Loaded) -> Response:
    """Goes back to the default threshold."""
    if not await runtime.write(forget, collection):
        raise Problem("not-found", NONE)
    return Response(status_code=204)
