"""Items of a collection: put, get, patch, delete, list, thumbnail."""

from __future__ import annotations

import zlib
from typing import Any

from fastapi import APIRouter, Request, Response

from service.http.answers import answered, matches_tag
from service.http.bodies.reading import query_fields, read_form, read_json
from service.http.middleware import while_connected
from service.http.openapi.describe import conditional, created, etag, form_body, json_body, query_string, refusals
from service.http.routing import Admitted, Direct, ItemPath, Loaded, Named, deadline
from service.http.schemas.items import (
    DeleteByIds,
    Deleted,
    DeleteRequest,
    Item,
    ItemForm,
    ItemPage,
    ListFields,
    MetadataPatch,
    Signature,
    read_delete,
)
from service.imports.put import checked_size, metadata_of, put_item

router = APIRouter(prefix="/v1/collections/{c}/items", tags=["items"], route_class=Direct)

# From what was put to what can be done with it.
LIFE = {
    name: {
        "operationId": name,
        "parameters": {"c": "$request.path.c", "id": "$request.path.id"},
    }
    for name in ("get_item", "update_item", "similar_items", "get_thumbnail", "delete_item")
}

ETAG = etag("Of this picture")
THUMBNAIL: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The thumbnail",
        "headers": ETAG,
        "content": {"image/webp": {"schema": {"type": "string", "format": "binary", "contentMediaType": "image/webp"}}},
    },
    304: {"description": "Unchanged since it was sent with the ETag of If-None-Match", "headers": ETAG},
}


@router.get(
    "",
    operation_id="list_items",
    response_model=ItemPage,
    responses=refusals("not-found"),
    openapi_extra=query_string(ListFields),
)
async def list_items(collection: Named, request: Request, runtime: Loaded) -> Response:
    """Lists items in the order of their ids, a page at a time."""
    asked = query_fields(request, ListFields)
    page = await runtime.read(
        collection.scan,
        limit=asked.limit,
        cursor=asked.cursor,
        filter=asked.filter,
    )
    return answered(ItemPage(items=[Item.of(item) for item in page.items], next_cursor=page.next_cursor))


@router.post(
    "/delete",
    operation_id="delete_items",
    response_model=Deleted,
    responses=refusals("not-found", "body", "storage"),
    openapi_extra=json_body(DeleteRequest),
)
async def delete_items(collection: Named, request: Request, runtime: Loaded) -> Response:
    """Deletes the items named, or those that pass a filter, and says how many there were."""
    asked = await read_json(request, read_delete)
    if isinstance(asked, DeleteByIds):
        deleted = await runtime.write(collection.delete, asked.ids)
    else:
        deleted = await runtime.write(collection.delete_where, asked.filter)
    return answered(Deleted(deleted=deleted))


@router.put(
    "/{id}",
    operation_id="put_item",
    response_model=Item,
    responses=created(Item, links=LIFE)
    | refusals("not-found", "model-mismatch", "picture", "body", "queue", "storage"),
    openapi_extra=form_body(ItemForm),
)
async def put(collection: Named, id: ItemPath, request: Request, runtime: Loaded, admission: Admitted) -> Response:
    """Creates (201) or replaces (200) an item from a picture. The same bytes and metadata again change nothing."""
    with admission.body() as room:
        data, fields = await read_form(request, ("metadata",), room)
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
    if not written.created:
        return answered(Item.of(written.item))
    path = f"{runtime.settings.root_path}/v1/collections/{collection.name}/items/{id}"
    return answered(Item.of(written.item), 201, {"Location": path})


@router.get("/{id}", operation_id="get_item", response_model=Item, responses=refusals("not-found"))
async def get(collection: Named, id: ItemPath, runtime: Loaded) -> Response:
    """Describes one item."""
    return answered(Item.of(await runtime.read(collection.get, id)))


@router.patch(
    "/{id}",
    operation_id="update_item",
    response_model=Item,
    responses=refusals("not-found", "body", "storage"),
    openapi_extra=json_body(MetadataPatch),
)
async def update(collection: Named, id: ItemPath, request: Request, runtime: Loaded) -> Response:
    """Merges into an item's metadata (RFC 7396); null removes a key."""
    asked = await read_json(request, MetadataPatch.read)
    checked_size(asked.metadata)
    return answered(Item.of(await runtime.write(collection.merge_metadata, id, asked.metadata)))


@router.delete(
    "/{id}",
    operation_id="delete_item",
    status_code=204,
    response_class=Response,
    responses=refusals("not-found", "storage"),
)
async def delete(collection: Named, id: ItemPath, runtime: Loaded) -> Response:
    """Deletes one item."""
    if not await runtime.write(collection.delete, [id]):
        await runtime.read(collection.get, id)  # raises: there is no such item
    return Response(status_code=204)


@router.get(
    "/{id}/thumbnail",
    operation_id="get_thumbnail",
    response_class=Response,
    responses=THUMBNAIL | refusals("not-found", binary=True),
    openapi_extra=conditional(query_string(Signature)),
)
async def thumbnail(collection: Named, id: ItemPath, request: Request, runtime: Loaded) -> Response:
    """Shows an item's picture as WebP, longest side 256; 404 for an item imported as a vector."""
    query_fields(request, Signature)
    webp = await runtime.read(collection.thumbnail, id)
    tag = f'"{zlib.crc32(webp):08x}-{len(webp):x}"'
    headers = {"ETag": tag, "Cache-Control": "private, max-age=0, must-revalidate"}
    if matches_tag(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(webp, media_type="image/webp", headers=headers)
