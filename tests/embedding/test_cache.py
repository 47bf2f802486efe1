"""Repeats cost nothing: the bounded memory and the shared flight."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.embedding.cache import LeastRecent, SingleFlight


@given(st.integers(1, 5), st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60))
def test_the_cache_keeps_what_was_used_last(capacity: int, steps: list[tuple[bool, int]]) -> None:
    cache: LeastRecent[int, int] = LeastRecent(capacity)
    model: list[int] = []  # oldest first
    for put, key in steps:
        known = key in model
        if put:
            cache.put(key, key * 10)
        else:
            assert cache.get(key) == (key * 10 if known else None)
        if known:
            model.remove(key)
        if put or known:
            model.append(key)
        model = model[-capacity:]
        assert len(cache) == len(model)


def run(coroutine: Any) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def test_identical_work_in_flight_is_done_once() -> None:
    async def main() -> None:
        flights: SingleFlight[str, int] = SingleFlight()
        done = 0

        async def work() -> int:
            nonlocal done
            await asyncio.sleep(0.01)
            done += 1
            return done

        assert await asyncio.gather(*(flights.run("a", work) for _ in range(5))) == [1] * 5
        assert await flights.run("a", work) == 2, "a landed flight is not boarded again"

    run(main())


def test_one_caller_leaving_does_not_end_the_flight_but_the_last_one_does() -> None:
    async def main() -> None:
        flights: SingleFlight[str, int] = SingleFlight()
        outcome: list[str] = []

        async def work() -> int:
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                outcome.append("cancelled")
                raise
            outcome.append("done")
            return 7

        first, second = (asyncio.create_task(flights.run("a", work)) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        assert await second == 7
        alone = asyncio.create_task(flights.run("a", work))
        await asyncio.sleep(0.01)
        alone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await alone
        await asyncio.sleep(0.01)
        assert outcome == ["done", "cancelled"]
        assert "a" not in flights

    run(main())


def test_a_failure_reaches_everyone_on_the_flight_and_nobody_after() -> None:
    async def main() -> None:
        flights: SingleFlight[str, int] = SingleFlight()

        async def bad() -> int:
            await asyncio.sleep(0)
            raise ValueError("no")

        async def good() -> int:
            return 1

        results = await asyncio.gather(*(flights.run("a", bad) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(each, ValueError) for each in results)
        assert len({id(each) for each in results}) == 3, "each has an exception of its own"
        assert await flights.run("a", good) == 1

    run(main())
