"""News: lets whoever waits for a change know that something has changed."""

from __future__ import annotations

import asyncio
import contextlib


class News:
    """Lives on one event loop. Take `now` before looking: then no change between looking and waiting is missed."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    @property
    def now(self) -> asyncio.Event:
        """Set at the next change."""
        return self._changed

    def tell(self) -> None:
        """Something has changed."""
        self._changed.set()
        self._changed = asyncio.Event()


async def wait(changed: asyncio.Event, seconds: float) -> None:
    """Returns at the change, or after so many seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await changed.wait()
