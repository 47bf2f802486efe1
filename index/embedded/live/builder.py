"""How a search structure comes into being: resumed from its files and the changes since, or made from the store.

Nothing here is searched yet; `upkeep` lets the result take its place. What is made is as the store
was when the build began, or later; what was removed since then is in the store's own record, so that no change is lost,
whatever became of it elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from index.embedded.ann.basis import Shape
from index.embedded.ann.files.id_file import NameFile
from index.embedded.ann.files.vector_file import VectorFile
from index.embedded.failpoints import Failpoints
from index.embedded.live.generation import Generation
from index.embedded.live.memory import InMemory
from index.embedded.live.reading import Reading
from index.embedded.live.structure import Structure
from index.embedded.live.upkeep.asked import Asked
from index.embedded.live.upkeep.policy import Policy
from index.embedded.live.upkeep.warm import spare_memory
from index.embedded.store.collections import Head
from index.embedded.store.encoding import stored_type
from index.embedded.store.vectors import StoredVectors
from index.errors import CacheUnusable

_SAMPLE = 32  # ids compared at a start
_READING = 0.3  # share of a build's time that reading takes
_BESIDE = 200  # bytes per vector on disk beside its numbers: key, checksum, id, code
_SPARE = 64 * 2**20  # bytes of the disk that a build leaves to the store


class BuildStopped(Exception):
    """The collection is closing: a build is given up."""


@dataclass(slots=True)
class Made:
    """structure: searchable, as of `began` at least. reading: for what the store has got since, and what is damaged."""

    structure: Structure
    began: Head
    reading: Reading

    def catch_up(self) -> int:
        """Appends what the store has above what was read. Returns how many."""
        count = 0
        while len((part := self.reading.next()).keys):
            self.structure.append(part.keys, part.vectors, part.ids)
            count += len(part.keys)
        return count


@dataclass(slots=True)
class Builder:
    """directory: of one collection's index files. stop: set to give up. left: files are not touched any more, not even
    to remove them. progress: of the build under way, 0…1. newest: number of the newest generation, on disk or not any
    more.
    """

    source: StoredVectors
    directory: Path
    policy: Policy
    failpoints: Failpoints
    stop: threading.Event = field(default_factory=threading.Event)
    left: bool = False
    progress: float = 0.0
    newest: int = 0

    def generations(self) -> list[Path]:
        """Directories of index files, oldest first; none where they cannot be listed."""
        with contextlib.suppress(OSError):
            return sorted(path for path in self.directory.iterdir() if path.is_dir() and path.name.isdigit())
        return []

    def resume(self, directory: Path, asked: Asked) -> Made:
        """What was saved, with all changes since. Raises CacheUnusable, StoreCorrupt."""
        self.newest = max(self.newest, int(directory.name))
        head = self.source.now()
        big = Generation.load(directory, self.failpoints, asked, dim=head.dim, token=head.token)
        try:
            if not head.replay_from <= big.saved <= head.seq:
                raise CacheUnusable(f"{directory} is of another time than the store; rebuilding it")
            big.remove(self.source.removed_since(big.saved))
            made = Made(big, head, Reading(self.source, big.last_key))
            made.catch_up()
            self._compare(made, directory)
            self._check_names(big)
        except BaseException:
            big.close()
            raise
        return made

    def exact(self) -> Made:
        """Everything the store has, in memory. Raises BuildStopped, StoreCorrupt."""
        head = self.source.now()
        made = Made(InMemory(head.dim), head, Reading(self.source))
        self.failpoints.hit("index.before_exact")
        while len((part := made.reading.next()).keys):
            self.check()
            made.structure.append(part.keys, part.vectors, part.ids)
        return made

    def fits_in_memory(self) -> bool:
        """Whether exact search over everything would leave memory to spare."""
        head, spare = self.source.now(), spare_memory()
        return not spare or head.count * head.dim * stored_type(head.dim).itemsize < spare // 2

    def generation(self, asked: Asked, recall: float, start: Shape | None) -> Made:
        """Everything the store has, in new files. Raises BuildStopped, StoreCorrupt, OSError; then nothing is left.

        asked: real queries; recall: that searches are to have; start: what was found to serve that before.
        """
        head = self.source.now()
        directory = self._room(head)
        reading = Reading(self.source)
        with contextlib.ExitStack() as undo:
            undo.callback(self._remove, directory)
            file = VectorFile.create(directory, dim=head.dim, fingerprint=head.token)
            undo.callback(file.close, sync=False)
            names = NameFile(directory)
            undo.callback(names.close)
            while len((part := reading.next()).keys):
                self.check()
                names.put(len(file), part.keys, part.ids)
                file.append(part.keys, part.vectors)
                self.progress = _READING * min(1.0, len(file) / max(1, head.count))
            self.failpoints.hit("index.before_build")
            big = Generation.build(
                directory,
                file,
                names,
                self.failpoints,
                asked,
                recall=recall,
                start=start,
                threads=self.policy.threads,
                progress=self._report,
            )
            made = Made(big, head, reading)
            # What was written meanwhile comes over in rounds: what is left for the take-over is short.
            while made.catch_up():
                self.check()
            while big.merge(contextlib.nullcontext(), breathe=self.check):
                self.check()
            self.failpoints.hit("index.before_swap")
            undo.pop_all()
        return made

    def check(self) -> None:
        """Raises BuildStopped once it was asked for."""
        if self.stop.is_set():
            raise BuildStopped

    def _remove(self, directory: Path) -> None:
        if not self.left:
            shutil.rmtree(directory, ignore_errors=True)

    def _room(self, head: Head) -> Path:
        """A new directory, on a disk that has room for the files and some more. Raises OSError."""
        self.failpoints.hit("index.create")
        self.directory.mkdir(parents=True, exist_ok=True)
        taken = [int(path.name) for path in self.directory.iterdir() if path.name.isdigit()]
        self.newest = max(self.newest, *taken, 0) + 1
        needed = head.count * (2 * head.dim + _BESIDE)
        free = shutil.disk_usage(self.directory).free
        if needed + _SPARE > free:
            what = f"{needed >> 20:,} MB are needed there and {free >> 20:,} MB are free"
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {what}", str(self.directory))
        return self.directory / f"{self.newest:06}"

    def _compare(self, made: Made, directory: Path) -> None:
        """Looks for the reason where structure and store do not hold equally many. Raises CacheUnusable."""
        if len(made.structure) + len(made.reading.damaged) == made.began.count:
            return
        stored, alive = self.source.keys(), made.structure.alive()
        missing = np.setdiff1d(stored, alive)
        if len(np.setdiff1d(alive, stored)) == 0:
            made.reading.damaged = self.source.damaged_among(missing)
            if len(made.reading.damaged) == len(missing):
                return  # left out when the files were made, and rightly so still
        raise CacheUnusable(
            f"{directory} holds {len(made.structure)} vectors, the store {made.began.count}; rebuilding it"
        )

    def _check_names(self, big: Generation) -> None:
        """A few ids are compared with the store: an id file of another collection is as sound as the own one."""
        keys = big.alive()
        keys = keys[:: max(1, len(keys) // _SAMPLE)]
        if self.source.ids(keys) != big.names(keys):
            raise CacheUnusable(f"{big.directory} has the ids of other items; rebuilding it")

    def _report(self, done: int, total: int) -> None:
        self.check()
        self.progress = _READING + (1 - _READING) * done / max(1, total)
