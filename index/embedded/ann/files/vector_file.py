"""The vector file is a cache of the store: rows are only ever appended, and none is used before its checksum was right.

Its files grow sparsely in large steps, so that readers are remapped rarely; `close` cuts the unused rest off. The
header says how many rows are known to be on disk: the ones behind that mark are verified on opening, and what a crash
tore is cut off. The layout is described in `index.embedded.ann.files.vector_format`.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from index.embedded.ann.arrays import Floats, Half, Keys, Rows
from index.embedded.ann.cosine import cosines
from index.embedded.ann.files.mapped_rows import MappedRows
from index.embedded.ann.files.plain import open_plain
from index.embedded.ann.files.vector_format import MAX_FINGERPRINT, PAGE, pack_header, unpack_header
from index.errors import CacheUnusable

_BLOCK = 1024  # rows verified at once
_PIECE = 2**20
_AT_ONCE = 256  # rows scored from one thread's buffer
_AHEAD = 32  # calls after one that had to wait for the disk


def _faults() -> int:
    """How often this thread had to wait for the disk, 0 where the system does not tell."""
    which = getattr(resource, "RUSAGE_THREAD", None)
    return 0 if which is None else resource.getrusage(which).ru_majflt


class _Buffer(threading.local):
    """Where a thread gathers rows to score, kept for its next search.

    Fresh memory of this size comes page by page from the system and goes back at the cost of interrupting all cores.
    """

    def __init__(self, dim: int) -> None:
        self.rows: Half = np.empty((_AT_ONCE, dim), dtype="<f2")
        self.faults = _faults()  # of this thread, when it last looked
        self.ahead = 0  # more calls that look whether rows have to be read from disk, to have them read together


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
        self._lock = threading.Lock()
        self._synced = synced
        self._count = 0
        self._files = MappedRows(directory, dim)
        self._buffer = _Buffer(dim)

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
            rows = open_plain(directory / "rows", os.O_RDONLY)
            try:
                header = os.pread(rows, PAGE, 0)
            finally:
                os.close(rows)
            found_dim, found_fingerprint, synced = unpack_header(header, directory)
            if (found_dim, found_fingerprint) != (dim, fingerprint):
                raise CacheUnusable(f"{directory} belongs to another model; rebuild it from the store")
            opened = cls(directory, dim=dim, fingerprint=fingerprint, synced=synced)
            try:
                opened._recover()
            except BaseException:
                opened._files.close()
                raise
        except OSError as error:
            raise CacheUnusable(f"{directory} cannot be used ({error.strerror}); rebuild it from the store") from error
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
        return self._files.keys[:count]

    @property
    def last_key(self) -> int:
        """The highest key, -1 while the file is empty."""
        known = self.keys
        return int(known[-1]) if len(known) else -1

    @property
    def nbytes(self) -> int:
        """Bytes the rows, keys and checksums take on disk."""
        return PAGE + self._count * (self.dim * 2 + 12)

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
            self._files.write(first, new_keys, rows)
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
        vectors: Half = self._files.rows[wanted]
        if not self._files.right[wanted].all():
            self._check(wanted, vectors)
        return vectors

    def score(self, query: Floats, rows: Rows) -> Floats:
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
        buffer = self._buffer
        if buffer.ahead:
            buffer.ahead = _AHEAD if self._files.ask(rows) else buffer.ahead - 1
        vectors = np.take(self._files.rows, rows, axis=0, out=buffer.rows[: len(rows)], mode="clip")
        if (faults := _faults()) > buffer.faults:
            buffer.faults, buffer.ahead = faults, _AHEAD
        if not self._files.right[rows].all():
            self._check(rows, vectors)
        return cosines(query, vectors)

    def scan(self, query: Floats, first: int, stop: int) -> Floats:
        """As `score`, for the rows first…stop-1, without copying them."""
        rows = self._files.rows[first:stop]
        if not len(rows):
            return np.empty(0, dtype=np.float32)
        if not self._files.right[first:stop].all():
            self._check(np.arange(first, first + len(rows)), rows)
        return cosines(query, rows)

    def blocks(self, rows: Rows | None = None, size: int = 8_192) -> Iterator[tuple[Rows, Half]]:
        """(row numbers, checked float16 vectors) of all rows or of the given increasing ones, `size` at a time."""
        wanted = np.arange(self._count, dtype=np.int64) if rows is None else rows
        for start in range(0, len(wanted), size):
            part = wanted[start : start + size]
            first, span = int(part[0]), int(part[-1] - part[0]) + 1
            if span > 4 * len(part):
                yield part, self.read(part)
                continue
            vectors = self._files.stretch(first, span)[part - first]
            self._check(part, vectors)
            yield part, vectors

    def verify(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Reads and checks every row, also those checked before. Raises CacheUnusable for the first damaged one."""
        count = self._count
        if (np.diff(self._files.keys[:count]) <= 0).any():
            raise CacheUnusable(f"{self.directory} has keys out of order; rebuild it from the store")
        for start in range(0, count, _BLOCK):
            rows = np.arange(start, min(start + _BLOCK, count))
            self._files.right[rows] = False
            self._check(rows, self._files.stretch(start, len(rows)))
            if progress:
                progress(int(rows[-1]) + 1, count)

    def warm(self, *, room: int, stopped: Callable[[], bool]) -> int:
        """Reads the rows once, in order, so that searches find them in the page cache; returns how many bytes.

        In order that takes seconds; as single rows that searches wait for, minutes. room: bytes of memory to spare;
        where the rows take more, nothing is read. stopped: asked after every piece. Never raises.
        """
        size = self._count * self.dim * 2
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
            self._files.sync(self.fingerprint, count)
            self._synced = count

    def truncate(self, count: int) -> None:
        """Forgets the rows from `count` on. Not while others read them."""
        with self._lock:
            if count < self._count:
                self._cut(count)

    def close(self, *, sync: bool = True) -> None:
        """Syncs and gives the files back; idempotent. Arrays handed out before stay valid, `keys` included.

        sync: False for files that are removed next. Raises OSError where the disk does not take what is due; the files
        are given back nevertheless.
        """
        if not self._files.closed:
            try:
                if sync:
                    self.sync()
                    with self._lock:
                        self._files.fit(self._count)
            finally:
                with self._lock:
                    self._files.close()

    # Below, callers hold the lock or are alone with the file.

    def _recover(self) -> None:
        files = self._files
        room = files.room
        zeros = np.flatnonzero(files.keys[:room] <= 0)
        count = int(zeros[0]) if len(zeros) else room
        if count < self._synced:
            raise CacheUnusable(f"{self.directory} has lost rows; rebuild it from the store")
        if (np.diff(files.keys[: self._synced]) <= 0).any():
            raise CacheUnusable(f"{self.directory} has keys out of order; rebuild it from the store")
        good = self._synced
        while good < count:
            rows = np.arange(good, min(good + _BLOCK, count))
            right = files.check(rows, files.stretch(good, len(rows)))
            right[1:] &= np.diff(files.keys[rows]) > 0
            right[0] &= good == 0 or bool(files.keys[good] > files.keys[good - 1])
            files.right[rows] = right
            good += len(rows) if right.all() else int(np.argmin(right))
            if not right.all():
                break
        self._cut(good)

    def _cut(self, count: int) -> None:
        self._count = min(self._count, count)
        if self._synced > count:
            self._files.mark(self.fingerprint, count)
            self._synced = count
        self._files.forget(count)
        self._count = count

    def _check(self, rows: Rows, vectors: Half) -> None:
        """Marks rows as right or raises; `vectors` is the copy that the caller goes on to use."""
        unsure = np.flatnonzero(~self._files.right[rows])
        right = self._files.check(rows[unsure], vectors[unsure])
        if not right.all():
            row = int(rows[unsure[np.argmin(right)]])
            raise CacheUnusable(f"row {row} of {self.directory} is damaged; rebuild it from the store")
        self._files.right[rows[unsure]] = True
