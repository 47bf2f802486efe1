"""Threads beside the event loop: as many reads at a time as there are cores, and more writes.

A write goes on when its caller is cancelled, since a commit has no half.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from index.errors import ItemDamaged, StorageError, StoreCorrupt
from service.metrics import Metrics

P = ParamSpec("P")
R = TypeVar("R")

_FAULTS = (StorageError, StoreCorrupt, ItemDamaged)

# Writers mostly wait for the disk, and those that wait together are committed together.
WRITERS = 16


class Threads:
    """cores: reads and searches at a time. Counts in `metrics` what the disk makes fail."""

    def __init__(self, cores: int, metrics: Metrics) -> None:
        self._metrics = metrics
        self._readers = ThreadPoolExecutor(cores, thread_name_prefix="read")
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="write")

    async def read(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of a search or a read. Raises what it raises."""
        work = functools.partial(self.counted, call, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    async def write(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of a write. Raises what it raises."""
        work = functools.partial(self.counted, call, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._writers, work)

    def counted(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of a read or write made in the caller's own thread. Raises what it raises."""
        try:
            return call(*args, **kwargs)
        except _FAULTS as error:
            self._metrics.store_failed(error)
            raise

    async def close(self) -> None:
        """Waits for what runs and what waits."""
        for pool in (self._readers, self._writers):
            await asyncio.to_thread(pool.shutdown)
