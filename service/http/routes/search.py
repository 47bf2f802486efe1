"""Searches: by upload, by a stored item, by query, by a batch of queries."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from index.limits import ID, ID_RULE
from index.types import Collection
from service.access.access import Access
from service.errors import UrlFailed
from service.fetching.fetcher import IMPATIENT
from service.http.answers import answered, matches_tag
from service.http.bodies.reading import query_fields, read_json, read_raw, read_upload
from service.http.middleware import while_connected
from service.http.openapi.describe import conditional, etag, form_body, json_body, query_string, raw_body, refusals
from service.http.problems import invalid, problem_of
from service.http.routing import Admitted, Direct, ItemPath, Loaded, Named, addresses, deadline
from service.http.schemas.problems import ProblemDetails
from service.http.schemas.queries import (
    ExampleHandle,
    ExampleItem,
    ExampleVector,
    Query,
    QueryBatch,
    QueryByExamples,
    QueryByHandle,
    QueryById,
    QueryByImage,
    QueryByUrl,
    QueryByVector,
    QueryResponses,
    SimilarBatch,
    SimilarResponses,
    read_query,
)
from service.http.schemas.rules import rules_of
from service.http.schemas.search import SearchFields, SearchForm, SearchResponse, SearchTexts, SimilarFields
from service.metrics import Stopwatch
from service.runtime import Runtime
from service.search import query as domain
from service.search.answer import Answer


@dataclass(frozen=True, slots=True)
class Sent:
    """A query by address, and the bytes that were there."""

    asked: QueryByUrl
    data: bytes


router = APIRouter(prefix="/v1/collections/{c}", tags=["search"], route_class=Direct)

TIMING = {
    "Server-Timing": {
        "description": "Milliseconds of the stages, as `took_ms`",
        "schema": {"type": "string", "maxLength": 256},
    }
}
TIMED: dict[int | str, dict[str, Any]] = {200: {"headers": TIMING}}
ETAG = etag("Another one once the answer may be another")
TAGGED: dict[int | str, dict[str, Any]] = {
    200: {"headers": TIMING | ETAG},
    304: {"description": "Nothing changed since it was sent with the ETag of If-None-Match", "headers": ETAG},
}
KEPT = {"Cache-Control": "private, no-cache", "Vary": "Accept-Encoding"}  # kept, and asked about each time

Reader = Callable[[], "SearchFields | Sent"]  # one query of a batch; raises what is wrong with it
Source = domain.ByPicture | domain.ByHandle | domain.ById | domain.ByVector | domain.ByExamples


@router.post(
    "/search",
    operation_id="search_by_image",
    response_model=SearchResponse,
    responses=TIMED | refusals("not-found", "model-mismatch", "picture", "body", "queue"),
    openapi_extra=form_body(SearchForm),
)
async def search_by_image(collection: Named, request: Request, runtime: Loaded, admission: Admitted) -> Response:
    """Finds the pictures most similar to an upload, or says that nothing is similar."""
    watch = Stopwatch()
    with admission.body() as room:
        data, asked = await read_upload(request, SearchTexts, room)
        with admission.place():
            work = runtime.search(
                collection, query_of(asked, picture(data, asked)), watch=watch, deadline=deadline(runtime)
            )
            return told(await while_connected(request.receive, work), request, explain=asked.explain)


@router.post(
    "/search/raw",
    operation_id="search_by_raw_image",
    response_model=SearchResponse,
    responses=TIMED | refusals("not-found", "model-mismatch", "picture", "body", "queue"),
    openapi_extra=query_string(SearchTexts) | raw_body(),
)
async def search_by_raw_image(collection: Named, request: Request, runtime: Loaded, admission: Admitted) -> Response:
    """Finds the pictures most similar to one that is the whole body, with the fields in the query string.

    The Content-Type may be application/octet-stream, image/jpeg, image/png or image/webp: the bytes decide.
    """
    watch = Stopwatch()
    with admission.body() as room:
        data, asked = await read_raw(request, SearchTexts, room, unnamed=True)
        with admission.place():
            work = runtime.search(
                collection, query_of(asked, picture(data, asked)), watch=watch, deadline=deadline(runtime)
            )
            return told(await while_connected(request.receive, work), request, explain=asked.explain)


@router.get(
    "/items/{id}/similar",
    operation_id="similar_items",
    response_model=SearchResponse,
    responses=TAGGED | refusals("not-found", "model-mismatch", "queue"),
    openapi_extra=conditional(query_string(SimilarFields)),
)
async def similar_items(
    collection: Named, id: ItemPath, request: Request, runtime: Loaded, admission: Admitted
) -> Response:
    """Finds the items most similar to a stored one, itself left out."""
    watch = Stopwatch()
    asked = query_fields(request, SimilarFields)
    known = await runtime.read(lambda: tag(collection, request, runtime))
    unchanged = Response(status_code=304, headers=KEPT | {"ETag": known})
    if matches_tag(request, known, found=False):
        return unchanged
    with admission.place():
        found = await runtime.search(collection, query_of(asked, domain.ById(id)), watch=watch)
        if matches_tag(request, known):
            return unchanged
        return told(found, request, explain=asked.explain, headers=KEPT | {"ETag": known})


@router.post(
    "/similar/batch",
    operation_id="similar_batch",
    response_model=SimilarResponses,
    responses=refusals("not-found", "body", "queue"),
    openapi_extra=json_body(SimilarBatch),
)
async def similar_batch(collection: Named, request: Request, runtime: Loaded, admission: Admitted) -> Response:
    """Finds what resembles each of up to 100 stored items; a bad id gives its own problem in its place."""
    with admission.body() as room:
        asked = await read_json(request, SimilarBatch.read, room)
        readers = [item_query(asked, id, place) for place, id in enumerate(asked.ids)]
        with admission.place():
            work = all_of_batch(runtime, collection, readers, deadline(runtime), request)
            return answered(SimilarResponses(responses=await while_connected(request.receive, work)))


@router.post(
    "/query",
    operation_id="query",
    response_model=SearchResponse,
    responses=TIMED | refusals("not-found", "model-mismatch", "picture", "body", "url-refused", "url-failed", "queue"),
    openapi_extra=json_body(Query),
)
async def query(collection: Named, request: Request, runtime: Loaded, admission: Admitted) -> Response:
    """Finds the items most similar to an item, a vector, a picture (base64 or URL), or liked and disliked items."""
    watch = Stopwatch()
    with admission.body() as room:
        asked = await read_json(request, read_query, room)
        # Fetched before it has a place: a slow server elsewhere keeps no search out.
        there = await while_connected(request.receive, arrived(asked, runtime))
        with admission.place():
            work = runtime.search(collection, json_query(there), watch=watch, deadline=deadline(runtime))
            return told(await while_connected(request.receive, work), request, explain=asked.explain)


@router.post(
    "/query/batch",
    operation_id="query_batch",
    response_model=QueryResponses,
    responses=refusals("not-found", "body", "queue"),
    openapi_extra=json_body(QueryBatch),
)
async def query_batch(collection: Named, request: Request, runtime: Loaded, admission: Admitted) -> Response:
    """Answers up to 32 queries at once; a bad one gives its own problem in its place."""
    with admission.body() as room:
        asked = await read_json(request, QueryBatch.read, room)
        work_before = asyncio.gather(*(reader_of(raw, runtime) for raw in asked.queries))
        readers = await while_connected(request.receive, work_before)
        until = deadline(runtime)
        with admission.place():
            work = all_of_batch(runtime, collection, readers, until, request)
            return answered(QueryResponses(responses=await while_connected(request.receive, work)))


async def arrived(asked: SearchFields, runtime: Runtime) -> SearchFields | Sent:
    """The same query, with its picture where that has to be fetched. Raises UrlRefused, UrlFailed."""
    if not isinstance(asked, QueryByUrl):
        return asked
    limit = runtime.settings.max_upload_bytes
    try:
        async with asyncio.timeout(runtime.settings.request_timeout):
            got = await runtime.fetcher.fetch(asked.image_url, max_bytes=limit, limits=IMPATIENT)
    except TimeoutError:
        raise UrlFailed("The picture at the address did not come in time") from None
    except UrlFailed as error:
        raise type(error)(f"The picture at the address could not be fetched: {error}") from None
    return Sent(asked, got.data or b"")


async def reader_of(raw: Any, runtime: Runtime) -> Reader:
    """One query of a batch, with its picture there."""
    try:
        asked = await arrived(read_query(raw), runtime)
    except Exception as error:
        if problem_of(error).slug == "internal":
            raise
        return partial(_refuse, error)
    return lambda: asked


def _refuse(error: Exception) -> SearchFields:
    raise error


async def all_of_batch(
    runtime: Runtime, collection: Collection, queries: Sequence[Reader], until: float, request: Request
) -> list[SearchResponse | ProblemDetails]:
    return [await one_of_batch(runtime, collection, each, until, request) for each in queries]


async def one_of_batch(
    runtime: Runtime, collection: Collection, read: Reader, until: float, request: Request
) -> SearchResponse | ProblemDetails:
    watch = Stopwatch()
    try:
        asked = json_query(read())
        found = await runtime.search(collection, asked, watch=watch, deadline=until)
        return SearchResponse.of(found, addresses(request), explain=asked.rules.explain)
    except Exception as error:
        problem = problem_of(error)
        if problem.slug == "internal":
            raise
        return problem.details(request.url.path)


def told(found: Answer, request: Request, *, explain: bool, headers: dict[str, str] | None = None) -> Response:
    """An answer as it is sent, its stages in a header too, where browsers show them."""
    answer = SearchResponse.of(found, addresses(request), explain=explain)
    stages = answer.took_ms.members().items()
    timing = ", ".join(f"{stage};dur={took}" for stage, took in stages)
    return answered(answer, headers={"Server-Timing": timing, **(headers or {})})


def tag(collection: Collection, request: Request, runtime: Runtime) -> str:
    """Of all that decides what resembles an item: items, thresholds, question, release, and when signatures change."""
    access: Access = request.app.state.access
    decides = (
        collection.version,
        collection.score_threshold,
        runtime.default_threshold(collection.fingerprint),
        runtime.calibration_tag(collection),
        request.app.version,
        request.url.path,
        request.scope["query_string"],
        access.step,
    )
    return f'W/"{hashlib.sha256(repr(decides).encode()).hexdigest()[:32]}"'


def item_query(asked: SimilarBatch, id: object, place: int) -> Reader:
    """What is asked about the id at this place of a batch."""

    def read() -> SearchFields:
        if not isinstance(id, str) or not ID.fullmatch(id):
            raise invalid(f"ids.{place}", f"must be {ID_RULE}")
        fields = {name: value for name, value in asked if name != "ids"}
        return QueryById.model_construct(**fields, id=id)

    return read


def query_of(asked: SearchFields | SimilarFields, by: Source) -> domain.Query:
    """In the domain's own types."""
    return domain.Query(
        by,
        limit=asked.limit,
        offset=asked.offset,
        score_threshold=asked.score_threshold,
        filter=asked.filter,
        group_by=asked.group_by,
        rules=rules_of(asked),
        facets=tuple(dict.fromkeys(asked.facets or ())),
        total=asked.total,
    )


def picture(data: bytes, asked: SearchTexts | QueryByImage | QueryByUrl) -> domain.ByPicture:
    return domain.ByPicture(data, asked.crop)


def json_query(asked: SearchFields | Sent) -> domain.Query:
    """Raises InvalidRequest."""
    if isinstance(asked, Sent):
        return query_of(asked.asked, picture(asked.data, asked.asked))
    if isinstance(asked, QueryByImage):
        return query_of(asked, picture(domain.decode_base64(asked.image_base64, "image_base64"), asked))
    if isinstance(asked, QueryByHandle):
        return query_of(asked, domain.ByHandle(asked.query_id, asked.crop))
    if isinstance(asked, QueryByVector):
        return query_of(asked, domain.ByVector(np.asarray(asked.vector, np.float32)))
    if isinstance(asked, QueryById):
        return query_of(asked, domain.ById(asked.id))
    if isinstance(asked, QueryByExamples):
        return query_of(asked, domain.ByExamples(examples(asked, "positive"), examples(asked, "negative")))
    raise TypeError(type(asked).__name__)


def examples(asked: QueryByExamples, name: str) -> list[domain.Example]:
    """The positive or the negative ones. Raises InvalidRequest."""
    found = []
    for place, each in enumerate(getattr(asked, name) or ()):
        by: domain.ByPicture | domain.ByHandle | domain.ById | domain.ByVector
        if isinstance(each, ExampleItem):
            by = domain.ById(each.id)
        elif isinstance(each, ExampleVector):
            by = domain.ByVector(np.asarray(each.vector, np.float32))
        elif isinstance(each, ExampleHandle):
            by = domain.ByHandle(each.query_id, each.crop)
        else:
            data = domain.decode_base64(each.image_base64, f"{name}.{place}.image_base64")
            by = domain.ByPicture(data, each.crop)
        found.append(domain.Example(by, each.weight))
    return found
