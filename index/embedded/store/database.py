"""SQLite as the truth: WAL, synchronous=FULL, one writing connection, reading connections from a pool.

Errors of the binding leave this package as StorageError or StoreCorrupt; anything else is a bug and stays what it is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import apsw

from index.errors import StorageFailed, StorageFull, StorageReadOnly, StoreClosed, StoreCorrupt, StoreError

NAME = "catalogue.db"
# Seven 2048-dimensional float16 vectors fill 88 % of a page without overflow: 43,000 inserts/s, 27,000 with 4 kB pages.
_PAGE_SIZE = 32_768
_WAL_LIMIT = 64 * 2**20
# What reading a damaged page or text raises; it costs the rows that lie there, not the others.
UNREADABLE = (apsw.CorruptError, UnicodeDecodeError)
_FULL = frozenset((errno.EFBIG, errno.ENOSPC, errno.EDQUOT))
_FLUSHES = frozenset((apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC))


def open_file(path: Path, flags: int, *, statementcachesize: int = 100) -> apsw.Connection:
    """A connection to the file at `path`, whatever bytes its name has: as text SQLite would take UTF-8 alone."""
    name = f"file:{quote(os.fsencode(path))}"
    return apsw.Connection(name, flags=flags | apsw.SQLITE_OPEN_URI, statementcachesize=statementcachesize)


def connect(path: Path, *, write: bool) -> apsw.Connection:
    """Opens `path`; the writing connection creates it and sets what is fixed at creation."""
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE if write else apsw.SQLITE_OPEN_READONLY
    with translated(path):
        if write:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite's other files follow it
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                path.chmod(0o600)
        connection = open_file(path, flags, statementcachesize=64)
        connection.set_busy_timeout(10_000)
        if write:
            connection.pragma("page_size", _PAGE_SIZE)
            connection.pragma("auto_vacuum", 2)  # incremental: space freed by deletes goes back in small steps
            connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", 2)
            connection.pragma("journal_size_limit", _WAL_LIMIT)
            connection.pragma("secure_delete", "fast")  # what is deleted is zeroed where its page is written anyway
            connection.pragma("cache_size", -16_384)
        else:
            connection.pragma("query_only", True)
            connection.pragma("cache_size", -2_048)
            connection.pragma("mmap_size", 2**30)
    return connection


def spare(connection: apsw.Connection) -> tuple[int, int]:
    """Pages of the file that are free, and pages in all."""
    return int(connection.pragma("freelist_count")), int(connection.pragma("page_count"))


def give_back(connection: apsw.Connection, pages: int) -> None:
    """Returns free pages to the file system; in the writer thread."""
    connection.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns what SQLite and the OS say of the disk and of damage into this package's errors."""
    try:
        yield
    except (apsw.Error, OSError) as error:
        named = translation(error, path)
        if named is error:
            raise
        raise named from error


def translation(error: BaseException, path: Path, system: int = 0) -> BaseException:
    """StorageFull, StorageReadOnly, StorageFailed or StoreCorrupt where `error` means that, else `error` itself.

    system: the errno behind an error of SQLite's where it is known, else 0.
    """
    below = path.parent
    if isinstance(error, apsw.CorruptError | apsw.NotADBError | UnicodeDecodeError):
        return StoreCorrupt(
            f"{path} is damaged ({error}); bring a snapshot back with `lookalike snapshot restore FILE --force`, or "
            f"move {path.name} and {path.name}-wal away and make items of the kept originals with `lookalike adopt`"
        )
    if isinstance(error, OSError):
        system = error.errno or 0
    elif not isinstance(error, apsw.FullError | apsw.ReadOnlyError | apsw.IOError):
        return error
    elif isinstance(error, apsw.IOError) and not system:
        system = errno.ENOSPC if _no_space(below) else errno.EIO
    if system in _FULL or isinstance(error, apsw.FullError):
        return StorageFull(f"no space left to write below {below}; nothing of this write was kept: free some space")
    if system == errno.EROFS or isinstance(error, apsw.ReadOnlyError):
        return StorageReadOnly(f"the file system of {below} is read-only; mount it writable, then start again")
    if system == errno.EIO or isinstance(error, apsw.IOError):
        return StorageFailed(f"the disk of {below} reports an input/output error; check the disk, then start again")
    return error


def aborts(error: BaseException) -> bool:
    """Whether an error of one statement means that its transaction cannot reach the disk."""
    return isinstance(error, apsw.FullError | apsw.IOError | apsw.ReadOnlyError)


def flush_failed(error: BaseException) -> bool:
    """Whether what was written may be lost although it seems to be there."""
    return isinstance(error, apsw.IOError) and int(getattr(error, "extendedresult", 0)) in _FLUSHES


def _no_space(directory: Path) -> bool:
    try:
        return os.statvfs(directory).f_bavail == 0
    except OSError:
        return False


class Readers:
    """Reading connections, opened when needed and kept for the next caller. Safe to use from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: deque[apsw.Connection] = deque()  # its pop and append are atomic
        self._closed = False

    def connection(self) -> Reader:
        """A connection for one `with` block; read each result to its end, so that no snapshot stays open."""
        return Reader(self)

    def take(self) -> apsw.Connection:
        """An idle connection, or a new one. Raises StoreClosed."""
        if self._closed:
            raise StoreClosed("the catalogue is closed")
        try:
            return self._idle.pop()
        except IndexError:
            return connect(self.path, write=False)

    def give(self, connection: apsw.Connection) -> None:
        """Takes a connection back."""
        if self._closed:
            connection.close(True)
        else:
            self._idle.append(connection)

    def close(self) -> None:
        """Closes idle connections; those in use close when their block ends."""
        self._closed = True
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close(True)


class Reader:
    """One borrowed connection. A class, not a generator: every search passes here."""

    __slots__ = ("_connection", "_readers")

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    def __enter__(self) -> apsw.Connection:
        self._connection = self._readers.take()
        return self._connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, StoreError):  # an answer like any other: nothing is left open by it
            self._readers.give(self._connection)
            return
        system = self._connection.system_errno
        self._connection.close(True)
        named = translation(error, self._readers.path, system)
        if named is not error:
            raise named from error
