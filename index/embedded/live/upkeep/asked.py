"""The latest real queries: kept in memory, saved with the index, and asked again when recall is measured.

A cache like all of them: where the file cannot be read, they are collected anew.
"""

from __future__ import annotations

import io
import os
import zlib
from collections import deque
from pathlib import Path

import numpy as np

from index.embedded.ann.files.plain import open_plain
from index.errors import CacheUnusable
from index.items import Vector

MOST = 128
_MOST_BYTES = MOST * 2**16 * 2 + 4_096  # of the most dimensions there are


class Asked:
    """At most MOST of them, from any thread. count: of all that were ever asked here."""

    def __init__(self) -> None:
        self.count = 0
        self._latest: deque[Vector] = deque(maxlen=MOST)

    def note(self, query: Vector) -> None:
        """Remembers a query float32 (dim,), unit."""
        self._latest.append(query.astype(np.float16))
        self.count += 1

    def forget(self) -> None:
        """As if nothing had been asked."""
        self._latest.clear()

    def queries(self, dim: int) -> Vector:
        """float32 (n, dim), unit up to rounding, oldest first."""
        latest = self._latest.copy()
        return np.stack(latest).astype(np.float32) if latest else np.empty((0, dim), np.float32)

    def write(self, path: Path) -> None:
        """Replaces `path` in one step. Raises OSError."""
        latest = self._latest.copy()
        if not latest:
            return
        body = io.BytesIO()
        np.save(body, np.stack(latest))
        temporary = path.with_name(path.name + ".new")
        with temporary.open("wb") as file:
            file.write(b"%08x" % zlib.crc32(body.getvalue()) + body.getvalue())
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)

    def read(self, path: Path, dim: int) -> None:
        """Takes up what `write` wrote, where nothing was asked yet. Raises CacheUnusable."""
        try:
            with os.fdopen(open_plain(path, os.O_RDONLY), "rb") as file:
                content = file.read(_MOST_BYTES)
            if content[:8] != b"%08x" % zlib.crc32(content[8:]):
                raise CacheUnusable(f"{path} is damaged; collecting queries anew")
            rows = np.load(io.BytesIO(content[8:]), allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise CacheUnusable(f"{path} cannot be read; collecting queries anew") from error
        if rows.dtype != np.float16 or rows.ndim != 2 or rows.shape[1] != dim or not np.isfinite(rows).all():
            raise CacheUnusable(f"{path} holds something else; collecting queries anew")
        if not self._latest:
            self._latest.extend(rows[-MOST:])
