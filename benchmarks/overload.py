"""What happens at ten times the load the machine carries: some wait a bounded time, the rest is refused at once.

python -m benchmarks.overload [--precision int8] [--seconds 30]
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

from benchmarks import report
from benchmarks.wire import Connection, closed_loop, distinct, get_request, open_loop, search_request
from models.runtimes.processor import resolve_precision
from service.settings import load_settings
from tests.harness import photographs
from tests.harness.process import ServerProcess

TIMES = 10
COLUMNS = ("what", "figure", "bound")


class Watch(threading.Thread):
    """Asks /livez ten times a second and weighs the server's memory meanwhile."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__()
        self._server = server
        self._over = threading.Event()
        self.livez_ms: list[float] = []
        self.memory_mib: list[float] = []

    def run(self) -> None:
        connection = Connection(self._server.port)
        request = get_request("/livez")
        while not self._over.wait(0.1):
            started = time.perf_counter()
            connection.ask(request)
            self.livez_ms.append((time.perf_counter() - started) * 1e3)
            if len(self.livez_ms) % 10 == 1:
                self.memory_mib.append(self._server.memory_mib())

    def stop(self) -> None:
        self._over.set()
        self.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", help="fp32 or int8; default: what the service would choose")
    parser.add_argument("--seconds", type=float, default=15.0)
    arguments = parser.parse_args()
    settings, _ = load_settings()
    precision = resolve_precision(arguments.precision or settings.precision, "cpu")
    photos = photographs.split("groceries", "catalogue")
    random.Random(7).shuffle(photos)
    pictures = [photo.read() for photo in photos[:200]]
    numbers = itertools.count(time.monotonic_ns() % 10**12)

    def requests(count: int) -> list[bytes]:
        fresh = (distinct(pictures[n % len(pictures)], n) for n in itertools.islice(numbers, count))
        return [search_request("default", each) for each in fresh]

    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as temporary:
        env = {"LOOKALIKE_PRECISION": precision, "LOOKALIKE_LOG_LEVEL": "error"}
        with ServerProcess(Path(temporary) / "data", settings.models, env).start() as server:
            sustained = closed_loop(server.port, requests(2500), connections=8, seconds=8).rate
            memory_before = server.memory_mib()
            arriving = requests(int(sustained * TIMES * arguments.seconds))
            watch = Watch(server)
            watch.start()
            load = open_loop(server.port, arriving, rate=sustained * TIMES, seconds=arguments.seconds)
            watch.stop()
    arrived = sum(load.statuses.values())
    wrong = arrived - load.statuses[200] - load.statuses[503]
    figures = {
        "sustained_per_second": sustained,
        "offered_per_second": arrived / load.seconds,
        "served_per_second": load.rate,
        "refused_share": load.statuses[503] / arrived,
        "broken_or_wrong": wrong,
        "served_p50_s": load.quantile(0.5),
        "served_p99_s": load.quantile(0.99),
        "served_p99_bound_s": settings.queue_limit / sustained * 1.2,
        "livez_p50_ms": median(watch.livez_ms),
        "livez_max_ms": max(watch.livez_ms),
        "memory_before_mib": memory_before,
        "memory_most_mib": max(watch.memory_mib),
        "client_cpu": load.client_cpu,
    }
    p99_bound = f"queue limit ÷ sustained + 20 % = {figures['served_p99_bound_s']:.2f}"
    rows: list[list[object]] = [
        ["sustained before, images/s", sustained, ""],
        ["offered, requests/s", figures["offered_per_second"], f"{TIMES} × sustained"],
        ["served, images/s", load.rate, ""],
        ["refused with 503", f"{figures['refused_share']:.1%}", ""],
        ["broken connections and other answers", wrong, "0"],
        ["served, p50 s", figures["served_p50_s"], ""],
        ["served, p99 s", figures["served_p99_s"], p99_bound],
        ["livez, slowest ms", figures["livez_max_ms"], "100"],
        ["memory before / most, MiB", f"{memory_before:.0f} / {figures['memory_most_mib']:.0f}", "flat"],
        ["load client, cores", load.client_cpu, ""],
    ]
    title = f"Overload: {TIMES} times the sustainable rate, {precision}"
    report.print_table(title, COLUMNS, rows)
    report.json_line("overload", {"precision": precision, **figures})
    note = "The load client runs on the same cores, so what it uses is missing to the server."
    report.record(f"overload-{precision}", title=title, columns=COLUMNS, rows=rows, note=note)


if __name__ == "__main__":
    main()
