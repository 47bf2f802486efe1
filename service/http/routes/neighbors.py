"""Neighbors: every item's nearest others, for a recommender that looks them up."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Request, Response

from service.analysis.neighbours import KIND, later_page
from service.http.bodies.reading import query_fields
from service.http.openapi.describe import query_string, refusals
from service.http.routing import Direct, Loaded, Named
from service.http.schemas.neighbors import NeighborFields, NeighborPage
from service.http.working import accepted, result_or_job

router = APIRouter(prefix="/v1/collections/{c}/neighbors", tags=["search"], route_class=Direct)


@router.get(
    "",
    operation_id="list_neighbors",
    response_model=NeighborPage,
    responses=accepted(NeighborPage) | refusals("not-found", "queue", "storage"),
    openapi_extra=query_string(NeighborFields),
)
async def list_neighbors(collection: Named, request: Request, runtime: Loaded) -> Response:
    """Lists every item's nearest others, found anew where something changed; a job (202) where that takes longer.

    Pages after the first, with its cursor, are of what was found then.
    """
    asked = query_fields(request, NeighborFields)
    if asked.cursor is not None:
        made = await runtime.read(later_page, collection, asked.limit, asked.cursor)
        return Response(orjson.dumps(made), media_type="application/json")
    job = await runtime.jobs.submit(
        KIND, collection.name, {"limit": asked.limit}, key=str(asked.limit), join=lambda job: not job.finished
    )
    return await result_or_job(runtime, job)
