"""Searches: by upload, by a stored item, by query, by a batch of queries."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from index.filters import parse_filter
from index.types import Collection
from service.errors import UrlRefused
from service.http import schemas
from service.http.middleware import while_connected
from service.http.openapi import json_body, picture_body, query_string
from service.http.problems import problem_of
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
from service.http.wire import answer_json, json_response
from service.metrics import Stopwatch
from service.runtime import Runtime
from service.search.query import ByExamples, ById, ByPicture, ByVector, Query, decode_base64

router = APIRouter(prefix="/v1/collections/{c}", tags=["search"], responses=PROBLEM, route_class=Direct)

FIELDS = tuple(schemas.SearchFields.model_fields)


@router.post(
    "/search",
    operation_id="search_by_image",
    response_model=schemas.SearchResponse,
    openapi_extra=query_string(schemas.SearchFields) | picture_body(schemas.SearchForm, raw=True),
)
async def search_by_image(collection: Named, request: Request, runtime: Loaded, admission: Admitted) -> Response:
    """The most similar pictures to an upload, or "no similar images".

    Fields go into the form with multipart/form-data, and into the query string with a raw picture as the body.
    """
    watch = Stopwatch()
    with admission.body() as room:
        data, fields = await read_picture(request, FIELDS, room, raw=True)
        asked = schemas.SearchFields.model_validate(fields)
        with admission.place():
            work = runtime.search(collection, picture_query(asked, data), watch=watch, deadline=deadline(runtime))
            return json_response(answer_json(await while_connected(request.receive, work)))


@router.get(
    "/items/{id}/similar",
    operation_id="similar_items",
    response_model=schemas.SearchResponse,
    openapi_extra=query_string(schemas.SimilarFields),
)
async def similar_items(
    collection: Named, id: ItemPath, request: Request, runtime: Loaded, admission: Admitted
) -> Response:
    """The most similar items to a stored one, itself left out."""
    watch = Stopwatch()
    asked = query_fields(request, schemas.SimilarFields)
    with admission.place():
        query = json_query(schemas.QueryRequest(id=id, **asked.model_dump()))
        return json_response(answer_json(await runtime.search(collection, query, watch=watch)))


@router.post(
    "/query",
    operation_id="query",
    response_model=schemas.SearchResponse,
    openapi_extra=json_body(schemas.QueryRequest),
)
async def query(collection: Named, request: Request, runtime: Loaded, admission: Admitted) -> Response:
    """The most similar items to an item, a vector, a picture in base64, or liked and disliked items."""
    watch = Stopwatch()
    with admission.body() as room:
        asked = await read_json(request, schemas.QueryRequest, room)
        with admission.place():
            work = runtime.search(collection, json_query(asked), watch=watch, deadline=deadline(runtime))
            return json_response(answer_json(await while_connected(request.receive, work)))


@router.post(
    "/query/batch",
    operation_id="query_batch",
    response_model=schemas.QueryResponses,
    openapi_extra=json_body(schemas.QueryBatch),
)
async def query_batch(collection: Named, request: Request, runtime: Loaded, admission: Admitted) -> Response:
    """Up to 32 queries at once; a bad one gives its own problem in its place."""
    with admission.body() as room:
        asked = await read_json(request, schemas.QueryBatch, room)
        until = deadline(runtime)
        with admission.place():
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
        return answer_json(await runtime.search(collection, json_query(asked), watch=watch, deadline=until))
    except Exception as error:
        problem = problem_of(error)
        if problem.slug == "internal":
            raise
        return problem.body(path)


def query_of(fields: schemas.SearchFields, by: ByPicture | ById | ByVector | ByExamples) -> Query:
    """The fields that every search takes. Raises FilterError."""
    return Query(
        by,
        limit=fields.limit,
        offset=fields.offset,
        score_threshold=fields.score_threshold,
        filter=None if fields.filter is None else parse_filter(fields.filter),
        group_by=fields.group_by,
    )


def picture_query(fields: schemas.SearchFields, data: bytes) -> Query:
    """Raises FilterError."""
    crop = None if fields.crop is None else (fields.crop[0], fields.crop[1], fields.crop[2], fields.crop[3])
    return query_of(fields, ByPicture(data, crop))


def json_query(asked: schemas.QueryRequest) -> Query:
    """Raises FilterError, InvalidRequest, UrlRefused."""
    if asked.image_url is not None:
        raise UrlRefused("Fetching pictures from URLs is switched off here; upload the picture instead")
    if asked.image_base64 is not None:
        return picture_query(asked, decode_base64(asked.image_base64, "image_base64"))
    if asked.vector is not None:
        return query_of(asked, ByVector(np.asarray(asked.vector, np.float32)))
    if asked.id is not None:
        return query_of(asked, ById(asked.id))
    return query_of(asked, ByExamples(asked.positive or [], asked.negative or []))
