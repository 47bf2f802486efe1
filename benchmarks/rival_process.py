"""One rival library, one process: builds over vectors on disk, answers the same queries, prints one line of JSON.

Started by `benchmarks.rivals` with the Python of another environment, which has numpy and the rival and nothing of this
project: `python rival_process.py NAME ROWS QUERIES TRUTH FOLDER`. Each is searched harder and harder, one query at a
time on one thread, until its recall is reached; what it took then is told.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Search = Callable[[Floats, int], Any]  # query float32 (dim,), hardness → row numbers

NEAREST = 10
ENOUGH = 0.998
THREADS = 2  # of a build


def rabitqlib(rows: Floats, folder: Path) -> tuple[Search, Sequence[int]]:
    """The authors' own IVF, 7 bits an axis, which it does not re-score. Hardness: lists."""
    import rabitqlib

    lists = 4 * round(len(rows) ** 0.5)
    means = rabitqlib.QGKMeans(rows.shape[1], lists, num_threads=THREADS)
    means.train(rows)
    index = rabitqlib.IvfIndex(rows.shape[1], len(rows), lists, 7, metric="l2")
    index.build(rows, means.centroids, means.assignments, num_threads=THREADS)
    return lambda query, hardness: _ids(index.search(query[None], NEAREST, hardness)), (16, 32, 64, 128, 256, 512)


def svs_leanvec(rows: Floats, folder: Path) -> tuple[Search, Sequence[int]]:
    """Intel's Vamana graph over LeanVec codes (512 dimensions of 8 bits, re-scored in 8 bits). Hardness: window."""
    import svs

    path = folder / "rows.svs"
    svs.write_vecs(rows, str(folder / "rows.fvecs"))
    svs.convert_vecs_to_svs(str(folder / "rows.fvecs"), str(path), dtype=svs.float32)
    data = svs.VectorDataLoader(str(path), svs.DataType.float32, dims=rows.shape[1])
    loader = svs.LeanVecLoader(data, 512, svs.LeanVecKind.lvq8, svs.LeanVecKind.lvq8)
    settings = svs.VamanaBuildParameters(alpha=1.2, graph_max_degree=32, window_size=100)
    index = svs.Vamana.build(settings, loader, svs.DistanceType.L2, num_threads=THREADS)
    index.num_threads = 1

    def search(query: Floats, hardness: int) -> Any:
        if index.search_window_size != hardness:
            index.search_window_size = hardness
        return index.search(query[None], NEAREST)[0]

    return search, (10, 20, 40, 80, 160, 320)


def svs_float16(rows: Floats, folder: Path) -> tuple[Search, Sequence[int]]:
    """The same graph over float16 vectors."""
    import svs

    settings = svs.VamanaBuildParameters(alpha=1.2, graph_max_degree=32, window_size=100)
    index = svs.Vamana.build(settings, rows.astype(np.float16), svs.DistanceType.L2, num_threads=THREADS)
    index.num_threads = 1

    def search(query: Floats, hardness: int) -> Any:
        if index.search_window_size != hardness:
            index.search_window_size = hardness
        return index.search(query[None], NEAREST)[0]

    return search, (10, 20, 40, 80, 160, 320)


def lorann(rows: Floats, folder: Path) -> tuple[Search, Sequence[int]]:
    """Clusters with reduced-rank regression, re-scored in float32. Hardness: clusters, four candidates each."""
    from lorann import LorannIndex

    index = LorannIndex(rows, n_clusters=round(len(rows) ** 0.5), global_dim=256, quantization_bits=8)
    index.build(n_threads=THREADS)
    return lambda query, hardness: index.search(query, NEAREST, hardness, 4 * hardness), (16, 32, 64, 128, 256)


def lancedb(rows: Floats, folder: Path) -> tuple[Search, Sequence[int]]:
    """LanceDB in this process, IVF_RQ, re-scored from disk. Hardness: lists, with five candidates to each that is asked
    for.
    """
    import lancedb
    import pyarrow as pa

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    data = pa.table({"id": pa.array(np.arange(len(rows))), "vector": vectors})
    table = lancedb.connect(str(folder)).create_table("rows", data)
    table.create_index(metric="l2", vector_column_name="vector", index_type="IVF_RQ")

    def search(query: Floats, hardness: int) -> Any:
        asked = table.search(query).distance_type("l2").nprobes(hardness).refine_factor(12)
        return asked.limit(NEAREST).select(["id"]).to_arrow()["id"].to_numpy()

    return search, (8, 16, 32, 64, 128)


RIVALS = {
    "rabitqlib": rabitqlib,
    "svs-leanvec": svs_leanvec,
    "svs-float16": svs_float16,
    "lorann": lorann,
    "lancedb": lancedb,
}


def _ids(answer: Any) -> Any:
    """Row numbers out of (ids, distances), whichever comes first."""
    first, second = answer[0], answer[1]
    return np.ravel(first if np.issubdtype(np.asarray(first).dtype, np.integer) else second)


def memory_mb() -> float:
    """Anonymous memory of this process, in MB."""
    found = re.search(r"^RssAnon:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else float("nan")


def measured(search: Search, hardnesses: Sequence[int], queries: Floats, truth: npt.NDArray[np.int64]) -> Any:
    """The least hardness that reaches the recall, or the greatest; p50 of a second round, in milliseconds."""
    for hardness in hardnesses:
        found = [np.asarray(search(query, hardness)) for query in queries]
        recall = sum(len(np.intersect1d(*pair)) for pair in zip(found, truth, strict=True)) / truth.size
        if recall >= ENOUGH:
            break
    spent = []
    for query in queries:
        before = time.perf_counter()
        search(query, hardness)
        spent.append(time.perf_counter() - before)
    return {"recall": recall, "hardness": hardness, "p50_ms": float(np.median(spent)) * 1e3}


def main(arguments: Sequence[str]) -> None:
    name, rows, queries, truth, folder = arguments
    vectors = np.load(rows, mmap_mode="r").astype(np.float32)
    began, before = time.perf_counter(), memory_mb() - vectors.nbytes / 1e6
    search, hardnesses = RIVALS[name](vectors, Path(folder))
    spent = time.perf_counter() - began
    if name != "lorann":  # which searches the very array that it was given
        del vectors
    figures = measured(search, hardnesses, np.load(queries), np.load(truth))
    print(json.dumps(figures | {"build_s": spent, "memory_mb": memory_mb() - before}))


if __name__ == "__main__":
    main(sys.argv[1:])
