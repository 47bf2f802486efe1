"""Kept neighbours: a file beside the search index, a cache like it; whatever is wrong with it, they are found anew.

A .npz, whose every array has its checksum. It lies in the collection's own folder, which goes with the collection and
with every restore, so that no number of an item can mean another one.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np

from index.analysis.neighbours import Neighbours
from index.errors import CacheUnusable

_VERSION = 1
_BROKEN = (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError, NotImplementedError, MemoryError)


def path_of(folder: Path, limit: int) -> Path:
    """Where lists of this length are kept."""
    return folder / f"neighbours-{limit}.npz"


def read(path: Path, limit: int) -> Neighbours:
    """What `write` wrote. Raises CacheUnusable where it is missing, damaged, or of another version."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            version, keys, near, scores = (stored[name] for name in ("version", "keys", "near", "scores"))
    except OSError as error:
        raise CacheUnusable(f"{path} cannot be read ({error.strerror or error}); it is made anew") from None
    except _BROKEN as error:
        raise CacheUnusable(f"{path} is damaged ({error}); it is made anew") from None
    shapes = keys.shape, near.shape, scores.shape
    if (int(version), near.dtype, scores.dtype) != (_VERSION, np.int64, np.float32) or keys.dtype != np.int64:
        raise CacheUnusable(f"{path} is of another version; it is made anew")
    if shapes != ((len(keys),), (len(keys), limit), (len(keys), limit)) or (np.diff(keys) <= 0).any():
        raise CacheUnusable(f"{path} does not fit itself; it is made anew")
    return Neighbours(keys, near, scores)


def write(path: Path, found: Neighbours) -> None:
    """Whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".neighbours-", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, version=_VERSION, keys=found.keys, near=found.near, scores=found.scores)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
