"""Uploads that are cut or spoilt, and crowds that hardly send: an answer of its own for each, and no harm to others."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.conftest import StartServer
from tests.harness.pictures import jpeg
from tests.harness.serving import Server
from tests.harness.soak import SOAK
from tests.harness.wild import case, jpegs, pngs
from tests.harness.wire import Wire, ask, request

pytestmark = pytest.mark.slow
CUTS, FLIPS = (50, 200) if SOAK else (8, 16)


@pytest.fixture(scope="module")
def running(module_server: StartServer) -> Server:
    return module_server(env={"LOOKALIKE_MODEL": "histogram", "LOOKALIKE_QUEUE_LIMIT": "500"})


def files() -> list[bytes]:
    """A small file of each form."""
    small = case.scene(96, 80)
    clear = small.copy()
    clear.putalpha(128)
    return [
        case.encode(small, "JPEG"),
        case.encode(small, "JPEG", progressive=True, exif=case.exif(6)),
        case.encode(small.convert("CMYK"), "JPEG"),
        jpegs.scan_by_scan(small),
        case.encode(small, "PNG"),
        case.encode(small.convert("P"), "PNG", transparency=1),
        pngs.encode_interlaced(small),
        case.encode(small, "WEBP"),
        case.encode(clear, "WEBP", lossless=True),
        case.encode(small, "GIF"),
    ]


def test_a_cut_or_spoilt_picture_is_never_our_fault(running: Server) -> None:
    """Cut at many places, or with a flipped byte: 200 or a 4xx that says what is wrong; afterwards all is well."""
    rng = random.Random(4)
    sent = []
    for whole in files():
        sent += [whole[: rng.randrange(1, len(whole))] for _ in range(CUTS)]
        for _ in range(FLIPS):
            spoilt = bytearray(whole)
            spoilt[rng.randrange(len(spoilt))] ^= rng.randrange(1, 256)
            sent.append(bytes(spoilt))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda data: running.search("default", data), sent))
    assert {answer.status_code for answer in answers} <= {200, 413, 415, 422}
    assert sum(answer.status_code == 422 for answer in answers) > CUTS
    assert running.search("default", jpeg(1)).status_code == 200
    assert "Traceback" not in running.log()


def test_hundreds_that_trickle_hold_up_nobody(running: Server) -> None:
    """300 uploads that send a few bytes at a time: others are answered meanwhile, memory stays, and all recovers."""
    path = "/v1/collections/default/search"
    before = running.anonymous_mib()
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(running.port, 30)) for _ in range(300)]
        for wire in wires:
            wire.send(request("POST", path, headers=["Content-Type: image/jpeg", "Content-Length: 1000000"]))
        for _ in range(3):
            for wire in wires:
                wire.send(b"\xff" * 200)
            assert ask(running.port, request("GET", "/livez")).status == 200
            assert running.search("default", jpeg(2)).status_code == 200
        assert running.put("default", "a", jpeg(3)).status_code in (200, 201)
        assert running.anonymous_mib() - before < 100
    assert running.search("default", jpeg(3)).json()["results"][0]["id"] == "a"
    assert running.client.get("/readyz").status_code == 200
