"""What people who search feel of an import that runs: latencies with one and without, block by block in turn.

python -m benchmarks.imports [--rounds 5] [--seconds 8] [--rate 8]
"""

from __future__ import annotations

import argparse
import io
import itertools
import random
import tempfile
import time
import zipfile
from pathlib import Path

import httpx

from benchmarks import report
from benchmarks.wire import Load, distinct, open_loop, search_request
from models.runtimes.processor import resolve_precision
from service.settings import load_settings
from tests.harness import photographs
from tests.harness.process import ServerProcess

COLUMNS = ("searches", "p50 ms", "p90 ms", "p99 ms", "imported images/s")
# The bound of the issue: p99 beside an import, in times of the quiet one.
BOUND = 2.0
CATALOGUE = 200


class Importing:
    """An import that goes on inside the block. It is cancelled at the end, whatever is left of it."""

    def __init__(self, http: httpx.Client, archive: bytes) -> None:
        self._http = http
        self._archive = archive

    def __enter__(self) -> Importing:
        path = "/v1/collections/bulk/imports"
        made = self._http.post(path, files={"file": ("bulk.zip", self._archive)}).raise_for_status().json()
        self._path = f"{path}/{made['id']}"
        while self.done() < 4:
            time.sleep(0.02)
        self._began, self._first = time.monotonic(), self.done()
        return self

    def done(self) -> int:
        found = self._http.get(self._path).raise_for_status().json()
        return int(found["done"])

    def __exit__(self, *_: object) -> None:
        self.images = self.done() - self._first
        self.seconds = time.monotonic() - self._began
        job = self._http.get(self._path).json()
        if job["state"] not in ("running", "queued"):
            raise RuntimeError(f"the import was over before its block: {job}")
        self._http.delete(self._path)
        while self._http.get(self._path).json()["state"] == "running":
            time.sleep(0.05)


def zipped(pictures: list[bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for number, picture in enumerate(pictures):
            archive.writestr(f"{number:05}.jpg", picture)
    return made.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", help="fp32 or int8; default: what the service would choose")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rate", type=float, default=8.0, help="searches per second")
    arguments = parser.parse_args()
    settings, _ = load_settings()
    precision = resolve_precision(arguments.precision or settings.precision, "cpu")
    photos = photographs.split("groceries", "catalogue")
    random.Random(7).shuffle(photos)
    pictures = [photo.read() for photo in photos[:400]]
    numbers = itertools.count(time.monotonic_ns() % 10**12)

    def fresh(count: int) -> list[bytes]:
        return [distinct(pictures[n % len(pictures)], n) for n in itertools.islice(numbers, count)]

    quiet, beside = Load(), Load()
    alone_rate: list[float] = []
    imported: list[float] = []
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as temporary:
        env = {"LOOKALIKE_PRECISION": precision, "LOOKALIKE_LOG_LEVEL": "error"}
        with ServerProcess(Path(temporary) / "data", settings.models, env).start() as server:
            http = httpx.Client(base_url=server.url, timeout=60, trust_env=False)
            http.put("/v1/collections/bulk")
            for number, picture in enumerate(pictures[:CATALOGUE]):
                http.put(f"/v1/collections/default/items/p{number}", files={"image": picture}).raise_for_status()

            def searched(into: Load) -> None:
                count = int(arguments.rate * arguments.seconds)
                asked = [search_request("default", each) for each in fresh(count)]
                load = open_loop(server.port, asked, rate=arguments.rate, seconds=arguments.seconds)
                into.latencies += load.latencies
                into.statuses += load.statuses

            most = int(250 * (arguments.seconds + 2))
            with Importing(http, zipped(fresh(most))) as alone:
                time.sleep(arguments.seconds)
            alone_rate.append(alone.images / alone.seconds)
            for _ in range(arguments.rounds):
                searched(quiet)
                with Importing(http, zipped(fresh(most))) as importing:
                    searched(beside)
                imported.append(importing.images / importing.seconds)
    ratio = beside.quantile(0.99) / quiet.quantile(0.99)
    rows: list[list[object]] = [
        [name, *(load.quantile(share) * 1e3 for share in (0.5, 0.9, 0.99)), rate]
        for name, load, rate in (
            ("quiet", quiet, "none"),
            ("beside an import", beside, sum(imported) / len(imported)),
        )
    ]
    rows.append(["an import alone", "", "", "", sum(alone_rate) / len(alone_rate)])
    rows.append([f"p99 in times of the quiet one (at most {BOUND:g})", "", "", ratio, ""])
    title = f"Searches beside an import, {arguments.rate:g} per second, {precision}"
    figures = {
        "precision": precision,
        "quiet_p50_ms": quiet.quantile(0.5) * 1e3,
        "quiet_p99_ms": quiet.quantile(0.99) * 1e3,
        "import_p50_ms": beside.quantile(0.5) * 1e3,
        "import_p99_ms": beside.quantile(0.99) * 1e3,
        "p99_ratio": ratio,
        "import_images_per_second": sum(imported) / len(imported),
        "import_alone_images_per_second": sum(alone_rate) / len(alone_rate),
        "answers": dict(quiet.statuses + beside.statuses),
    }
    report.print_table(title, COLUMNS, rows)
    report.json_line("imports", figures)
    note = "Blocks with and without an import take turns in one server; the load client runs on the same cores."
    report.record(f"imports-{precision}", title=title, columns=COLUMNS, rows=rows, note=note)


if __name__ == "__main__":
    main()
