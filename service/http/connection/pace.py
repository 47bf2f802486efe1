"""Pace: how fast bytes move, and whether that is fast enough to go on waiting for them."""

from __future__ import annotations

from collections import deque

# Bytes per second that a body must keep up where others wait for its room (a bad mobile connection gives as much), and
# where there is room in plenty (2G).
LEAST_SPEED = 16_000
LEAST_SPEED_ALONE = 1_000
# Seconds over which the first is averaged.
WINDOW = 10.0
# Seconds of bytes that are counted as one.
GRAIN = 0.25


class Pace:
    """Bytes that moved, by time, since `now`. Times are seconds of one monotonic clock."""

    def __init__(self, now: float) -> None:
        self.began = now
        self._counts: deque[list[float]] = deque()  # [time, bytes], oldest first

    def add(self, size: int, now: float) -> None:
        """`size` bytes moved just now."""
        if self._counts and now - self._counts[-1][0] < GRAIN:
            self._counts[-1][1] += size
            return
        self._counts.append([now, size])
        while now - self._counts[0][0] > 4 * WINDOW:
            self._counts.popleft()

    def moved(self, now: float, seconds: float) -> int:
        """Bytes of the last `seconds`, at most 4 × WINDOW."""
        return int(sum(size for time, size in self._counts if now - time < seconds))

    def too_slow(self, now: float, *, alone: bool, patience: float) -> bool:
        """Whether waiting should end. alone: nobody else needs the room; patience: seconds that such a one is given."""
        seconds, least = (patience, LEAST_SPEED_ALONE) if alone else (min(WINDOW, patience), LEAST_SPEED)
        seconds = min(seconds, 4 * WINDOW)
        return now - self.began >= seconds and self.moved(now, seconds) < least * seconds
