"""Plain files that are mapped for reading and written by offset.

What is in the place of a file and is none (a directory, a pipe) is refused before it can block or mislead.
"""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index.errors import CacheUnusable


def open_plain(path: Path, flags: int) -> int:
    """A descriptor. Raises OSError, and CacheUnusable for what is no plain file."""
    file = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)  # a pipe would wait for its other end
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise CacheUnusable(f"{path} is no plain file; rebuild it from the store")
    return file


def map_array(file: int, offset: int, dtype: str, count: int, *, scattered: bool = False) -> npt.NDArray[Any]:
    """Read-only 1-D array over an open file; the mapping lives as long as the array does.

    scattered: elements are read here and there, so reading ahead around each would only push others out of memory.
    """
    if not count:
        return np.empty(0, dtype=dtype)
    mapping = mmap.mmap(file, offset + count * np.dtype(dtype).itemsize, prot=mmap.PROT_READ)
    if scattered and hasattr(mmap, "MADV_RANDOM"):
        mapping.madvise(mmap.MADV_RANDOM)
    return np.frombuffer(mapping, dtype=dtype, offset=offset, count=count)


def write_at(file: int, data: npt.NDArray[Any] | bytes, offset: int) -> None:
    """Through the file, not the mapping: a full disk is then an OSError instead of a SIGBUS."""
    left = memoryview(data.data if isinstance(data, np.ndarray) else data).cast("B")
    while left:
        done = os.pwrite(file, left, offset)
        left, offset = left[done:], offset + done
