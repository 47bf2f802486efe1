"""Politeness: how many requests one host gets at a time, and that it is left alone as long as it asks for."""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Host:
    turns: asyncio.Semaphore
    asked: int = 0  # requests that wait or run
    rests_until: float = field(default=0.0)  # monotonic seconds


class Politeness:
    """Lives on one event loop. at_once: requests to one host."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._hosts: dict[str, _Host] = {}

    @asynccontextmanager
    async def turn(self, host: str) -> AsyncIterator[None]:
        """Waits until the host may be asked; asked meanwhile."""
        state = self._hosts.setdefault(host, _Host(asyncio.Semaphore(self._at_once)))
        state.asked += 1
        try:
            async with state.turns:
                while (left := state.rests_until - time.monotonic()) > 0:  # noqa: ASYNC110 (it may grow meanwhile)
                    await asyncio.sleep(left)
                yield
        finally:
            state.asked -= 1
            if not state.asked and state.rests_until <= time.monotonic():
                self._hosts.pop(host, None)

    def rest(self, host: str, seconds: float) -> None:
        """The host is not asked for so long."""
        state = self._hosts.setdefault(host, _Host(asyncio.Semaphore(self._at_once)))
        state.rests_until = max(state.rests_until, time.monotonic() + seconds)


def seconds_of(retry_after: str | None) -> float | None:
    """What a header Retry-After asks for, in seconds or as a date; None where it is no such thing."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:12])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
