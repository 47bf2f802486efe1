"""One contender, one process: builds its index over vectors on disk, answers the same queries, prints one line of JSON.

It is `python -m benchmarks.contenders NAME PHASE SIZE ROWS QUERIES TRUTH FOLDER`, started by `benchmarks.search`.
What is built in the phase `build` is measured in the phase `serve`, by a fresh process where the contender can save it:
memory is then what a restarted service holds, not what building left behind.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.vectors import DIM, NEAREST, SHARES, Floats, Prepared
from index.embedded.ann.compressed import MIN_COMPRESSED, CompressedIndex
from index.embedded.ann.exact import FlatIndex
from index.embedded.ann.files.vector_file import VectorFile
from index.filters import parse_filter
from index.open import open_catalogue

Search = Callable[[Floats], Any]  # query float32 (DIM,) → row numbers of the nearest
Figures = dict[str, Any]

PRINT = "benchmark"
PART = 8_192
BATCHES = (1, 256)  # queries per call of the lean search
EF = 128  # what hnswlib and usearch need for a recall near .995


@dataclass(frozen=True, slots=True)
class Task:
    """size: how many of the first rows; folder: for what the contender keeps."""

    files: Prepared
    size: int
    folder: Path

    def parts(self) -> list[tuple[int, npt.NDArray[np.float16]]]:
        rows = np.load(self.files.rows, mmap_mode="r")
        return [(start, rows[start : min(start + PART, self.size)]) for start in range(0, self.size, PART)]


def measured(task: Task, search: Search, share: int = 1, *, threads: bool = True, limit: int = 0) -> Figures:
    """Recall of ten, then p50 and p99 of a second round in milliseconds, and searches per second by threads."""
    queries = np.load(task.files.queries)
    truth = task.files.exact(task.size, share)
    if limit:
        queries, truth = queries[:limit], truth[:limit]
    found = [np.asarray(search(query)) for query in queries]
    hits = [len(np.intersect1d(*pair)) for pair in zip(found, truth, strict=True)]
    spent = []
    for query in queries:
        before = time.perf_counter()
        search(query)
        spent.append(time.perf_counter() - before)
    p50, p99 = np.quantile(spent, [0.5, 0.99]) * 1e3
    figures = {"recall": sum(hits) / truth.size, "p50_ms": p50, "p99_ms": p99}
    if threads:
        rates = [throughput(search, queries, number) for number in (1, 2)]
        figures |= {"per_second": rates[0], "two_threads": rates[1] / rates[0]}
    return figures


def throughput(search: Search, queries: Floats, threads: int, seconds: float = 3.0) -> float:
    """Searches per second of so many threads."""
    counts = [0] * threads
    stop = time.perf_counter() + seconds

    def work(place: int) -> None:
        number = place
        while time.perf_counter() < stop:
            search(queries[number % len(queries)])
            number += threads
            counts[place] += 1

    workers = [threading.Thread(target=work, args=(place,)) for place in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / seconds


def memory_mb() -> float:
    """Anonymous memory of this process in MB: pages of mapped files, which the system can drop, are not counted."""
    found = re.search(r"^RssAnon:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else float("nan")


def build_index(task: Task) -> Figures:
    """The bare index: vector file and compressed index."""
    began = time.perf_counter()
    with VectorFile.create(task.folder / "vectors", dim=DIM, fingerprint=PRINT) as file:
        for start, part in task.parts():
            file.append(np.arange(start + 1, start + 1 + len(part)), part)
        written = time.perf_counter()
        index = CompressedIndex.build(file, threads=2)
        index.save(task.folder / "index", sequence=1)
        done = time.perf_counter()
    return {"append_s": written - began, "build_s": done - written}


def serve_index(task: Task) -> Figures:
    before = memory_mb()
    began = time.perf_counter()
    with VectorFile.open(task.folder / "vectors", dim=DIM, fingerprint=PRINT) as file:
        index = CompressedIndex.load(task.folder / "index", file, fingerprint=PRINT, dim=DIM)
        ready = time.perf_counter() - began

        def search(query: Floats) -> Any:
            return index.nearest(query, NEAREST)[1] - 1

        figures = measured(task, search) | {"memory_mb": memory_mb() - before, "ready_s": ready}
        for name, share in SHARES.items():
            began = time.perf_counter()
            selection = index.select(np.arange(1, task.size + 1, share))
            cold = time.perf_counter() - began

            def filtered(query: Floats, among: Any = selection) -> Any:
                return index.nearest(query, NEAREST, among)[1] - 1

            figures[f"filter {name}"] = measured(task, filtered, share, threads=False) | {"cold_ms": cold * 1e3}
    return figures


def build_collection(task: Task) -> Figures:
    """The product: durable items in SQLite, the live index over them."""
    catalogue = open_catalogue(task.folder / "data")
    collection, _ = catalogue.create("vectors", model="benchmark", fingerprint=PRINT, dim=DIM)
    began = time.perf_counter()
    for start, part in task.parts():
        numbers = range(start, start + len(part))
        metadata = [{f"n{share}": number % share for share in SHARES.values()} for number in numbers]
        collection.import_vectors(
            [str(number) for number in numbers], part.astype(np.float32), metadata, fingerprint=PRINT
        )
    written = time.perf_counter()
    _settle(collection, task.size)
    done = time.perf_counter()
    catalogue.close()
    return {"append_s": written - began, "build_s": done - written}


def _settle(collection: Any, size: int) -> None:
    """Waits until nothing is left to do in the background, a first build included."""
    while True:
        info = collection.info()
        if not info.indexing and (size < MIN_COMPRESSED or info.index_kind == CompressedIndex.kind):
            return
        time.sleep(0.005)


def serve_collection(task: Task) -> Figures:
    before = memory_mb()
    began = time.perf_counter()
    catalogue = open_catalogue(task.folder / "data")
    collection = catalogue.get("vectors")
    _settle(collection, task.size)
    ready = time.perf_counter() - began

    def search(query: Floats) -> Any:
        return [int(id) for id in collection.nearest(query[None], NEAREST)[0].ids]

    figures = measured(task, search) | {"memory_mb": memory_mb() - before, "ready_s": ready}
    for name, share in SHARES.items():
        only = parse_filter({"must": [{"key": f"n{share}", "match": 0}]})

        def filtered(query: Floats, only: Any = only) -> Any:
            return [int(match.item.id) for match in collection.search(query, limit=NEAREST, filter=only).matches]

        began = time.perf_counter()
        filtered(np.load(task.files.queries)[0])
        cold = time.perf_counter() - began
        figures[f"filter {name}"] = measured(task, filtered, share, threads=False) | {"cold_ms": cold * 1e3}

    def whole(query: Floats) -> Any:
        return [int(match.item.id) for match in collection.search(query, limit=NEAREST).matches]

    figures["with items"] = measured(task, whole, threads=False)
    for size in BATCHES:
        figures[f"batch {size}"] = batched(collection, np.load(task.files.queries), size)
    figures["memory_with_filters_mb"] = memory_mb() - before
    catalogue.close()
    return figures


def batched(collection: Any, queries: Floats, size: int, seconds: float = 3.0) -> float:
    """Queries per second where each call asks for the nearest of `size` of them, one thread."""
    done = 0
    began = time.perf_counter()
    while time.perf_counter() < began + seconds:
        start = done % (len(queries) - size + 1)
        collection.nearest(queries[start : start + size], NEAREST)
        done += size
    return done / (time.perf_counter() - began)


def serve_flat(task: Task) -> Figures:
    """What small collections are searched by: every vector compared in float16."""
    before = memory_mb()
    began = time.perf_counter()
    index = FlatIndex(DIM, np.dtype("<f2"))
    for start, part in task.parts():
        index.add(np.arange(start + 1, start + 1 + len(part)), part.astype(np.float32))
    spent = time.perf_counter() - began

    def search(query: Floats) -> Any:
        return index.search(query[None], NEAREST)[1][0] - 1

    return measured(task, search, limit=200) | {"memory_mb": memory_mb() - before, "build_s": spent}


def serve_hnswlib(task: Task) -> Figures:
    """Building and serving in one process: 8 kB a vector would only go to disk and back."""
    import hnswlib

    before = memory_mb()
    index = hnswlib.Index(space="ip", dim=DIM)
    index.init_index(max_elements=task.size, M=16, ef_construction=200)
    began = time.perf_counter()
    for start, part in task.parts():
        index.add_items(part.astype(np.float32), np.arange(start, start + len(part)), num_threads=2)
    spent = time.perf_counter() - began
    index.set_ef(EF)

    def search(query: Floats) -> Any:
        return index.knn_query(query, k=NEAREST, num_threads=1)[0][0]

    return measured(task, search) | {"memory_mb": memory_mb() - before, "build_s": spent}


def serve_usearch(task: Task) -> Figures:
    """Building and serving in one process."""
    from usearch.index import Index

    before = memory_mb()
    index = Index(ndim=DIM, metric="ip", dtype="f16", connectivity=16, expansion_search=EF)
    began = time.perf_counter()
    for start, part in task.parts():
        index.add(np.arange(start, start + len(part)), np.asarray(part), threads=2)
    spent = time.perf_counter() - began

    def search(query: Floats) -> Any:
        return index.search(query, NEAREST, threads=1).keys

    return measured(task, search) | {"memory_mb": memory_mb() - before, "build_s": spent}


def serve_exact(task: Task) -> Figures:
    """FAISS, every vector compared in float32."""
    import faiss

    before = memory_mb()
    index = faiss.IndexFlatIP(DIM)
    began = time.perf_counter()
    for _, part in task.parts():
        index.add(part.astype(np.float32))
    spent = time.perf_counter() - began

    def search(query: Floats) -> Any:
        return index.search(query[None], NEAREST)[1][0]

    few = max(20, min(1_000, 20_000_000 // task.size))
    return measured(task, search, limit=few) | {"memory_mb": memory_mb() - before, "build_s": spent}


PHASES: dict[str, dict[str, Callable[[Task], Figures]]] = {
    "index": {"build": build_index, "serve": serve_index},
    "collection": {"build": build_collection, "serve": serve_collection},
    "flat": {"serve": serve_flat},
    "hnswlib": {"serve": serve_hnswlib},
    "usearch": {"serve": serve_usearch},
    "exact": {"serve": serve_exact},
}


def main(arguments: Sequence[str]) -> None:
    name, phase, size, rows, queries, truth, folder = arguments
    files = Prepared(int(size), "", Path(rows), Path(queries), Path(truth))
    print(json.dumps(PHASES[name][phase](Task(files, int(size), Path(folder))), default=float))


if __name__ == "__main__":
    main(sys.argv[1:])
