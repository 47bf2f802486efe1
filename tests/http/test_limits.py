"""Everything a client can send, or refuse to read, is bounded in bytes, number and time, and others do not notice."""

from __future__ import annotations

import re
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import StartServer
from tests.harness.pictures import jpeg
from tests.harness.serving import Server
from tests.harness.wire import Gone, Wire, ask, request

SEARCH = "/v1/collections/default/search"
JPEG = "Content-Type: image/jpeg"
PATIENCE = 2
PICTURE = jpeg(1)


@pytest.fixture(scope="module")
def running(module_server: StartServer) -> Server:
    return module_server(env={"LOOKALIKE_REQUEST_TIMEOUT": str(PATIENCE), "LOOKALIKE_QUEUE_LIMIT": "500"})


@pytest.fixture
def open_wire(running: Server) -> Iterator[Callable[[], Wire]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Wire(running.port, 30))


def until(condition: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


CHUNKED = request("POST", SEARCH, headers=[JPEG, "Transfer-Encoding: chunked"])
ENDLESS = {
    "start line": (b"GET /", b"a" * 65536),
    "one header": (b"GET / HTTP/1.1\r\nX: ", b"a" * 65536),
    "headers": (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n" * 10000),
    "empty lines": (b"", b"\r\n" * 30000),
    "chunk extension": (CHUNKED + b"1;", b"x" * 65536),
    "trailer": (CHUNKED + b"1\r\na\r\n0\r\nX: ", b"x" * 65536),
    "trailers": (CHUNKED + b"1\r\na\r\n0\r\n", b"X: y\r\n" * 10000),
    "tiny chunks": (CHUNKED, b"1\r\na\r\n" * 10000),
    "body behind an answer": (request("POST", "/v1/nothing", headers=["Content-Length: 99999999999"]), bytes(2**20)),
    "bytes behind the end": (request("GET", "/livez", headers=["Connection: close"]), bytes(2**20)),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_has_no_end_is_ended(running: Server, open_wire: Callable[[], Wire], name: str) -> None:
    """Sent as fast as it goes: the connection ends, memory does not grow, and others are answered meanwhile."""
    start, more = ENDLESS[name]
    before = running.anonymous_mib()
    wire = open_wire()
    wire.send(start)
    sent, peak, deadline = 0, before, time.monotonic() + 25
    try:
        while time.monotonic() < deadline:
            wire.send(more)
            sent += len(more)
            if sent // len(more) % 100 == 0:
                peak = max(peak, running.anonymous_mib())
                assert ask(running.port, request("GET", "/livez"), seconds=5).status == 200
    except (ConnectionError, TimeoutError):
        pass
    else:
        raise AssertionError(f"{sent} bytes of it were taken")
    assert peak - before < 30


def test_requests_whose_answers_nobody_reads_are_not_taken_in(running: Server, open_wire: Callable[[], Wire]) -> None:
    before = running.anonymous_mib()
    for _ in range(20):
        wire = open_wire()
        wire.socket.settimeout(0.5)
        try:
            for _ in range(4):
                wire.send(request("GET", "/openapi.json") * 4999)
        except TimeoutError:
            pass
    assert running.anonymous_mib() - before < 60
    assert ask(running.port, request("GET", "/livez")).status == 200


@pytest.fixture(scope="module")
def large_list(running: Server) -> str:
    """A list of some 12 MB: 200 items with 60 kB of metadata."""
    running.client.put("/v1/collections/large")
    with Wire(running.port) as wire:
        for number in range(200):
            form = (
                b'--B\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + PICTURE + b"\r\n--B\r\n"
                b'Content-Disposition: form-data; name="metadata"\r\n\r\n{"text":"' + b"x" * 60_000 + b'"}\r\n--B--\r\n'
            )
            kind = "Content-Type: multipart/form-data; boundary=B"
            wire.send(request("PUT", f"/v1/collections/large/items/{number}", form, headers=[kind]))
            assert wire.answer().status == 201
    return "/v1/collections/large/items?limit=1000"


def test_clients_that_do_not_read_a_large_answer_hold_nothing_for_long(
    running: Server, open_wire: Callable[[], Wire], large_list: str
) -> None:
    grown = []
    for _ in range(2):
        before = running.anonymous_mib()
        for _ in range(60):
            wire = open_wire()
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.send(request("GET", large_list) * 8)
        time.sleep(1)
        grown.append(running.anonymous_mib() - before)
        assert until(lambda: metric(running, "lookalike_connections") <= 2), "they are held for ever"
    # Unread, 60 answers of 12 MB would take 720 MiB each round.
    assert max(grown) < 250, grown
    assert metric(running, "lookalike_readers_aborted_total") > 0


def metric(server: Server, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", ask(server.port, request("GET", "/metrics")).body.decode(), re.MULTILINE)
    assert found, name
    return float(found[1])


def test_a_slow_reader_that_keeps_reading_gets_all_of_it(
    running: Server, open_wire: Callable[[], Wire], large_list: str
) -> None:
    """For longer than a stuck one would be given."""
    wire = open_wire()
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    wire.send(request("GET", large_list) * 5)
    started = time.monotonic()
    while time.monotonic() - started < 3 * PATIENCE:
        wire.read(2000)
        time.sleep(0.02)
    assert [wire.answer().status for _ in range(5)] == [200] * 5


def test_a_list_of_large_items_comes_in_pages_of_bounded_size(
    running: Server, open_wire: Callable[[], Wire], large_list: str
) -> None:
    wire, cursor, seen = open_wire(), "", 0
    for _ in range(20):
        answer = wire.send(request("GET", large_list + cursor)).answer()
        assert len(answer.body) < 3_000_000
        page = answer.json()
        seen += len(page["items"])
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == 200


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: y", b"\r\n"])
def test_a_head_that_does_not_arrive_is_not_waited_for(
    running: Server, open_wire: Callable[[], Wire], sent: bytes
) -> None:
    wire = open_wire()
    wire.send(sent)
    if sent.strip():
        answer = wire.answer()
        assert (answer.status, answer.problem) == (408, "timeout")
    assert wire.closed()


def test_a_head_that_drips_is_not_waited_for_either(running: Server, open_wire: Callable[[], Wire]) -> None:
    wire = open_wire()
    wire.send(b"GET / HTTP/1.1\r\nX: ")
    for _ in range(200):
        wire.send(b"a")
        if select.select([wire.socket], [], [], 0.1)[0]:
            break
    assert wire.answer().problem == "timeout"


def test_a_head_counts_from_its_own_first_byte(running: Server, open_wire: Callable[[], Wire]) -> None:
    """Not from the last answer: an idle connection is kept longer than a head may take."""
    wire = open_wire()
    sent = request("GET", "/livez")
    for _ in range(2):
        assert wire.send(sent).answer().status == 200
        time.sleep(PATIENCE + 1.5)
        wire.send(sent[:10])
        time.sleep(1.2)
        assert wire.send(sent[10:]).answer().status == 200


def test_methods_of_strangers_are_counted_as_one(running: Server, open_wire: Callable[[], Wire]) -> None:
    wire = open_wire()
    for number in range(30):
        assert wire.send(request(f"M{number}", "/livez")).answer().status == 405
    assert b'method="other"' in ask(running.port, request("GET", "/metrics")).body
    assert b'method="M1' not in ask(running.port, request("GET", "/metrics")).body


# ---- bodies ----


def test_a_body_that_keeps_moving_is_not_cut(running: Server, open_wire: Callable[[], Wire]) -> None:
    """20 kB a second, three times as long as a body may pause."""
    wire = open_wire()
    body = PICTURE + bytes(120_000 - len(PICTURE))
    sent = request("POST", SEARCH, body, headers=[JPEG])
    for start in range(0, len(sent), 2000):
        wire.send(sent[start : start + 2000])
        time.sleep(0.1)
    assert wire.answer().status == 200


STALLED = {
    "at once": lambda wire: wire.send(request("POST", SEARCH, headers=[JPEG, "Content-Length: 1000"])),
    "half way": lambda wire: wire.send(
        request("POST", SEARCH, headers=[JPEG, "Content-Length: 90000"]) + bytes(50_000)
    ),
    "chunked": lambda wire: wire.send(CHUNKED + b"5\r\nab"),
    "in a form": lambda wire: wire.send(
        request("PUT", "/v1/collections/default/items/a",
                headers=["Content-Type: multipart/form-data; boundary=B", "Content-Length: 90000"]) + b"--B\r\n"
    ),
    "json": lambda wire: wire.send(
        request("POST", "/v1/collections/default/query",
                headers=["Content-Type: application/json", "Content-Length: 99"])
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STALLED)
def test_a_body_that_stops_is_408(running: Server, open_wire: Callable[[], Wire], name: str) -> None:
    wire = open_wire()
    STALLED[name](wire)
    answer = wire.answer()
    assert (answer.status, answer.problem) == (408, "timeout")


def test_stalled_uploads_give_their_room_to_others(server: StartServer) -> None:
    """They fill all the room there is; a picture is still answered at once, and the slowest lose theirs."""
    one = server()
    with ExitStack() as held:
        stalled = [held.enter_context(Wire(one.port, 60)) for _ in range(13)]
        for wire in stalled:
            wire.send(request("POST", SEARCH, headers=[JPEG, "Content-Length: 20971520"]) + bytes(20_800_000))
        started = time.monotonic()
        answers = [ask(one.port, request("POST", SEARCH, jpeg(n), headers=[JPEG])) for n in range(5)]
        assert [answer.status for answer in answers] == [200] * 5
        assert time.monotonic() - started < 15, "they waited for the stalled ones to end"
        assert until(lambda: (408, "timeout") in map(lost, stalled), 10), "none of them lost its room"


def test_small_bodies_take_of_the_same_room(server: StartServer) -> None:
    """Hundreds of senders of 1 MB that never end, to a route that takes no pictures."""
    one = server()
    before = one.anonymous_mib()
    headers = ["Content-Type: application/json", "Content-Length: 1000000"]
    with ExitStack() as held:
        for number in range(340):
            wire = held.enter_context(Wire(one.port, 30))
            method, path = (("PATCH", "default"), ("PUT", "c"), ("POST", "default/items/delete"))[number % 3]
            wire.send(request(method, f"/v1/collections/{path}", headers=headers) + b" " * 999_000)
        assert one.anonymous_mib() - before < 320
        assert ask(one.port, request("POST", SEARCH, PICTURE, headers=[JPEG])).status == 200


def lost(wire: Wire) -> tuple[int, str] | None:
    wire.socket.settimeout(0.1)
    try:
        answer = wire.answer()
    except (TimeoutError, Gone):
        return None
    return answer.status, answer.problem


# ---- connections ----


def test_connections_beyond_the_limit_are_refused_honestly(server: StartServer) -> None:
    one = server(descriptors=200)
    limit = int(metric(one, "lookalike_connections_limit"))
    assert 50 < limit < 200
    with ExitStack() as held:
        wires = [held.enter_context(Wire(one.port)) for _ in range(limit + 20)]
        refused = [wire.answer() for wire in wires[-15:]]
        assert {(each.status, each.problem) for each in refused} == {(503, "overloaded")}
        assert all(each.headers["retry-after"] for each in refused)
        # A connection that has been idle for a while gives way to one that asks.
        time.sleep(1.5)
        for number in range(5):
            assert ask(one.port, request("POST", SEARCH, jpeg(number), headers=[JPEG])).status == 200
    assert until(lambda: metric(one, "lookalike_connections") <= 2)
    assert "Traceback" not in one.log()


def test_a_thousand_connections_at_once_leave_the_service_well(server: StartServer) -> None:
    one = server(descriptors=200)
    with ExitStack() as held:
        for _ in range(1000):
            held.enter_context(Wire(one.port))
        assert until(lambda: quiet_status(one) == 200, 20)
    assert ask(one.port, request("POST", SEARCH, PICTURE, headers=[JPEG])).status == 200
    assert "Traceback" not in one.log()


def quiet_status(server: Server) -> int:
    try:
        return ask(server.port, request("GET", "/livez"), seconds=3).status
    except (Gone, OSError):
        return 0


# ---- the end ----


def stall(server: Server, held: ExitStack, count: int) -> list[Wire]:
    wires = [held.enter_context(Wire(server.port, 30)) for _ in range(count)]
    for wire in wires:
        wire.send(request("POST", SEARCH, headers=[JPEG, "Content-Length: 1000"]) + b"abc")
    assert until(lambda: metric(server, "lookalike_connections") > count)
    return wires


@pytest.mark.slow
def test_stalled_uploads_end_with_the_server_and_without_a_traceback(server: StartServer) -> None:
    one = server()
    with ExitStack() as held:
        wires = stall(one, held, 6)
        assert one.stop(wait=40) == 0
        for wire in wires:
            assert wire.answer().problem == "not-ready"
    assert "Traceback" not in one.log() and "[error" not in one.log(), one.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(server: StartServer, number: signal.Signals) -> None:
    """What was acknowledged is there at the next start."""
    one = server()
    assert one.put("default", "a", PICTURE).status_code == 201
    with ExitStack() as held:
        stall(one, held, 3)
        assert one.process is not None
        one.process.send_signal(signal.SIGTERM)
        assert until(lambda: "Shutting down" in one.log())
        started = time.monotonic()
        one.process.send_signal(number)
        assert one.process.wait(10) == 128 + number
        assert time.monotonic() - started < 5, "it waited for the uploads"
    assert "Traceback" not in one.log()
    one.start()
    assert one.client.get("/v1/collections/default/items/a").status_code == 200


def test_control_characters_of_strangers_do_not_reach_a_console(server: StartServer) -> None:
    one = server(env={"LOOKALIKE_LOG_LEVEL": "debug"})
    for path in ("/%1b%5b2J", "/%0d%0aforged", "/%00%07", "/%C2%9B2J", "/%7F"):
        assert ask(one.port, request("GET", path)).status == 404
    assert until(lambda: one.log().count(" 404 ") >= 5)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", one.log())
    assert "\nforged" not in one.log() and "\\x1b[2J" in one.log()
