"""A bounded number of requests is inside at any time; the next one is told at once, and when to come back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.errors import Overloaded
from service.metrics import Metrics

# A dozen of the largest uploads, or a thousand photographs of a usual size.
BODIES = 256 * 2**20


class Room:
    """What one request's body takes of the memory all bodies share. Raises Overloaded when there is no more."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._taken = 0

    def grow(self, size: int) -> None:
        """Takes `size` bytes more."""
        if self._admission.body_bytes + size > self._admission.body_limit:
            self._admission.refused += 1
            raise Overloaded(self._admission.retry_after)
        self._admission.body_bytes += size
        self._taken += size

    def clear(self) -> None:
        self._admission.body_bytes -= self._taken
        self._taken = 0


class Admission:
    """Places for requests that wait or run. Lives on the event loop, so it needs no lock.

    limit: places; body_limit: bytes of bodies that are being received or worked on, so that slow senders take memory
    but no place. `clock` in seconds, monotonic.
    """

    def __init__(self, limit: int, *, body_limit: int = BODIES, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.body_limit = body_limit
        self.inside = 0
        self.body_bytes = 0
        self.refused = 0
        self._clock = clock
        self._left_at: float | None = None
        self._seconds_each = 0.05  # between two requests leaving while others wait, smoothed

    def publish(self, metrics: Metrics) -> None:
        metrics.gauge("lookalike_queue_places", "Requests that wait or run", lambda: self.inside)
        metrics.gauge("lookalike_queue_limit", "Places in the queue", lambda: self.limit)
        metrics.counter("lookalike_queue_refused", "Requests refused with 503", lambda: self.refused)

    @property
    def retry_after(self) -> float:
        """Seconds until half of the places should be free, 1 to 30."""
        return min(30.0, max(1.0, self._seconds_each * self.inside / 2))

    @contextmanager
    def body(self) -> Iterator[Room]:
        """Room for a body, given back at the end. Raises Overloaded at once where no place would be free for it."""
        self._refuse_when_full()
        room = Room(self)
        try:
            yield room
        finally:
            room.clear()

    def _refuse_when_full(self) -> None:
        if self.inside >= self.limit:
            self.refused += 1
            raise Overloaded(self.retry_after)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Holds a place. Raises Overloaded when there is none."""
        self._refuse_when_full()
        self.inside += 1
        try:
            yield
        finally:
            now = self._clock()
            if self._left_at is not None and self.inside > 1:
                self._seconds_each += 0.1 * (now - self._left_at - self._seconds_each)
            self.inside -= 1
            self._left_at = now if self.inside else None
