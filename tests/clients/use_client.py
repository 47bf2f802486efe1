"""Uses the generated Python client: `use_client.py ADDRESS PICTURE`; a test runs it where the client is installed."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import TypeVar

from lookalike_client import Client
from lookalike_client.api.collections import create_collection, delete_collection, update_collection
from lookalike_client.api.embeddings import create_embeddings
from lookalike_client.api.items import delete_items, get_item, get_thumbnail, list_items, put_item
from lookalike_client.api.search import query, query_batch, search_by_image, search_by_raw_image
from lookalike_client.models import (
    Collection,
    CollectionPatch,
    DeleteByFilter,
    DeleteByIds,
    Deleted,
    EmbeddingList,
    EmbeddingRequest,
    Filter,
    Item,
    ItemForm,
    ItemPage,
    MatchCondition,
    ProblemDetails,
    QueryBatch,
    QueryByExamples,
    QueryById,
    QueryResponses,
    Range,
    RangeCondition,
    SearchForm,
    SearchResponse,
    SelectiveFilter,
)
from lookalike_client.types import File

T = TypeVar("T")
NAME = "typed"


def of(kind: type[T], value: object) -> T:
    """An answer of this type, or the whole run has failed."""
    assert isinstance(value, kind), value
    return value


def use(client: Client, picture: bytes) -> None:
    """Each kind of call, with every field and with none."""

    def file(data: bytes = picture) -> File:
        return File(payload=io.BytesIO(data), file_name="a.jpg", mime_type="image/jpeg")

    made = create_collection.sync_detailed(NAME, client=client)
    assert made.status_code == 201 and of(Collection, made.parsed).index.action is None
    for number in range(3):
        form = ItemForm(image=file(), metadata=json.dumps({"n": number}))
        assert of(Item, put_item.sync(NAME, f"i{number}", client=client, body=form)).image is not None

    assert (
        len(of(SearchResponse, search_by_image.sync(NAME, client=client, body=SearchForm(image=file()))).results) == 3
    )
    every = SearchForm(
        image=file(), limit=5, offset=1, score_threshold=-1.0, filter_="{}", group_by="n", crop="0,0,1,1"
    )
    assert len(of(SearchResponse, search_by_image.sync(NAME, client=client, body=every)).results) == 2
    raw = search_by_raw_image.sync(
        NAME, client=client, body=file(), limit=1, filter_='{"must":[{"key":"n","match":2}]}'
    )
    assert [each.id for each in of(SearchResponse, raw).results] == ["i2"]
    from_two = Filter(must=[RangeCondition(key="n", range_=Range(gte=2))])
    found = query.sync(NAME, client=client, body=QueryById(id="i0", filter_=from_two, limit=3))
    assert [each.id for each in of(SearchResponse, found).results] == ["i2"]
    nothing = QueryById(id="i0", filter_=Filter(must=[MatchCondition(key="n", match=9)]))
    assert of(SearchResponse, query.sync(NAME, client=client, body=nothing)).no_match
    queries = QueryBatch(queries=[QueryByExamples(positive=["i0"]), QueryById(id="none")])
    answers = of(QueryResponses, query_batch.sync(NAME, client=client, body=queries)).responses
    assert [type(each) for each in answers] == [SearchResponse, ProblemDetails]

    page = of(ItemPage, list_items.sync(NAME, client=client, limit=2))
    assert page.next_cursor is not None and len(page.items) == 2
    assert of(ItemPage, list_items.sync(NAME, client=client, limit=2, cursor=page.next_cursor)).next_cursor is None
    assert get_thumbnail.sync_detailed(NAME, "i0", client=client).content[8:12] == b"WEBP"
    patched = of(Collection, update_collection.sync(NAME, client=client, body=CollectionPatch(score_threshold=0.9)))
    assert patched.score_threshold == 0.9
    embedded = of(EmbeddingList, create_embeddings.sync(client=client, body=EmbeddingRequest(input_=PNG)))
    assert len(embedded.data[0].embedding) == 2048

    for answer, slug in (
        (get_item.sync(NAME, "none", client=client), "not-found"),
        (put_item.sync(NAME, "x", client=client, body=ItemForm(image=file(b"text"))), "unsupported-image"),
        (put_item.sync(NAME, "x", client=client, body=ItemForm(image=file(bytes(30_000_000)))), "content-too-large"),
        (put_item.sync(NAME, "x", client=client, body=ItemForm(image=file(), metadata="{")), "invalid-request"),
    ):
        assert of(ProblemDetails, answer).type_ == f"/problems/{slug}"

    assert of(Deleted, delete_items.sync(NAME, client=client, body=DeleteByIds(ids=["i0"]))).deleted == 1
    rest = DeleteByFilter(filter_=SelectiveFilter(must=[RangeCondition(key="n", range_=Range(gte=0))]))
    assert of(Deleted, delete_items.sync(NAME, client=client, body=rest)).deleted == 2
    assert delete_collection.sync_detailed(NAME, client=client).status_code == 204


# A grey square of 8 × 8 pixels.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFElEQVR4nGNsaGhgwAaYsIoOWgkAMBcBkGHHl6YAAAAASUVORK5CYII="

if __name__ == "__main__":
    use(Client(sys.argv[1]), Path(sys.argv[2]).read_bytes())
