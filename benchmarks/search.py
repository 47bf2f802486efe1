"""Search is judged by recall, time and memory together, beside other libraries on the same vectors, in one run.

    python -m benchmarks.search                 50,000 vectors, some minutes
    python -m benchmarks.search --million       1,000,000 vectors, an hour: 30 GB of disk, 12 GB of memory
    python -m benchmarks.search --sizes 5000 10000 20000 --only index flat     where exact search ends

Vectors are spun as told in `benchmarks.vectors`. Searches ask for the ten nearest of one query, one thread, warm.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import BATCHES, EF, PHASES
from benchmarks.report import json_line, print_table, record
from benchmarks.vectors import CACHE, SHARES, Prepared, prepare

ROOT = Path(__file__).resolve().parent.parent
NAMES = {
    "index": "Lookalike, the index alone",
    "collection": "Lookalike, a collection",
    "flat": "Lookalike, exact",
    "hnswlib": f"hnswlib (M 16, ef {EF})",
    "usearch": f"usearch f16 (ef {EF})",
    "exact": "FAISS exact float32",
}
PEERS = ("hnswlib", "usearch", "exact")
FLAT_MOST = 50_000
COLUMNS = ("what", "vectors", "build s", "memory MB", "recall@10", "p50 ms", "p99 ms", "per s", "2 threads ×")


def run(name: str, files: Prepared, size: int) -> dict[str, Any]:
    """All phases of a contender, each in a process of its own; their figures together."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=f"{name}-") as folder:
        for phase in PHASES[name]:
            paths = [str(path) for path in (files.rows, files.queries, files.truth, folder)]
            command = [sys.executable, "-m", "benchmarks.contenders", name, phase, str(size), *paths]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{name} failed in phase {phase}:\n{done.stderr[-3000:]}")
            figures |= json.loads(done.stdout.splitlines()[-1])
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--million", action="store_true", help="250,000, 500,000 and 1,000,000 vectors")
    parser.add_argument("--sizes", type=int, nargs="+", default=[50_000], metavar="N")
    parser.add_argument("--only", nargs="+", choices=list(PHASES), default=list(PHASES))
    parser.add_argument("--model-dir", type=Path, default=ROOT / "data" / "models")
    parser.add_argument("--keep", action="store_true", help="leave the vectors in benchmarks/cache")
    chosen = parser.parse_args(arguments)
    sizes = sorted([250_000, 500_000, 1_000_000] if chosen.million else chosen.sizes)
    files = prepare(sizes, chosen.model_dir)
    figures: dict[str, Any] = {"vectors": files.source}
    rows: list[tuple[object, ...]] = []
    filters: list[tuple[object, ...]] = []
    batches: list[tuple[object, ...]] = []
    for size in sizes:
        for name in chosen.only:
            if name in PEERS and size != sizes[-1]:
                continue  # at the largest size alone: they take minutes to build
            if name == "flat" and size > FLAT_MOST:
                continue
            found = figures[f"{name} {size}"] = run(name, files, size)
            rows.append(_row(NAMES[name], size, found))
            filters += [_filter_row(NAMES[name], size, share, found) for share in SHARES if f"filter {share}" in found]
            if f"batch {BATCHES[0]}" in found:
                batches += [(f"{many} a call", size, found[f"batch {many}"]) for many in BATCHES]
            print(json.dumps({name: found}), file=sys.stderr, flush=True)
    title = f"Search: ten nearest of one query (vectors with 2048 dimensions, spun from {files.source})"
    print_table(title, COLUMNS, rows)
    name = "search" if set(PEERS) <= set(chosen.only) else "search-" + "-".join(chosen.only)
    record(name, title=title, columns=COLUMNS, rows=rows)
    if filters:
        columns = ("filter keeps", "vectors", "recall@10", "p50 ms", "× unfiltered", "first time ms")
        print_table("Search under a filter", columns, filters)
        record(f"filters-{sizes[-1]}", title="Search under a filter", columns=columns, rows=filters)
    if batches:
        title, shown = "Ids and scores of the ten nearest, many queries a call", ("queries", "vectors", "per s")
        print_table(title, shown, batches)
        record("nearest", title=title, columns=shown, rows=batches)
    json_line("search", figures)
    if not chosen.keep:
        for path in (files.rows, files.truth, files.queries):
            path.unlink()
        shutil.rmtree(CACHE / "__pycache__", ignore_errors=True)


def _row(name: str, size: int, found: dict[str, Any]) -> tuple[object, ...]:
    keys = ("build_s", "memory_mb", "recall", "p50_ms", "p99_ms", "per_second", "two_threads")
    return (name, size, *(found[key] for key in keys))


def _filter_row(name: str, size: int, share: str, found: dict[str, Any]) -> tuple[object, ...]:
    one = found[f"filter {share}"]
    plain = found.get("with items", found)["p50_ms"]
    return (f"{share}, {name}", size, one["recall"], one["p50_ms"], one["p50_ms"] / plain, one["cold_ms"])


if __name__ == "__main__":
    main()
