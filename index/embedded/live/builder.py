"""How a search structure comes into being: resumed from its files and the changes since, or made from the store.

Nothing here is searched yet; `index.embedded.live.live` lets the result take its place.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path

from index.embedded.ann.exact import FlatIndex
from index.embedded.ann.id_file import NameFile
from index.embedded.ann.vector_file import VectorFile
from index.embedded.failpoints import Failpoints
from index.embedded.live.generation import Generation
from index.embedded.live.policy import Policy
from index.embedded.store.encoding import stored_type
from index.embedded.store.vectors import StoredVectors
from index.errors import CacheUnusable

_READ = 4_096  # vectors read from the store at once
_READING = 0.3  # share of a build's time that reading takes


class BuildStopped(Exception):
    """The collection is closing: a build is given up."""


@dataclass(slots=True)
class Builder:
    """directory: of one collection's index files. stop: set to give up. left: files are not touched any more, not even
    to remove them. progress: of the build under way, 0…1.
    """

    source: StoredVectors
    directory: Path
    policy: Policy
    failpoints: Failpoints
    stop: threading.Event = field(default_factory=threading.Event)
    left: bool = False
    progress: float = 0.0

    def generations(self) -> list[Path]:
        """Directories of index files, oldest first."""
        if not self.directory.is_dir():
            return []
        return sorted(path for path in self.directory.iterdir() if path.is_dir() and path.name.isdigit())

    def resume(self, directory: Path) -> tuple[Generation, int]:
        """What was saved, with all changes since; and how many those were. Raises CacheUnusable, StoreCorrupt."""
        head = self.source.now()
        big = Generation.load(directory, dim=head.dim, token=head.token)
        try:
            if not head.replay_from <= big.saved <= head.seq:
                raise CacheUnusable(f"{directory} is of another time than the store; rebuilding it")
            removed = self.source.removed_since(big.saved)
            big.remove(removed)
            changes = len(removed) + self.catch_up(big)
            if len(big) != head.count:
                raise CacheUnusable(f"{directory} holds {len(big)} vectors, the store {head.count}; rebuilding it")
        except BaseException:
            big.close()
            raise
        return big, changes

    def catch_up(self, structure: Generation | FlatIndex) -> int:
        """Appends what the store has above the structure's last key. Returns how many."""
        count = 0
        while True:
            self.check()
            keys, vectors, ids = self.source.after(max(structure.last_key, 0), _READ)
            if not len(keys):
                return count
            if isinstance(structure, Generation):
                structure.append(keys, vectors, ids)
            else:
                structure.add(keys, vectors)
            count += len(keys)

    def flat(self) -> FlatIndex:
        """Everything the store has, in memory."""
        made = FlatIndex(self.source.head.dim, stored_type(self.source.head.dim))
        self.catch_up(made)
        return made

    def generation(self) -> Generation:
        """Everything the store has, in new files. Raises BuildStopped, StoreCorrupt, OSError; then nothing is left."""
        head = self.source.now()
        number = max((int(path.name) for path in self.generations()), default=0) + 1
        directory = self.directory / f"{number:06}"
        file = VectorFile.create(directory, dim=head.dim, fingerprint=head.token)
        names = NameFile(directory)
        try:
            while True:
                self.check()
                keys, vectors, ids = self.source.after(max(file.last_key, 0), _READ)
                if not len(keys):
                    break
                names.append(keys, ids)
                file.append(keys, vectors)
                self.progress = _READING * min(1.0, len(file) / max(1, head.count))
            self.failpoints.hit("index.before_build")
            big = Generation.build(directory, file, names, threads=self.policy.threads, progress=self._report)
            # What was written meanwhile comes over in rounds: what is left for the take-over is short.
            while self.catch_up(big):
                pass
            while big.merge(contextlib.nullcontext()):
                self.check()
            self.failpoints.hit("index.before_swap")
        except BaseException:
            if not self.left:
                file.close()
                names.close()
                shutil.rmtree(directory, ignore_errors=True)
            raise
        return big

    def check(self) -> None:
        """Raises BuildStopped once it was asked for."""
        if self.stop.is_set():
            raise BuildStopped

    def _report(self, done: int, total: int) -> None:
        self.check()
        self.progress = _READING + (1 - _READING) * done / max(1, total)
