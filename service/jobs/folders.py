"""Folders of jobs below a data directory: each holds what its job was given and makes, until the job has ended.

Blocks; of one directory there is one owner.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Container
from pathlib import Path

# A job's id: 12 hex digits of the millisecond when it was made, and 12 that are random.
ID = re.compile(r"[0-9a-f]{24}")
# Folder of the data directory where jobs have theirs, by id; and the file in it that names the runner.
FOLDER, NAME = "jobs", "runner"


class Folders:
    """directory: the data directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / FOLDER
        self._name = ""
        self._began = time.time()

    def of(self, id: str) -> Path:
        """The folder of the job with this id, which may not be there yet."""
        return self._directory / id

    def name(self) -> str:
        """This data directory's name among runners; the same after a restart."""
        if not self._name:
            self._name = self._read_name()
        return self._name

    def adopt(self, files: Path, id: str) -> str:
        """Makes a folder a job's own, on disk for good; the runner's name."""
        name = self.name()
        for file in files.iterdir():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        files.rename(self.of(id))
        for folder in (self.of(id), self._directory):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        return name

    def remove(self, id: str) -> None:
        """Removes a job's folder, where there is one."""
        shutil.rmtree(self.of(id), ignore_errors=True)

    def sweep(self, unfinished: Container[str]) -> None:
        """Removes folders of jobs that have ended, or were never begun. unfinished: ids. Only for the owner."""
        for folder in self._directory.iterdir():
            # What this process has made may not have its record yet.
            if ID.fullmatch(folder.name) and _made_at(folder.name) < self._began and folder.name not in unfinished:
                shutil.rmtree(folder, ignore_errors=True)

    def _read_name(self) -> str:
        self._directory.mkdir(parents=True, exist_ok=True)
        file = self._directory / NAME
        with contextlib.suppress(OSError):
            if name := file.read_text().strip():
                return name
        name = secrets.token_hex(8)
        file.write_text(name)
        return name


def _made_at(id: str) -> float:
    """UTC seconds."""
    return int(id[:12], 16) / 1000
