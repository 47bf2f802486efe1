"""Every item's nearest others: how many lists a second, their recall against brute force, and what a change costs.

    python -m benchmarks.neighbours                    100,000 vectors, minutes
    python -m benchmarks.neighbours --size 20000

On a collection built as by `benchmarks.queries`, by two threads.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.queries import COLLECTION, ROOT, build, warm
from benchmarks.report import json_line, print_table, record
from benchmarks.vectors import CACHE, DIM, prepare
from index.analysis.neighbours import Found, find
from index.items import Entry
from index.open import open_catalogue
from index.types import Collection

LIMIT = 10
SAMPLE = 500
CHANGED = 100
COLUMNS = ("what", "seconds", "lists searched", "per second")


def recall(collection: Collection, found: Found) -> float:
    """Share of the true nearest of SAMPLE items that are in their lists, by comparing them with every vector."""
    rows = np.random.default_rng(3).choice(len(found.ids), SAMPLE, replace=False)
    queries = collection.vectors([found.ids[row] for row in rows])
    own = found.neighbours.scores[rows]
    best = np.full((SAMPLE, LIMIT + 1), -np.inf, np.float32)
    for start in range(0, len(found.ids), 8_192):
        part = collection.vectors(found.ids[start : start + 8_192])
        best = -np.sort(-np.concatenate([best, queries @ part.T], axis=1), axis=1)[:, : LIMIT + 1]
    # The first is the item itself, with a score of one.
    return float((own >= best[:, LIMIT:] - 1e-4).mean())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=100_000, metavar="N")
    parser.add_argument("--model-dir", type=Path, default=ROOT / "data" / "models")
    chosen = parser.parse_args(arguments)
    folder = CACHE / f"collection-{chosen.size}"
    if not (folder / "data").is_dir():
        build(prepare([chosen.size], chosen.model_dir), chosen.size, folder)
    warm(folder)
    rows: list[tuple[object, ...]] = []
    with contextlib.closing(open_catalogue(folder / "data")) as catalogue:
        collection = catalogue.get(COLLECTION)

        def timed(what: str, known: Found | None) -> Found:
            began = time.perf_counter()
            found = find(collection, LIMIT, None if known is None else known.neighbours)
            seconds = time.perf_counter() - began
            rows.append((what, seconds, found.searched, found.searched / seconds))
            return found

        first = timed("all", None)
        reached = recall(collection, first)
        same = timed("nothing changed", first)
        fresh = collection.vectors(first.ids[:CHANGED]) + np.float32(0.01)
        entries = [Entry(f"changed-{number}", row) for number, row in enumerate(fresh)]
        collection.upsert(entries, fingerprint=collection.fingerprint)
        timed(f"{CHANGED} new", same)
        collection.delete([entry.id for entry in entries])
    title = f"The {LIMIT} nearest others of {chosen.size:,} items with {DIM} dimensions"
    note = f"Recall against brute force: {reached:.4f}, of {SAMPLE} items."
    print_table(title, COLUMNS, rows)
    print(note)
    figures: dict[str, Any] = {"size": chosen.size, "recall": reached, "rows": rows}
    json_line("neighbours", figures)
    record(f"neighbours-{chosen.size}", title=title, columns=COLUMNS, rows=rows, note=note)


if __name__ == "__main__":
    main()
