"""Collections: list, create, describe, set threshold and recall by hand, delete."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from index.errors import CollectionNotFound
from index.info import CollectionInfo
from service.http.answers import answered
from service.http.bodies.reading import query_fields, read_json, read_optional_json
from service.http.openapi.describe import created, json_body, query_string, refusals
from service.http.routing import CollectionName, Direct, Loaded, Named
from service.http.schemas.collections import Collection, CollectionCreate, CollectionPage, CollectionPatch
from service.http.schemas.pages import PageFields
from service.runtime import Runtime
from service.search.thresholds import threshold

router = APIRouter(prefix="/v1/collections", tags=["collections"], route_class=Direct)


def described(runtime: Runtime, info: CollectionInfo) -> Collection:
    default = runtime.default_threshold(info.fingerprint)
    return Collection.of(info, *threshold(None, info.score_threshold, default, runtime.calibrated_threshold(info.name)))


@router.get(
    "",
    operation_id="list_collections",
    response_model=CollectionPage,
    responses=refusals(),
    openapi_extra=query_string(PageFields),
)
async def list_collections(request: Request, runtime: Loaded) -> Response:
    """Lists the collections in the order of their names, a page at a time."""
    asked = query_fields(request, PageFields)
    infos = [info for info in await runtime.read(runtime.catalogue.infos) if info.name > (asked.cursor or "")]
    only = request.scope["asker"].collection
    infos = [info for info in infos if only in (None, info.name)]
    infos.sort(key=lambda info: info.name)
    more = len(infos) > asked.limit
    infos = infos[: asked.limit]
    return answered(
        CollectionPage(items=[described(runtime, info) for info in infos], next_cursor=infos[-1].name if more else None)
    )


@router.put(
    "/{c}",
    operation_id="create_collection",
    response_model=Collection,
    responses=created(Collection) | refusals("body", "storage"),
    openapi_extra=json_body(CollectionCreate, required=False),
)
async def create_collection(name: CollectionName, request: Request, runtime: Loaded) -> Response:
    """Creates a collection (201), or describes the one that is there (200)."""
    wanted = await read_optional_json(request, CollectionCreate.read, CollectionCreate())
    while True:
        collection, new = await runtime.write(runtime.create_collection, name)
        try:
            if "score_threshold" in wanted.model_fields_set:
                await runtime.write(collection.set_score_threshold, wanted.score_threshold)
            if "recall" in wanted.model_fields_set:
                await runtime.write(collection.set_recall, wanted.recall)
            info = await runtime.read(collection.info)
            break
        except CollectionNotFound:
            continue  # deleted by somebody else since
    if not new:
        return answered(described(runtime, info))
    return answered(described(runtime, info), 201, {"Location": f"{runtime.settings.root_path}/v1/collections/{name}"})


@router.get("/{c}", operation_id="get_collection", response_model=Collection, responses=refusals("not-found"))
async def get_collection(collection: Named, runtime: Loaded) -> Response:
    """Describes a collection."""
    return answered(described(runtime, await runtime.read(collection.info)))


@router.patch(
    "/{c}",
    operation_id="update_collection",
    response_model=Collection,
    responses=refusals("not-found", "body", "storage"),
    openapi_extra=json_body(CollectionPatch),
)
async def update_collection(collection: Named, request: Request, runtime: Loaded) -> Response:
    """Sets a collection's score threshold or its searches' recall by hand; null goes back to the default."""
    wanted = await read_json(request, CollectionPatch.read)
    if "score_threshold" in wanted.model_fields_set:
        await runtime.write(collection.set_score_threshold, wanted.score_threshold)
    if "recall" in wanted.model_fields_set:
        await runtime.write(collection.set_recall, wanted.recall)
    return answered(described(runtime, await runtime.read(collection.info)))


@router.delete(
    "/{c}",
    operation_id="delete_collection",
    status_code=204,
    response_class=Response,
    responses=refusals("not-found", "storage"),
)
async def delete_collection(collection: Named, runtime: Loaded) -> Response:
    """Deletes a collection with all it holds, and ends its jobs; `default` is emptied instead."""
    await runtime.remove(collection)
    return Response(status_code=204)
