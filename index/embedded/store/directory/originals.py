"""Uploaded bytes as files named by their sha256, on disk before the item that refers to them is committed.

A file is removed on proof alone: the database names it as released (`references`), or a second link in `originals/tmp`
says that the write it came with was never committed. Every other file stays, known or not. `originals/ab/ab12…` are
ours, as is `originals/tmp`; other files are left alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from index.embedded.failpoints import Failpoints
from index.embedded.store.database import translated
from index.errors import ItemNotFound, StorageFailed, StoreCorrupt

NAME = "originals"
_SHA = re.compile(r"[0-9a-f]{64}")
_PREFIX = re.compile(r"[0-9a-f]{2}")
_AT_ONCE = 128  # files open at once


class Originals:
    """Files by content. Safe from any thread. Made with the directory's lock held."""

    def __init__(self, directory: Path, failpoints: Failpoints, failed: Callable[[StorageFailed], None]) -> None:
        """failed: is given an error of the device, after which nothing may be written."""
        self._failed = failed
        self._directory = directory / NAME
        self._temporary = self._directory / "tmp"
        self._root = str(self._directory)
        self._failpoints = failpoints
        self._folders: set[str] = set()  # known to exist
        self._held: Counter[str] = Counter()  # in writes that are not committed yet: never removed meanwhile
        self._keeping = 0
        self._deferred = False
        self._guard = threading.Lock()
        self._temporary.mkdir(parents=True, exist_ok=True)

    def recover(self, referred: Callable[[str], bool]) -> None:
        """Ends what a crash left half done: a write that was never committed takes its file with it.

        referred: whether an item has that sha256. Called once, before anything is written.
        """
        for left in self._temporary.iterdir():
            sha256 = left.name.partition(".")[0]
            if _SHA.fullmatch(sha256) and not referred(sha256) and _same_file(left, self.path(sha256)):
                self.path(sha256).unlink()
            left.unlink(missing_ok=True)

    def take_deferred(self) -> bool:
        """Whether a removal was put off since the last call: whoever let the file go asks for it again."""
        with self._guard:
            deferred, self._deferred = self._deferred, False
        return deferred

    def path(self, sha256: str) -> Path:
        """Where a file with this content lies, whether or not it does."""
        return self._directory / sha256[:2] / sha256

    def busy(self, sha256: str) -> bool:
        """Whether a write that is not committed yet holds the file."""
        return self._held[sha256] > 0

    @contextlib.contextmanager
    def held(self, files: Iterable[tuple[str, bytes]], referred: Callable[[str], bool]) -> Iterator[None]:
        """Writes (sha256, bytes) to disk and keeps them from being removed until the block ends.

        When it ends by an exception, files that it brought and that no item refers to go again; after an interruption,
        which may come before the write has ended, the next start decides. That the bytes have this sha256 is the
        caller's word; `read` checks it. Raises StorageError.
        """
        wanted = dict(files)
        if not all(_SHA.fullmatch(sha256) for sha256 in wanted):
            raise StoreCorrupt("an original was handed in without a proper sha256")
        with self._guard:
            self._held.update(wanted.keys())
            shared = [sha256 for sha256 in wanted if self._held[sha256] > 1]
        intents: dict[str, str] = {}
        try:
            with self._watched():
                missing = [(sha256, data) for sha256, data in wanted.items() if not self._whole(sha256, data)]
                for start in range(0, len(missing), _AT_ONCE):
                    self._write(missing[start : start + _AT_ONCE], intents)
                for sha256 in shared:  # the other write may not have forced its folder to disk yet, and may fail
                    self._intend(sha256, intents)
                    sync_directory(self.path(sha256).parent)
            yield
        except Exception:
            with self._guard:
                for sha256 in intents:
                    if self._held[sha256] == 1 and not referred(sha256):
                        self.path(sha256).unlink(missing_ok=True)
            self._drop(intents)
            raise
        else:
            self._drop(intents)
        finally:
            with self._guard:
                self._held.subtract(wanted.keys())
                self._held += Counter()  # drops the zeros

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            with translated(self._directory):
                yield
        except StorageFailed as error:
            self._failed(error)
            raise

    def _drop(self, intents: dict[str, str]) -> None:
        for name in intents.values():
            with contextlib.suppress(OSError):
                os.unlink(name)  # noqa: PTH108

    def _write(self, files: list[tuple[str, bytes]], intents: dict[str, str]) -> None:
        # All are written, then forced to disk, then linked, then their folders are: one journal commit serves many.
        # With plain strings, not paths: this is a good part of what an imported picture costs beside its embedding.
        temporary = [self._intent(sha256) for sha256, _ in files]
        open_files: list[int] = []
        try:
            for name, (_, data) in zip(temporary, files, strict=True):
                open_files.append(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
                left = memoryview(data)
                while left:
                    left = left[os.write(open_files[-1], left) :]
            for file in open_files:
                os.fsync(file)
            self._failpoints.hit("original.before_rename")
            folders = {sha256[:2] for sha256, _ in files}
            self._need_folders(folders)
            for name, (sha256, _) in zip(temporary, files, strict=True):
                self._place(name, sha256, intents)
            for prefix in folders:
                sync_directory(self._directory / prefix)
        except BaseException:
            for name in temporary:
                if name not in intents.values():
                    Path(name).unlink(missing_ok=True)
            raise
        finally:
            for file in open_files:
                os.close(file)

    def _place(self, name: str, sha256: str, intents: dict[str, str]) -> None:
        try:
            os.link(name, self._name(sha256))
            intents[sha256] = name
        except OSError:
            # There is a damaged one, or the file system has no links: then nothing proves later whose the file was.
            os.rename(name, self._name(sha256))  # noqa: PTH104

    def _intend(self, sha256: str, intents: dict[str, str]) -> None:
        if sha256 not in intents:
            with contextlib.suppress(OSError):
                os.link(self._name(sha256), self._intent(sha256))
                intents[sha256] = self._intent(sha256)

    def _intent(self, sha256: str) -> str:
        return f"{self._root}/tmp/{sha256}.{threading.get_ident()}"

    def _whole(self, sha256: str, data: bytes) -> bool:
        # A file of another length or content is a damaged one: it is written again.
        try:
            with open(self._name(sha256), "rb", buffering=0) as file:  # noqa: PTH123
                return os.fstat(file.fileno()).st_size == len(data) and file.readall() == data
        except OSError:
            return False

    def _name(self, sha256: str) -> str:
        return f"{self._root}/{sha256[:2]}/{sha256}"

    def _need_folders(self, prefixes: set[str]) -> None:
        new = prefixes - self._folders
        for prefix in new:
            (self._directory / prefix).mkdir(exist_ok=True)
        if new:
            sync_directory(self._directory)
            self._folders |= new

    def has(self, sha256: str, size: int) -> bool:
        """Whether there is a file of that size, without reading it."""
        try:
            return os.stat(self._name(sha256)).st_size == size  # noqa: PTH116
        except OSError:
            return False

    def read(self, sha256: str) -> bytes:
        """The bytes. Raises ItemNotFound, and StoreCorrupt where the file no longer has that sha256."""
        if not _SHA.fullmatch(sha256):
            raise ItemNotFound(f"no original {sha256[:80]!r}")
        try:
            data = self.path(sha256).read_bytes()
        except FileNotFoundError as error:
            raise ItemNotFound(f"no original is kept for {sha256}") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StoreCorrupt(
                f"original {self.path(sha256)} is damaged; upload that picture again or restore a snapshot"
            )
        return data

    def remove(self, sha256: str) -> bool:
        """Deletes a released file. False where a write or snapshot under way holds it; True where it is gone."""
        with self._guard:
            if self._held[sha256] or self._keeping:
                self._deferred = True
                return False
            self.path(sha256).unlink(missing_ok=True)
            return True

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Nothing is removed until the block ends: a snapshot copies what its moment of the database refers to."""
        with self._guard:
            self._keeping += 1
        try:
            yield
        finally:
            with self._guard:
                self._keeping -= 1

    def stored(self) -> Iterator[list[str]]:
        """The sha256 of every file, one list per folder."""
        return stored(self._directory)


def stored(directory: Path) -> Iterator[list[str]]:
    """The sha256 of every file in the folder of originals, one list per folder in it. Foreign names are passed over."""
    for folder in sorted(directory.iterdir()) if directory.is_dir() else ():
        if _PREFIX.fullmatch(folder.name) and folder.is_dir():
            with os.scandir(folder) as entries:
                yield [each.name for each in entries if _SHA.fullmatch(each.name) and each.name[:2] == folder.name]


def sync_directory(path: Path) -> None:
    """A rename in `path` is on disk on return."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except FileNotFoundError:
        return False
