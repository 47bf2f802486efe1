"""Uploaded bytes as files named by their sha256, on disk before the item that refers to them is committed.

Who refers to a file stands in SQL alone. A file goes when its last item goes; what a crash leaves behind is swept at
open. `originals/ab/ab12…` are ours, as is `originals/tmp`; other files are left alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import threading
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from index.database import full, is_full
from index.errors import ItemNotFound, StoreCorrupt
from index.failpoints import Failpoints

_SHA = re.compile(r"[0-9a-f]{64}")
_PREFIX = re.compile(r"[0-9a-f]{2}")
_log = logging.getLogger("lookalike.index")


class Originals:
    """Files by content. Safe from any thread; `remove` is called by the writer alone."""

    def __init__(self, directory: Path, failpoints: Failpoints) -> None:
        self._directory = directory / "originals"
        self._temporary = self._directory / "tmp"
        self._failpoints = failpoints
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

        Raises StorageFull; StoreCorrupt where bytes and sha256 do not belong together.
        """
        wanted = dict(files)
        with self._guard:
            self._held.update(wanted.keys())
        try:
            folders = {self._write(sha256, data) for sha256, data in wanted.items() if not self.path(sha256).exists()}
            for folder in folders:
                sync_directory(folder)
            yield
        finally:
            with self._guard:
                self._held.subtract(wanted.keys())
                self._held += Counter()  # drops the zeros

    def _write(self, sha256: str, data: bytes) -> Path:
        if not _SHA.fullmatch(sha256) or hashlib.sha256(data).hexdigest() != sha256:
            raise StoreCorrupt("an original's bytes do not have the sha256 they were handed in with")
        target = self.path(sha256)
        temporary = self._temporary / uuid.uuid4().hex
        try:
            if not target.parent.is_dir():
                target.parent.mkdir(exist_ok=True)
                sync_directory(self._directory)
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self._failpoints.hit("original.before_rename")
            temporary.rename(target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if is_full(error):
                raise full(self._directory) from error
            raise
        return target.parent

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
