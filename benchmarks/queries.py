"""Queries over HTTP against a large collection of ready vectors: at rest, and while it is written to.

    python -m benchmarks.queries                    50,000 vectors, two minutes
    python -m benchmarks.queries --size 1000000     ten minutes: 14 GB of disk

The server runs with its defaults. Latencies are those of the client; a core's throughput is what was answered divided
by the CPU time the server took. Writes come as files of ready vectors, ten a second.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from benchmarks.report import json_line, print_table, record
from benchmarks.vectors import CACHE, DIM, Floats, Prepared, prepare, real, spin
from benchmarks.wire import Connection, Load, closed_loop, get_request, open_loop
from service.owner import NOTE
from tests.harness.process import ServerProcess

ROOT = Path(__file__).resolve().parent.parent
COLLECTION = "vectors"
COLUMNS = ("what", "p50 ms", "p99 ms", "per second", "per second and core")
SEARCHES = 100  # per second, beside writes
BATCHES = 10  # of written vectors, per second
WARMING = 10_000
# What a product page asks for, and the fields beside: the keys of `benchmarks.contenders`.
SIMILAR = {
    "similar": "&score_threshold=-1",
    "similar, filter keeps 10 %": "&filter=" + quote('{"must":[{"key":"n10","match":3}]}') + "&score_threshold=-1",
    "similar, one of each of 100 groups": "&group_by=n100&score_threshold=-1",
    "similar, threshold 0.9": "&score_threshold=0.9",
}


def post(path: str, body: bytes, *, token: str = "") -> bytes:
    """A whole HTTP request with a JSON body."""
    fields = ["Host: 127.0.0.1", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    if token:
        fields.append(f"Authorization: Bearer {token}")
    return "\r\n".join([f"POST {path} HTTP/1.1", *fields, "", ""]).encode() + body


def by_id(size: int, count: int) -> Iterator[bytes]:
    numbers = np.random.default_rng(11).integers(0, size, count)
    for number in numbers.tolist():
        yield post(f"/v1/collections/{COLLECTION}/query", b'{"id":"%d","score_threshold":-1}' % number)


def similar(size: int, count: int, fields: str) -> Iterator[bytes]:
    """What a product page asks for. fields: of the query string, beside the limit."""
    for number in np.random.default_rng(12).integers(0, size, count).tolist():
        yield get_request(f"/v1/collections/{COLLECTION}/items/{number}/similar?limit=10{fields}")


def by_vector(queries: Floats) -> Iterator[bytes]:
    for query in itertools.cycle(queries):
        body = {"vector": [round(float(value), 7) for value in query], "score_threshold": -1}
        yield post(f"/v1/collections/{COLLECTION}/query", json.dumps(body).encode())


class Writer(threading.Thread):
    """Writes new vectors into the collection, `rate` per second, as fast as they are taken at most."""

    def __init__(self, server: ServerProcess, folder: Path, vectors: Floats, rate: int) -> None:
        super().__init__()
        self._connection = Connection(server.port)
        self._token = json.loads((server.data_dir / NOTE).read_text())["token"]
        self._folder = folder
        self._vectors = vectors
        self._count = rate // BATCHES
        self._over = threading.Event()
        self.written = 0
        self._refused: str | None = None
        self.seconds = 0.0

    def run(self) -> None:
        started = time.perf_counter()
        for turn in itertools.count():
            if self._over.wait(max(0.0, started + turn / BATCHES - time.perf_counter())):
                break
            self._write(turn)
            if self._refused:
                break
        self.seconds = time.perf_counter() - started

    def _write(self, turn: int) -> None:
        file, ids = self._folder / "more.npy", self._folder / "more.txt"
        numbers = np.arange(turn * self._count, (turn + 1) * self._count)
        np.save(file, self._vectors[numbers % len(self._vectors)])
        stamp = time.monotonic_ns()
        ids.write_text("".join(f"new-{stamp}-{number}\n" for number in numbers))
        body = json.dumps({"file": str(file), "ids": str(ids), "collection": COLLECTION, "foreign": "benchmark"})
        status, answer = self._connection.ask(post("/admin/vectors", body.encode(), token=self._token))
        if status != 200:
            self._refused = f"a write was refused: {answer[:500]!r}"
        self.written += len(numbers)

    def stop(self) -> None:
        self._over.set()
        self.join()
        if self._refused:
            raise SystemExit(self._refused)


def measured(server: ServerProcess, requests: Iterator[bytes], *, connections: int, seconds: float) -> dict[str, float]:
    """Figures of a closed loop."""
    ready = list(itertools.islice(requests, int(1_000 * seconds)))
    before = server.cpu_seconds()
    load = closed_loop(server.port, ready, connections=connections, seconds=seconds)
    return _figures(load) | {"per_core": len(load.latencies) / (server.cpu_seconds() - before)}


def paced(server: ServerProcess, size: int, seconds: float) -> dict[str, float]:
    """Figures of searches that arrive evenly."""
    requests = list(by_id(size, int(SEARCHES * seconds)))
    return _figures(open_loop(server.port, requests, rate=SEARCHES, seconds=seconds, connections=8))


def _figures(load: Load) -> dict[str, float]:
    if set(load.statuses) != {200}:
        raise SystemExit(f"not every query was answered: {load.statuses}")
    return {"p50_ms": load.quantile(0.5) * 1e3, "p99_ms": load.quantile(0.99) * 1e3, "rate": load.rate}


def build(files: Prepared, size: int, folder: Path) -> None:
    """A data directory with the collection in it, its index built."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    paths = [str(path) for path in (files.rows, files.queries, files.truth, folder)]
    command = [sys.executable, "-m", "benchmarks.contenders", "collection", "build", str(size), *paths]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def warm(folder: Path) -> None:
    """Brings the files into the page cache, where a service that has run for a while has them."""
    piece = bytearray(2**20)
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.readinto(piece):
                    pass


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=50_000, metavar="N")
    parser.add_argument("--rate", type=int, default=200, help="vectors written per second")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--model-dir", type=Path, default=ROOT / "data" / "models")
    parser.add_argument("--keep", action="store_true", help="leave vectors and collection in benchmarks/cache")
    chosen = parser.parse_args(arguments)
    files = prepare([chosen.size], chosen.model_dir)
    folder = CACHE / f"collection-{chosen.size}"
    if not (folder / "data").is_dir():
        build(files, chosen.size, folder)
    queries: Floats = np.load(files.queries)
    fresh = np.concatenate(list(spin(real(chosen.model_dir), 4_000, seed=4)))
    env = {"LOOKALIKE_LOG_LEVEL": "error"}
    began = time.perf_counter()
    with ServerProcess(folder / "data", chosen.model_dir, env).start(wait=600) as server:
        figures: dict[str, Any] = {"vectors": files.source, "size": chosen.size, "ready_s": time.perf_counter() - began}
        warm(folder)
        closed_loop(server.port, by_id(chosen.size, WARMING), connections=2, seconds=60)
        for name, requests in (("id", by_id(chosen.size, 10**6)), ("vector", by_vector(queries))):
            for connections in (1, 4):
                found = measured(server, requests, connections=connections, seconds=chosen.seconds / 2)
                figures[f"{name}, {connections} at a time"] = found
        for name, fields in SIMILAR.items():
            requests = similar(chosen.size, 10**6, fields)
            figures[name] = measured(server, requests, connections=1, seconds=chosen.seconds / 2)
        for _ in range(2):  # the second pair is told: the first one maps and trains what stays for good
            quiet = paced(server, chosen.size, chosen.seconds)
            writer = Writer(server, folder, fresh, chosen.rate)
            writer.start()
            busy = paced(server, chosen.size, chosen.seconds)
            writer.stop()
        figures |= {"quiet": quiet, "writing": busy, "written_per_second": writer.written / writer.seconds}
        figures["memory_mib"] = server.anonymous_mib()
    _tell(figures)
    if not chosen.keep:
        shutil.rmtree(folder)
        for path in (files.rows, files.truth, files.queries):
            path.unlink()


def _tell(figures: dict[str, Any]) -> None:
    rows: list[tuple[object, ...]] = []
    for name, connections in itertools.product(("id", "vector"), (1, 4)):
        found = figures[f"{name}, {connections} at a time"]
        label = f"by {name}, {connections} at a time"
        rows.append((label, found["p50_ms"], found["p99_ms"], found["rate"], found["per_core"]))
    for name in SIMILAR:
        found = figures[name]
        rows.append((name, found["p50_ms"], found["p99_ms"], found["rate"], found["per_core"]))
    quiet, busy = figures["quiet"], figures["writing"]
    rows.append((f"by id, {SEARCHES} a second, at rest", quiet["p50_ms"], quiet["p99_ms"], quiet["rate"], ""))
    written = f"{figures['written_per_second']:.0f} vectors a second written"
    rows.append((f"the same, {written}", busy["p50_ms"], busy["p99_ms"], busy["rate"], ""))
    ratios = (busy["p50_ms"] / quiet["p50_ms"], busy["p99_ms"] / quiet["p99_ms"])
    rows.append(("× at rest", *ratios, "", ""))
    title = f"Queries over HTTP: {figures['size']:,} vectors with {DIM} dimensions, spun from {figures['vectors']}"
    note = (
        f"Ready {figures['ready_s']:.1f} s after the start, the model's included; {figures['memory_mib']:.0f} MiB of "
        "memory at the end, pages of files aside. Files in the page cache; client and server share the cores."
    )
    print_table(title, COLUMNS, rows)
    print(note)
    json_line("queries", figures)
    record(f"queries-{figures['size']}", title=title, columns=COLUMNS, rows=rows, note=note)


if __name__ == "__main__":
    main()
