"""Connections: every connection of one server, how many there may be, and what they may hold that nobody reads."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

from service.metrics import Metrics

if TYPE_CHECKING:
    from service.http.connection.protocol import Connection

# File descriptors kept for everything that is no connection: database, index files, originals, decoders.
RESERVED = 256
# Connections at most; one that is idle takes some 10 kB, one with half a head up to 64 kB more.
MOST = 4096
# Bytes of answers that wait for their readers, all together; and seconds after which a reader counts as stuck then.
UNSENT_BYTES = 64 * 2**20
STUCK_SECONDS = 2.0
# Seconds that a connection must have been idle to be closed for a new one.
SPARE_SECONDS = 1.0


class Connections:
    """limit: connections that are served; somewhat more are taken in to be refused."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.refused = 0
        self.aborted = 0
        self._served: set[Connection] = set()
        self._turned_away: set[Connection] = set()  # for as long as their refusal takes

    def publish(self, metrics: Metrics) -> None:
        metrics.gauge("lookalike_connections", "Connections of clients", lambda: len(self._served))
        metrics.gauge("lookalike_connections_limit", "Connections that are served", lambda: self.limit)
        metrics.counter("lookalike_connections_refused", "Connections refused with 503", lambda: self.refused)
        metrics.counter("lookalike_readers_aborted", "Answers broken off that nobody read", lambda: self.aborted)

    def admit(self, member: Connection, now: float) -> bool:
        """Takes a new connection in; whether it may be served. Of too many, the longest idle one gives way."""
        if len(self._served) >= self.limit:
            idle = [each for each in self._served if now - (each.idle_since or now) > SPARE_SECONDS]
            if idle:
                spare = min(idle, key=lambda each: each.idle_since or now)
                self._served.discard(spare)
                spare.spare()
        if len(self._served) < self.limit:
            self._served.add(member)
            return True
        self._turned_away.add(member)
        self.refused += 1
        return False

    @property
    def beyond(self) -> bool:
        """Whether even refusals would take too many descriptors."""
        return len(self._turned_away) > min(RESERVED, self.limit) // 4

    def discard(self, member: Connection) -> None:
        self._served.discard(member)
        self._turned_away.discard(member)

    def tick(self, now: float) -> None:
        """Once a second: ends what takes too long, and frees memory that stuck readers hold."""
        for member in [*self._served, *self._turned_away]:
            member.tick(now)
        self.relieve(now)

    def relieve(self, now: float) -> None:
        """Closes the connections that hold most for readers that are stuck, until the rest fits UNSENT_BYTES."""
        total = sum(member.unsent for member in self._served)
        if total <= UNSENT_BYTES:
            return
        for member in sorted(self._served, key=lambda each: each.unsent, reverse=True):
            if total <= UNSENT_BYTES:
                return
            if member.unsent and now - member.moved_at > STUCK_SECONDS:
                total -= member.unsent
                self.aborted += 1
                member.abort()


def limit_of_descriptors() -> int:
    """How many connections the process's descriptors allow, after raising their soft limit as far as it goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST + RESERVED
    if hard == resource.RLIM_INFINITY or hard > soft:
        raised = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        if soft != resource.RLIM_INFINITY and raised > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    if soft == resource.RLIM_INFINITY:
        return MOST
    return max(16, min(MOST, soft - min(RESERVED, soft // 2)))
