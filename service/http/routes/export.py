"""Export: a collection as one file that imports again, streamed while it is made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from service.exports.export import pieces
from service.http.bodies.reading import query_fields
from service.http.openapi.describe import query_string, refusals
from service.http.routing import Direct, Loaded, Named
from service.http.schemas.fields import SAFE
from service.http.schemas.items import ExportFields
from service.runtime import Runtime

router = APIRouter(prefix="/v1/collections/{c}/export", tags=["items"], route_class=Direct)

TYPES = {
    "csv": "text/csv",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "zip": "application/zip",
}
BYTES = {"type": "string", "format": "binary"}
FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file; one that breaks off was not made to its end",
        "headers": {
            "Content-Disposition": {
                "description": "A name for the file",
                "schema": {"type": "string", "maxLength": 128},
            }
        },
        "content": {
            # Text as text: generators that meet bytes under a type of text make code that does not compile.
            kind: {
                "schema": {"type": "string", "maxLength": SAFE}
                if name in ("csv", "jsonl")
                else BYTES | {"contentMediaType": kind}
            }
            for name, kind in TYPES.items()
        },
    }
}


@router.get(
    "",
    operation_id="export_items",
    response_class=Response,
    responses=FILE | refusals("not-found", binary=True),
    openapi_extra=query_string(ExportFields),
)
async def export_items(collection: Named, request: Request, runtime: Loaded) -> Response:
    """Streams the collection as one file that imports again: with vectors, or as a .zip with the uploaded pictures."""
    asked = query_fields(request, ExportFields)
    name = collection.name
    made = pieces(runtime.catalogue, name, asked.format, vectors=asked.vectors, filter=asked.filter)
    first = await runtime.read(_next, made)  # what is refused is answered as a problem
    headers = {"Content-Disposition": f'attachment; filename="{name}.{asked.format}"'}
    return StreamingResponse(_sent(runtime, first, made), headers=headers, media_type=TYPES[asked.format])


async def _sent(runtime: Runtime, piece: bytes | None, made: Iterator[bytes]) -> AsyncIterator[bytes]:
    while piece is not None:
        if piece:
            yield piece
        piece = await runtime.read(_next, made)


def _next(made: Iterator[bytes]) -> bytes | None:
    return next(made, None)
