"""The three files of a vector directory, open and mapped: room for rows, whatever is in them.

They grow sparsely in large steps, so that readers are mapped anew rarely; a reader that still uses an older mapping
keeps it alive through its arrays.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from index.embedded.ann.arrays import Half, Keys, Rows
from index.embedded.ann.files.plain import map_array, open_plain, write_at
from index.embedded.ann.files.vector_format import PAGE, checksum, pack_header

_MIN_CAPACITY = 1024
_LOOKED = 8  # rows that are looked at for being in memory


class MappedRows:
    """rows: float16 (capacity, dim), keys: int64 and checks: uint32 (capacity,); read-only, zero where unwritten.

    right: bool (capacity,), rows whose checksum is known to be right. The caller keeps writing, growing and closing
    apart from each other.
    """

    def __init__(self, directory: Path, dim: int) -> None:
        """Raises OSError, and CacheUnusable for what is no plain file."""
        self.dim = dim
        self._stride = dim * 2
        self.capacity = 0
        self.right: npt.NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self._files: dict[str, int] = {}
        try:
            for name in ("rows", "keys", "checks"):
                self._files[name] = open_plain(directory / name, os.O_RDWR)
            self._map(self.room)
        except BaseException:
            self.close()
            raise

    @property
    def closed(self) -> bool:
        return not self._files

    @property
    def room(self) -> int:
        """Rows for which all three files have space."""
        sizes = {name: os.fstat(file).st_size for name, file in self._files.items()}
        return max(0, min((sizes["rows"] - PAGE) // self._stride, sizes["keys"] // 8, sizes["checks"] // 4))

    def write(self, first: int, keys: Keys, rows: Half) -> None:
        """keys (m,) and rows (m, dim) from row `first` on. Raises OSError; then none of them counts."""
        self.grow(first + len(keys))
        checks = np.fromiter(map(checksum, keys, rows), dtype="<u4", count=len(rows))
        write_at(self._files["rows"], rows, PAGE + first * self._stride)
        write_at(self._files["checks"], checks, first * 4)
        write_at(self._files["keys"], keys, first * 8)  # last: a key is what makes a row count
        self.right[first : first + len(rows)] = True

    def check(self, rows: Rows, vectors: Half) -> npt.NDArray[np.bool_]:
        """bool (m,): whether each of these rows is what was written. vectors: their bytes, float16 (m, dim)."""
        found = np.fromiter(map(checksum, self.keys[rows], vectors), dtype="<u4", count=len(rows))
        return np.asarray(found == self.checks[rows], dtype=np.bool_)

    def stretch(self, first: int, count: int) -> Half:
        """Neighbouring rows through the file, where the system reads ahead, instead of the map, where it must not."""
        vectors = np.empty((count, self.dim), dtype="<f2")
        left, offset = memoryview(vectors.data).cast("B"), PAGE + first * self._stride
        while left and (done := os.preadv(self._files["rows"], [left], offset)):
            left, offset = left[done:], offset + done
        return vectors

    def ask(self, rows: Rows) -> bool:
        """Has the system read these rows together, not each when it is come to; whether some were not in memory yet.

        At least one row; of them some are looked at. False where the file system does not tell.
        """
        if not hasattr(os, "posix_fadvise") or not hasattr(os, "RWF_NOWAIT"):
            return False
        byte = bytearray(1)
        with contextlib.suppress(OSError, KeyError):  # closed meanwhile, or a file system that does not tell
            file = self._files["rows"]
            try:
                for row in rows[:: max(1, len(rows) // _LOOKED)].tolist():
                    os.preadv(file, [byte], PAGE + row * self._stride, os.RWF_NOWAIT)
            except BlockingIOError:
                for row in rows.tolist():
                    os.posix_fadvise(file, PAGE + row * self._stride, self._stride, os.POSIX_FADV_WILLNEED)
                return True
        return False

    def forget(self, count: int) -> None:
        """Rows from `count` on become holes again: a key of zero is what ends the file after the next crash."""
        self.right[count:] = False
        for name, start, each in (("keys", 0, 8), ("checks", 0, 4), ("rows", PAGE, self._stride)):
            os.ftruncate(self._files[name], start + count * each)
            os.ftruncate(self._files[name], start + max(self.capacity, count) * each)

    def grow(self, needed: int) -> None:
        """Room for so many rows at least."""
        if needed > self.capacity:
            capacity = max(needed, self.capacity * 3 // 2, _MIN_CAPACITY)
            self.fit(capacity)
            self._map(capacity)

    def fit(self, capacity: int) -> None:
        """Files of exactly so many rows; the maps stay as they are."""
        os.ftruncate(self._files["rows"], PAGE + capacity * self._stride)
        os.ftruncate(self._files["keys"], capacity * 8)
        os.ftruncate(self._files["checks"], capacity * 4)

    def sync(self, fingerprint: str, count: int) -> None:
        """Returns when all is on disk, and says in the header that `count` rows are."""
        for file in self._files.values():
            os.fdatasync(file)
        self.mark(fingerprint, count)

    def mark(self, fingerprint: str, count: int) -> None:
        """Writes the header."""
        write_at(self._files["rows"], pack_header(self.dim, fingerprint, count), 0)

    def close(self) -> None:
        """Gives the files back; arrays stay valid."""
        for file in self._files.values():
            os.close(file)
        self._files = {}

    def _map(self, capacity: int) -> None:
        right = np.zeros(capacity, dtype=np.bool_)
        known = min(capacity, len(self.right))
        right[:known] = self.right[:known]
        rows = map_array(self._files["rows"], PAGE, "<f2", capacity * self.dim, scattered=True)
        self.rows: Half = rows.reshape(capacity, self.dim)
        self.keys: Keys = map_array(self._files["keys"], 0, "<i8", capacity)
        self.checks: npt.NDArray[np.uint32] = map_array(self._files["checks"], 0, "<u4", capacity)
        self.right = right
        self.capacity = capacity
