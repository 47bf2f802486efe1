"""Items of a collection: put, get, patch, delete, list, thumbnail."""

from __future__ import annotations

import zlib

from fastapi import APIRouter, Request, Response

from index.filters import parse_filter
from service.http import schemas
from service.http.middleware import while_connected
from service.http.openapi import json_body, picture_body, query_string
from service.http.routing import (
    PROBLEM,
    Admitted,
    Direct,
    ItemPath,
    Loaded,
    Named,
    deadline,
    query_fields,
    read_json,
    read_picture,
)
from service.http.wire import item_json, json_response
from service.imports.put import checked_size, metadata_of, put_item

router = APIRouter(prefix="/v1/collections/{c}/items", tags=["items"], responses=PROBLEM, route_class=Direct)


@router.get(
    "",
    operation_id="list_items",
    response_model=schemas.ItemPage,
    openapi_extra=query_string(schemas.ListFields),
)
async def list_items(collection: Named, request: Request, runtime: Loaded) -> Response:
    """Items in the order of their ids, a page at a time."""
    asked = query_fields(request, schemas.ListFields)
    page = await runtime.read(
        collection.scan,
        limit=asked.limit,
        cursor=asked.cursor,
        filter=None if asked.filter is None else parse_filter(asked.filter),
    )
    return json_response({"items": [item_json(item) for item in page.items], "next_cursor": page.next_cursor})


@router.post(
    "/delete",
    operation_id="delete_items",
    response_model=schemas.Deleted,
    openapi_extra=json_body(schemas.DeleteRequest),
)
async def delete_items(collection: Named, request: Request, runtime: Loaded) -> Response:
    """Deletes the items named, or those that pass a filter; tells how many there were."""
    asked = await read_json(request, schemas.DeleteRequest)
    if asked.ids is not None:
        deleted = await runtime.write(collection.delete, asked.ids)
    else:
        deleted = await runtime.write(collection.delete_where, parse_filter(asked.filter))
    return json_response({"deleted": deleted})


@router.put(
    "/{id}",
    operation_id="put_item",
    response_model=schemas.Item,
    responses={200: {"model": schemas.Item}, 201: {"model": schemas.Item}},
    openapi_extra=picture_body(schemas.ItemForm),
)
async def put(collection: Named, id: ItemPath, request: Request, runtime: Loaded, admission: Admitted) -> Response:
    """Creates (201) or replaces (200) an item from a picture. The same bytes and metadata again change nothing."""
    with admission.body() as room:
        data, fields = await read_picture(request, ("metadata",), room, raw=False)
        metadata = metadata_of(fields.get("metadata", "{}"))
        with admission.place():
            work = put_item(
                collection,
                id,
                data,
                metadata,
                pipeline=runtime.pipeline,
                threads=runtime.threads,
                metrics=runtime.metrics,
                deadline=deadline(runtime),
            )
            written = await while_connected(request.receive, work)
    return json_response(item_json(written.item), 201 if written.created else 200)


@router.get("/{id}", operation_id="get_item", response_model=schemas.Item)
async def get(collection: Named, id: ItemPath, runtime: Loaded) -> Response:
    """One item."""
    return json_response(item_json(await runtime.read(collection.get, id)))


@router.patch(
    "/{id}",
    operation_id="update_item",
    response_model=schemas.Item,
    openapi_extra=json_body(schemas.MetadataPatch),
)
async def update(collection: Named, id: ItemPath, request: Request, runtime: Loaded) -> Response:
    """Merges metadata (RFC 7396); null removes a key."""
    asked = await read_json(request, schemas.MetadataPatch)
    checked_size(asked.metadata)
    return json_response(item_json(await runtime.write(collection.merge_metadata, id, asked.metadata)))


@router.delete("/{id}", operation_id="delete_item", status_code=204, response_class=Response)
async def delete(collection: Named, id: ItemPath, runtime: Loaded) -> Response:
    """Deletes one item."""
    if not await runtime.write(collection.delete, [id]):
        await runtime.read(collection.get, id)  # raises: there is no such item
    return Response(status_code=204)


@router.get(
    "/{id}/thumbnail",
    operation_id="get_thumbnail",
    response_class=Response,
    responses={200: {"content": {"image/webp": {}}}, 304: {"description": "Unchanged"}},
)
async def thumbnail(collection: Named, id: ItemPath, request: Request, runtime: Loaded) -> Response:
    """The picture as WebP, longest side 256; 404 for an item imported as a vector."""
    webp = await runtime.read(collection.thumbnail, id)
    etag = f'"{zlib.crc32(webp):08x}-{len(webp):x}"'
    headers = {"ETag": etag, "Cache-Control": "private, max-age=0, must-revalidate"}
    known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    if etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(webp, media_type="image/webp", headers=headers)
