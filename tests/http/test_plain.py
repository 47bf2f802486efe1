"""Plain: a head that it takes is what h11 makes of it, and so is the answer, byte for byte."""

from __future__ import annotations

import h11
from hypothesis import given
from hypothesis import strategies as st

from service.http.connection.plain import Careful, Plain, plain_head

LINES = st.sampled_from(
    [
        "Host: a",
        "host:b",
        "Content-Length: 3",
        "Content-Length: 3, 3",
        "Content-Length: -1",
        "Transfer-Encoding: chunked",
        "Connection: keep-alive",
        "Connection: close",
        "Upgrade: h2c",
        "Expect: 100-continue",
        "X: \t y  ",
        "X:",
        "X : y",
        " folded",
        "Y: a\rb",
        "",
    ]
)
STARTS = st.sampled_from(
    ["GET / HTTP/1.1", "POST /a?b=%20 HTTP/1.1", "GET  / HTTP/1.1", "PUT /x HTTP/1.0", "get / HTTP/1.1"]
)


@given(STARTS, st.lists(LINES, max_size=6), st.sampled_from(["\r\n", "\n"]))
def test_a_head_that_is_taken_is_what_h11_reads(start: str, lines: list[str], end: str) -> None:
    head = end.join([start, *lines, "", ""]).encode()
    plain = plain_head(head)
    if plain is None:
        return
    conn = h11.Connection(h11.SERVER)
    conn.receive_data(head)
    request = conn.next_event()
    assert isinstance(request, h11.Request)
    assert (plain.method, plain.target) == (request.method, request.target)
    assert plain.headers == list(request.headers)
    assert plain.length == int(dict(request.headers).get(b"content-length", b"0"))


@given(st.sampled_from([200, 204, 304, 404]), st.booleans(), st.booleans(), st.lists(st.binary(max_size=9), max_size=3))
def test_an_answer_is_what_h11_writes(status: int, told: bool, closes: bool, pieces: list[bytes]) -> None:
    pieces = [] if status in (204, 304) else pieces
    headers = [(b"x-a", b"\xe9 b")]
    if told and status not in (204, 304):
        headers.append((b"content-length", b"%d" % sum(map(len, pieces))))
    if closes:
        headers.append((b"connection", b"close"))
    careful = Careful(h11.SERVER)
    careful.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert isinstance(careful.next_event(), h11.Request)
    plain = Plain(0)
    for conn in (careful, plain):
        assert isinstance(conn.next_event(), h11.EndOfMessage)
    sent = [
        b"".join([conn.begin(status, headers), *map(conn.piece, pieces), conn.finish()]) for conn in (careful, plain)
    ]
    assert sent[0] == sent[1]
    assert plain.our_state is careful.our_state
