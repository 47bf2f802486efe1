"""The vector file is a cache of the store: rows are only ever appended, and none is used before its checksum was right.

Its files grow sparsely in large steps, so that readers are remapped rarely; `close` cuts the unused rest off. The
header says how many rows are known to be on disk: the ones behind that mark are verified on opening, and what a crash
tore is cut off. The layout is told in `index.embedded.ann.vector_format`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import numkong
import numpy as np
import numpy.typing as npt

from index.embedded.ann.vector_format import (
    MAX_FINGERPRINT,
    PAGE,
    Half,
    checksum,
    map_array,
    pack_header,
    unpack_header,
    write_at,
)
from index.errors import CacheUnusable

Keys = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]

MIN_CAPACITY = 1024
BLOCK = 1024
_PIECE = 2**20
_AT_ONCE = 256  # rows scored from one thread's buffer


class _Buffer(threading.local):
    """Where a thread gathers rows to score, kept for its next search.

    Fresh memory of this size comes page by page from the system and goes back at the cost of interrupting all cores.
    """

    def __init__(self, dim: int) -> None:
        self.rows: Half = np.empty((_AT_ONCE, dim), dtype="<f2")


class VectorFile:
    """Unit vectors as float16 (n, dim) in memory-mapped files, found by row number or by key.

    One thread at a time may append, sync or truncate (a lock sees to it); any number may read meanwhile, and see the
    rows that were there when they began. Errors of the disk (`OSError`, a full one among them) pass through and leave
    the rows as they were.
    """

    def __init__(self, directory: Path, *, dim: int, fingerprint: str, synced: int) -> None:
        """Use `create` or `open`."""
        self.directory = directory
        self.dim = dim
        self.fingerprint = fingerprint
        self._stride = dim * 2
        self._lock = threading.Lock()
        self._synced = synced
        self._count = 0
        self._files = {name: os.open(directory / name, os.O_RDWR | os.O_CLOEXEC) for name in ("rows", "keys", "checks")}
        self._capacity = 0
        self._verified = np.zeros(0, dtype=np.bool_)
        self._buffer = _Buffer(dim)
        self._map(self._room())

    @classmethod
    def create(cls, directory: Path, *, dim: int, fingerprint: str) -> VectorFile:
        """A new, empty file; whatever the directory held before is gone.

        dim: at least 1. fingerprint: at most 128 bytes of UTF-8. Raises ValueError where they are not.
        """
        if dim < 1 or len(fingerprint.encode()) > MAX_FINGERPRINT:
            raise ValueError(f"dim must be positive and the fingerprint at most {MAX_FINGERPRINT} bytes long")
        if directory.exists():
            shutil.rmtree(directory)
        directory.mkdir(parents=True)
        (directory / "rows").write_bytes(pack_header(dim, fingerprint, 0))
        (directory / "keys").touch()
        (directory / "checks").touch()
        return cls(directory, dim=dim, fingerprint=fingerprint, synced=0)

    @classmethod
    def open(cls, directory: Path, *, dim: int, fingerprint: str) -> VectorFile:
        """An existing file; what a crash tore off its end is cut.

        Raises CacheUnusable where it is missing, damaged or another model's.
        """
        try:
            with (directory / "rows").open("rb") as file:
                header = file.read(PAGE)
            if not (directory / "keys").is_file() or not (directory / "checks").is_file():
                raise CacheUnusable(f"{directory} lacks a part; rebuild it from the store")
        except OSError as error:
            raise CacheUnusable(f"{directory} cannot be read ({error.strerror}); rebuild it from the store") from error
        found_dim, found_fingerprint, synced = unpack_header(header, directory)
        if (found_dim, found_fingerprint) != (dim, fingerprint):
            raise CacheUnusable(f"{directory} belongs to another model; rebuild it from the store")
        opened = cls(directory, dim=dim, fingerprint=fingerprint, synced=synced)
        try:
            opened._recover()
        except BaseException:
            opened._release()
            raise
        return opened

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> VectorFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def keys(self) -> Keys:
        """int64 (n,), strictly increasing; a view, not to be written to."""
        count = self._count  # before the map: a map is never older than the count read before it
        return self._keys[:count]

    @property
    def last_key(self) -> int:
        """The highest key, -1 while the file is empty."""
        known = self.keys
        return int(known[-1]) if len(known) else -1

    @property
    def nbytes(self) -> int:
        """Bytes the rows, keys and checksums take on disk."""
        return PAGE + self._count * (self._stride + 12)

    def append(self, keys: npt.ArrayLike, vectors: npt.ArrayLike) -> int:
        """Adds int64 (m,) keys, increasing and above `last_key`, with their float (m, dim) vectors.

        Returns the first one's row number. Visible to readers on return, on disk after `sync`. Raises ValueError for
        wrong shapes or keys out of order.
        """
        new_keys = np.ascontiguousarray(keys, dtype="<i8")
        rows = np.ascontiguousarray(vectors, dtype="<f2")
        if new_keys.ndim != 1 or rows.shape != (len(new_keys), self.dim):
            raise ValueError(f"expected keys (m,) and vectors (m, {self.dim}), got {new_keys.shape} and {rows.shape}")
        with self._lock:
            first = self._count
            if not len(new_keys):
                return first
            if new_keys[0] <= max(self.last_key, 0) or (np.diff(new_keys) <= 0).any():
                raise ValueError("keys must be positive, strictly increasing and above the last one in the file")
            self._grow(first + len(new_keys))
            checks = np.fromiter(map(checksum, new_keys, rows), dtype="<u4", count=len(rows))
            write_at(self._files["rows"], rows, PAGE + first * self._stride)
            write_at(self._files["checks"], checks, first * 4)
            write_at(self._files["keys"], new_keys, first * 8)  # last: a key is what makes a row count
            self._verified[first : first + len(rows)] = True
            self._count = first + len(rows)
            return first

    def find(self, keys: npt.ArrayLike) -> Rows:
        """Row numbers int64 (m,) of int64 (m,) keys, -1 for a key that is not in the file."""
        wanted = np.asarray(keys, dtype=np.int64)
        known = self.keys
        if not len(known):
            return np.full(wanted.shape, -1, dtype=np.int64)
        first, last = int(known[0]), int(known[-1])
        if last - first == len(known) - 1:  # no gaps, as long as nothing was ever deleted
            rows = wanted - first
            rows[(wanted < first) | (wanted > last)] = -1
            return rows
        rows = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        return np.where(known[rows] == wanted, rows, -1)

    def read(self, rows: npt.ArrayLike) -> Half:
        """float16 (m, dim): a checked copy of int64 (m,) rows in 0…n-1. Raises CacheUnusable for a damaged one."""
        wanted = np.asarray(rows, dtype=np.int64)
        vectors = self._rows[wanted]
        if not self._verified[wanted].all():
            self._check(wanted, vectors)
        return vectors

    def score(self, query: npt.NDArray[np.float32], rows: Rows) -> Scores:
        """Cosines float32 (m,) of a unit float32 (dim,) query with int64 (m,) rows.

        Off by at most 1e-4 for embeddings, whose length is spread over many components; by 4e-4 where only a few of
        them are not zero.

        Raises CacheUnusable for a damaged row.
        """
        if len(rows) > _AT_ONCE:
            parts = [rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE)]
            return np.concatenate([self.score(query, part) for part in parts])
        if not len(rows):
            return np.empty(0, dtype=np.float32)
        vectors = np.take(self._rows, rows, axis=0, out=self._buffer.rows[: len(rows)], mode="clip")
        if not self._verified[rows].all():
            self._check(rows, vectors)
        return _cosines(query, vectors)

    def scan(self, query: npt.NDArray[np.float32], first: int, stop: int) -> Scores:
        """As `score`, for the rows first…stop-1, without copying them."""
        rows = self._rows[first:stop]
        if not len(rows):
            return np.empty(0, dtype=np.float32)
        if not self._verified[first:stop].all():
            self._check(np.arange(first, first + len(rows)), rows)
        return _cosines(query, rows)

    def blocks(self, rows: Rows | None = None, size: int = 8_192) -> Iterator[tuple[Rows, Half]]:
        """(row numbers, checked float16 vectors) of all rows or of the given increasing ones, `size` at a time."""
        wanted = np.arange(self._count, dtype=np.int64) if rows is None else rows
        for start in range(0, len(wanted), size):
            part = wanted[start : start + size]
            first, span = int(part[0]), int(part[-1] - part[0]) + 1
            if span > 4 * len(part):
                yield part, self.read(part)
                continue
            vectors = self._stretch(first, span)[part - first]
            self._check(part, vectors)
            yield part, vectors

    def verify(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Reads and checks every row, also those checked before. Raises CacheUnusable for the first damaged one."""
        count = self._count
        if (np.diff(self._keys[:count]) <= 0).any():
            raise CacheUnusable(f"{self.directory} has keys out of order; rebuild it from the store")
        for start in range(0, count, BLOCK):
            rows = np.arange(start, min(start + BLOCK, count))
            self._verified[rows] = False
            self._check(rows, self._stretch(start, len(rows)))
            if progress:
                progress(int(rows[-1]) + 1, count)

    def warm(self, *, room: int, stopped: Callable[[], bool]) -> int:
        """Reads the rows once, in order, so that searches find them in the page cache; returns how many bytes.

        In order that takes seconds; as single rows that searches wait for, minutes. room: bytes of memory to spare;
        where the rows take more, nothing is read. stopped: asked after every piece. Never raises.
        """
        size = self._count * self._stride
        done = 0
        if size <= room:
            with contextlib.suppress(OSError), (self.directory / "rows").open("rb", buffering=0) as file:
                piece = bytearray(_PIECE)
                while done < size and not stopped() and (read := file.readinto(piece)):
                    done += read
        return done

    def sync(self) -> None:
        """Returns when every row appended before is on disk, and says so in the header."""
        with self._lock:
            count = self._count
            for file in self._files.values():
                os.fdatasync(file)
            write_at(self._files["rows"], pack_header(self.dim, self.fingerprint, count), 0)
            self._synced = count

    def truncate(self, count: int) -> None:
        """Forgets the rows from `count` on. Not while others read them."""
        with self._lock:
            if count < self._count:
                self._cut(count)

    def close(self) -> None:
        """Syncs and gives the files back; idempotent. Arrays handed out before stay valid, `keys` included."""
        if self._files:
            self.sync()
            with self._lock:
                self._shrink(self._count)
                self._release()

    # Below, callers hold the lock or are alone with the file.

    def _recover(self) -> None:
        room = self._room()
        zeros = np.flatnonzero(self._keys[:room] <= 0)
        count = int(zeros[0]) if len(zeros) else room
        if count < self._synced:
            raise CacheUnusable(f"{self.directory} has lost rows; rebuild it from the store")
        if (np.diff(self._keys[: self._synced]) <= 0).any():
            raise CacheUnusable(f"{self.directory} has keys out of order; rebuild it from the store")
        good = self._synced
        while good < count:
            rows = np.arange(good, min(good + BLOCK, count))
            right = self._right(rows, self._stretch(good, len(rows)))
            right[1:] &= np.diff(self._keys[rows]) > 0
            right[0] &= good == 0 or bool(self._keys[good] > self._keys[good - 1])
            self._verified[rows] = right
            good += len(rows) if right.all() else int(np.argmin(right))
            if not right.all():
                break
        self._cut(good)

    def _cut(self, count: int) -> None:
        """Rows from `count` on become holes again: a key of zero is what ends the file after the next crash."""
        self._count = min(self._count, count)
        capacity = self._capacity
        self._verified[count:] = False
        if self._synced > count:
            write_at(self._files["rows"], pack_header(self.dim, self.fingerprint, count), 0)
            self._synced = count
        os.ftruncate(self._files["keys"], count * 8)
        os.ftruncate(self._files["keys"], max(capacity, count) * 8)
        self._count = count

    def _right(self, rows: Rows, vectors: Half) -> npt.NDArray[np.bool_]:
        found = np.fromiter(map(checksum, self._keys[rows], vectors), dtype="<u4", count=len(rows))
        return np.asarray(found == self._checks[rows], dtype=np.bool_)

    def _check(self, rows: Rows, vectors: Half) -> None:
        """Marks rows as verified or raises; `vectors` is the copy that the caller goes on to use."""
        unsure = np.flatnonzero(~self._verified[rows])
        right = self._right(rows[unsure], vectors[unsure])
        if not right.all():
            row = int(rows[unsure[np.argmin(right)]])
            raise CacheUnusable(f"row {row} of {self.directory} is damaged; rebuild it from the store")
        self._verified[rows[unsure]] = True

    def _stretch(self, first: int, count: int) -> Half:
        """Neighbouring rows through the file, where the system reads ahead, instead of the map, where it must not."""
        vectors = np.empty((count, self.dim), dtype="<f2")
        left, offset = memoryview(vectors.data).cast("B"), PAGE + first * self._stride
        while left and (done := os.preadv(self._files["rows"], [left], offset)):
            left, offset = left[done:], offset + done
        return vectors

    def _room(self) -> int:
        """Rows for which all three files have space."""
        sizes = {name: os.fstat(file).st_size for name, file in self._files.items()}
        return max(0, min((sizes["rows"] - PAGE) // self._stride, sizes["keys"] // 8, sizes["checks"] // 4))

    def _grow(self, needed: int) -> None:
        if needed > self._capacity:
            capacity = max(needed, self._capacity * 3 // 2, MIN_CAPACITY)
            self._shrink(capacity)
            self._map(capacity)

    def _shrink(self, capacity: int) -> None:
        os.ftruncate(self._files["rows"], PAGE + capacity * self._stride)
        os.ftruncate(self._files["keys"], capacity * 8)
        os.ftruncate(self._files["checks"], capacity * 4)

    def _map(self, capacity: int) -> None:
        """Maps all three; a reader that still uses the old arrays keeps the old mapping alive through them."""
        verified = np.zeros(capacity, dtype=np.bool_)
        verified[: self._count] = self._verified[: self._count]
        rows = map_array(self._files["rows"], PAGE, "<f2", capacity * self.dim, scattered=True)
        self._rows: Half = rows.reshape(capacity, self.dim)
        self._keys: Keys = map_array(self._files["keys"], 0, "<i8", capacity)
        self._checks = map_array(self._files["checks"], 0, "<u4", capacity)
        self._verified = verified
        self._capacity = capacity

    def _release(self) -> None:
        for file in self._files.values():
            os.close(file)
        self._files = {}


def _cosines(query: npt.NDArray[np.float32], rows: Half) -> Scores:
    """Rounding the query to float16 as well moves a cosine by 3e-5 at most, and lets one SIMD kernel do all."""
    half = numkong.astype(query[None], "f16")
    products = np.asarray(numkong.cdist(half, rows, "dot"))[0]
    rounded = np.asarray(half)[0]
    norm = float(numkong.dot(rounded, rounded))  # type: ignore[arg-type]  # not `cdist`, which would let go of Python's lock once more
    # Rounding shortens or stretches the query like the row that equals it: undone, a self-match cannot be off by both.
    scores: Scores = (products * norm**-0.5).astype(np.float32)
    return scores
