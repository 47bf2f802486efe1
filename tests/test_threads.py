"""Threads beside the event loop: what they return and raise, what they count, and that a write outlives its caller."""

from __future__ import annotations

import asyncio
import threading

import pytest

from index.errors import ItemDamaged, ItemNotFound, StorageFailed, StorageFull, StorageReadOnly, StoreCorrupt
from service.metrics import Metrics
from service.threads import Threads


def failing(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (StorageFull("no space left"), 1.0),
        (StorageReadOnly("mounted read-only"), 1.0),
        (StorageFailed("an input or output error"), 1.0),
        (ItemDamaged("a checksum of one item is wrong"), 1.0),
        (StoreCorrupt("a checksum is wrong"), 1.0),
        (ItemNotFound("no such item"), None),
        (ValueError("a bug"), None),
    ],
)
def test_what_the_disk_makes_fail_is_counted_by_its_kind(error: Exception, counted: float | None) -> None:
    async def main() -> None:
        metrics = Metrics()
        threads = Threads(1, metrics)
        with pytest.raises(type(error)):
            await threads.write(failing, error)
        labels = {"error": type(error).__name__}
        assert metrics.registry.get_sample_value("lookalike_store_errors_total", labels) == counted
        assert await threads.read(max, 1, 2) == 2
        await threads.close()

    asyncio.run(main())


def test_a_write_goes_on_when_its_caller_is_cancelled() -> None:
    async def main() -> None:
        threads = Threads(1, Metrics())
        begun, go, done = threading.Event(), threading.Event(), threading.Event()

        def write() -> None:
            begun.set()
            go.wait(30)
            done.set()

        task = asyncio.create_task(threads.write(write))
        await asyncio.to_thread(begun.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        await threads.close()
        assert done.is_set()

    asyncio.run(main())
