"""One thread at most that does what is due, piece after piece, and ends when nothing is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_STEP = 1.0  # seconds between looks at whether the thread has ended


class Worker:
    """due: whether there is something to do; step: does it, and raises nothing. Both in the worker's thread, `due` also
    in that of `wake`; neither may hold a lock that `due` takes while it calls `wake`.
    """

    def __init__(self, due: Callable[[], bool], step: Callable[[], None], stop: threading.Event) -> None:
        """stop: once set, no step begins any more."""
        self._stop = stop
        self._due = due
        self._step = step
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether there is a thread."""
        return self._thread is not None

    def wake(self) -> None:
        """Starts the thread where something is due."""
        with self._lock:
            if self._thread is None and not self._stop.is_set() and self._due():
                self._thread = threading.Thread(target=self._run, name="index-worker", daemon=True)
                self._thread.start()

    def wait(self, timeout: float) -> bool:
        """Whether, within `timeout` seconds, nothing is left to do."""
        deadline = time.monotonic() + timeout
        while (thread := self._thread) is not None and (left := deadline - time.monotonic()) > 0:
            thread.join(min(_STEP, left))
        return self._thread is None

    def close(self, grace: float) -> bool:
        """After `stop` was set: waits `grace` seconds for the piece under way; whether it has ended."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(grace)
        return not thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._stop.is_set() or not self._due():
                    self._thread = None
                    return
            self._step()
