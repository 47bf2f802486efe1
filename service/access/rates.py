"""Rates: how often a key may ask, counted over a sliding window in this process's memory."""

from __future__ import annotations

import re

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from service.errors import InvalidRequest

_RATE = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour|day)")


def limit_of(rate: str) -> RateLimitItem:
    """`100/minute` as what is counted. Raises InvalidRequest."""
    if not _RATE.fullmatch(rate):
        raise InvalidRequest("rate", "must be a number per second, minute, hour or day, such as 100/minute")
    return parse(rate)


class Rates:
    """Counts what each key asks."""

    def __init__(self) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._items: dict[str, RateLimitItem] = {}

    def wait(self, rate: str, who: str, *, now: float) -> float:
        """Seconds until `who` may ask again, 0 where it may now; only then it is counted."""
        item = self._items.get(rate)
        if item is None:
            item = self._items[rate] = limit_of(rate)
        if self._limiter.hit(item, who):
            return 0.0
        return max(1.0, self._limiter.get_window_stats(item, who).reset_time - now)
