"""A bounded number of requests is inside at any time; the next one is told at once, and when to come back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.problems import Overloaded


class Admission:
    """Places for requests that wait or run. Lives on the event loop, so it needs no lock.

    limit: places. `clock` in seconds, monotonic.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.inside = 0
        self.refused = 0
        self._clock = clock
        self._left_at: float | None = None
        self._seconds_each = 0.05  # between two requests leaving while others wait, smoothed

    @property
    def retry_after(self) -> float:
        """Seconds until half of the places should be free, 1 to 30."""
        return min(30.0, max(1.0, self._seconds_each * self.inside / 2))

    @contextmanager
    def place(self) -> Iterator[None]:
        """Holds a place. Raises Overloaded when there is none."""
        if self.inside >= self.limit:
            self.refused += 1
            raise Overloaded(self.retry_after)
        self.inside += 1
        try:
            yield
        finally:
            now = self._clock()
            if self._left_at is not None and self.inside > 1:
                self._seconds_each += 0.1 * (now - self._left_at - self._seconds_each)
            self.inside -= 1
            self._left_at = now if self.inside else None
