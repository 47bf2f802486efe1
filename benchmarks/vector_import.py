"""How fast ready vectors come into the store: the command `lookalike import FILE`, its start included, and the library.

python -m benchmarks.vector_import [--count 200000]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.report import json_line, print_table, record
from benchmarks.vectors import CACHE, DIM, spin, statistics, synthetic_anchors
from index.open import open_catalogue
from tests.harness.process import clean_environment, command

BATCH = 16_384
COLUMNS = ("what", "vectors", "seconds", "per second")


def made(folder: Path, count: int) -> None:
    """float16 vectors as `.npy` and `.parquet`, with ids and metadata of three keys."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Like a network's: noise has no neighbours to find, and building an index over it goes on looking for some.
    known = statistics(synthetic_anchors(), "synthetic")
    rows = np.lib.format.open_memmap(folder / "v.npy", "w+", np.float16, (count, DIM))
    start = 0
    for part in spin(known, count, seed=1):
        rows[start : start + len(part)] = part
        start += len(part)
    metadata = [{"brand": f"b{n % 50}", "price": n % 1000, "size": ["S", "M", "L"][n % 3]} for n in range(count)]
    lines = (json.dumps({"id": f"item-{n}", "metadata": metadata[n]}) + "\n" for n in range(count))
    (folder / "v.jsonl").write_text("".join(lines))
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.asarray(rows).reshape(-1)), DIM)
    ids = pa.array([f"item-{n}" for n in range(count)])
    pq.write_table(
        pa.table({"id": ids, "vector": vectors, "metadata": [json.dumps(each) for each in metadata]}),
        folder / "v.parquet",
        compression="none",
    )


def by_command(folder: Path, name: str) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as data:
        env = clean_environment({"LOOKALIKE_DATA_DIR": data})
        arguments = ["import", str(folder / name), "--collection", "c", "--model", "benchmark"]
        began = time.perf_counter()
        subprocess.run([*command(), *arguments], env=env, cwd=folder, check=True, capture_output=True)
        return time.perf_counter() - began


def by_library(folder: Path, count: int, *, indexes: bool) -> float:
    rows = np.load(folder / "v.npy", mmap_mode="r")
    with tempfile.TemporaryDirectory(dir=folder) as data:
        catalogue = open_catalogue(Path(data), indexes=indexes)
        collection, _ = catalogue.create("c", model="benchmark", fingerprint="benchmark", dim=DIM)
        spent = 0.0
        for start in range(0, count, BATCH):
            part = rows[start : start + BATCH].astype(np.float32)
            ids = [f"item-{n}" for n in range(start, start + len(part))]
            metadata = [{"brand": f"b{n % 50}", "price": n % 1000} for n in range(start, start + len(part))]
            began = time.perf_counter()
            collection.import_vectors(ids, part, metadata, fingerprint="benchmark")
            spent += time.perf_counter() - began
        catalogue.close()
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200_000)
    count = parser.parse_args().count
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
        folder = Path(temporary)
        made(folder, count)
        os.sync()
        ways: dict[str, Callable[[], float]] = {
            "into the store alone": lambda: by_library(folder, count, indexes=False),
            "into the store, indexed beside it": lambda: by_library(folder, count, indexes=True),
            "lookalike import FILE.npy, with its start and its end": lambda: by_command(folder, "v.npy"),
            "lookalike import FILE.parquet, the same": lambda: by_command(folder, "v.parquet"),
        }
        seconds = {name: way() for name, way in ways.items()}
    rows = [(name, count, spent, count / spent) for name, spent in seconds.items()]
    title = f"Import of ready vectors ({DIM} dimensions, float16, ids and metadata)"
    print_table(title, COLUMNS, rows)
    json_line("vector-import", {name: count / spent for name, spent in seconds.items()})
    record("vector-import", title=title, columns=COLUMNS, rows=rows)


if __name__ == "__main__":
    main()
