"""Uploaded bytes as files named by their sha256, on disk before the item that refers to them is committed.

Who refers to a file stands in SQL alone. A file goes when its last item goes; what a crash leaves behind is swept at
open. `originals/ab/ab12…` are ours, as is `originals/tmp`; other files are left alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from index.embedded.failpoints import Failpoints
from index.embedded.store.database import full, is_full
from index.errors import ItemNotFound, StoreCorrupt

_SHA = re.compile(r"[0-9a-f]{64}")
_PREFIX = re.compile(r"[0-9a-f]{2}")
_AT_ONCE = 128  # files open at once


class Originals:
    """Files by content. Safe from any thread; `remove` is called by the writer alone."""

    def __init__(self, directory: Path, failpoints: Failpoints) -> None:
        self._directory = directory / "originals"
        self._temporary = self._directory / "tmp"
        self._root = str(self._directory)
        self._failpoints = failpoints
        self._folders: set[str] = set()  # known to exist
        # Files being referred to by a write that is not committed yet: never removed meanwhile.
        self._held: Counter[str] = Counter()
        self._keeping = 0
        self._guard = threading.Lock()
        self._temporary.mkdir(parents=True, exist_ok=True)
        for left in self._temporary.iterdir():  # a crash in the middle of `_write`; nobody else holds the directory
            left.unlink(missing_ok=True)

    def path(self, sha256: str) -> Path:
        """Where a file with this content lies, whether or not it does."""
        return self._directory / sha256[:2] / sha256

    @contextlib.contextmanager
    def held(self, files: Iterable[tuple[str, bytes]]) -> Iterator[None]:
        """Writes (sha256, bytes) to disk and keeps them from being removed until the block ends.

        That the bytes have this sha256 is the caller's word; `read` checks it. Raises StorageFull.
        """
        wanted = dict(files)
        with self._guard:
            self._held.update(wanted.keys())
            shared = [sha256 for sha256 in wanted if self._held[sha256] > 1]
        try:
            missing = [(sha256, data) for sha256, data in wanted.items() if self._size(sha256) != len(data)]
            for start in range(0, len(missing), _AT_ONCE):
                self._write(missing[start : start + _AT_ONCE])
            for sha256 in shared:  # the other write may not have forced its folder to disk yet
                sync_directory(self.path(sha256).parent)
            yield
        finally:
            with self._guard:
                self._held.subtract(wanted.keys())
                self._held += Counter()  # drops the zeros

    def _write(self, files: list[tuple[str, bytes]]) -> None:
        # All are written, then forced to disk, then renamed, then their folders are: one journal commit serves many.
        # With plain strings, not paths: this is a good part of what an imported picture costs beside its embedding.
        if not all(_SHA.fullmatch(sha256) for sha256, _ in files):
            raise StoreCorrupt("an original was handed in without a proper sha256")
        temporary = [f"{self._root}/tmp/{sha256}.{threading.get_ident()}" for sha256, _ in files]
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
                os.rename(name, self._name(sha256))  # noqa: PTH104
            for prefix in folders:
                sync_directory(self._directory / prefix)
        except BaseException as error:
            for name in temporary:
                Path(name).unlink(missing_ok=True)
            if is_full(error):
                raise full(self._directory) from error
            raise
        finally:
            for file in open_files:
                os.close(file)

    def _size(self, sha256: str) -> int:
        # A file of another length is a damaged one: it is written again.
        try:
            return os.stat(self._name(sha256)).st_size  # noqa: PTH116
        except FileNotFoundError:
            return -1

    def _name(self, sha256: str) -> str:
        return f"{self._root}/{sha256[:2]}/{sha256}"

    def _need_folders(self, prefixes: set[str]) -> None:
        new = prefixes - self._folders
        for prefix in new:
            (self._directory / prefix).mkdir(exist_ok=True)
        if new:
            sync_directory(self._directory)
            self._folders |= new

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
        """Deletes a file that no item refers to; False where a write or snapshot under way holds it, or it is gone."""
        with self._guard:
            if self._held[sha256] or self._keeping:
                return False
            try:
                self.path(sha256).unlink()
            except FileNotFoundError:
                return False
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
        """The sha256 of every file, one list per folder. Foreign names are passed over."""
        for folder in sorted(self._directory.iterdir()):
            if _PREFIX.fullmatch(folder.name) and folder.is_dir():
                yield [
                    entry.name
                    for entry in os.scandir(folder)
                    if _SHA.fullmatch(entry.name) and entry.name.startswith(folder.name)
                ]


def sync_directory(path: Path) -> None:
    """A rename in `path` is on disk on return."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
