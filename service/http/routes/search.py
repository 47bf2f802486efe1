"""Searches: by upload, by a stored item, by query, by a batch of queries."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from index.types import Collection
from service.errors import InvalidRequest, UrlRefused
from service.http import schemas
from service.http.middleware import while_connected
from service.http.openapi import json_body, picture_body, query_string
from service.http.problems import problem_of
from service.http.routing import (
    PROBLEM,
    Direct,
    ItemPath,
    Loaded,
    Named,
    deadline,
    query_fields,
    read_json,
    read_picture,
)
from service.http.wire import json_response
from service.metrics import Stopwatch
from service.runtime import Runtime
from service.search.answer import answer, ask_of, combined

router = APIRouter(prefix="/v1/collections/{c}", tags=["search"], responses=PROBLEM, route_class=Direct)

FIELDS = tuple(schemas.SearchFields.model_fields)


@router.post(
    "/search",
    operation_id="search_by_image",
    response_model=schemas.SearchResponse,
    openapi_extra=query_string(schemas.SearchFields) | picture_body(schemas.SearchForm, raw=True),
)
async def search_by_image(collection: Named, request: Request, runtime: Loaded) -> Response:
    """The most similar pictures to an upload, or "no similar images".

    Fields go into the form with multipart/form-data, and into the query string with a raw picture as the body.
    """
    watch, until = Stopwatch(), deadline(runtime)
    with runtime.admission.body() as room:
        data, fields = await read_picture(request, FIELDS, room, raw=True)
        asked = schemas.SearchFields.model_validate(fields)
        with runtime.admission.place():
            work = by_picture(runtime, collection, data, asked, watch, until)
            return json_response(await while_connected(request.receive, work))


async def by_picture(
    runtime: Runtime,
    collection: Collection,
    data: bytes,
    asked: schemas.SearchFields,
    watch: Stopwatch,
    until: float,
) -> dict[str, Any]:
    ask = ask_of(asked)
    network = await runtime.network(collection)
    crop = None if asked.crop is None else (asked.crop[0], asked.crop[1], asked.crop[2], asked.crop[3])
    made = await runtime.pipeline.embed(data, network=network, crop=crop, deadline=until)
    return await answer(
        runtime, collection, made.vector, ask, watch=watch, decode_ms=made.decode_ms, embed_ms=made.embed_ms
    )


@router.get(
    "/items/{id}/similar",
    operation_id="similar_items",
    response_model=schemas.SearchResponse,
    openapi_extra=query_string(schemas.SimilarFields),
)
async def similar_items(collection: Named, id: ItemPath, request: Request, runtime: Loaded) -> Response:
    """The most similar items to a stored one, itself left out."""
    watch = Stopwatch()
    asked = query_fields(request, schemas.SimilarFields)
    with runtime.admission.place():
        query = schemas.QueryRequest(id=id, **asked.model_dump())
        return json_response(await by_query(runtime, collection, query, watch, deadline(runtime)))


@router.post(
    "/query",
    operation_id="query",
    response_model=schemas.SearchResponse,
    openapi_extra=json_body(schemas.QueryRequest),
)
async def query(collection: Named, request: Request, runtime: Loaded) -> Response:
    """The most similar items to an item, a vector, a picture in base64, or liked and disliked items."""
    watch, until = Stopwatch(), deadline(runtime)
    with runtime.admission.body() as room:
        asked = await read_json(request, schemas.QueryRequest, room)
        with runtime.admission.place():
            work = by_query(runtime, collection, asked, watch, until)
            return json_response(await while_connected(request.receive, work))


@router.post(
    "/query/batch",
    operation_id="query_batch",
    response_model=schemas.QueryResponses,
    openapi_extra=json_body(schemas.QueryBatch),
)
async def query_batch(collection: Named, request: Request, runtime: Loaded) -> Response:
    """Up to 32 queries at once; a bad one gives its own problem in its place."""
    until = deadline(runtime)
    with runtime.admission.body() as room:
        asked = await read_json(request, schemas.QueryBatch, room)
        with runtime.admission.place():
            work = all_of_batch(runtime, collection, asked.queries, until, request.url.path)
            answers = await while_connected(request.receive, work)
    return json_response({"responses": answers})


async def all_of_batch(
    runtime: Runtime, collection: Collection, queries: list[Any], until: float, path: str
) -> list[dict[str, Any]]:
    return [await one_of_batch(runtime, collection, each, until, path) for each in queries]


async def one_of_batch(runtime: Runtime, collection: Collection, raw: Any, until: float, path: str) -> dict[str, Any]:
    watch = Stopwatch()
    try:
        asked = schemas.QueryRequest.model_validate(raw, strict=True)
        return await by_query(runtime, collection, asked, watch, until)
    except Exception as error:
        problem = problem_of(error)
        if problem.slug == "internal":
            raise
        return problem.body(path)


async def by_query(
    runtime: Runtime, collection: Collection, asked: schemas.QueryRequest, watch: Stopwatch, until: float
) -> dict[str, Any]:
    """Raises ItemNotFound, InvalidVector, ImageError, InvalidRequest, UrlRefused."""
    if asked.image_url is not None:
        raise UrlRefused("Fetching pictures from URLs is switched off here; upload the picture instead")
    if asked.image_base64 is not None:
        data = decode_base64(asked.image_base64, "image_base64")
        return await by_picture(runtime, collection, data, asked, watch, until)
    ask = ask_of(asked)
    exclude: list[str] = []
    if asked.vector is not None:
        vector = np.asarray(asked.vector, np.float32)
    elif asked.id is not None:
        exclude = [asked.id]
        vector = (await runtime.read(collection.vectors, exclude))[0]
    else:
        positive, negative = asked.positive or [], asked.negative or []
        exclude = [*positive, *negative]
        rows = await runtime.read(collection.vectors, exclude)
        vector = combined(rows[: len(positive)], rows[len(positive) :] if negative else None)
    return await answer(runtime, collection, vector, ask, watch=watch, exclude=exclude)


def decode_base64(text: str, field: str) -> bytes:
    """The bytes of base64 text or a base64 data: URI. Raises InvalidRequest."""
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise InvalidRequest(field, "a data: URI must be base64, as in data:image/jpeg;base64,…")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(field, "not valid base64") from None
