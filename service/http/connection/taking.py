"""Taking: how a client takes its answers, the bytes that wait in the process and in the kernel counted alike."""

from __future__ import annotations

import fcntl
import sys
import termios

from service.http.connection.pace import Pace


class Taking:
    """One connection's. descriptor: of its socket; times are the event loop's seconds."""

    def __init__(self, descriptor: int, now: float) -> None:
        self.written = 0
        self.moved_at = now  # when the client last took something
        self._descriptor = descriptor
        self._taken = 0
        self._pace: Pace | None = None  # while something waits

    def stuck(self, buffered: int, now: float, patience: float) -> bool:
        """Whether the client takes nothing, or hardly anything, for `patience` seconds. To be asked once a second.

        buffered: bytes that the process still holds.
        """
        waiting = buffered + self._in_kernel()
        taken, before = self.written - waiting, self._taken
        self._taken = taken
        if not waiting:
            self._pace = None
            return False
        if self._pace is None:
            self._pace = Pace(now)
            self.moved_at = now
        elif taken > before:
            self._pace.add(taken - before, now)
            self.moved_at = now
        return self._pace.too_slow(now, alone=True, patience=patience)

    def _in_kernel(self) -> int:
        """Bytes that our socket has taken and the client's has not: megabytes, where a client does not read."""
        try:
            return int.from_bytes(fcntl.ioctl(self._descriptor, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        except OSError:  # closed, or a system that does not say
            return 0
