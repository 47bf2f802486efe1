"""Memory: how much of what the service may take is in use, and whether writes are taken.

A kernel that runs out of memory kills the process. Before that, what brings more is refused: searches and reads go on,
deletes too, and writes again once there is room.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from service import cgroups
from service.errors import Overloaded
from service.metrics import Metrics

# Of the limit, and at most so many bytes: what decoders and bodies that are under way may still take.
SHARE, MOST = 0.1, 512 * 2**20
# Writes are taken again when there is so many times that room.
AGAIN = 1.25
# Seconds for which a reading counts; between two looks of bulk work that waits; until a refused client comes back.
FRESH, LOOK, RETRY = 0.25, 0.5, 10.0

log = logging.getLogger("lookalike.memory")


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes. used: what the system cannot take back by dropping pages of files."""

    used: int
    limit: int


Meter = Callable[[], Usage | None]  # None: nobody can say


class Memory:
    """Lives on the event loop. clock: seconds, monotonic."""

    def __init__(self, meter: Meter, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._meter = meter
        self._clock = clock
        self._read_at = float("-inf")
        self._usage: Usage | None = None
        self._high = False
        self.refused = 0

    def publish(self, metrics: Metrics) -> None:
        def shown(name: str) -> Callable[[], float]:
            return lambda: float(getattr(self._meter(), name, 0))

        metrics.gauge("lookalike_memory_used_bytes", "Memory that cannot be taken back", shown("used"))
        metrics.gauge("lookalike_memory_limit_bytes", "Memory that there may be; 0: not known", shown("limit"))
        metrics.counter("lookalike_memory_refused", "Writes refused as memory was nearly full", lambda: self.refused)

    @property
    def high(self) -> bool:
        """Whether what brings more is to be refused."""
        now = self._clock()
        if now - self._read_at >= FRESH:
            self._read_at = now
            self._usage = self._meter()
            high = is_high(self._usage, self._high)
            if high != self._high:
                self._high = high
                log.warning("%s", self._words() if high else "memory has room again; writes are taken")
        return self._high

    def check(self) -> None:
        """Raises Overloaded while memory is high."""
        if self.high:
            self.refused += 1
            raise Overloaded(RETRY, self._words())

    async def room(self) -> None:
        """Waits while memory is high."""
        while self.high:  # noqa: ASYNC110 - nothing tells when memory comes free
            await asyncio.sleep(LOOK)

    def _words(self) -> str:
        usage = self._usage or Usage(0, 0)
        return (
            f"Memory is nearly full ({usage.used >> 20:,} of {usage.limit >> 20:,} MB); no write is taken until there "
            "is room: give the service more, or fewer requests at a time"
        )


def is_high(usage: Usage | None, before: bool) -> bool:
    """Whether memory is high now. before: whether it was."""
    if usage is None or usage.limit <= 0:
        return False
    room = min(SHARE * usage.limit, MOST)
    return usage.limit - usage.used < room * (AGAIN if before else 1.0)


def meter(limit: int, pids: Callable[[], Iterable[int]]) -> Meter:
    """Of a service that may take `limit` bytes, counting it and its processes `pids`; 0: what its container, or the
    machine, allows.
    """
    return (lambda: of_processes(limit, pids())) if limit else (lambda: of_container() or of_machine())


def of_processes(limit: int, pids: Iterable[int]) -> Usage:
    """Memory of this process and of `pids` that is no page of a file."""
    status = [_status(f"/proc/{each}/status") for each in ("self", *pids)]
    shared = status[0].get("RssShmem", 0)  # mapped by all of them
    return Usage(shared + sum(each.get("RssAnon", 0) for each in status), limit)


def of_container(root: Path = cgroups.ROOT, membership: Path = cgroups.MEMBERSHIP) -> Usage | None:
    """Of the control group with the least room; None where none has a limit below the machine's memory."""
    total = _status("/proc/meminfo").get("MemTotal", 2**63)
    found = []
    for folder in cgroups.folders("memory", root, membership):
        for most, now in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            with contextlib.suppress(OSError, ValueError):
                limit, taken = int((folder / most).read_text()), int((folder / now).read_text())
                if limit < total:
                    found.append(Usage(max(0, taken - _pages(folder / "memory.stat")), limit))
    return min(found, key=lambda usage: usage.limit - usage.used, default=None)


def of_machine() -> Usage | None:
    """Of the whole machine; None where the system does not say."""
    info = _status("/proc/meminfo")
    if "MemAvailable" not in info or "MemTotal" not in info:
        return None
    return Usage(info["MemTotal"] - info["MemAvailable"], info["MemTotal"])


def _pages(stat: Path) -> int:
    """Bytes of pages of files, which are dropped before anything is killed."""
    lines = dict(re.findall(r"^(\w+) (\d+)$", stat.read_text(), re.MULTILINE))
    prefix = "total_" if "total_inactive_file" in lines else ""
    return sum(int(lines.get(f"{prefix}{each}", 0)) for each in ("inactive_file", "active_file"))


def _status(path: str) -> dict[str, int]:
    """Bytes by name, of a file whose lines are `Name: 12 kB`."""
    try:
        text = Path(path).read_text()
    except OSError:
        return {}
    return {name: int(size) * 1024 for name, size in re.findall(r"^(\w+):\s*(\d+) kB$", text, re.MULTILINE)}
