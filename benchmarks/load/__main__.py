"""Load-tests a fresh service with the sample catalogue, or a running one, and reports as HTML and JSON.

    python -m benchmarks.load [--host http://HOST:PORT] [--seconds 15] [--out build/load]

Exit codes: 0 every objective met, 1 one missed, 2 nothing to load-test. The key of a running service that asks for one:
LOOKALIKE_LOAD_KEY. LOOKALIKE_MODEL=histogram leaves the network out of a fresh service.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import report as machines
from benchmarks.load import figures
from benchmarks.load.arrivals import Ask, arrive
from benchmarks.load.page import facts, page
from benchmarks.load.pool import pool
from benchmarks.load.scenarios import Visitors, makers
from benchmarks.load.target import Target, Unfit, inspect, target_of
from service.settings import load_settings
from tests.harness.process import ServerProcess

SHARE = 0.7  # of saturation: what a scenario offers
BESIDE_IMPORT = 0.3  # the same while an import takes its part
STEP = 1.4  # of a ramp
FIRST = {"upload": 2.0, "similar": 32.0, "mix": 8.0}  # requests per second, of a ramp's first step
MOST = 2000.0  # requests per second, where a ramp ends at the latest
CARRIED_MS = 1000.0  # p99 up to which a rate counts as carried
CAPACITY_MS = 250.0


@contextlib.contextmanager
def fresh() -> Iterator[tuple[Target, ServerProcess]]:
    """A service of its own with the sample catalogue. Raises Unfit where it does not start."""
    settings, _ = load_settings()
    env = {"LOOKALIKE_LOG_LEVEL": "warning", "LOOKALIKE_MODEL": settings.model}
    with tempfile.TemporaryDirectory(prefix="lookalike-load-") as folder:
        try:
            server = ServerProcess(Path(folder) / "data", settings.models, env).start(arguments=["--sample"])
        except (RuntimeError, TimeoutError) as error:
            raise Unfit(f"the service does not start: {str(error).strip().splitlines()[-1]}") from None
        with server:
            yield Target("127.0.0.1", server.port), server


def wait_for_sample(target: Target) -> None:
    """Until the catalogue has stopped growing. Raises Unfit after two minutes."""
    before = -1
    for _ in range(60):
        count = int(target.get("/v1/collections/default")["count"])
        if count > 0 and count == before:
            return
        before = count
        time.sleep(2)
    raise Unfit("the sample catalogue did not fill within two minutes: see `lookalike serve --sample`")


def ramp(target: Target, ask: Callable[[], Ask], *, first: float, seconds: float, rng: random.Random) -> dict[str, Any]:
    """Raises the rate step by step until it is not carried. 0 requests per second: not even the first was."""
    steps, rate, carried, within = [], first, 0.0, 0.0
    while rate <= MOST:
        run = arrive(target, ask, rate=rate, seconds=seconds, rng=rng)
        found = figures.row(run.seen)
        steps.append({"offered_per_second": rate, **found})
        if not figures.keeps_up(run, p99_ms=CARRIED_MS):
            break
        # What was answered, the time until the last answer included: a queue that grew is not capacity.
        carried = max(carried, min(rate, len(run.seen) / run.seconds))
        if figures.keeps_up(run, p99_ms=CAPACITY_MS):
            within = carried
        rate *= STEP
    return {"saturation_per_second": carried, "within_250_ms_per_second": within, "steps": steps}


def measure(target: Target, server: ServerProcess | None, arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole report. Raises Unfit."""
    service = inspect(target, arguments.collection)
    rng = random.Random(7)
    pictures = pool(4 if arguments.made else 12, made=arguments.made)
    written = f"load-{time.time_ns()}"
    visitors = Visitors(target, pictures, service.ids, arguments.collection, written, rng)
    visitors.make_collection()
    try:
        asks = makers(visitors)
        short = max(0.5, arguments.seconds / 6)
        ramps = {name: ramp(target, asks[name], first=first, seconds=short, rng=rng) for name, first in FIRST.items()}
        scenarios = {}
        for name, ask in asks.items():
            like = "upload" if name == "import" else name
            rate = (ramps[like]["saturation_per_second"] or FIRST[like]) * (
                BESIDE_IMPORT if name == "import" else SHARE
            )
            if name == "import":
                visitors.start_import()
            before = server.cpu_seconds() if server else None
            run = arrive(target, ask, rate=rate, seconds=arguments.seconds, rng=rng)
            used = server.cpu_seconds() - before if server and before is not None else None
            scenarios[name] = figures.summary(run, service_cpu=used, memory_mib=server.memory_mib() if server else None)
    finally:
        visitors.remove_collection()
    client = sum(each["client_cpu_s"] for each in scenarios.values())
    used = sum(each["service_cpu_s"] for each in scenarios.values()) if server else None
    report = {
        "url": target.url,
        "machine": machines.machine(),
        "service": {"model": service.model, "version": service.version, "cores": service.cores},
        "photographs": pictures.photographs,
        "ramps": ramps,
        "scenarios": scenarios,
        "client_cpu_share": client / used if used else None,
    }
    return report | {"missed": figures.missed(report, figures.read_objectives(arguments.objectives))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", help="http://HOST:PORT of a running service; default: a fresh one")
    parser.add_argument("--collection", default="default", help="that is searched; nothing is written to it")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each scenario; a ramp's step takes a sixth")
    parser.add_argument("--out", type=Path, default=Path("build/load"), help="folder of the report")
    parser.add_argument("--objectives", type=Path, default=figures.OBJECTIVES, help="TOML file")
    parser.add_argument("--made", action="store_true", help="made pictures even where photographs are at hand")
    arguments = parser.parse_args()
    if not 0.1 <= arguments.seconds <= 3600:
        parser.error("--seconds must be 0.1 to 3600")
    try:
        figures.read_objectives(arguments.objectives)
    except (OSError, ValueError) as error:
        parser.error(f"--objectives {arguments.objectives}: {error}")
    try:
        if arguments.host:
            report = measure(target_of(arguments.host, os.environ.get("LOOKALIKE_LOAD_KEY", "")), None, arguments)
        else:
            with fresh() as (target, server):
                wait_for_sample(target)
                report = measure(target, server, arguments)
    except Unfit as error:
        print(f"load: {error}", file=sys.stderr)
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (arguments.out / "report.html").write_text(page(report))
    for line in [*facts(report), *(f"missed: {line}" for line in report["missed"])]:
        print(line)
    for name, found in report["ramps"].items():
        rates = f"{found['saturation_per_second']:.1f}, with p99 ≤ 250 ms {found['within_250_ms_per_second']:.1f}"
        print(f"{name}: most requests/s {rates}")
    print(f"report: {arguments.out / 'report.html'}")
    return 1 if report["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
