"""Collections: list, create, describe, set the threshold by hand, delete."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from index.types import CollectionInfo
from service.http import schemas
from service.http.body import parse_json, require_json
from service.http.openapi import json_body, query_string
from service.http.routing import PROBLEM, CollectionName, Direct, Loaded, Named, query_fields, read_json, whole_body
from service.http.wire import collection_json, json_response
from service.runtime import DEFAULT, Runtime

router = APIRouter(prefix="/v1/collections", tags=["collections"], responses=PROBLEM, route_class=Direct)


def described(runtime: Runtime, info: CollectionInfo) -> dict[str, Any]:
    return collection_json(info, runtime.default_threshold(info.fingerprint))


@router.get(
    "",
    operation_id="list_collections",
    response_model=schemas.CollectionPage,
    openapi_extra=query_string(schemas.PageFields),
)
async def list_collections(request: Request, runtime: Loaded) -> Response:
    """Collections in the order of their names, a page at a time."""
    asked = query_fields(request, schemas.PageFields)
    infos = [info for info in await runtime.read(runtime.catalogue.infos) if info.name > (asked.cursor or "")]
    infos.sort(key=lambda info: info.name)
    more = len(infos) > asked.limit
    infos = infos[: asked.limit]
    return json_response(
        {
            "items": [described(runtime, info) for info in infos],
            "next_cursor": infos[-1].name if more else None,
        }
    )


@router.put(
    "/{c}",
    operation_id="create_collection",
    response_model=schemas.Collection,
    responses={200: {"model": schemas.Collection}, 201: {"model": schemas.Collection}},
    openapi_extra=json_body(schemas.CollectionCreate),
)
async def create_collection(name: CollectionName, request: Request, runtime: Loaded) -> Response:
    """Creates a collection (201), or describes the one that stands (200)."""
    body = await whole_body(request)
    wanted = schemas.CollectionCreate()
    if body:
        require_json(request)
        wanted = parse_json(body, schemas.CollectionCreate)
    collection, created = await runtime.write(runtime.create_collection, name)
    if "score_threshold" in wanted.model_fields_set:
        await runtime.write(collection.set_score_threshold, wanted.score_threshold)
    info = await runtime.read(collection.info)
    return json_response(described(runtime, info), 201 if created else 200)


@router.get("/{c}", operation_id="get_collection", response_model=schemas.Collection)
async def get_collection(collection: Named, runtime: Loaded) -> Response:
    """Describes a collection."""
    return json_response(described(runtime, await runtime.read(collection.info)))


@router.patch(
    "/{c}",
    operation_id="update_collection",
    response_model=schemas.Collection,
    openapi_extra=json_body(schemas.CollectionPatch),
)
async def update_collection(collection: Named, request: Request, runtime: Loaded) -> Response:
    """Sets the score threshold by hand; null goes back to the default."""
    wanted = await read_json(request, schemas.CollectionPatch)
    await runtime.write(collection.set_score_threshold, wanted.score_threshold)
    return json_response(described(runtime, await runtime.read(collection.info)))


@router.delete("/{c}", operation_id="delete_collection", status_code=204, response_class=Response)
async def delete_collection(collection: Named, runtime: Loaded) -> Response:
    """Deletes a collection with all it holds; `default` is emptied instead."""
    if collection.name == DEFAULT:
        await runtime.write(runtime.empty_default)
    else:
        await runtime.write(runtime.catalogue.drop, collection.name)
    return Response(status_code=204)
