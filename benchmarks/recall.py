"""Recall on hard catalogues: what queries that the index never saw really find, beside what it reports of itself.

    python -m benchmarks.recall                         every catalogue at 20,000 vectors: ten minutes
    python -m benchmarks.recall --sizes 20000 200000    an hour, 4 GB of disk
    python -m benchmarks.recall --only crops --sizes 100000     first: python -m benchmarks.crops

Every catalogue, or all but the crops, or the crops alone: then the table is kept in RESULTS.md.

Each catalogue is one collection of the product, with its defaults; rows that come late are imported once the first
ones are indexed. A found vector counts where it is as near as the last of the true ten: of equal ones it does not
matter which came back. Exact search is what small collections get, over the same vectors in memory; both answer in
turns within one loop. Catalogues are described in `benchmarks.catalogues`.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import crops
from benchmarks.catalogues import BLOCK, CATALOGUES, Catalogue
from benchmarks.report import json_line, print_table, record
from benchmarks.vectors import CACHE, Floats
from index.embedded.ann.exact import FlatIndex
from index.embedded.ann.recall import true_scores
from index.info import CollectionInfo
from index.open import open_catalogue
from tests.harness import photographs

CROPS = "crops"
QUERIES = 1_000
NEAREST = 10
TIMED = 200  # queries that exact search answers too
EQUAL = 5e-5  # of a cosine: what half precision leaves open
WANTED, SHARE = 0.99, 0.25  # true recall; p50 as a share of exact search's
COLUMNS = (
    *("catalogue", "vectors", "true recall", "reported", "interval", "inside", "p50 ms", "exact ms", "÷ exact"),
    *("lists", "depth", "bits a row", "bytes a row", "build s", "of it measuring", "why more than a quarter"),
)
BRIEF = 1.0  # milliseconds of exact search below which what any search costs weighs more than a quarter
PRINT = "benchmark"


@dataclass(frozen=True, slots=True)
class Task:
    """rows: float16 or float32 blocks, in the order of import; late: how many of the last ones come after the rest was
    indexed; queries: float32 (n, dim), unit.
    """

    name: str
    count: int
    rows: Iterable[npt.NDArray[Any]]
    late: int
    queries: Floats


def generated(catalogue: Catalogue, count: int) -> Task:
    """A catalogue of `benchmarks.catalogues`."""
    late = round(count * catalogue.late)
    return Task(catalogue.name, count, catalogue.rows(count, seed=1), late, catalogue.queries(QUERIES))


def photographed(count: int, model_dir: Path) -> Task:
    """Crops of real photographs; the rows behind the catalogue's are the queries."""
    rows = crops.cached(count + QUERIES, model_dir, most=crops.BLOCK)
    blocks = (rows[start : min(start + BLOCK, count)] for start in range(0, count, BLOCK))
    return Task("crops of photographs", count, blocks, 0, rows[count:].astype(np.float32))


def settled(collection: Any) -> CollectionInfo:
    """The collection once nothing is left to do behind it."""
    while (info := collection.info()).indexing:
        time.sleep(0.01)
    found: CollectionInfo = info
    return found


def run(task: Task) -> dict[str, Any]:
    """Recall, what was reported, p50 of both searches in milliseconds, and what the index takes."""
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="recall-") as folder:
        catalogue = open_catalogue(Path(folder))
        try:
            dim = task.queries.shape[1]
            collection, _ = catalogue.create("c", model="benchmark", fingerprint=PRINT, dim=dim)
            exact = FlatIndex(dim, np.dtype("<f2"))
            stored = np.empty((task.count, dim), np.float16)
            done = 0
            for part in _cut(task.rows, task.count - task.late):
                rows = np.asarray(part, np.float32)
                collection.import_vectors(_names(done, len(rows)), rows, fingerprint=PRINT)
                stored[done : done + len(rows)] = rows
                exact.add(np.arange(done + 1, done + 1 + len(rows)), stored[done : done + len(rows)])
                done += len(rows)
                if done == task.count - task.late:
                    settled(collection)
            info = settled(collection)
            return told(info, task.count) | searched(collection, exact, stored, task.queries)
        finally:
            catalogue.close()


def searched(collection: Any, exact: FlatIndex, stored: npt.NDArray[np.float16], queries: Floats) -> dict[str, Any]:
    """True recall of all queries, and the time that both searches take, in turns."""
    truth = true_scores(
        queries,
        (
            (np.arange(first, min(first + BLOCK, len(stored))), stored[first : first + BLOCK].astype(np.float32))
            for first in range(0, len(stored), BLOCK)
        ),
        np.full(len(queries), -1),
        NEAREST,
        threads=2,
    )
    right = 0
    spent: tuple[list[float], list[float]] = ([], [])
    for number, (query, scores) in enumerate(zip(queries, truth, strict=True)):
        before = time.perf_counter()
        found = collection.nearest(query[None], NEAREST)[0].ids
        spent[0].append(time.perf_counter() - before)
        right += int((stored[[int(id) for id in found]].astype(np.float32) @ query >= scores[-1] - EQUAL).sum())
        if number % (len(queries) // TIMED) == 0:
            before = time.perf_counter()
            exact.search(query[None], NEAREST)
            spent[1].append(time.perf_counter() - before)
    ours, theirs = (float(np.median(times)) * 1e3 for times in spent)
    return {"true": right / (NEAREST * len(queries)), "p50_ms": ours, "exact_ms": theirs, "ratio": ours / theirs}


def told(info: CollectionInfo, count: int) -> dict[str, Any]:
    """What the collection says of itself."""
    index = info.index
    assert index.recall is not None and index.effort is not None
    return {
        "reported": index.recall.value,
        "low": index.recall.low,
        "high": index.recall.high,
        "lists": "all" if index.effort.exact else f"{index.effort.lists}–{index.effort.most_lists}",
        "depth": "all" if index.effort.exact else index.effort.depth,
        "exact": index.effort.exact,
        "axes": index.effort.axes * index.effort.bits,
        "bytes": index.memory_bytes / count,
        "build_s": index.work["build"].seconds,
        "filtered": [(each.share, each.value, each.low, each.high) for each in index.recall.filtered],
        "measuring": index.recall.seconds * index.work["build"].runs / index.work["build"].seconds,
        "builds": index.work["build"].runs,
    }


def _cut(rows: Iterable[npt.NDArray[Any]], turn: int) -> Iterator[npt.NDArray[Any]]:
    """The same blocks, one of them cut where the late rows begin."""
    done = 0
    for part in rows:
        here = min(max(turn - done, 0), len(part))
        yield from (piece for piece in (part[:here], part[here:]) if len(piece))
        done += len(part)


def _names(first: int, count: int) -> list[str]:
    return [str(number) for number in range(first, first + count)]


def main(arguments: Sequence[str] | None = None) -> None:
    known = [CROPS, *(catalogue.name for catalogue in CATALOGUES)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000], metavar="N")
    parser.add_argument("--only", nargs="+", choices=known, default=known)
    parser.add_argument("--model-dir", type=Path, default=photographs.ROOT / "data" / "models")
    chosen = parser.parse_args(arguments)
    CACHE.mkdir(exist_ok=True)
    figures: dict[str, Any] = {}
    rows: list[tuple[object, ...]] = []
    for size, name in itertools.product(sorted(chosen.sizes), chosen.only):
        if name == CROPS:
            task = photographed(size, chosen.model_dir)
        else:
            task = generated(next(each for each in CATALOGUES if each.name == name), size)
        found = figures[f"{task.name} {size}"] = run(task)
        rows.append(_row(task, found))
        print("  ".join(str(cell) for cell in rows[-1]), flush=True)
    title = "Recall@10 of queries that the index never saw, on catalogues of different kinds"
    print_table(title, COLUMNS, rows)
    inside = sum(found["low"] <= found["true"] <= found["high"] for found in figures.values())
    enough = sum(found["true"] >= WANTED for found in figures.values())
    quick = sum(found["ratio"] <= SHARE for found in figures.values())
    note = (
        f"Of {len(figures)} rows, {enough} have a true recall of {WANTED} or more, {inside} have it inside the "
        f"reported interval, {quick} take at most a quarter of exact search's time."
    )
    print(note)
    json_line("recall", figures)
    sizes = "-".join(map(str, sorted(chosen.sizes)))
    if set(chosen.only) >= {catalogue.name for catalogue in CATALOGUES}:
        record(f"recall-{sizes}", title=title, columns=COLUMNS, rows=rows, note=note)
    elif chosen.only == [CROPS]:
        record(f"recall-crops-{sizes}", title=title, columns=COLUMNS, rows=rows, note=note)


def _row(task: Task, found: dict[str, Any]) -> tuple[object, ...]:
    inside = "yes" if found["low"] <= found["true"] <= found["high"] else "no"
    return (
        *(task.name, task.count, f"{found['true']:.4f}", f"{found['reported']:.4f}"),
        *(f"{found['low']:.4f}–{found['high']:.4f}", inside, found["p50_ms"], found["exact_ms"], found["ratio"]),
        *(found["lists"], found["depth"], found["axes"], found["bytes"], found["build_s"], found["measuring"]),
        _why(found),
    )


def _why(found: dict[str, Any]) -> str:
    """Where a search takes more than a quarter of exact search's time: what takes it."""
    if found["ratio"] <= SHARE:
        return ""
    if found["exact"]:
        return "every vector is compared: no effort reaches the recall for less"
    if found["exact_ms"] < BRIEF:
        return f"exact search takes {found['exact_ms']:.2f} ms, of which what any search costs is a large part"
    return f"the recall asks for {found['lists']} lists and {found['depth']} candidates or more"


if __name__ == "__main__":
    main()
