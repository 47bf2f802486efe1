"""The index beside libraries that this project does not use, at equal recall, in one run; each in its own process.

    python -m venv /tmp/rivals
    /tmp/rivals/bin/pip install rabitqlib scalable-vs lorann lancedb
    python -m benchmarks.rivals --python /tmp/rivals/bin/python

They are no dependencies, of the tests neither. Memory is anonymous memory beside what the process had before the build:
full vectors included where a library keeps them there, as most do; the index here reads them from a mapped file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import search
from benchmarks.report import json_line, print_table, record
from benchmarks.rival_process import RIVALS
from benchmarks.vectors import CACHE, Prepared, prepare

COLUMNS = ("what", "vectors", "build s", "memory MB", "recall@10", "p50 ms", "searched with")
OURS = {"index": "Lookalike, the index alone", "collection": "Lookalike, a collection"}
PROCESS = Path(__file__).with_name("rival_process.py")


def run(python: Path, name: str, files: Prepared) -> dict[str, Any]:
    """The figures of one rival; `failed`, with the last line of its complaint, where it has none."""
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="rival-") as folder:
        truth = Path(folder) / "truth.npy"
        np.save(truth, files.exact(files.count))
        command = [python, PROCESS, name, files.rows, files.queries, truth, folder]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"failed": lines[-1][:160]}
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="of the environment that has the rivals")
    parser.add_argument("--size", type=int, default=100_000, metavar="N")
    parser.add_argument("--only", nargs="+", choices=[*OURS, *RIVALS], default=[*OURS, *RIVALS])
    parser.add_argument("--model-dir", type=Path, default=search.ROOT / "data" / "models")
    chosen = parser.parse_args(arguments)
    files = prepare([chosen.size], chosen.model_dir)
    figures: dict[str, Any] = {}
    rows: list[tuple[object, ...]] = []
    for name in chosen.only:
        found = search.run(name, files, chosen.size) if name in OURS else run(chosen.python, name, files)
        figures[name] = found
        if "failed" in found:
            rows.append((name, chosen.size, "", "", "", "", found["failed"]))
        else:
            keys = ("build_s", "memory_mb", "recall", "p50_ms")
            rows.append(
                (OURS.get(name, name), chosen.size, *(found[key] for key in keys), found.get("hardness", "its own"))
            )
        print("  ".join(map(str, rows[-1])), flush=True)
    title = f"Beside other libraries, {chosen.size:,} vectors with 2048 dimensions, spun from {files.source}"
    print_table(title, COLUMNS, rows)
    json_line("rivals", figures)
    record(f"rivals-{chosen.size}", title=title, columns=COLUMNS, rows=rows)


if __name__ == "__main__":
    main()
