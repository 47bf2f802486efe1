"""A data directory has one owner: whoever holds the OS lock on `<directory>/lock`.

The kernel frees it when the owner dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from index.errors import DirectoryLocked

NAME = "lock"


class DirectoryLock:
    """Exclusive until `release`. The file stays behind on purpose: removing it would let two owners lock two inodes."""

    def __init__(self, directory: Path) -> None:
        """Raises DirectoryLocked, with the owner's pid where it can be read, and OSError."""
        self.path = directory / NAME
        # O_CLOEXEC is Python's default: a child process that execs must not keep the directory locked.
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = _pid(descriptor)
            os.close(descriptor)
            owner = f"process {pid}" if pid else "another process"
            message = f"data directory {directory} is in use by {owner}; stop it, or choose another directory"
            raise DirectoryLocked(message, pid) from error
        self._descriptor: int | None = descriptor
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Gives the directory free; a second call does nothing."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)


def _pid(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else None
