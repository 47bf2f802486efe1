"""An upload larger than memory goes to disk part by part, under a cap, and leaves nothing behind."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.http.bodies.body import size_text
from tests.conftest import StartServer
from tests.harness.serving import Server

ROWS, DIM = 1_000, 30_720  # 123 MB as float32
LIMIT = 200_000_000


@pytest.fixture(scope="module")
def running(module_server: StartServer) -> Server:
    return module_server(env={"LOOKALIKE_MAX_IMPORT_BYTES": str(LIMIT)})


def token(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {json.loads((server.data_dir / 'owner.json').read_text())['token']}"}


def npy(rows: int, dim: int = DIM) -> bytes:
    target = io.BytesIO()
    np.save(target, np.random.default_rng(1).standard_normal((rows, dim)).astype(np.float32))
    return target.getvalue()


def names(rows: int) -> bytes:
    return "".join(f"v{number}\n" for number in range(rows)).encode()


def left(server: Server) -> list[Path]:
    return list((server.data_dir / "incoming").iterdir())


def part(name: str, data: bytes, filename: str = "") -> bytes:
    named = f'; filename="{filename}"' if filename else ""
    return f'--B\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + data + b"\r\n"


def test_a_large_upload_goes_to_disk_and_not_into_memory(running: Server) -> None:
    """The file comes in a form with its ids; every row is there afterwards, and the memory did not grow by the file."""
    body = part("file", npy(ROWS), "some.npy")
    before = peak = running.anonymous_mib()

    def sent() -> Iterator[bytes]:
        nonlocal peak
        for start in range(0, len(body), 2**20):
            yield body[start : start + 2**20]
            peak = max(peak, running.anonymous_mib())
        yield part("ids", names(ROWS), "ids.txt")
        yield part("collection", b"large") + part("foreign", b"other") + b"--B--\r\n"

    headers = token(running) | {"content-type": "multipart/form-data; boundary=B"}
    answer = running.client.post("/admin/vectors", content=sent(), headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["created"] == ROWS
    assert running.client.get("/v1/collections/large").json()["count"] == ROWS
    assert peak - before < 40, f"{peak - before:.0f} MiB while {len(body) / 2**20:.0f} MiB came"
    assert left(running) == []


def post(server: Server, file: bytes, **more: str) -> httpx.Response:
    return server.client.post(
        "/admin/vectors",
        files={"file": ("v.npy", file), "ids": ("ids.txt", names(3))},
        data={"collection": "small", "foreign": "m", **more},
        headers=token(server),
    )


REFUSED = {
    "over the cap": ({}, bytes(LIMIT), 413, "content-too-large"),
    "no vectors": ({}, b"nonsense", 422, "invalid-request"),
    "an unknown field": ({"colour": "red"}, npy(3, 4), 422, "invalid-request"),
    "a bad collection": ({"collection": "No Such Name"}, npy(3, 4), 422, "invalid-request"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_leaves_nothing_behind(running: Server, name: str) -> None:
    more, file, status, slug = REFUSED[name]
    answer = post(running, file, **more)
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}"), answer.text
    assert left(running) == []


def test_a_client_that_leaves_half_way_leaves_nothing_behind(running: Server) -> None:
    def half() -> Iterator[bytes]:
        yield part("file", bytes(10_000_000), "v.npy")
        raise ConnectionAbortedError

    headers = token(running) | {"content-type": "multipart/form-data; boundary=B"}
    with pytest.raises(ConnectionAbortedError):
        running.client.post("/admin/vectors", content=half(), headers=headers)
    deadline = time.monotonic() + 10
    while left(running) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left(running) == []


def test_what_a_killed_server_left_is_removed_at_the_next_start(server: StartServer) -> None:
    """Only what is ours: a foreign file in the folder stays."""
    one = server()
    one.kill()
    folder = one.data_dir / "incoming"
    (folder / "upload-abc").mkdir(parents=True)
    (folder / "upload-abc" / "file-1.npy").write_bytes(b"x")
    (folder / "mine.txt").write_text("x")
    one.start()
    assert [each.name for each in left(one)] == ["mine.txt"]


@pytest.mark.parametrize(
    ("size", "text"),
    [(999, "999 bytes"), (1024, "1 kB"), (20 * 2**20, "20.9 MB"), (4 * 2**30, "4.2 GB"), (1_999_999, "1.9 MB")],
)
def test_sizes_are_said_as_people_read_them(size: int, text: str) -> None:
    assert size_text(size) == text
