"""Upkeep of a whole catalogue, as JSON-ready answers: the same from a command that owns it and from its server."""

from __future__ import annotations

import errno
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from index.errors import StoreCorrupt
from index.types import Catalogue, Progress
from service import snapshots
from service.text import readable


def snapshot(catalogue: Catalogue, file: Path, *, force: bool, progress: Progress | None = None) -> dict[str, Any]:
    """Writes a snapshot; what it holds. progress: bytes done, bytes in all.

    Raises SnapshotExists, StorageFull, StoreCorrupt, OSError.
    """
    if not file.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", readable(file.parent))
    made = catalogue.snapshot(file, force=force, progress=progress)
    snapshots.remember(catalogue, file, made.created_at)
    return {"file": readable(file), **asdict(made)}


def verify(catalogue: Catalogue) -> dict[str, Any]:
    """Checks everything; `findings` is empty when all is well."""
    began = time.monotonic()
    try:
        items = sum(info.count for info in catalogue.infos())
    except StoreCorrupt:
        items = 0  # what is wrong comes with the findings
    findings = [asdict(each) for each in catalogue.verify()]
    return {"items": items, "findings": findings, "seconds": round(time.monotonic() - began, 3)}
