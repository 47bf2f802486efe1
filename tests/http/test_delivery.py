"""What every answer carries: the request's id, packed JSON for who reads it, stages, and tags that spare a search."""

from __future__ import annotations

import base64
import gzip
import json
import re

import httpx
import pytest

from service.http.openapi.committed import document
from tests.conftest import StartServer
from tests.harness.pictures import encoded, jpeg, pixels
from tests.harness.serving import Server
from tests.harness.wire import ask

PNG = base64.b64encode(encoded(pixels(5), "PNG")).decode()
SIMILAR = "/v1/collections/default/items/a/similar"


@pytest.fixture(scope="module")
def served(module_server: StartServer) -> Server:
    server = module_server(
        "delivered", env={"LOOKALIKE_CORS_ORIGINS": "https://shop.example", "LOOKALIKE_LOG_LEVEL": "debug"}
    )
    for n in range(12):
        server.put("default", "abcdefghijkl"[n], jpeg(n), json.dumps({"text": "words " * 50})).raise_for_status()
    return server


def raw(served: Server, path: str, **headers: str) -> httpx.Response:
    """As it came, nothing unpacked."""
    with httpx.Client(base_url=served.url, trust_env=False) as client:
        client.headers.pop("accept-encoding")
        request = client.build_request("GET", path, headers=headers)
        answer = client.send(request, stream=True)
        body = b"".join(answer.iter_raw())
        answer.close()
        return httpx.Response(answer.status_code, headers={**answer.headers, "x-raw": body.hex()})


@pytest.mark.parametrize("path", ["/livez", "/v1/info", "/nothing", "/v1/collections/none", "/", "/metrics"])
def test_every_answer_has_an_id_its_own_or_the_one_that_was_sent(served: Server, path: str) -> None:
    made = [served.client.get(path).headers["x-request-id"] for _ in range(2)]
    assert made[0] != made[1] and all(re.fullmatch("[0-9a-f]{32}", each) for each in made)
    sent = "checkout-7:4/a+b=c"
    assert served.client.get(path, headers={"X-Request-ID": sent}).headers["x-request-id"] == sent
    for foreign in (b"two words", b"x" * 129, "ü".encode(), b"\x1b[2J"):
        assert len(served.client.get(path, headers=[(b"X-Request-ID", foreign)]).headers["x-request-id"]) == 32


def test_the_log_names_the_request(served: Server) -> None:
    served.client.get("/v1/info", headers={"X-Request-ID": "find-me-1"})
    served.client.get("/livez")
    lines = [line for line in served.log().splitlines() if "find-me-1" in line]
    assert len(lines) == 1 and "/v1/info" in lines[0]


@pytest.mark.parametrize(
    ("accept", "packed"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("gzip;q=0", False), ("identity", False), ("", False),
     ("GZIP", True), ("*;q=0", False), ("deflate", False), ("gzip;q=0.5, identity", False),
     ("gzip;q=0.5, identity;q=0.2", True), ("identity;q=0, gzip", True), ("gzip;q=0.000", False), ("gzip; Q=1", True),
     ("gzip;q=nan", False), ("gzip;q=7", False), ("gzip;x=1;q=0", False), (";;=,q", False)],
)  # fmt: skip
def test_json_is_packed_for_who_can_read_it(served: Server, accept: str, packed: bool) -> None:
    plain = served.client.get(SIMILAR, params={"score_threshold": -1}).json()
    answer = raw(served, f"{SIMILAR}?score_threshold=-1", **({"Accept-Encoding": accept} if accept else {}))
    body = bytes.fromhex(answer.headers["x-raw"])
    assert (answer.headers.get("content-encoding") == "gzip") == packed
    assert int(answer.headers["content-length"]) == len(body)
    assert "accept-encoding" in answer.headers["vary"].lower()
    found = json.loads(gzip.decompress(body) if packed else body)
    assert found["results"] == plain["results"]


def test_what_is_small_or_no_json_is_sent_as_it_is(served: Server) -> None:
    for path in ("/livez", "/v1/collections/none", "/v1/collections/default/items/a/thumbnail"):
        assert "content-encoding" not in raw(served, path, **{"Accept-Encoding": "gzip"}).headers, path


def test_a_head_says_the_size_of_the_answer_and_sends_none(served: Server) -> None:
    answer = served.client.head("/v1/collections/default/items", headers={"Accept-Encoding": "gzip"})
    got = raw(served, "/v1/collections/default/items", **{"Accept-Encoding": "gzip"})
    assert answer.headers["content-length"] == got.headers["content-length"] and answer.content == b""


def test_the_stages_of_a_search_are_in_a_header_that_pages_may_read(served: Server) -> None:
    found = served.search("default", jpeg(1))
    timing = dict(re.findall(r"(\w+);dur=([\d.]+)", found.headers["server-timing"]))
    assert {stage: float(took) for stage, took in timing.items()} == found.json()["took_ms"]
    shown = served.client.get(SIMILAR, headers={"Origin": "https://shop.example"})
    exposed = {each.strip() for each in shown.headers["access-control-expose-headers"].split(",")}
    assert {"ETag", "Server-Timing", "X-Request-ID", "Retry-After"} <= exposed


def test_a_product_page_is_told_that_nothing_changed(served: Server) -> None:
    first = served.client.get(SIMILAR)
    tag = first.headers["etag"]
    assert tag.startswith('W/"') and first.headers["cache-control"] == "private, no-cache"

    def status(path: str = SIMILAR) -> int:
        return served.client.get(path, headers={"If-None-Match": f'"other", {tag}'}).status_code

    assert status() == 304
    assert status(f"{SIMILAR}?limit=3") == status(SIMILAR.replace("/a/", "/b/")) == 200
    served.client.patch("/v1/collections/default/items/k", json={"metadata": {"n": 1}}).raise_for_status()
    assert status() == 200
    tag = served.client.get(SIMILAR).headers["etag"]
    served.client.patch("/v1/collections/default", json={"score_threshold": 0.1}).raise_for_status()
    assert status() == 200
    gone = "/v1/collections/default/items/gone/similar"
    assert served.client.get(gone, headers={"If-None-Match": "*"}).status_code == 404
    kept = served.client.get(SIMILAR, headers={"If-None-Match": "*"})
    assert kept.status_code == 304 and kept.headers["vary"].startswith("Accept-Encoding")


def test_ids_survive_what_is_refused_before_a_route(served: Server) -> None:
    answer = ask(served.port, b"GET /v1/info HTTP/1.1\r\nHost: evil.example\r\nX-Request-ID: seen\r\n\r\n")
    assert answer.status == 421 and answer.headers["x-request-id"] == "seen"


def test_what_the_connection_refuses_by_itself_can_be_read_by_a_page_too(served: Server) -> None:
    """A body that is framed wrongly never reaches a route; a head that is no HTTP names neither id nor origin."""
    head = (
        "POST /v1/collections/default/search HTTP/1.1\r\nHost: localhost\r\nOrigin: https://shop.example\r\n"
        "X-Request-ID: seen\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    answer = ask(served.port, head.encode() + b"no size\r\n")
    assert (answer.status, answer.problem) == (400, "malformed-http")
    assert answer.headers["x-request-id"] == "seen"
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    bare = ask(served.port, b"\x16\x03\x01\r\n\r\n")
    assert bare.status == 400 and re.fullmatch("[0-9a-f]{32}", bare.headers["x-request-id"])
    assert "access-control-allow-origin" not in bare.headers and bare.headers["x-content-type-options"] == "nosniff"


def test_a_pages_own_clock_may_see_the_stages(served: Server) -> None:
    """Without Timing-Allow-Origin, PerformanceResourceTiming hides Server-Timing from another origin."""
    for origin, shown in (("https://shop.example", "https://shop.example"), ("https://other.example", None)):
        answer = served.client.get(SIMILAR, headers={"Origin": origin})
        assert answer.headers.get("timing-allow-origin") == shown


def test_a_long_answer_is_packed_whole(served: Server) -> None:
    """Beside the event loop, as it takes a while."""
    for n in range(40):
        served.client.put(f"/v1/collections/long-{n}").raise_for_status()
    listed = served.client.get("/v1/collections").content
    answer = raw(served, "/v1/collections", **{"Accept-Encoding": "gzip"})
    assert gzip.decompress(bytes.fromhex(answer.headers["x-raw"])) == listed
    query = {"input": [f"data:image/png;base64,{PNG}"] * 8}
    with httpx.Client(base_url=served.url, trust_env=False, timeout=60) as client:
        made = client.post("/v1/embeddings", json=query)
    assert made.headers["content-encoding"] == "gzip" and len(made.content) > 64 * 1024
    assert len(made.json()["data"]) == 8


def test_every_answer_of_the_document_has_an_id() -> None:
    for path, operations in document()["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                assert "X-Request-ID" in response["headers"], f"{method} {path} {status}"
