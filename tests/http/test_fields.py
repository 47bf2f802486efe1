"""Fields as clients really send them, over real HTTP: defaults, nulls, twice, beside a form, in a query string."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest

from tests.conftest import StartServer
from tests.harness.pictures import encoded, jpeg, pixels
from tests.harness.serving import Server

PATH = "/v1/collections/default"
NOTHING = '{"must":[{"key":"n","match":-1}]}'


@pytest.fixture(scope="module")
def running(module_server: StartServer) -> Server:
    server = module_server()
    for number in range(4):
        assert server.put("default", f"i{number}", jpeg(number), f'{{"n": {number}}}').status_code == 201
    return server


def upload(running: Server, fields: dict[str, str], query: dict[str, str] | None = None) -> httpx.Response:
    return running.client.post(
        f"{PATH}/search", files={"image": ("a.jpg", jpeg(1), "image/jpeg")}, data=fields, params=query or {}
    )


def ids(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [each["id"] for each in response.json()["results"]]


# What a client may send beside a picture, in the form and in the query string, and how many results that asks for.
SENT: list[tuple[str, dict[str, str], dict[str, str], int]] = [
    ("defaults in the form", {"limit": "10", "offset": "0"}, {}, 4),
    ("defaults in the query string", {}, {"limit": "10", "offset": "0"}, 4),
    ("in both", {"limit": "2"}, {"limit": "3"}, 2),
    ("an empty one in the form", {"limit": ""}, {"limit": "3"}, 3),
    ("a null in the form", {"limit": "null", "crop": "null"}, {"limit": "3"}, 3),
    ("a null in the query string", {"limit": "2"}, {"limit": "null"}, 2),
    ("every one as null", dict.fromkeys(("limit", "offset", "filter", "group_by", "crop"), "null"), {}, 4),
    ("every one empty", dict.fromkeys(("limit", "offset", "filter", "group_by", "crop"), ""), {}, 4),
    ("a filter in the query string", {}, {"filter": '{"must":[{"key":"n","match":2}]}'}, 1),
    ("a filter in both", {"filter": NOTHING}, {"filter": "{}"}, 0),
    ("clauses that are null", {"filter": '{"must":[],"should":null,"must_not":null}'}, {}, 4),
    ("a crop", {"crop": "0,0,1,1"}, {"offset": "1"}, 3),
]


@pytest.mark.parametrize(("fields", "query", "count"), [each[1:] for each in SENT], ids=[each[0] for each in SENT])
def test_fields_of_a_search(running: Server, fields: dict[str, str], query: dict[str, str], count: int) -> None:
    """Left out, empty and null are one thing; a form goes before the query string; a raw body reads the latter."""
    assert len(ids(upload(running, {"score_threshold": "-1", **fields}, query))) == count
    given = {key: value for key, value in fields.items() if value not in ("", "null")}
    for path in ("search", "search/raw"):
        raw = running.client.post(
            f"{PATH}/{path}",
            params={"score_threshold": "-1", **query, **given},
            content=jpeg(1),
            headers={"content-type": "image/jpeg"},
        )
        assert len(ids(raw)) == count, path


def test_a_raw_picture_may_go_by_any_name_that_is_not_wrong(running: Server) -> None:
    """The documented operation takes what generated clients send; the bytes decide."""
    for kind, status in {
        "application/octet-stream": 200,
        "image/jpeg": 200,
        "image/png": 200,
        "IMAGE/WEBP; q=1": 200,
        "text/plain": 415,
        "": 415,
    }.items():
        answer = running.client.post(f"{PATH}/search/raw", content=jpeg(1), headers={"content-type": kind})
        assert answer.status_code == status, kind
    form = running.client.post(f"{PATH}/search/raw", files={"image": ("a.jpg", jpeg(1))})
    assert form.status_code == 415


JSON_BLANKS: list[dict[str, Any]] = [
    {"id": "i0", "limit": None, "offset": None, "filter": None, "group_by": None, "score_threshold": None},
    {"id": "i0", "limit": [], "offset": [], "filter": [], "group_by": []},
    {"positive": ["i0"], "negative": []},
    {"positive": ["i0"], "negative": None, "id": None, "vector": None, "image_base64": None},
    {"id": "i0", "filter": {"must": [], "should": None, "must_not": []}},
    {"image_base64": base64.b64encode(jpeg(0)).decode(), "crop": None},
]


@pytest.mark.parametrize("body", JSON_BLANKS, ids=lambda body: ",".join(body))
def test_nulls_and_empty_lists_of_a_query_count_as_left_out(running: Server, body: dict[str, Any]) -> None:
    assert running.client.post(f"{PATH}/query", json=body).status_code == 200
    answer = running.client.post(f"{PATH}/query/batch", json={"queries": [body]}).json()
    assert "results" in answer["responses"][0]


@pytest.mark.parametrize(
    "query", [{"filter": ""}, {"filter": "null"}, {"limit": ""}, {"limit": "null"}, {"filter": "{}"}]
)
def test_lists_read_blank_fields_too(running: Server, query: dict[str, str]) -> None:
    assert len(running.client.get(f"{PATH}/items", params=query).json()["items"]) == 4
    assert running.client.get(f"{PATH}/items/i0/similar", params=query).status_code == 200


def refused(response: httpx.Response, field: str | None = None) -> None:
    problem = response.json()
    assert (response.status_code, problem["type"]) == (422, "/problems/invalid-request"), response.text
    if field is not None:
        assert problem["errors"][0]["field"].startswith(field), problem


def test_nothing_else_counts_as_left_out(running: Server) -> None:
    """Not a cursor, not metadata, not a patch, not the source of a query, not a file."""
    client = running.client
    for cursor in ("", "null"):
        refused(client.get(f"{PATH}/items", params={"cursor": cursor}))
    for metadata in ("", "null", "[]"):
        refused(running.put("default", "x", jpeg(9), metadata), "metadata")
    refused(client.patch(f"{PATH}/items/i0", json={"metadata": None}), "metadata")
    refused(client.patch(f"{PATH}/items/i0", json={"metadata": []}), "metadata")
    refused(client.patch(PATH, json={"score_threshold": []}), "score_threshold")
    refused(client.post(f"{PATH}/query", json={"id": None, "positive": []}))
    assert client.post(f"{PATH}/search", files={"image": ("a.jpg", b"null")}).status_code == 415
    found = client.post(f"{PATH}/query", json={"id": "i0", "filter": {"must": [{"key": "n", "match": None}]}}).json()
    assert found["filtered_count"] == 0, "a null in a condition is a value"


@pytest.mark.parametrize("fields", [{"limit": "1_0"}, {"offset": "0_0"}, {"score_threshold": "0_0.5"}], ids=str)
def test_a_number_has_no_underscores(running: Server, fields: dict[str, str]) -> None:
    """Python's way to group digits is no number in a form or a query string."""
    (field,) = fields
    files = {"image": ("a.jpg", jpeg(1))}
    refused(running.client.post(f"{PATH}/search", files=files, data=fields), field)
    refused(running.client.get(f"{PATH}/items/i0/similar", params=fields), field)
    if field == "limit":
        refused(running.client.get(f"{PATH}/items", params=fields), field)


def raw_json(running: Server, method: str, path: str, body: str) -> httpx.Response:
    return running.client.request(method, PATH + path, content=body, headers={"content-type": "application/json"})


AMBIGUOUS = {
    "a key twice": '{"id":"i0","id":"i1"}',
    "a key twice, one of them escaped": '{"id":"i0","\\u0069d":"i1"}',
    "a key twice inside": '{"id":"i0","filter":{"must":[{"key":"n","match":1,"match":2}]}}',
    "NaN": '{"id":"i0","score_threshold":NaN}',
    "Infinity": '{"id":"i0","filter":{"must":[{"key":"n","range":{"lt":Infinity}}]}}',
    "a number too large": '{"id":"i0","filter":{"must":[{"key":"n","match":1e999}]}}',
    "an integer too large": '{"id":"i0","filter":{"must":[{"key":"n","match":9223372036854775808}]}}',
    "an integer too small": '{"id":"i0","filter":{"must":[{"key":"n","any":[-9223372036854775809]}]}}',
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_json_that_readers_take_differently_is_refused(running: Server, name: str) -> None:
    """In a query, in a batch, in a filter of a form or a query string, and in metadata, put or patched."""
    text = AMBIGUOUS[name]
    refused(raw_json(running, "POST", "/query", text))
    refused(raw_json(running, "POST", "/query/batch", f'{{"queries":[{text}]}}'))
    refused(raw_json(running, "PATCH", "/items/i0", f'{{"metadata":{text}}}'))
    refused(running.put("default", "i0", jpeg(0), text), "metadata")
    if "filter" in text:
        filter = text.removeprefix('{"id":"i0","filter":').removesuffix("}")
        refused(upload(running, {"filter": filter}), "filter")
        refused(running.client.get(f"{PATH}/items", params={"filter": filter}), "filter")
        refused(raw_json(running, "POST", "/items/delete", f'{{"filter":{filter}}}'))
    assert running.client.get(f"{PATH}/items/i0").json()["metadata"] == {"n": 0}


@pytest.mark.parametrize(
    "filter", [{}, {"must": []}, {"must": None}, {"must": [], "should": [], "must_not": None}, [], None]
)
def test_deleting_by_a_filter_without_a_condition_is_refused(running: Server, filter: Any) -> None:
    refused(running.client.post(f"{PATH}/items/delete", json={"filter": filter}))
    assert running.client.get(PATH).json()["count"] == 4


def test_unknown_fields_are_refused_and_named_everywhere(running: Server) -> None:
    client = running.client
    refused(upload(running, {"limitt": "3"}), "limitt")
    refused(upload(running, {}, {"limitt": "3"}), "limitt")
    refused(
        client.post(f"{PATH}/search/raw", params={"limitt": 3}, content=jpeg(1), headers={"content-type": "image/png"})
    )
    refused(client.get(f"{PATH}/items/i0/similar", params={"crop": "0,0,1,1"}), "crop")
    refused(client.post(f"{PATH}/query", json={"id": "i0", "limitt": 3}), "limitt")
    refused(client.put(PATH, json={"threshold": 0.3}), "threshold")
    refused(client.post("/v1/embeddings", json={"input": "aa", "tokens": 3}), "tokens")
    refused(client.put(f"{PATH}/items/x", files={"image": ("a", jpeg(1))}, data={"meta": "{}"}), "meta")


def test_what_was_created_says_where_it_is(running: Server) -> None:
    made = running.client.put("/v1/collections/shoes")
    assert (made.status_code, made.headers["location"]) == (201, "/v1/collections/shoes")
    assert "location" not in running.client.put("/v1/collections/shoes").headers
    item = running.put("shoes", "a:1@b", jpeg(1))
    assert running.client.get(item.headers["location"]).json() == item.json()
    running.client.delete("/v1/collections/shoes")


def test_openais_clients_read_models_and_errors(running: Server) -> None:
    """`error.message` is beside the problem's members; the model's own number of dimensions may be named."""
    (model,) = running.client.get("/v1/models").json()["data"]
    picture = base64.b64encode(encoded(pixels(3), "PNG")).decode()
    asked = {"input": picture, "model": model["id"], "dimensions": 2048}
    assert running.client.post("/v1/embeddings", json=asked).json()["model"] == model["id"]
    for wrong, field in (
        ({"dimensions": 512}, "dimensions"),
        ({"model": "other"}, "model"),
        ({"input": "%"}, "input.0"),
    ):
        answer = running.client.post("/v1/embeddings", json={**asked, **wrong})
        refused(answer, field)
        problem = answer.json()
        assert problem["error"] == {
            "message": problem["detail"],
            "type": "invalid-request",
            "param": field,
            "code": "invalid-request",
        }
    assert "error" not in running.client.get(f"{PATH}/items/none").json()


@pytest.mark.parametrize("cut", [True, False], ids=["a proxy that cuts the path off", "a proxy that passes it on"])
def test_everything_follows_the_path_of_a_proxy(server: StartServer, cut: bool) -> None:
    one = server(env={"LOOKALIKE_ROOT_PATH": "/shop/look"})
    asked = "" if cut else "/shop/look"
    with one.new_client() as client:
        files = {"image": ("a.jpg", jpeg(1))}
        put = client.put(f"{asked}{PATH}/items/a", files=files)
        assert put.headers["location"] == f"/shop/look{PATH}/items/a"
        found = client.post(f"{asked}{PATH}/search", files=files).json()["results"][0]
        assert found["thumbnail_url"] == f"/shop/look{PATH}/items/a/thumbnail"
        assert client.get(found["thumbnail_url"]).headers["content-type"] == "image/webp"
        document = client.get(f"{asked}/openapi.json").json()
        assert [each["url"] for each in document["servers"]] == ["/shop/look"]
        for page in ("/", "/docs"):
            text = client.get(asked + page).text
            assert '"/shop/look/' in text and '"/static' not in text and '"/docs' not in text
            for link in {each.split('"')[0] for each in text.split('"/shop/look/')[1:]}:
                assert client.get(f"/shop/look/{link}").status_code == 200, link
        assert client.get("/shop/looking").status_code == 404


def test_a_path_of_a_proxy_that_is_none_is_refused_at_the_start(server: StartServer) -> None:
    for path in ("shop", "/a b", "http://x.example/shop"):
        with pytest.raises(RuntimeError, match="LOOKALIKE_ROOT_PATH"):
            server("data", env={"LOOKALIKE_ROOT_PATH": path})


def test_a_batch_and_a_page_of_everything_are_as_documented(running: Server) -> None:
    """The harness holds every answer against the document; here is one with an item of each kind in it."""
    queries: list[dict[str, Any]] = [{"id": "i0", "group_by": "n"}, {"id": "none"}, {"wrong": json.dumps({})}]
    answers = running.client.post(f"{PATH}/query/batch", json={"queries": queries}).json()["responses"]
    assert all("group" in each for each in answers[0]["results"])
    assert [each["status"] for each in answers[1:]] == [404, 422]
