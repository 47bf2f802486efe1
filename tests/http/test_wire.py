"""What clients really send: a body is never dropped, whatever its framing, its packets and its Upgrade; one connection
serves request after request, and each early answer can be read."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.http.connection.head import HEADER_BYTES, HEADER_COUNT, HeadReader, read_head
from service.http.problems import Problem
from tests.conftest import StartServer
from tests.harness.pictures import jpeg
from tests.harness.serving import Server
from tests.harness.wire import Wire, ask, request

SEARCH = "/v1/collections/default/search"
JPEG = "Content-Type: image/jpeg"
PICTURE = jpeg(1)
UPGRADES = {
    "none": [],
    "h2c": ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQBAAAAAAIAAAAA"],
    "websocket": ["Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"],
    "TLS": ["Connection: upgrade", "Upgrade: TLS/1.0, HTTP/1.1"],
    "foo without Connection": ["Upgrade: foo/2"],
    "h2c, expecting": ["Connection: Upgrade", "Upgrade: h2c"],
}


@pytest.fixture(scope="module")
def running(module_server: StartServer) -> Server:
    return module_server(env={"LOOKALIKE_MAX_UPLOAD_BYTES": str(8 * 2**20)})


@pytest.fixture
def wire(running: Server) -> Iterator[Wire]:
    with Wire(running.port) as connected:
        yield connected


@pytest.mark.parametrize("name", UPGRADES)
@pytest.mark.parametrize("chunks", [None, 1, 7, 1000, 10**6])
@pytest.mark.parametrize("packet", [10**9, 1300])
def test_a_search_is_answered_whatever_its_framing(wire: Wire, name: str, chunks: int | None, packet: int) -> None:
    sent = request("POST", SEARCH, PICTURE, headers=[JPEG, *UPGRADES[name]], chunks=chunks)
    for _ in range(2):  # and the connection goes on
        wire.send_in(sent, packet)
        answer = wire.answer()
        assert answer.status == 200, answer.body


@pytest.mark.parametrize("name", UPGRADES)
@pytest.mark.parametrize("chunks", [None, 5])
@pytest.mark.parametrize("apart", [False, True])
def test_a_write_reads_its_body(running: Server, name: str, chunks: int | None, apart: bool) -> None:
    """What a PUT says is there afterwards: an empty answer to an unread body would be a lie."""
    body = json.dumps({"score_threshold": 0.4}).encode()
    headers = ["Content-Type: application/json", *UPGRADES[name]]
    sent = request("PUT", "/v1/collections/upgraded", body, headers=headers, chunks=chunks)
    head = sent.index(b"\r\n\r\n") + 4
    with Wire(running.port) as wire:
        wire.send(sent[:head] if apart else sent)
        if apart:
            time.sleep(0.2)
            wire.send(sent[head:])
        assert wire.answer().status == 201
    assert running.client.get("/v1/collections/upgraded").json()["score_threshold"] == 0.4
    assert running.client.delete("/v1/collections/upgraded").status_code == 204


def test_a_client_that_waits_for_100_gets_it_and_its_answer(wire: Wire) -> None:
    sent = request("POST", SEARCH, PICTURE, headers=[JPEG, "Expect: 100-continue"])
    head = sent.index(b"\r\n\r\n") + 4
    wire.send(sent[:head])
    assert wire.answer().status == 100
    assert wire.send(sent[head:]).answer().status == 200


def test_a_body_that_would_be_refused_is_not_asked_for(wire: Wire) -> None:
    wire.send(request("POST", SEARCH, headers=[JPEG, "Expect: 100-continue", "Content-Length: 900000000"]))
    answer = wire.answer()
    assert (answer.status, answer.problem) == (413, "content-too-large")
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("cut", [1, 20, 40, 100])
def test_a_second_request_behind_a_large_body_is_read_for_itself(wire: Wire, cut: int) -> None:
    """Pipelined, its head split by the packet: the size of the first body is not that of the second head."""
    first = request("POST", SEARCH, PICTURE + bytes(400_000), headers=[JPEG])
    second = request("POST", SEARCH, PICTURE, headers=[JPEG])
    wire.send(first + second[:cut])
    assert wire.answer().status == 200
    assert wire.send(second[cut:]).answer().status == 200


def test_many_requests_in_one_write_are_answered_in_their_order(wire: Wire) -> None:
    threading.Thread(target=lambda: wire.send(request("GET", "/livez") * 999 + request("GET", "/v1/info"))).start()
    answers = [wire.answer() for _ in range(1000)]
    assert {answer.status for answer in answers} == {200}
    assert answers[-1].json()["name"] == "lookalike" and answers[-2].json() == {"status": "ok"}


def test_empty_lines_ahead_of_a_request_are_ignored(wire: Wire) -> None:
    """Old clients send one behind a form (RFC 9112 §2.2)."""
    wire.send(request("POST", SEARCH, PICTURE, headers=[JPEG]) + b"\r\n" + request("GET", "/livez"))
    assert [wire.answer().status, wire.answer().status] == [200, 200]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://localhost/livez", 200),
        ("HTTP://localhost:80/v1/collections?limit=1", 200),
        ("http://localhost", 200),
        ("/v1/collections/caf\u00e9", 422),
        ("/v1/collections/default/items?filter={\"must\":[{\"key\":\"n\",\"match\":\"\u00e9\"}]}", 200),
        ("/v1/collections/default#top", 200),
        ("*", 404),
        ("/%FF%FE", 404),
    ],
)  # fmt: skip
def test_any_form_of_address_is_understood(wire: Wire, target: str, status: int) -> None:
    wire.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert wire.answer().status == status
    assert wire.send(request("GET", "/livez")).answer().status == 200


MALFORMED = {
    "nonsense": b"nonsense\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no Host": b"GET /v1/info HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /v1/info HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    "no Host in HTTP/1.0": b"GET /v1/info HTTP/1.0\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nHost: localhost\r\nX : y\r\n\r\n",
    "two lengths": request("POST", SEARCH, b"abc", headers=[JPEG, "Content-Length: 4"]),
    "length and chunks": request("POST", SEARCH, b"abc", headers=[JPEG, "Transfer-Encoding: chunked"]),
    "negative length": request("POST", SEARCH, headers=[JPEG, "Content-Length: -1"]),
    "length with a sign": request("POST", SEARCH, headers=[JPEG, "Content-Length: +3"]) + b"abc",
    "unknown framing": request("POST", SEARCH, headers=[JPEG, "Transfer-Encoding: gzip, chunked"]),
    "chunked twice": request("POST", SEARCH, headers=[JPEG] + ["Transfer-Encoding: chunked"] * 2),
    "bad chunk size": request("POST", SEARCH, headers=[JPEG, "Transfer-Encoding: chunked"]) + b"zz\r\n",
    "chunk longer than said": request("POST", SEARCH, headers=[JPEG, "Transfer-Encoding: chunked"]) + b"1\r\nabc\r\n",
    "too many headers": request("GET", "/livez", headers=[f"X-{n}: y" for n in range(HEADER_COUNT + 1)]),
    "headers too long": request("GET", "/livez", headers=["X: " + "y" * HEADER_BYTES]),
    "endless start line": b"GET /" + b"a" * (HEADER_BYTES + 1),
    "endless header": b"GET / HTTP/1.1\r\nX: " + b"a" * (HEADER_BYTES + 1),
    "endless empty lines": b"\r\n" * 5000,
    "chunk extension without end": request("POST", SEARCH, headers=[JPEG, "Transfer-Encoding: chunked"])
    + b"1;" + b"x" * 200_000,
    "trailer without end": request("POST", SEARCH, headers=[JPEG, "Transfer-Encoding: chunked"])
    + b"1\r\na\r\n0\r\nX: " + b"x" * 200_000,
    "countless chunks": request("POST", SEARCH, bytes(150_000), headers=[JPEG], chunks=1),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_http_is_a_problem_that_can_be_read(wire: Wire, name: str) -> None:
    """All of it is sent before the answer is read, and the answer is there all the same."""
    answer = wire.send(MALFORMED[name]).answer()
    assert (answer.status, answer.problem) == (400, "malformed-http"), answer
    assert answer.headers["connection"] == "close" and answer.headers["x-content-type-options"] == "nosniff"
    assert wire.closed()


def test_a_head_of_the_largest_size_is_served(wire: Wire) -> None:
    headers = [f"X-{n}: {'y' * 200}" for n in range(HEADER_COUNT - 1)]
    assert wire.send_in(request("GET", "/livez", headers=headers), 4000).answer().status == 200


TRAILERS = b"X-Checksum: 1\r\nX-Other: " + b"y" * 1000 + b"\r\n\r\n"


def test_chunk_extensions_and_trailers_are_read_over(wire: Wire) -> None:
    sent = request("POST", SEARCH, headers=[JPEG, "Transfer-Encoding: chunked", "Trailer: X-Checksum"])
    sent += b"%x;name=value\r\n%b\r\n0;last\r\n" % (len(PICTURE), PICTURE) + TRAILERS
    assert wire.send(sent).answer().status == 200
    assert wire.send(sent).answer().status == 200


EARLY = {
    "too large, with a length": (request("POST", SEARCH, bytes(64 * 2**20), headers=[JPEG]), 413),
    "too large, chunked": (request("POST", SEARCH, bytes(32 * 2**20), headers=[JPEG], chunks=65536), 413),
    "no such collection": (request("POST", "/v1/collections/nope/search", bytes(4 * 2**20), headers=[JPEG]), 404),
    "wrong type": (request("POST", SEARCH, bytes(4 * 2**20), headers=["Content-Type: text/plain"]), 415),
    "wrong method": (request("POST", "/livez", bytes(4 * 2**20)), 405),
    "foreign host": (request("POST", SEARCH, bytes(4 * 2**20), headers=[JPEG], host="evil.example"), 421),
    "foreign origin": (request("POST", SEARCH, bytes(4 * 2**20), headers=[JPEG, "Origin: https://evil.example"]), 403),
    "a body nobody wants": (request("GET", "/livez", bytes(4 * 2**20)), 200),
}


@pytest.mark.parametrize("name", EARLY)
def test_an_early_answer_waits_for_a_client_that_sends_all_first(wire: Wire, name: str) -> None:
    """The rest is read and thrown away, and the connection goes on."""
    sent, status = EARLY[name]
    assert wire.send(sent).answer().status == status
    assert wire.send(request("GET", "/livez")).answer().status == 200


@pytest.mark.parametrize("name", EARLY)
def test_an_early_answer_can_be_read_where_the_connection_ends(running: Server, name: str) -> None:
    sent, status = EARLY[name]
    sent = sent.replace(b"Host:", b"Connection: close\r\nHost:", 1)
    with Wire(running.port) as wire:
        assert wire.send(sent).answer().status == status
        assert wire.closed()


@pytest.mark.parametrize("behind", [b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\r\n", bytes(3 * 2**20)])
def test_bytes_behind_the_last_request_do_not_spoil_its_answer(wire: Wire, behind: bytes) -> None:
    wire.send(request("POST", SEARCH, PICTURE, headers=[JPEG, "Connection: close"]) + behind)
    answer = wire.answer()
    assert answer.status == 200 and answer.headers["connection"] == "close"
    assert wire.closed()


def test_a_client_that_closes_its_side_still_gets_its_answer(running: Server) -> None:
    """`printf … | nc`: the end of what it sends comes with the request."""
    with Wire(running.port) as wire:
        wire.send(b"GET /v1/info HTTP/1.0\r\nHost: localhost\r\n\r\n")
        wire.socket.shutdown(1)
        assert wire.answer().json()["name"] == "lookalike"
        assert wire.closed()


def test_a_later_minor_version_is_answered_as_1_1(wire: Wire) -> None:
    """RFC 9110 §2.5."""
    for _ in range(2):
        assert wire.send(request("GET", "/livez").replace(b"HTTP/1.1", b"HTTP/1.2")).answer().status == 200


def test_http_1_0_is_answered_and_closed(running: Server) -> None:
    with Wire(running.port) as wire:
        answer = wire.send(request("GET", "/livez").replace(b"HTTP/1.1", b"HTTP/1.0")).answer()
        assert answer.status == 200 and answer.headers["connection"] == "close" and wire.closed()


def test_head_has_the_headers_of_the_answer_and_no_body(wire: Wire) -> None:
    length = ask_length(wire, "GET")
    assert wire.send(request("HEAD", "/v1/info")).answer(head=True).headers["content-length"] == length
    assert ask_length(wire, "GET") == length


def ask_length(wire: Wire, method: str) -> str:
    return wire.send(request(method, "/v1/info")).answer().headers["content-length"]


def test_every_answer_forbids_sniffing(running: Server) -> None:
    for path in ("/", "/docs", "/livez", "/metrics", "/v1/nothing", "/static/app.js", "/openapi.json"):
        assert ask(running.port, request("GET", path)).headers["x-content-type-options"] == "nosniff", path


# ---- heads, by themselves ----


@given(st.binary(max_size=300), st.integers(1, 40))
def test_any_bytes_are_a_head_or_refused(data: bytes, size: int) -> None:
    reader, buffer = HeadReader(), bytearray()
    try:
        for start in range(0, len(data), size):
            buffer += data[start : start + size]
            if reader.take(buffer) is not None:
                reader.start()
    except Problem as problem:
        assert problem.slug == "malformed-http"


TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-_", min_size=1, max_size=20)
VALUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40)


@given(
    path=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="?#%"), max_size=40),
    query=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x2FF, exclude_characters="#\x7f"), max_size=40),
    headers=st.lists(st.tuples(TOKEN, VALUE), max_size=20),
    size=st.integers(1, 200),
)
def test_a_head_is_read_as_h11_reads_it_in_packets_of_any_size(
    path: str, query: str, headers: list[tuple[str, str]], size: int
) -> None:
    framing = {"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade"}
    kept = [each for each in headers if each[0].lower() not in framing]
    sent = f"GET /{path}?{query} HTTP/1.1\r\nHost: a\r\n".encode()
    sent += b"".join(f"{name}: {value}\r\n".encode() for name, value in kept) + b"\r\nrest"
    reader, buffer, head = HeadReader(), bytearray(), None
    for start in range(0, len(sent), size):
        buffer += sent[start : start + size]
        head = head or reader.take(buffer)
    assert head is not None and buffer == b"rest"
    assert head.raw_path == f"/{path}".encode() and head.path == f"/{path}"
    assert head.headers == [(b"host", b"a"), *((name.lower().encode(), value.encode()) for name, value in kept)]
    assert head.query.isascii()
    assert isinstance(head.conn.next_event(), h11.EndOfMessage)


def test_a_target_with_a_host_counts_before_the_header() -> None:
    head = read_head(b"GET http://one.example:81/a?b HTTP/1.1\r\nHost: two.example\r\nX: y\r\n\r\n")
    assert head.headers == [(b"host", b"one.example:81"), (b"x", b"y")]
    assert (head.path, head.query) == ("/a", b"b")
