"""Real photographs are read where they lie, beside the project; they are never part of it."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Photo:
    """One row of a split: a photograph and what it shows."""

    id: str
    path: Path
    label: str

    def read(self) -> bytes:
        return self.path.read_bytes()


def folder() -> Path:
    """LOOKALIKE_TEST_DATA, or ../shared/data seen from the project's root; it need not exist."""
    return Path(os.environ.get("LOOKALIKE_TEST_DATA") or ROOT.parent / "shared" / "data")


def split(dataset: str, name: str) -> list[Photo]:
    """All rows of e.g. ("groceries", "queries") in file order. Exits with one line where the photographs are absent."""
    listing = folder() / dataset / f"{name}.csv"
    if not listing.is_file():
        raise SystemExit(f"no photographs at {folder()}: set LOOKALIKE_TEST_DATA")
    with listing.open(newline="") as file:
        return [Photo(row["id"], listing.parent / row["image"], row["label"]) for row in csv.DictReader(file)]
