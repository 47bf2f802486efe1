"""Under load: repeats cost nothing, a full queue says so, who leaves frees a place, and health answers throughout."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import statistics
import time
from typing import Any

import httpx
import pytest

from tests.conftest import StartServer
from tests.harness.pictures import jpeg
from tests.harness.serving import Server

SEARCH = "/v1/collections/default/search"


def metric(server: Server, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", server.client.get("/metrics").text, re.MULTILINE)
    assert found, name
    return float(found[1])


def children(server: Server) -> list[int]:
    assert server.process is not None
    with open(f"/proc/{server.process.pid}/task/{server.process.pid}/children") as listed:  # noqa: PTH123
        return [int(pid) for pid in listed.read().split()]


async def flood(server: Server, pictures: list[bytes], **options: Any) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=None)
    async with server.new_async_client(limits=limits) as client:
        return await asyncio.gather(
            *(client.post(SEARCH, files={"image": ("a.jpg", each)}, **options) for each in pictures)
        )


def test_a_repeated_picture_is_embedded_once(server: StartServer) -> None:
    one = server()
    before = metric(one, "lookalike_embedded_images_total")
    for _ in range(3):
        assert one.search("default", jpeg(1)).status_code == 200
    assert metric(one, "lookalike_embedded_images_total") == before + 1
    assert metric(one, 'lookalike_embedding_cache_total{outcome="hit"}') == 2
    took = one.search("default", jpeg(1)).json()["took_ms"]
    assert took["decode"] == took["embed"] == 0
    assert one.search("default", jpeg(1), crop="0,0,0.5,1").json()["took_ms"]["embed"] > 0, "a crop is another picture"


def test_identical_pictures_in_flight_are_embedded_once(server: StartServer) -> None:
    one = server()
    before = metric(one, "lookalike_embedded_images_total")
    answers = asyncio.run(flood(one, [jpeg(2)] * 12))
    assert {answer.status_code for answer in answers} == {200}
    assert metric(one, "lookalike_embedded_images_total") == before + 1


def test_a_full_queue_answers_503_with_retry_after_and_health_goes_on(server: StartServer) -> None:
    one = server(env={"LOOKALIKE_QUEUE_LIMIT": "4"})

    async def both() -> tuple[list[httpx.Response], list[float]]:
        waits: list[float] = []

        async def probe() -> None:
            async with one.new_async_client(timeout=30) as client:
                for _ in range(10):
                    started = time.monotonic()
                    assert (await client.get("/livez")).status_code == 200
                    waits.append(time.monotonic() - started)

        answers, _ = await asyncio.gather(flood(one, [jpeg(number) for number in range(60)]), probe())
        return answers, waits

    answers, waits = asyncio.run(both())
    refused = [answer for answer in answers if answer.status_code == 503]
    served = [answer for answer in answers if answer.status_code == 200]
    assert len(refused) + len(served) == 60 and refused and served
    assert all(each.json()["type"] == "/problems/overloaded" for each in refused)
    assert all(1 <= int(each.headers["retry-after"]) <= 30 for each in refused)
    # Relative to this machine: while pictures queue, health waits for less than a few of them.
    one_picture = statistics.median(answer.elapsed.total_seconds() for answer in served) / 4
    assert len(waits) == 10 and statistics.median(waits) < max(0.1, 4 * one_picture)
    assert metric(one, "lookalike_queue_refused_total") == len(refused)
    assert metric(one, "lookalike_queue_places") == 0, "a place was not given back"
    assert one.search("default", jpeg(1)).status_code == 200


def test_a_client_that_goes_away_frees_its_place_before_its_picture_is_embedded(server: StartServer) -> None:
    one = server(env={"LOOKALIKE_QUEUE_LIMIT": "40", "LOOKALIKE_THREADS": "1"})
    before = metric(one, "lookalike_embedded_images_total")
    leavers = []
    for number in range(30):
        body = jpeg(200 + number)
        head = (
            f"POST {SEARCH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        raw = socket.create_connection(("127.0.0.1", one.port), 10)
        raw.sendall(head.encode() + body)
        leavers.append(raw)
    for raw in leavers:
        raw.close()
    deadline = time.monotonic() + 20
    while metric(one, "lookalike_queue_places") > 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert metric(one, "lookalike_queue_places") == 0
    assert metric(one, "lookalike_embedded_images_total") - before < 25, "most were embedded for nobody"
    assert one.search("default", jpeg(1)).status_code == 200


def test_a_request_past_its_deadline_is_told_so(server: StartServer) -> None:
    one = server(env={"LOOKALIKE_QUEUE_LIMIT": "100", "LOOKALIKE_REQUEST_TIMEOUT": "0.5", "LOOKALIKE_THREADS": "1"})
    answers = asyncio.run(flood(one, [jpeg(300 + number) for number in range(60)]))
    statuses = {answer.status_code for answer in answers}
    assert statuses <= {200, 503, 422} and 503 in statuses
    for answer in answers:
        if answer.status_code == 503:
            assert answer.json()["type"] == "/problems/overloaded" and answer.headers["retry-after"]
    assert one.search("default", jpeg(1)).status_code == 200


def test_killed_decoders_are_replaced_while_the_service_goes_on(server: StartServer) -> None:
    one = server()
    for pid in children(one):
        os.kill(pid, signal.SIGKILL)
    answers = asyncio.run(flood(one, [jpeg(400 + number) for number in range(6)]))
    assert {answer.status_code for answer in answers} == {200}, (
        "a picture was blamed for a decoder that something else had killed"
    )
    assert metric(one, "lookalike_decoder_restarts_total") == 2


def test_decoders_end_with_a_killed_server(server: StartServer) -> None:
    one = server()
    pids = children(one)
    assert pids
    one.kill()
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}/stat") and _state(pid) != "Z" for pid in pids):  # noqa: PTH110
        assert time.monotonic() < deadline, "a decoding process outlived its server"
        time.sleep(0.05)


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
            return stat.read().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def until_inside(server: Server, count: int) -> None:
    """Returns when that many requests wait or run, or after a while."""
    deadline = time.monotonic() + 20
    while metric(server, "lookalike_queue_places") < count and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.mark.slow
def test_what_still_waits_when_the_grace_is_over_is_told_not_ready(server: StartServer) -> None:
    one = server(env={"LOOKALIKE_QUEUE_LIMIT": "1000", "LOOKALIKE_THREADS": "1", "LOOKALIKE_PRECISION": "fp32"})

    async def ask_and_end() -> list[httpx.Response]:
        asking = asyncio.create_task(flood(one, [jpeg(1000 + number, (2600, 2000)) for number in range(450)]))
        await asyncio.to_thread(until_inside, one, 440)
        assert one.process is not None
        one.process.send_signal(signal.SIGTERM)
        return await asking

    answers = asyncio.run(ask_and_end())
    assert {answer.status_code for answer in answers} == {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["type"] == "/problems/not-ready" and answer.headers["retry-after"]
    assert one.process is not None and one.process.wait(30) == 0


@pytest.mark.slow
def test_an_idle_server_uses_no_cpu(server: StartServer) -> None:
    one = server()
    one.search("default", jpeg(1))
    assert one.process is not None
    time.sleep(1)

    def used() -> float:
        ticks = 0
        for pid in (one.process.pid, *children(one)):  # type: ignore[union-attr]
            with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
                fields = stat.read().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    before, started = used(), time.monotonic()
    time.sleep(5)
    share = (used() - before) / (time.monotonic() - started)
    assert share < 0.01, f"{share:.1%} of a core while idle"
