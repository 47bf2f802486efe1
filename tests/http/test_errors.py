"""Every row of the contract's error table over real HTTP: the right problem, nothing stored, the connection usable."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.conftest import StartServer
from tests.harness.pictures import animated_webp, encoded, jpeg, pixels, png_header
from tests.harness.serving import Server

GOOD = jpeg(1)
GIF = encoded(pixels(1), "GIF")
TIFF = encoded(pixels(1), "TIFF")
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
PDF = b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n"


@pytest.fixture(scope="module")
def running(module_server: StartServer) -> Server:
    return module_server(env={"LOOKALIKE_MAX_UPLOAD_BYTES": str(4 * 2**20)})


@pytest.fixture(autouse=True)
def nothing_is_stored(running: Server) -> Iterator[None]:
    yield
    stored = running.client.get("/v1/collections/default").json()["count"]
    assert stored == 0, "something was stored"
    names = {each["name"] for each in running.client.get("/v1/collections").json()["items"]}
    assert names == {"default"}


def assert_problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json", response.text[:200]
    problem: dict[str, Any] = response.json()
    assert (response.status_code, problem["type"]) == (status, f"/problems/{slug}"), problem
    assert problem["status"] == status and problem["title"]
    assert "\n" not in problem["detail"]
    assert problem["instance"].startswith("/")
    return problem


PICTURES = {
    "empty": (b"", 415, "unsupported-image"),
    "text named .jpg": (b"hello world" * 50, 415, "unsupported-image"),
    "gif": (GIF, 415, "unsupported-image"),
    "tiff": (TIFF, 415, "unsupported-image"),
    "svg": (SVG, 415, "unsupported-image"),
    "pdf": (PDF, 415, "unsupported-image"),
    "truncated jpeg": (GOOD[: len(GOOD) // 2], 422, "image-undecodable"),
    "jpeg of four bytes": (b"\xff\xd8\xff\xe0", 422, "image-undecodable"),
    "png bomb": (png_header(30_000, 30_000), 422, "image-too-large"),
    "png too long": (png_header(20_000, 1), 422, "image-too-large"),
    "png of no size": (png_header(0, 0), 422, "image-undecodable"),
}


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("way", ["form", "raw", "put", "base64", "embeddings", "batch"])
def test_a_bad_picture_is_the_same_problem_on_every_way_in(running: Server, name: str, way: str) -> None:
    data, status, slug = PICTURES[name]
    client = running.client
    text = base64.b64encode(data).decode()
    if way == "form":
        response = running.search("default", data)
    elif way == "raw":
        response = client.post("/v1/collections/default/search", content=data, headers={"content-type": "image/jpeg"})
    elif way == "put":
        response = running.put("default", "a", data)
    elif way == "base64":
        response = client.post("/v1/collections/default/query", json={"image_base64": text})
    elif way == "embeddings":
        response = client.post("/v1/embeddings", json={"input": [f"data:image/png;base64,{text}"]})
    else:
        response = client.post("/v1/collections/default/query/batch", json={"queries": [{"image_base64": text}]})
        assert response.status_code == 200
        problem = response.json()["responses"][0]
        assert (problem["status"], problem["type"]) == (status, f"/problems/{slug}")
        return
    assert_problem(response, status, slug)


def test_too_many_frames_are_too_large_and_a_few_are_searched_by_the_first(
    server: StartServer, running: Server
) -> None:
    assert running.search("default", animated_webp(3)).status_code == 200
    small = server(env={"LOOKALIKE_MAX_PIXELS": "10000"})
    assert_problem(small.search("default", animated_webp(8)), 422, "image-too-large")
    assert small.search("default", animated_webp(2)).status_code == 200


def test_one_pixel_is_a_picture(running: Server) -> None:
    assert running.search("default", encoded(pixels(1, (1, 1)), "PNG")).status_code == 200


QUERIES: dict[str, Any] = {
    "short vector": {"vector": [1.0, 2.0]},
    "zero vector": {"vector": [0.0] * 2048},
    "vector of text": {"vector": ["a"] * 2048},
    "no source": {},
    "two sources": {"id": "a", "vector": [0.1] * 2048},
    "negative alone": {"negative": ["a"]},
    "crop of an item": {"id": "a", "crop": [0, 0, 1, 1]},
    "crop inside out": {"image_base64": "aa", "crop": [0.5, 0, 0.4, 1]},
    "unknown field": {"vector": [0.1] * 2048, "limitt": 3},
    "limit 0": {"vector": [0.1] * 2048, "limit": 0},
    "limit 101": {"vector": [0.1] * 2048, "limit": 101},
    "limit as text": {"vector": [0.1] * 2048, "limit": "many"},
    "limit as a number in text": {"vector": [0.1] * 2048, "limit": "3"},
    "limit true": {"vector": [0.1] * 2048, "limit": True},
    "threshold 2": {"vector": [0.1] * 2048, "score_threshold": 2},
    "negative offset": {"vector": [0.1] * 2048, "offset": -1},
    "bad id": {"id": "a b"},
    "not base64": {"image_base64": "%%%"},
    "filter of text": {"vector": [0.1] * 2048, "filter": "nonsense"},
    "filter with unknown field": {"vector": [0.1] * 2048, "filter": {"musst": []}},
    "filter without condition": {"vector": [0.1] * 2048, "filter": {"must": [{"key": "a"}]}},
    "a list": [],
    "too many positives": {"positive": ["a"] * 101},
}


@pytest.mark.parametrize("name", QUERIES)
def test_a_bad_query_is_invalid_and_never_echoed(running: Server, name: str) -> None:
    problem = assert_problem(
        running.client.post("/v1/collections/default/query", json=QUERIES[name]), 422, "invalid-request"
    )
    assert len(problem.get("errors", [])) <= 20
    assert "many" not in json.dumps(problem)
    if not isinstance(QUERIES[name], dict):
        return
    answered = running.client.post("/v1/collections/default/query/batch", json={"queries": [QUERIES[name]]}).json()
    assert answered["responses"][0]["type"] == "/problems/invalid-request"


@pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_a_vector_that_is_not_finite_is_invalid(running: Server, literal: bytes) -> None:
    body = b'{"vector":[' + b",".join([literal] * 2048) + b"]}"
    response = running.client.post(
        "/v1/collections/default/query", content=body, headers={"content-type": "application/json"}
    )
    assert_problem(response, 422, "invalid-request")


@pytest.mark.parametrize(
    "fields",
    [
        {"limit": "0"},
        {"limit": "x"},
        {"offset": "-1"},
        {"score_threshold": "nan"},
        {"score_threshold": "1.5"},
        {"filter": "{no"},
        {"filter": '{"must":[{"key":"a","range":{"gte":"b"}}]}'},
        {"crop": "0,0,1"},
        {"crop": "0,0,1,nan"},
        {"crop": "0.5,0,0.5,1"},
        {"limitt": "3"},
    ],
)
def test_a_bad_field_is_invalid_in_forms_and_in_query_strings(running: Server, fields: dict[str, str]) -> None:
    assert_problem(running.search("default", GOOD, **fields), 422, "invalid-request")
    raw = running.client.post(
        "/v1/collections/default/search", params=fields, content=GOOD, headers={"content-type": "image/jpeg"}
    )
    assert_problem(raw, 422, "invalid-request")


@pytest.mark.parametrize(
    "metadata", ["{no", "[]", "3", '{"a": NaN}', '{"a":"\\ud800"}', '{"a":"' + "x" * 70_000 + '"}']
)
def test_bad_metadata_is_invalid(running: Server, metadata: str) -> None:
    assert_problem(running.put("default", "a", GOOD, metadata), 422, "invalid-request")


@pytest.mark.parametrize("id", ["a%20b", "%C3%A4", "a" * 129, "a%00", "a%0A", "a,b"])
def test_a_bad_id_is_invalid(running: Server, id: str) -> None:
    for response in (
        running.put("default", id, GOOD),
        running.client.get(f"/v1/collections/default/items/{id}"),
        running.client.delete(f"/v1/collections/default/items/{id}"),
        running.client.get(f"/v1/collections/default/items/{id}/similar"),
    ):
        assert_problem(response, 422, "invalid-request")


def test_ids_of_dots_are_invalid_when_they_arrive(running: Server) -> None:
    for id in (b".", b".."):
        with socket.create_connection(("127.0.0.1", running.port), 10) as raw:
            raw.sendall(
                b"GET /v1/collections/default/items/"
                + id
                + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            assert b" 422 " in raw.makefile("rb").readline()


@pytest.mark.parametrize("name", ["Upper", "-a", "a b", "a" * 64, "ä"])
def test_a_bad_collection_name_is_invalid(running: Server, name: str) -> None:
    assert_problem(running.client.put(f"/v1/collections/{name}"), 422, "invalid-request")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/nothing"),
        ("GET", "/v1/collections/nope"),
        ("GET", "/v1/collections/nope/items"),
        ("GET", "/v1/collections/default/items/zzz"),
        ("DELETE", "/v1/collections/default/items/zzz"),
        ("GET", "/v1/collections/default/items/zzz/thumbnail"),
        ("GET", "/v1/collections/default/items/zzz/similar"),
        ("DELETE", "/v1/collections/nope"),
        ("GET", "/static/nothing.js"),
        ("GET", "/static/../settings.py"),
    ],
)
def test_what_is_not_there_is_not_found(running: Server, method: str, path: str) -> None:
    assert_problem(running.client.request(method, path), 404, "not-found")


def test_searching_what_is_not_there_is_not_found(running: Server) -> None:
    client = running.client
    assert_problem(running.search("nope", GOOD), 404, "not-found")
    assert_problem(running.put("nope", "a", GOOD), 404, "not-found")
    assert_problem(client.post("/v1/collections/default/query", json={"id": "zzz"}), 404, "not-found")
    assert_problem(client.post("/v1/collections/default/query", json={"positive": ["zzz"]}), 404, "not-found")
    patch = client.patch("/v1/collections/default/items/zzz", json={"metadata": {}})
    assert_problem(patch, 404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("POST", "/v1/collections", "GET"), ("GET", "/v1/embeddings", "POST"), ("DELETE", "/livez", "GET")],
)
def test_a_wrong_method_is_told_and_the_right_ones_named(running: Server, method: str, path: str, allowed: str) -> None:
    response = running.client.request(method, path)
    assert_problem(response, 405, "method-not-allowed")
    assert allowed in response.headers["allow"]


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "application/x-www-form-urlencoded", ""])
def test_a_wrong_content_type_is_unsupported(running: Server, kind: str) -> None:
    headers = {"content-type": kind}
    client = running.client
    for response in (
        client.post("/v1/collections/default/search", content=GOOD, headers=headers),
        client.put("/v1/collections/default/items/a", content=GOOD, headers=headers),
        client.post("/v1/collections/default/query", content=b"{}", headers=headers),
        client.patch("/v1/collections/default", content=b"{}", headers=headers),
    ):
        assert_problem(response, 415, "unsupported-media-type")


def test_a_body_over_the_limit_is_told_with_and_without_its_length(running: Server) -> None:
    big = GOOD + bytes(8 * 2**20)
    assert_problem(running.search("default", big), 413, "content-too-large")

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(big), 65536):
            yield big[start : start + 65536]

    response = running.client.post(
        "/v1/collections/default/search", content=chunks(), headers={"content-type": "image/jpeg"}
    )
    assert_problem(response, 413, "content-too-large")
    huge = b'{"vector":[' + b"0," * (4 * 2**20) + b"0]}"
    response = running.client.post(
        "/v1/collections/default/query", content=huge, headers={"content-type": "application/json"}
    )
    assert_problem(response, 413, "content-too-large")


def test_a_client_that_sends_all_before_it_reads_still_gets_the_413(running: Server) -> None:
    with socket.create_connection(("127.0.0.1", running.port), 30) as raw:
        raw.sendall(
            b"POST /v1/collections/default/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
            b"Content-Length: 33554432\r\nConnection: close\r\n\r\n"
        )
        for _ in range(512):
            raw.sendall(bytes(65536))
        assert b" 413 " in raw.makefile("rb").readline()


def test_a_form_without_a_picture_is_invalid(running: Server) -> None:
    response = running.client.post("/v1/collections/default/search", files={"limit": (None, "3")})
    assert_problem(response, 422, "invalid-request")


def test_urls_are_refused_while_fetching_is_off(running: Server) -> None:
    response = running.client.post("/v1/collections/default/query", json={"image_url": "http://127.0.0.1/a.jpg"})
    assert_problem(response, 422, "url-refused")


@pytest.mark.parametrize(
    ("path", "query"),
    [("/v1/collections", {"a": "b"}), ("/v1/collections/default/items", {"limit": "2000"}),
     ("/v1/collections/default/items", {"cursor": "rubbish!"}), ("/v1/collections/default", {"x": "1"}),
     ("/v1/collections/default/items", {"filter": "{"})],
)  # fmt: skip
def test_unknown_and_bad_query_parameters_are_invalid(running: Server, path: str, query: dict[str, str]) -> None:
    assert_problem(running.client.get(path, params=query), 422, "invalid-request")


def test_bodies_that_are_not_what_the_schema_says_are_invalid(running: Server) -> None:
    client = running.client
    base = "/v1/collections/default"
    for response in (
        client.post(f"{base}/items/delete", json={}),
        client.post(f"{base}/items/delete", json={"ids": ["a"], "filter": {}}),
        client.post(f"{base}/items/delete", json={"ids": ["a b"]}),
        client.patch(base, json={"score_threshold": 3}),
        client.patch(base, json={"threshold": 0.3}),
        client.patch(base, json={}),
        client.post(f"{base}/query/batch", json={"queries": []}),
        client.post(f"{base}/query/batch", json={"queries": [{}] * 33}),
        client.post("/v1/embeddings", json={"input": []}),
        client.post("/v1/embeddings", json={"input": "x", "model": "gpt"}),
        client.post("/v1/embeddings", json={"input": ["data:image/png,plain"]}),
        client.patch(f"{base}/items/a", json={"metadata": 3}),
        client.patch(f"{base}/items/a", content=b"{", headers={"content-type": "application/json"}),
    ):
        assert_problem(response, 422, "invalid-request")


def test_slow_senders_hold_no_place_and_are_told_when_their_time_is_over(server: StartServer) -> None:
    one = server(env={"LOOKALIKE_QUEUE_LIMIT": "1", "LOOKALIKE_REQUEST_TIMEOUT": "2"})
    with ExitStack() as held:
        slow = [held.enter_context(socket.create_connection(("127.0.0.1", one.port), 30)) for _ in range(8)]
        for raw in slow:
            raw.sendall(
                b"POST /v1/collections/default/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
                b"Content-Length: 1000\r\n\r\nabc"
            )
        assert one.search("default", GOOD).status_code == 200
        for raw in slow:
            assert b" 408 " in raw.makefile("rb").readline()


FLOODS = {
    "unknown keys": b"{" + b",".join(b'"k%d":1' % n for n in range(200_000)) + b"}",
    "nested lists": b'{"metadata":{"a":[' + b"[]," * 200_000 + b"[]]}}",
    "many queries": b'{"queries":[' + b"{}," * 200_000 + b"{}]}",
    "vector of texts": b'{"vector":[' + b'"x",' * 60_000 + b'"x"]}',
    "depth": b'{"metadata":{"a":' + b"[" * 5000 + b"]" * 5000 + b"}}",
}


@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.parametrize("path", ["/query", "/query/batch", "/items/delete", ""])
def test_a_flood_of_json_is_refused_before_it_holds_up_others(running: Server, name: str, path: str) -> None:
    started = time.monotonic()
    response = running.client.request(
        "PATCH" if not path else "POST",
        f"/v1/collections/default{path}",
        content=FLOODS[name],
        headers={"content-type": "application/json"},
    )
    assert response.status_code in (413, 422) and len(response.content) < 4096
    assert time.monotonic() - started < 5, "answered, but only after a long time"


def test_an_unknown_field_is_not_echoed_at_length(running: Server) -> None:
    response = running.client.post("/v1/collections/default/query", json={"k" * 100_000: 1})
    assert_problem(response, 422, "invalid-request")
    assert len(response.content) < 1000


def test_metadata_nested_too_deeply_is_invalid(running: Server) -> None:
    body = b'{"metadata":{"a":' + b"[" * 400 + b"]" * 400 + b"}}"
    response = running.client.patch(
        "/v1/collections/default/items/a", content=body, headers={"content-type": "application/json"}
    )
    assert_problem(response, 422, "invalid-request")


def test_a_query_of_a_batch_that_is_no_object_spoils_its_own_place_alone(running: Server) -> None:
    answers = running.client.post(
        "/v1/collections/default/query/batch", json={"queries": [3, {"vector": [0.1] * 2048}]}
    ).json()["responses"]
    assert answers[0]["type"] == "/problems/invalid-request" and answers[1]["no_match"] is True


def test_a_filter_error_names_its_place(running: Server) -> None:
    wrong = {"must": [{"key": "a", "range": {"gte": "b"}}]}
    response = running.client.post("/v1/collections/default/query", json={"vector": [0.1] * 2048, "filter": wrong})
    problem = assert_problem(response, 422, "invalid-request")
    assert problem["errors"][0]["field"].startswith("filter.must")


def test_bad_http_and_endless_headers_are_problems_too(running: Server) -> None:
    for request in (b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000):
        with socket.create_connection(("127.0.0.1", running.port), 10) as raw:
            raw.sendall(request)
            answer = raw.makefile("rb").read()
        assert b" 400 " in answer.splitlines()[0] and b"application/problem+json" in answer


def test_head_answers_as_get_without_a_body(running: Server) -> None:
    for path in ("/", "/livez", "/v1/info"):
        response = running.client.head(path)
        assert (response.status_code, response.content) == (200, b"")


def test_cors_headers_stand_on_errors_too(server: StartServer) -> None:
    open_ = server(env={"LOOKALIKE_CORS_ORIGINS": "https://shop.example"})
    response = open_.client.get("/v1/nothing", headers={"origin": "https://shop.example"})
    assert response.headers["access-control-allow-origin"] == "https://shop.example"
