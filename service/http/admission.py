"""Admission: a bounded number of requests and of bytes is inside at any time; the next one is refused at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.errors import Overloaded
from service.http.connection.pace import LEAST_SPEED, Pace
from service.metrics import Metrics

# Bytes of all bodies together: a dozen of the largest uploads, or a thousand photographs of a usual size.
BODIES = 256 * 2**20
# Seconds over which bodies are compared when one must give way, and that a new one waits for room before it is refused.
RECENT = 1.0
ROOM_SECONDS = 5.0


class Room:
    """One request's body and what it takes of the memory that all bodies share.

    `lost` is set when another body needed the room and this one came too slowly.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._waiting = False
        self.pieces: list[bytes] = []
        self.taken = 0
        self.receiving = True
        self.lost = False
        self.pace = Pace(admission.clock())

    @property
    def crowded(self) -> bool:
        """Whether bodies take more than half of what they may."""
        return self._admission.body_bytes > self._admission.body_limit / 2

    async def add(self, piece: bytes) -> None:
        """Keeps `piece`, once there is room. Raises Overloaded when none comes free within ROOM_SECONDS."""
        if not self._admission.fits(len(piece)):
            await self._wait(len(piece))
        self._admission.body_bytes += len(piece)
        self.taken += len(piece)
        self.pieces.append(piece)

    async def _wait(self, size: int) -> None:
        until = self._admission.clock() + ROOM_SECONDS
        self._waiting = True
        try:
            while not self._admission.fits(size):
                if self._admission.reclaim(self):
                    continue
                if self._admission.clock() >= until:
                    self._admission.refused += 1
                    raise Overloaded(self._admission.retry_after)
                await asyncio.sleep(0.1)
        finally:
            self._waiting = False
            self.pace = Pace(self._admission.clock())  # nobody read meanwhile, so the sender was not slow

    def slow(self, now: float) -> bool:
        """Whether this body may be asked to give way: still arriving, and not at the least speed."""
        if not self.receiving or self._waiting or self.taken == 0 or now - self.pace.began < RECENT:
            return False
        return self.pace.moved(now, RECENT) < LEAST_SPEED * RECENT

    def lose(self) -> None:
        """Gives all of its room to others."""
        self.lost = True
        self.clear()

    def clear(self) -> None:
        self.pieces.clear()
        self._admission.body_bytes -= self.taken
        self.taken = 0


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
        self.clock = clock
        self._rooms: set[Room] = set()
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

    def fits(self, size: int) -> bool:
        """Whether there is room for `size` bytes more."""
        return self.body_bytes + size <= self.body_limit

    def reclaim(self, wanting: Room) -> bool:
        """Takes the room of the slowest body that arrives too slowly, for `wanting`; whether there was one."""
        now = self.clock()
        slow = [room for room in self._rooms if room is not wanting and room.slow(now)]
        if not slow:
            return False
        min(slow, key=lambda room: (room.pace.moved(now, RECENT), -room.taken)).lose()
        return True

    @contextmanager
    def body(self) -> Iterator[Room]:
        """Room for a body, given back at the end. Raises Overloaded at once where no place would be free for it."""
        self._refuse_when_full()
        with self.room() as room:
            yield room

    @contextmanager
    def room(self) -> Iterator[Room]:
        """Room for a body that will need no place."""
        room = Room(self)
        self._rooms.add(room)
        try:
            yield room
        finally:
            self._rooms.discard(room)
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
            now = self.clock()
            if self._left_at is not None and self.inside > 1:
                self._seconds_each += 0.1 * (now - self._left_at - self._seconds_each)
            self.inside -= 1
            self._left_at = now if self.inside else None
