"""Many readers or one writer; a waiting writer goes first, so that a stream of searches cannot starve a write."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class ReadWriteLock:
    """Not re-entrant. Under a microsecond for a reader when no writer waits."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._condition = threading.Condition(self._mutex)
        self._readers = 0
        self._writing = False
        self._waiting = 0

    def acquire_read(self) -> None:
        """Shares the lock with other readers."""
        with self._mutex:
            while self._writing or self._waiting:
                self._condition.wait()
            self._readers += 1

    def release_read(self) -> None:
        """Ends what `acquire_read` began."""
        with self._mutex:
            self._readers -= 1
            if not self._readers and self._waiting:
                self._condition.notify_all()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Shared, for the length of the block."""
        self.acquire_read()
        try:
            yield
        finally:
            self.release_read()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Alone, for the length of the block."""
        with self._condition:
            self._waiting += 1
            while self._writing or self._readers:
                self._condition.wait()
            self._waiting -= 1
            self._writing = True
        try:
            yield
        finally:
            with self._condition:
                self._writing = False
                self._condition.notify_all()
