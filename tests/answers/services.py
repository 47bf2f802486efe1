"""The services that are asked: one with the sample catalogue, and then in the states that the other problems take."""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx

from service.http.openapi.committed import document
from service.http.openapi.examples import PNG
from service.http.openapi.recorded import Recorded
from tests.answers.recorder import Recorder
from tests.answers.walk import LARGE, C, Walk
from tests.harness.pictures import jpeg
from tests.harness.process import ServerProcess, free_port

SAMPLE = 478
PATIENCE = 180.0


def record(folder: Path, models: Path) -> Recorded:
    """Everything, in two to four minutes. folder: empty; models: built ones."""
    recorder = Recorder(document())

    @contextlib.contextmanager
    def service(
        *arguments: str, models: Path = models, wait: float = PATIENCE, env: Mapping[str, str] | None = None
    ) -> Iterator[tuple[ServerProcess, httpx.Client]]:
        with ServerProcess(folder / "data", models, env) as one:
            one.start(arguments=arguments, wait=wait)
            with httpx.Client(base_url=one.url, timeout=120, trust_env=False) as client:
                yield one, client

    with service("--sample") as (_, client):
        _wait_for_sample(client)
        Walk(recorder, client).all()
    shutil.rmtree(folder / "data" / "index")
    with service(wait=0) as (one, client):
        _rebuilding(recorder, one, client)
    port = free_port()
    fetching = {"LOOKALIKE_FETCH_URLS": "true", "LOOKALIKE_FETCH_HOSTS": f"127.0.0.1:{port}"}
    narrow = {"LOOKALIKE_QUEUE_LIMIT": "1", "LOOKALIKE_THREADS": "1", "LOOKALIKE_REQUEST_TIMEOUT": "2"}
    with service(env=fetching | narrow) as (one, client):
        recorder.send(client, "POST", f"{C}/query", json={"image_url": f"http://127.0.0.1:{port}/shirt-1.webp"})
        _too_slow(recorder, client)
        _overloaded(recorder, one.url)
        _full_disk(recorder, one, client)
    with service(models=folder / "none", env={"LOOKALIKE_MODEL": "histogram"}) as (_, client):
        recorder.send(client, "POST", f"{C}/query", json={"image_base64": PNG})
    with service() as (one, client):
        _keys(recorder, one, client)
    return recorder.kept


def _wait_for_sample(client: httpx.Client) -> None:
    until = time.monotonic() + PATIENCE
    while client.get(C).json()["count"] < SAMPLE:
        assert time.monotonic() < until, "the sample did not come: see the log, it needs npm"
        time.sleep(0.5)


def _too_slow(recorder: Recorder, client: httpx.Client) -> None:
    def stalling() -> Iterator[bytes]:
        yield b"{"
        time.sleep(8)
        yield b"}"

    recorder.send(client, "POST", f"{C}/query", content=stalling(), headers={"Content-Type": "application/json"})


def _overloaded(recorder: Recorder, url: str) -> None:
    lock = threading.Lock()

    def ask(number: int) -> None:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            answer = client.post(f"{C}/search", files={"image": ("a.jpg", jpeg(9000 + number, (2000, 1500)))})
        if answer.status_code == 503:
            with lock:
                recorder.hear(answer)

    asking = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for each in asking:
        each.start()
    for each in asking:
        each.join()


def _full_disk(recorder: Recorder, one: ServerProcess, client: httpx.Client) -> None:
    assert one.process is not None
    before = resource.prlimit(one.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(one.process.pid, resource.RLIMIT_FSIZE, (1000, before[1]))
    recorder.send(client, "PUT", f"{C}/items/shirt-5", form={"image": ("shirt-5.jpg", jpeg(5))})
    resource.prlimit(one.process.pid, resource.RLIMIT_FSIZE, before)


def _rebuilding(recorder: Recorder, one: ServerProcess, client: httpx.Client) -> None:
    """A service that answers while a search index is made anew."""
    until = time.monotonic() + PATIENCE
    while not _answers(client):
        assert time.monotonic() < until, f"the service does not start:\n{one.log()[-2000:]}"
        time.sleep(0.05)
    recorder.send(client, "GET", f"{LARGE}/items/0/similar", status=503)
    client.delete(LARGE).raise_for_status()


def _answers(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client.get("/livez").is_success
    return False


def _keys(recorder: Recorder, one: ServerProcess, client: httpx.Client) -> None:
    def key(*arguments: str) -> dict[str, str]:
        made = one.cli("keys", "create", "--json", *arguments)
        assert made.returncode == 0, made.stderr
        return {"X-API-Key": json.loads(made.stdout)["key"]}

    searching = key("--scope", "search", "--rate", "2/minute")
    recorder.send(client, "GET", "/v1/info")
    recorder.send(client, "DELETE", f"{C}/items/shirt-1", headers=searching)
    for _ in range(3):
        recorder.send(client, "POST", f"{C}/query", status=429, json={"image_base64": PNG}, headers=searching)
